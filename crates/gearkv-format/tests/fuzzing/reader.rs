//! Bytes that somebody made, read as a container. Checksums are made right first: who forges a file can do that, too.

use gearkv::{AttendOptions, FrozenCache, GearCache, KvSlice, NEVER, Role};
use gearkv_format::{CacheReader, CacheWriter, Container, Entry, Header, cache_to_bytes};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

/// What is decompressed of a file that claims more would only take time.
const MOST_ELEMENTS: usize = 1 << 16;

/// Reads it as it is, with right checksums, at once and in pieces. Whatever is read can be used and written again.
pub fn run(bytes: &[u8]) {
    let at_once = read(bytes, bytes.len().max(1));
    assert_eq!(at_once, read(bytes, 1 + bytes.len() / 3), "the same in pieces");
    assert!(at_once.is_none() || Container::parse(bytes).is_ok(), "a cache is a container");
    let mut forged = bytes.to_vec();
    if repair(&mut forged).is_some() {
        read(&forged, forged.len().max(1));
        if let Ok(container) = Container::parse(forged.as_slice()) {
            for entry in container.entries() {
                match entry {
                    Entry::Raw(raw) => assert_eq!(container.raw(&raw.name).unwrap().len() as u64, raw.section.1),
                    Entry::Tensor(tensor)
                        if small(
                            tensor.shape.batch,
                            tensor.shape.heads,
                            tensor.shape.tokens,
                            tensor.shape.head_dim,
                        ) =>
                    {
                        if let Ok(tensor) = container.tensor(&tensor.name) {
                            assert_eq!(tensor.decompress(NEVER).unwrap().len(), tensor.shape().elements());
                        }
                    }
                    _ => {}
                }
            }
        }
    }
}

/// The bytes that what was read is written as, if anything was.
fn read(bytes: &[u8], piece: usize) -> Option<Vec<u8>> {
    let mut reader = CacheReader::new(None);
    for piece in bytes.chunks(piece) {
        reader.push(piece).ok()?;
    }
    match reader.header()?.kind {
        gearkv_format::Kind::Frozen => {
            let (cache, about) = reader.into_frozen().ok()?;
            use_frozen(&cache);
            Some(CacheWriter::frozen(&cache, about).unwrap().to_bytes().unwrap())
        }
        _ => {
            let (cache, about) = reader.into_cache().ok()?;
            use_cache(&cache);
            Some(CacheWriter::cache(&cache, about).unwrap().to_bytes().unwrap())
        }
    }
}

fn small(batch: usize, heads: usize, tokens: usize, head_dim: usize) -> bool {
    [batch, heads, tokens.max(1), head_dim]
        .iter()
        .try_fold(1_usize, |product, &extent| product.checked_mul(extent))
        .is_some_and(|elements| elements <= MOST_ELEMENTS)
}

fn use_cache(cache: &GearCache) {
    let shape = cache.shape();
    if shape.layers > 4 || !small(shape.batch, shape.kv_heads, cache.layer_tokens(0).unwrap(), shape.head_dim) {
        return;
    }
    let bytes = cache_to_bytes(cache).unwrap();
    let mut fork = cache.clone();
    for role in [Role::Key, Role::Value] {
        let tensor = cache.tensor(0, role).unwrap();
        assert_eq!(tensor.decompress(NEVER).unwrap().len(), tensor.shape().elements());
    }
    let row = vec![0.5; shape.batch * shape.kv_heads * shape.head_dim];
    if cache.layer_tokens(0).unwrap() > 0 {
        let mut out = vec![0.0; row.len()];
        cache.attend(0, KvSlice::F32(&row), 1, &AttendOptions::new(shape.kv_heads), &mut out, NEVER).unwrap();
    }
    // Options that nobody checked together before may refuse what comes next; they must not break.
    let _ = fork.append(0, KvSlice::F32(&row), KvSlice::F32(&row), 1, NEVER);
    fork.truncate(cache.tokens() / 2).unwrap();
    assert!(cache_to_bytes(cache).unwrap() == bytes, "a fork changed what it was made from");
}

fn use_frozen(cache: &FrozenCache) {
    let shape = cache.shape();
    let tokens = (0..shape.layers).map(|layer| cache.tensor(layer, Role::Key).unwrap().shape().tokens).max();
    if shape.layers <= 4 && small(shape.batch, shape.kv_heads, tokens.unwrap_or(0), shape.head_dim) {
        // Codes are read here for the first time, and may be anything.
        if let Ok(thawed) = cache.thaw(None, None, NEVER) {
            assert_eq!(thawed.tokens(), cache.tokens());
        }
    }
}

/// Makes the checksums right where the header can be read, and says whether it can.
fn repair(bytes: &mut [u8]) -> Option<()> {
    let (fixed, rest) = bytes.split_at_mut_checked(24)?;
    let length = u32::from_le_bytes(fixed[12..16].try_into().ok()?) as usize;
    let payload_start = (24 + length).checked_next_multiple_of(64)? - 24;
    if payload_start > rest.len() {
        return None;
    }
    let (head, payload) = rest.split_at_mut(payload_start);
    let json = &mut head[..length];
    let header = Header::from_json(json).ok()?;
    let mut at = 0;
    for entry in &header.entries {
        let mut hasher = Xxh3::new();
        for section in entry.sections() {
            let (start, length) = (usize::try_from(section.0).ok()?, usize::try_from(section.1).ok()?);
            hasher.update(payload.get(start..start.checked_add(length)?)?);
        }
        const FIELD: &[u8] = br#""xxh3":""#;
        at += json.get(at..)?.windows(FIELD.len()).position(|window| window == FIELD)? + FIELD.len();
        json.get_mut(at..at + 16)?.copy_from_slice(format!("{:016x}", hasher.digest()).as_bytes());
    }
    fixed[16..24].copy_from_slice(&xxh3_64(json).to_le_bytes());
    Some(())
}
