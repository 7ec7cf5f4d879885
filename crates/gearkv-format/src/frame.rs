//! The fixed bytes around the header: magic, version, the header's length and checksum (FORMAT.md, "Frame").

use gearkv::{ErrorCode, GearError, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::header::Header;

/// The first eight bytes. The high bit and the line feed show transfers that mangle text, as PNG's do.
pub const MAGIC: [u8; 8] = *b"\x89GEARKV\n";

/// The newest version. This build reads it and all before it, and writes the oldest that can hold what is written.
pub const VERSION: u32 = 5;

/// The version that added frozen caches.
pub(crate) const FIRST_FROZEN: u32 = 3;

/// Sections and the payload start at multiples of this, so that a mapped file can be read in place by any SIMD width.
pub const ALIGNMENT: usize = 64;

const FIXED_BYTES: usize = 24;

/// JSON takes a few times its length once parsed; this bounds it well below any machine's memory.
const MAX_HEADER_BYTES: usize = 256 << 20;

/// The next multiple of [`ALIGNMENT`], if there is one.
pub(crate) fn aligned(offset: usize) -> Option<usize> {
    offset.checked_next_multiple_of(ALIGNMENT)
}

pub(crate) fn corrupt(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::CorruptData, message)
}

pub(crate) fn too_large(what: &str) -> GearError {
    GearError::new(ErrorCode::OutOfRange, format!("{what} is larger than this machine can hold"))
}

/// Everything before the payload.
pub(crate) fn encode(header: &Header) -> Result<Vec<u8>> {
    let json = serde_json::to_vec(header)
        .map_err(|e| GearError::new(ErrorCode::Internal, format!("the container's header cannot be written: {e}")))?;
    if json.len() > MAX_HEADER_BYTES {
        return Err(GearError::new(
            ErrorCode::OutOfRange,
            format!(
                "the container's header takes {} bytes; a container holds at most {MAX_HEADER_BYTES}; \
                 write its tensors to several containers",
                json.len()
            ),
        ));
    }
    let length = u32::try_from(json.len()).map_err(|_| too_large("the container's header"))?;
    let padded = aligned(FIXED_BYTES + json.len()).ok_or_else(|| too_large("the container's header"))?;
    let mut bytes = Vec::with_capacity(padded);
    bytes.extend_from_slice(&MAGIC);
    bytes.extend_from_slice(&header.version().to_le_bytes());
    bytes.extend_from_slice(&length.to_le_bytes());
    bytes.extend_from_slice(&xxh3_64(&json).to_le_bytes());
    bytes.extend_from_slice(&json);
    bytes.resize(padded, 0);
    Ok(bytes)
}

/// The header, and where the payload starts.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, usize)> {
    let Some((magic, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(corrupt(format!("{} bytes are too few for a .gear container", bytes.len())));
    };
    if *magic != MAGIC {
        return Err(corrupt("not a .gear container: it does not start with the bytes 89 47 45 41 52 4b 56 0a"));
    }
    let (version, rest) = word::<4>(rest)?;
    let version = u32::from_le_bytes(version);
    if version == 0 || version > VERSION {
        return Err(GearError::new(
            ErrorCode::UnsupportedVersion,
            format!(
                "this .gear container has format version {version}; this build reads versions 1 to {VERSION}; \
                 use the gear-kv that wrote it, or check that the file is intact"
            ),
        ));
    }
    let (length, rest) = word::<4>(rest)?;
    let (checksum, rest) = word::<8>(rest)?;
    let length = usize::try_from(u32::from_le_bytes(length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(corrupt(format!("the header claims {length} bytes; at most {MAX_HEADER_BYTES} are allowed")));
    }
    let Some(json) = rest.get(..length) else {
        return Err(corrupt(format!("the header claims {length} bytes, but only {} follow", rest.len())));
    };
    if xxh3_64(json) != u64::from_le_bytes(checksum) {
        return Err(corrupt("the header's checksum does not match: the container is damaged"));
    }
    let header: Header = gearkv::from_json(json).map_err(|e| corrupt(format!("the header is malformed: {e}")))?;
    // From version 3 on a file has the least version that it needs, so that a version that changes by a bit is noticed.
    if header.version() > version || (version >= FIRST_FROZEN && header.version() != version) {
        return Err(corrupt(format!("the header describes what format version {version} cannot hold")));
    }
    let payload_start = aligned(FIXED_BYTES + length).ok_or_else(|| too_large("the container"))?;
    match bytes.get(FIXED_BYTES + length..payload_start) {
        None => Err(corrupt("the container ends before its payload")),
        Some(padding) if padding.iter().any(|&b| b != 0) => Err(corrupt("the padding after the header is not zero")),
        Some(_) => Ok((header, payload_start)),
    }
}

fn word<const N: usize>(bytes: &[u8]) -> Result<([u8; N], &[u8])> {
    match bytes.split_first_chunk::<N>() {
        Some((word, rest)) => Ok((*word, rest)),
        None => Err(corrupt("the container ends inside its first 24 bytes")),
    }
}
