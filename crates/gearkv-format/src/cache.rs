//! One tensor, or the K and V of every layer, as a container of their own.

use gearkv::{CacheShape, ErrorCode, GearCache, GearError, GearTensor, Result, Role};

use crate::container::Container;
use crate::frame::corrupt;
use crate::header::{CacheExtent, Entry, Kind, Metadata, TensorEntry};
use crate::writer::{Content, Pending, write};

const TENSOR_NAME: &str = "tensor";
pub(crate) const ROLES: [(Role, &str); 2] = [(Role::Key, "key"), (Role::Value, "value")];

/// One tensor as a container of kind [`Kind::Tensor`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn tensor_to_bytes(tensor: &GearTensor) -> Result<Vec<u8>> {
    write(Kind::Tensor, None, &[pending(TENSOR_NAME.to_owned(), tensor)])
}

/// Reads what [`tensor_to_bytes`] wrote.
///
/// # Errors
/// `CORRUPT_DATA` or `UNSUPPORTED_VERSION` for bytes that are not that, or no longer; `INVALID_OPTION` for an intact
/// container of another kind.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<GearTensor> {
    let container = Container::parse(bytes)?;
    expect_kind(&container, Kind::Tensor)?;
    match container.entries() {
        [Entry::Tensor(entry)] if entry.name == TENSOR_NAME => container.restore(entry),
        _ => Err(corrupt("a container of kind \"tensor\" holds exactly one entry, a tensor named \"tensor\"")),
    }
}

/// A whole cache as a container of kind [`Kind::Cache`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn cache_to_bytes(cache: &GearCache) -> Result<Vec<u8>> {
    let CacheShape { layers, batch, kv_heads, head_dim } = cache.shape();
    let mut entries = Vec::with_capacity(2 * layers);
    for layer in 0..layers {
        for (role, role_name) in ROLES {
            entries.push(pending(entry_name(layer, role_name), cache.tensor(layer, role)?));
        }
    }
    write(Kind::Cache, Some(CacheExtent { layers, batch, kv_heads, head_dim }), &entries)
}

/// Reads what [`cache_to_bytes`] wrote.
///
/// # Errors
/// `CORRUPT_DATA` or `UNSUPPORTED_VERSION` for bytes that are not that, or no longer; `INVALID_OPTION` for an intact
/// container of another kind.
pub fn cache_from_bytes(bytes: &[u8]) -> Result<GearCache> {
    let container = Container::parse(bytes)?;
    expect_kind(&container, Kind::Cache)?;
    let Some(CacheExtent { layers, batch, kv_heads, head_dim }) = container.header().cache else {
        return Err(corrupt("the cache's extents are missing"));
    };
    let (pairs, rest) = container.entries().as_chunks::<2>();
    if pairs.len() != layers || !rest.is_empty() {
        return Err(corrupt(format!(
            "a cache of {layers} layers has two entries a layer, but the container has {}",
            container.entries().len()
        )));
    }
    let mut tensors = Vec::with_capacity(pairs.len());
    for (layer, [key, value]) in pairs.iter().enumerate() {
        let key = container.restore(layer_entry(key, layer, ROLES[0])?)?;
        let value = container.restore(layer_entry(value, layer, ROLES[1])?)?;
        tensors.push((key, value));
    }
    // The extents are the file's, and so is whatever the core finds wrong with them.
    GearCache::from_tensors(CacheShape { layers, batch, kv_heads, head_dim }, tensors).map_err(|e| match e.code() {
        ErrorCode::Internal => e,
        _ => corrupt(e.to_string()),
    })
}

fn layer_entry<'a>(entry: &'a Entry, layer: usize, (role, role_name): (Role, &str)) -> Result<&'a TensorEntry> {
    let expected = entry_name(layer, role_name);
    match entry {
        Entry::Tensor(tensor) if tensor.name == expected && tensor.role == role => Ok(tensor),
        _ => Err(corrupt(format!("entry {:?} stands where {expected:?} is expected", entry.name()))),
    }
}

pub(crate) fn entry_name(layer: usize, role_name: &str) -> String {
    format!("layer.{layer}.{role_name}")
}

fn pending(name: String, tensor: &GearTensor) -> Pending {
    Pending { name, metadata: Metadata::new(), content: Content::Tensor(tensor.clone()) }
}

pub(crate) fn expect_kind(container: &Container<&[u8]>, expected: Kind) -> Result<()> {
    let kind = container.header().kind;
    if kind == expected {
        return Ok(());
    }
    let what = |kind| match kind {
        Kind::Tensor => "one tensor",
        Kind::Tensors => "named tensors",
        Kind::Cache => "a whole cache",
        Kind::Frozen => "a frozen cache",
    };
    Err(GearError::new(
        ErrorCode::InvalidOption,
        format!("the container holds {}, but {} was asked for; read it as what it is", what(kind), what(expected)),
    ))
}
