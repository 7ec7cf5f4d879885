//! The fixed bytes around the header: magic, version, the header's length and checksum (FORMAT.md, "Frame").

use gearkv::{ErrorCode, GearError, Result};
use xxhash_rust::xxh3::xxh3_64;

use crate::header::Header;

/// The first eight bytes. The high bit and the line feed show transfers that mangle text, as PNG's do.
pub const MAGIC: [u8; 8] = *b"\x89GEARKV\n";

/// The newest version. This build reads it and all before it, and writes the oldest that can hold what is written.
pub const VERSION: u32 = 6;

/// The version that added frozen caches.
pub(crate) const FIRST_FROZEN: u32 = 3;

/// The version that lets a cache say something of itself, and segments hide tokens at their front.
pub(crate) const FIRST_ABOUT: u32 = 6;

/// Sections and the payload start at multiples of this, so that a mapped file can be read in place by any SIMD width.
pub const ALIGNMENT: usize = 64;

pub(crate) const FIXED_BYTES: usize = 24;

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

/// The first 24 bytes.
pub(crate) struct Fixed {
    version: u32,
    header_length: usize,
    checksum: u64,
}

impl Fixed {
    /// From the first [`FIXED_BYTES`] bytes.
    pub(crate) fn read(bytes: &[u8]) -> Result<Self> {
        let words = || {
            let (magic, rest) = bytes.split_first_chunk::<8>()?;
            let (version, rest) = rest.split_first_chunk::<4>()?;
            let (length, rest) = rest.split_first_chunk::<4>()?;
            let (checksum, _) = rest.split_first_chunk::<8>()?;
            Some((magic, u32::from_le_bytes(*version), u32::from_le_bytes(*length), u64::from_le_bytes(*checksum)))
        };
        let Some((magic, version, length, checksum)) = words() else {
            return Err(too_short(bytes));
        };
        if *magic != MAGIC {
            return Err(foreign());
        }
        if version == 0 || version > VERSION {
            return Err(GearError::new(
                ErrorCode::UnsupportedVersion,
                format!(
                    "this .gear container has format version {version}; this build reads versions 1 to {VERSION}; \
                     use the gear-kv that wrote it, or check that the file is intact"
                ),
            ));
        }
        let header_length = usize::try_from(length).unwrap_or(usize::MAX);
        if header_length > MAX_HEADER_BYTES {
            return Err(corrupt(format!(
                "the header claims {header_length} bytes; at most {MAX_HEADER_BYTES} are allowed"
            )));
        }
        Ok(Self { version, header_length, checksum })
    }

    /// Bytes between the fixed ones and the payload.
    pub(crate) fn header_bytes(&self) -> usize {
        (FIXED_BYTES + self.header_length).next_multiple_of(ALIGNMENT) - FIXED_BYTES
    }

    /// From the [`Fixed::header_bytes`] that follow.
    pub(crate) fn header(&self, bytes: &[u8]) -> Result<Header> {
        let Some((json, padding)) = bytes.split_at_checked(self.header_length) else {
            return Err(corrupt(format!("the header claims {} bytes, but {} follow", self.header_length, bytes.len())));
        };
        if xxh3_64(json) != self.checksum {
            return Err(corrupt("the header's checksum does not match: the container is damaged"));
        }
        let header = Header::from_json(json)?;
        // From version 3 on a file has the least version that it needs, so that a version that changes by a bit is noticed.
        let (needed, version) = (header.version(), self.version);
        if needed > version || (version >= FIRST_FROZEN && needed != version) {
            return Err(corrupt(format!("the header describes what format version {version} cannot hold")));
        }
        if padding.iter().any(|&b| b != 0) {
            return Err(corrupt("the padding after the header is not zero"));
        }
        Ok(header)
    }
}

/// The header, and where the payload starts.
pub(crate) fn decode(bytes: &[u8]) -> Result<(Header, usize)> {
    let Some((fixed, rest)) = bytes.split_at_checked(FIXED_BYTES) else {
        return Err(too_short(bytes));
    };
    let fixed = Fixed::read(fixed)?;
    match rest.get(..fixed.header_bytes()) {
        None => Err(corrupt("the container ends before its payload")),
        Some(header) => Ok((fixed.header(header)?, FIXED_BYTES + fixed.header_bytes())),
    }
}

/// What is wrong with bytes that end inside the first 24.
pub(crate) fn too_short(bytes: &[u8]) -> GearError {
    if !MAGIC.starts_with(bytes) && !bytes.starts_with(&MAGIC) {
        return foreign();
    }
    corrupt(format!("{} bytes are too few for a .gear container", bytes.len()))
}

fn foreign() -> GearError {
    corrupt("not a .gear container: it does not start with the bytes 89 47 45 41 52 4b 56 0a")
}
