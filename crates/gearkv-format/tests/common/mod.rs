//! Small tensors and caches with something in every part.

#![allow(dead_code, reason = "each test file uses what it needs")]

use gearkv::{CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role};
use xxhash_rust::xxh3::xxh3_64;

/// Values without a pattern, the same in every run.
pub fn values(count: usize, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(2_654_435_761).wrapping_add(1);
    let mut next = || {
        state ^= state << 13;
        state ^= state >> 17;
        state ^= state << 5;
        state as f32 / u32::MAX as f32 - 0.5
    };
    (0..count).map(|i| if i % 97 == 0 { 9.0 * next() } else { next() }).collect()
}

pub fn config(preset: &str) -> GearConfig {
    config_for(preset, Role::Key)
}

pub fn config_for(preset: &str, role: Role) -> GearConfig {
    GearOptions { preset: Some(preset.to_owned()), threads: Some(1), ..Default::default() }.resolve(role).unwrap()
}

/// Compresses some tokens, then appends as many one by one.
pub fn tensor(shape: KvShape, role: Role, config: GearConfig, appended: usize) -> GearTensor {
    let input = values(shape.elements(), 7);
    let mut tensor = GearTensor::compress(KvSlice::F32(&input), shape, role, config, NEVER).unwrap();
    for token in 0..appended {
        let input = values(shape.batch * shape.heads * shape.head_dim, 1000 + token as u32);
        tensor.append(KvSlice::F32(&input), 1, NEVER).unwrap();
    }
    tensor
}

/// With sinks, two segments, outliers, low-rank parts, a buffer, and a file of a few kilobytes.
pub fn small_tensor() -> GearTensor {
    let options = GearOptions {
        sinks: Some(1),
        buffer_tokens: Some(4),
        rank: Some(1),
        decode_rank: Some(1),
        ..Default::default()
    };
    let config =
        GearOptions { group_size: Some(4), sparsity: Some(0.1), seed: Some(5), ..options }.resolve(Role::Key).unwrap();
    tensor(KvShape::new(1, 2, 13, 8).unwrap(), Role::Key, config, 6)
}

pub fn small_cache() -> GearCache {
    let shape = CacheShape { layers: 2, batch: 1, kv_heads: 2, head_dim: 8 };
    let mut cache = GearCache::new(shape, config("gear-4"), config_for("kivi-2", Role::Value)).unwrap();
    for layer in 0..2 {
        let (k, v) = (values(2 * 80 * 8, layer), values(2 * 80 * 8, layer + 50));
        cache.append(layer as usize, KvSlice::F32(&k), KvSlice::F32(&v), 80, NEVER).unwrap();
    }
    cache
}

pub fn decompressed(tensor: &GearTensor) -> Vec<u32> {
    // As bits, so that a comparison is exact.
    tensor.decompress(NEVER).unwrap().into_iter().map(f32::to_bits).collect()
}

/// A container's header as text, and its payload.
pub fn split(container: &[u8]) -> (String, Vec<u8>) {
    let length = u32::from_le_bytes(container[12..16].try_into().unwrap()) as usize;
    let header = String::from_utf8(container[24..24 + length].to_vec()).unwrap();
    (header, container[(24 + length).next_multiple_of(64)..].to_vec())
}

/// A container with this header and payload and a checksum to match, as someone might forge it.
pub fn forge(header: &str, payload: &[u8]) -> Vec<u8> {
    // The version of what is here: frozen caches have one of their own.
    let frozen = header.starts_with(r#"{"kind":"frozen""#);
    forge_version(if frozen { 3 } else { 4 }, header, payload)
}

/// As [`forge`], of a version.
pub fn forge_version(version: u32, header: &str, payload: &[u8]) -> Vec<u8> {
    let mut bytes = b"\x89GEARKV\n".to_vec();
    bytes.extend(version.to_le_bytes());
    bytes.extend((header.len() as u32).to_le_bytes());
    bytes.extend(xxh3_64(header.as_bytes()).to_le_bytes());
    bytes.extend(header.as_bytes());
    bytes.resize(bytes.len().next_multiple_of(64), 0);
    bytes.extend(payload);
    bytes
}
