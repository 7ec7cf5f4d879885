//! What a tensor, a cache or a container is, as JSON.

use gearkv::{CacheShape, GearCache, GearConfig, GearTensor, KvShape, Parts, Role};
use gearkv_format::{CacheExtent, Container, Entry, Kind};
use serde::Serialize;

use crate::{BindingError, Result};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct TensorInfo<'a> {
    role: Role,
    shape: KvShape,
    config: &'a GearConfig,
    byte_length: usize,
    float16_byte_length: usize,
    parts: Parts,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CacheInfo<'a> {
    layers: usize,
    batch: usize,
    kv_heads: usize,
    head_dim: usize,
    tokens: usize,
    byte_length: usize,
    float16_byte_length: usize,
    layer_stats: Vec<LayerStats>,
    key_config: &'a GearConfig,
    value_config: &'a GearConfig,
}

#[derive(Serialize)]
struct LayerStats {
    tokens: usize,
    key: Size,
    value: Size,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Size {
    byte_length: usize,
    parts: Parts,
}

impl Size {
    fn of(tensor: &GearTensor) -> Self {
        Self { byte_length: tensor.byte_length(), parts: tensor.parts() }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ContainerInfo<'a> {
    kind: Kind,
    payload_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    cache: Option<CacheExtent>,
    entries: Vec<EntryInfo<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct EntryInfo<'a> {
    #[serde(flatten)]
    entry: &'a Entry,
    #[serde(flatten)]
    size: Option<Size>,
    #[serde(skip_serializing_if = "Option::is_none")]
    float16_byte_length: Option<usize>,
}

/// `{role, shape, config, byteLength, float16ByteLength, parts}`.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub fn tensor(tensor: &GearTensor) -> Result<String> {
    to_json(&TensorInfo {
        role: tensor.role(),
        shape: tensor.shape(),
        config: tensor.config(),
        byte_length: tensor.byte_length(),
        float16_byte_length: tensor.float16_byte_length(),
        parts: tensor.parts(),
    })
}

/// `{layers, batch, kvHeads, headDim, tokens, byteLength, float16ByteLength, layerStats, keyConfig, valueConfig}`.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub fn cache(cache: &GearCache) -> Result<String> {
    let CacheShape { layers, batch, kv_heads, head_dim } = cache.shape();
    let layer_stats = (0..layers).map(|layer| {
        let key = Size::of(cache.tensor(layer, Role::Key)?);
        let value = Size::of(cache.tensor(layer, Role::Value)?);
        Ok(LayerStats { tokens: cache.layer_tokens(layer)?, key, value })
    });
    to_json(&CacheInfo {
        layers,
        batch,
        kv_heads,
        head_dim,
        tokens: cache.tokens(),
        byte_length: cache.byte_length(),
        float16_byte_length: cache.float16_byte_length(),
        layer_stats: layer_stats.collect::<Result<_>>()?,
        key_config: cache.tensor(0, Role::Key)?.config(),
        value_config: cache.tensor(0, Role::Value)?.config(),
    })
}

/// The container's header with, for each compressed tensor, `byteLength`, `float16ByteLength` and `parts`.
///
/// # Errors
/// `CORRUPT_DATA` when a tensor's parts contradict each other.
pub fn container<B: AsRef<[u8]>>(container: &Container<B>) -> Result<String> {
    let header = container.header();
    let entries = header.entries.iter().map(|entry| match entry {
        Entry::Tensor(tensor) => {
            let restored = container.tensor(&tensor.name)?;
            let float16_byte_length = Some(restored.float16_byte_length());
            Ok(EntryInfo { entry, size: Some(Size::of(&restored)), float16_byte_length })
        }
        Entry::Raw(_) => Ok(EntryInfo { entry, size: None, float16_byte_length: None }),
    });
    to_json(&ContainerInfo {
        kind: header.kind,
        payload_length: header.payload_length,
        cache: header.cache,
        entries: entries.collect::<Result<_>>()?,
    })
}

/// Any of the crate's infos as JSON text.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub fn to_json(info: &impl Serialize) -> Result<String> {
    serde_json::to_string(info).map_err(BindingError::internal)
}
