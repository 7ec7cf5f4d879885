//! A frozen cache as a container of its own.

use gearkv::{CacheShape, ErrorCode, FrozenCache, FrozenHeader, FrozenTensor, GearError, Result, Role, Statistics};

use crate::cache::{ROLES, entry_name, expect_kind};
use crate::container::Container;
use crate::frame::corrupt;
use crate::header::{CacheExtent, Entry, FrozenEntry, Kind, Metadata};
use crate::layout;
use crate::writer::{Content, Pending, write};

const STATISTICS: &str = "statistics";

/// A frozen cache as a container of kind [`Kind::Frozen`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn frozen_to_bytes(cache: &FrozenCache) -> Result<Vec<u8>> {
    let CacheShape { layers, batch, kv_heads, head_dim } = cache.shape();
    let bytes = cache.statistics().bytes().to_vec();
    let statistics = Content::Raw { dtype: "U8".into(), shape: vec![bytes.len() as u64], bytes };
    let mut entries = Vec::with_capacity(1 + 2 * layers);
    entries.push(Pending { name: STATISTICS.into(), metadata: Metadata::new(), content: statistics });
    for layer in 0..layers {
        for (role, role_name) in ROLES {
            let content = Content::Frozen(cache.tensor(layer, role)?.clone());
            entries.push(Pending { name: entry_name(layer, role_name), metadata: Metadata::new(), content });
        }
    }
    write(Kind::Frozen, Some(CacheExtent { layers, batch, kv_heads, head_dim }), &entries)
}

/// Reads what [`frozen_to_bytes`] wrote. What is coded is checked against its checksum now, and as codes when it is thawed.
///
/// # Errors
/// `CORRUPT_DATA` or `UNSUPPORTED_VERSION` for bytes that are not that, or no longer; `INVALID_OPTION` for an intact
/// container of another kind.
pub fn frozen_from_bytes(bytes: &[u8]) -> Result<FrozenCache> {
    let container = Container::parse(bytes)?;
    expect_kind(&container, Kind::Frozen)?;
    let Some(CacheExtent { layers, batch, kv_heads, head_dim }) = container.header().cache else {
        return Err(corrupt("the cache's extents are missing"));
    };
    let Some((Entry::Raw(first), tensors)) = container.entries().split_first() else {
        return Err(corrupt("a frozen cache begins with its statistics"));
    };
    if first.name != STATISTICS || first.dtype != "U8" {
        return Err(corrupt("a frozen cache begins with its statistics"));
    }
    let (pairs, rest) = tensors.as_chunks::<2>();
    if pairs.len() != layers || !rest.is_empty() {
        return Err(corrupt(format!(
            "a cache of {layers} layers has two entries a layer, but there are {}",
            tensors.len()
        )));
    }
    let statistics = Statistics::from_bytes(layout::section(container.payload(), first.section)?, head_dim)?;
    let mut restored = Vec::with_capacity(pairs.len());
    for (layer, [key, value]) in pairs.iter().enumerate() {
        let tensor = |entry, place| restore(layer_entry(entry, layer, place)?, container.payload());
        restored.push((tensor(key, ROLES[0])?, tensor(value, ROLES[1])?));
    }
    // The extents are the file's, and so is whatever the core finds wrong with them.
    FrozenCache::from_parts(CacheShape { layers, batch, kv_heads, head_dim }, statistics, restored).map_err(as_corrupt)
}

fn restore(entry: &FrozenEntry, payload: &[u8]) -> Result<FrozenTensor> {
    let bytes = layout::section(payload, entry.section)?;
    let &FrozenEntry { role, shape, sink_tokens: sinks, weighted, rotation, .. } = entry;
    let (name, config) = (&entry.name, entry.config.clone());
    let header = FrozenHeader { role, shape, config, sinks, weighted, rotation };
    FrozenTensor::from_bytes(header, bytes.into())
        .map_err(|e| as_corrupt(GearError::new(e.code(), format!("entry {name:?}: {e}"))))
}

fn layer_entry<'a>(entry: &'a Entry, layer: usize, (role, role_name): (Role, &str)) -> Result<&'a FrozenEntry> {
    let expected = entry_name(layer, role_name);
    match entry {
        Entry::Frozen(tensor) if tensor.name == expected && tensor.role == role => Ok(tensor),
        _ => Err(corrupt(format!("entry {:?} stands where {expected:?} is expected", entry.name()))),
    }
}

fn as_corrupt(error: GearError) -> GearError {
    match error.code() {
        ErrorCode::Internal => error,
        _ => corrupt(error.to_string()),
    }
}
