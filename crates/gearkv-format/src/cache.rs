//! One tensor, or the K and V of every layer, as a container of their own.

use gearkv::{FrozenCache, GearCache, GearTensor, Result};

use crate::about::About;
use crate::container::Container;
use crate::frame::corrupt;
use crate::header::{Entry, Kind, Metadata};
use crate::reader::{CacheReader, expect_kind};
use crate::restore;
use crate::writer::{CacheWriter, Content, Pending, write};

const TENSOR_NAME: &str = "tensor";

/// One tensor as a container of kind [`Kind::Tensor`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn tensor_to_bytes(tensor: &GearTensor) -> Result<Vec<u8>> {
    let content = Content::Tensor(tensor.clone());
    write(Kind::Tensor, &[Pending { name: TENSOR_NAME.to_owned(), metadata: Metadata::new(), content }])
}

/// Reads what [`tensor_to_bytes`] wrote.
///
/// # Errors
/// `CORRUPT_DATA` or `UNSUPPORTED_VERSION` for bytes that are not that, or no longer; `INVALID_OPTION` for an intact
/// container of another kind.
pub fn tensor_from_bytes(bytes: &[u8]) -> Result<GearTensor> {
    let container = Container::parse(bytes)?;
    expect_kind(container.header().kind, Kind::Tensor)?;
    match container.entries() {
        [Entry::Tensor(entry)] if entry.name == TENSOR_NAME => restore::tensor(entry, container.payload()),
        _ => Err(corrupt("a container of kind \"tensor\" holds exactly one entry, a tensor named \"tensor\"")),
    }
}

/// A whole cache that says nothing of itself, as a container of kind [`Kind::Cache`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn cache_to_bytes(cache: &GearCache) -> Result<Vec<u8>> {
    CacheWriter::cache(cache, About::default())?.to_bytes()
}

/// Reads what [`cache_to_bytes`] wrote; what the cache says of itself, [`CacheReader`] gives.
///
/// # Errors
/// As [`CacheReader::push`].
pub fn cache_from_bytes(bytes: &[u8]) -> Result<GearCache> {
    let mut reader = CacheReader::new(Some(Kind::Cache));
    reader.push(bytes)?;
    Ok(reader.into_cache()?.0)
}

/// A frozen cache that says nothing of itself, as a container of kind [`Kind::Frozen`].
///
/// # Errors
/// `OUT_OF_RANGE` when the container would be larger than memory.
pub fn frozen_to_bytes(cache: &FrozenCache) -> Result<Vec<u8>> {
    CacheWriter::frozen(cache, About::default())?.to_bytes()
}

/// Reads what [`frozen_to_bytes`] wrote. What is coded is checked against its checksum now, and as codes when it is thawed.
///
/// # Errors
/// As [`CacheReader::push`].
pub fn frozen_from_bytes(bytes: &[u8]) -> Result<FrozenCache> {
    let mut reader = CacheReader::new(Some(Kind::Frozen));
    reader.push(bytes)?;
    Ok(reader.into_frozen()?.0)
}
