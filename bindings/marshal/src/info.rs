//! What a tensor, a cache or a container is, as JSON.

use gearkv::{CacheShape, Chosen, FrozenCache, GearCache, GearConfig, GearTensor, KvShape, Parts, Role};
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

/// What a cache and a frozen one have in common.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Extent {
    layers: usize,
    batch: usize,
    kv_heads: usize,
    head_dim: usize,
    tokens: usize,
    byte_length: usize,
    float16_byte_length: usize,
}

impl Extent {
    fn new(shape: CacheShape, tokens: usize, byte_length: usize, float16_byte_length: usize) -> Self {
        let CacheShape { layers, batch, kv_heads, head_dim } = shape;
        Self { layers, batch, kv_heads, head_dim, tokens, byte_length, float16_byte_length }
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct CacheInfo<'a> {
    #[serde(flatten)]
    extent: Extent,
    layer_stats: Vec<LayerStats>,
    key_config: &'a GearConfig,
    value_config: &'a GearConfig,
}

#[derive(Serialize)]
struct LayerStats {
    tokens: usize,
    key: HalfStats,
    value: HalfStats,
}

#[derive(Serialize)]
struct HalfStats {
    #[serde(flatten)]
    size: Size,
    #[serde(skip_serializing_if = "Option::is_none")]
    chosen: Option<Chosen>,
}

impl HalfStats {
    fn of(tensor: &GearTensor) -> Self {
        Self { size: Size::of(tensor), chosen: tensor.chosen() }
    }
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
struct FrozenInfo<'a> {
    #[serde(flatten)]
    extent: Extent,
    statistics_byte_length: usize,
    per_layer: Vec<FrozenLayer>,
    key_config: &'a GearConfig,
    value_config: &'a GearConfig,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct FrozenLayer {
    tokens: usize,
    key_byte_length: usize,
    value_byte_length: usize,
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
    let shape = cache.shape();
    let layer_stats = (0..shape.layers).map(|layer| {
        let key = HalfStats::of(cache.tensor(layer, Role::Key)?);
        let value = HalfStats::of(cache.tensor(layer, Role::Value)?);
        Ok(LayerStats { tokens: cache.layer_tokens(layer)?, key, value })
    });
    to_json(&CacheInfo {
        extent: Extent::new(shape, cache.tokens(), cache.byte_length(), cache.float16_byte_length()),
        layer_stats: layer_stats.collect::<Result<_>>()?,
        key_config: cache.tensor(0, Role::Key)?.config(),
        value_config: cache.tensor(0, Role::Value)?.config(),
    })
}

/// `{layers, batch, kvHeads, headDim, tokens, byteLength, float16ByteLength, statisticsByteLength, perLayer, keyConfig, valueConfig}`.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub fn frozen(cache: &FrozenCache) -> Result<String> {
    let shape = cache.shape();
    let per_layer = (0..shape.layers).map(|layer| {
        let (key, value) = (cache.tensor(layer, Role::Key)?, cache.tensor(layer, Role::Value)?);
        Ok(FrozenLayer {
            tokens: key.shape().tokens,
            key_byte_length: key.byte_length(),
            value_byte_length: value.byte_length(),
        })
    });
    to_json(&FrozenInfo {
        extent: Extent::new(shape, cache.tokens(), cache.byte_length(), cache.float16_byte_length()),
        statistics_byte_length: cache.statistics().bytes().len(),
        per_layer: per_layer.collect::<Result<_>>()?,
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
        Entry::Frozen(frozen) => {
            // The header's numbers are only believed once the tensors are read.
            let KvShape { batch, heads, tokens, head_dim } = frozen.shape;
            let shape = KvShape::new(batch, heads, tokens, head_dim);
            let float16_byte_length = shape.ok().map(|shape| 2 * shape.elements());
            Ok(EntryInfo { entry, size: None, float16_byte_length })
        }
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

#[cfg(test)]
mod tests {
    use gearkv::{KvSlice, NEVER};
    use gearkv_format::{ContainerWriter, Metadata};
    use serde_json::{Value, json};

    use super::*;
    use crate::options;

    fn sample() -> GearTensor {
        let shape = KvShape::new(1, 2, 100, 16).unwrap();
        let values: Vec<f32> = (0..shape.elements()).map(|i| (i as f32 * 0.7).sin()).collect();
        let config = options::config("{}", Role::Key).unwrap();
        GearTensor::compress(KvSlice::F32(&values), shape, Role::Key, config, NEVER).unwrap()
    }

    fn parse(json: Result<String>) -> Value {
        serde_json::from_str(&json.unwrap()).unwrap()
    }

    #[test]
    fn a_tensors_parts_add_up_to_its_byte_length() {
        let original = sample();
        let info = parse(tensor(&original));
        assert_eq!(info["shape"], json!({"batch": 1, "heads": 2, "tokens": 100, "headDim": 16}));
        assert_eq!((&info["role"], &info["config"]["preset"]), (&json!("key"), &json!("gear-4")));
        assert_eq!(info["float16ByteLength"], 2 * 100 * 16 * 2);
        let names = ["codes", "scales", "lowRank", "sparse", "sinks", "buffer", "headers"];
        assert_eq!(info["parts"].as_object().unwrap().len(), names.len());
        let sum: u64 = names.iter().map(|name| info["parts"][name].as_u64().unwrap()).sum();
        assert_eq!(info["byteLength"], sum);
    }

    #[test]
    fn a_caches_layers_are_listed_one_by_one() {
        let shape = CacheShape { layers: 3, batch: 1, kv_heads: 2, head_dim: 16 };
        let (key, value) = (
            options::config("{}", Role::Key).unwrap(),
            options::config(r#"{"preset":"kivi-2"}"#, Role::Value).unwrap(),
        );
        let mut original = GearCache::new(shape, key, value).unwrap();
        let tokens = vec![0.25; 2 * 5 * 16];
        original.append(1, KvSlice::F32(&tokens), KvSlice::F32(&tokens), 5, NEVER).unwrap();
        let info = parse(cache(&original));
        assert_eq!((&info["layers"], &info["kvHeads"], &info["tokens"]), (&json!(3), &json!(2), &json!(0)));
        let stats = info["layerStats"].as_array().unwrap();
        assert_eq!(stats.iter().map(|layer| &layer["tokens"]).collect::<Vec<_>>(), [0, 5, 0]);
        assert!(stats[1]["key"]["parts"]["sinks"].as_u64() > stats[0]["key"]["parts"]["sinks"].as_u64());
        assert_eq!(
            (&info["keyConfig"]["preset"], &info["valueConfig"]["preset"]),
            (&json!("gear-4"), &json!("kivi-2"))
        );
    }

    #[test]
    fn a_containers_tensors_come_with_their_sizes() {
        let original = sample();
        let mut writer = ContainerWriter::new();
        writer.add_tensor("k", &original, Metadata::new()).unwrap();
        writer.add_raw("r", "U8", &[2], &[1, 2], Metadata::new()).unwrap();
        let bytes = writer.finish().unwrap();
        let info = parse(container(&Container::parse(bytes.as_slice()).unwrap()));
        let entries = info["entries"].as_array().unwrap();
        assert_eq!((&info["kind"], entries.len()), (&json!("tensors"), 2));
        assert_eq!((&entries[0]["kind"], &entries[0]["name"]), (&json!("tensor"), &json!("k")));
        assert_eq!(entries[0]["byteLength"], original.byte_length());
        assert_eq!(entries[0]["float16ByteLength"], original.float16_byte_length());
        assert_eq!(entries[0]["parts"], serde_json::to_value(original.parts()).unwrap());
        assert_eq!((&entries[1]["kind"], &entries[1]["shape"]), (&json!("raw"), &json!([2])));
        assert_eq!(entries[1].get("parts"), None);
    }
}
