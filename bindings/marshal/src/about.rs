//! What a saved cache says of itself: JSON, and beside it the bytes of token ids and arrays, one after the other.

use gearkv::{ErrorCode, GearError};
use gearkv_format::{About, Array, CacheExtent, CacheReader, Entry, Kind, Metadata};
use serde::Serialize;
use serde_json::Value;

use crate::info::to_json;
use crate::options::metadata;
use crate::{BindingError, Result};

/// From `{model?, tokenIds?: how many, metadata?, arrays: [{name, dtype, shape, byteLength}]}`, which the facade has checked, and the bytes of ids and
/// arrays. Empty text says nothing.
///
/// # Errors
/// `INVALID_OPTION` for anything else.
pub fn from_json(json: &str, bytes: &[u8]) -> Result<About> {
    if json.is_empty() {
        return Ok(About::default());
    }
    // By hand: derived, it would take several times as much of the WebAssembly module.
    let mut given = metadata(json)?;
    let (mut about, mut rest) = (About::default(), Bytes(bytes));
    if let Some(count) = given.remove("tokenIds") {
        let (ids, _) = rest.next(count.as_u64().and_then(|count| count.checked_mul(4)))?.as_chunks::<4>();
        about.token_ids = Some(ids.iter().map(|id| u32::from_le_bytes(*id)).collect());
    }
    for mut array in list(given.remove("arrays")) {
        let bytes = rest.next(array["byteLength"].as_u64())?.to_vec();
        let shape = list(Some(array["shape"].take())).iter().map(Value::as_u64).collect::<Option<Vec<_>>>();
        let (name, dtype) = (text(array["name"].take())?, text(array["dtype"].take())?);
        about.arrays.push(Array { name, dtype, shape: shape.ok_or_else(malformed)?, bytes });
    }
    about.model = given.remove("model").map(text).transpose()?;
    if let Some(Value::Object(metadata)) = given.remove("metadata") {
        about.metadata = metadata;
    }
    Ok(about)
}

/// Bytes that are taken from the front.
struct Bytes<'a>(&'a [u8]);

impl<'a> Bytes<'a> {
    fn next(&mut self, length: Option<u64>) -> Result<&'a [u8]> {
        let length = length.and_then(|length| usize::try_from(length).ok()).ok_or_else(malformed)?;
        let (first, rest) = self.0.split_at_checked(length).ok_or_else(malformed)?;
        self.0 = rest;
        Ok(first)
    }
}

fn list(value: Option<Value>) -> Vec<Value> {
    match value {
        Some(Value::Array(values)) => values,
        _ => Vec::new(),
    }
}

fn text(value: Value) -> Result<String> {
    match value {
        Value::String(text) => Ok(text),
        _ => Err(malformed()),
    }
}

fn malformed() -> BindingError {
    GearError::new(ErrorCode::InvalidOption, "about is not what the facade makes of it").into()
}

/// What a container says of the cache in it.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Told<'a> {
    kind: Kind,
    cache: CacheExtent,
    tokens: usize,
    byte_length: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    model: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    token_ids: Option<usize>,
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    metadata: &'a Metadata,
    arrays: Vec<ToldArray<'a>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct ToldArray<'a> {
    name: &'a str,
    dtype: &'a str,
    shape: &'a [u64],
    byte_length: u64,
}

/// `{kind, cache: {layers, batch, kvHeads, headDim}, tokens, byteLength, model?, tokenIds?: how many, metadata?, arrays}`, as soon as the header was read. Empty
/// before that.
///
/// # Errors
/// `INTERNAL` when it cannot be written.
pub fn to_json_of(reader: &CacheReader) -> Result<String> {
    let (Some(header), Some(about), Some(byte_length)) = (reader.header(), reader.about(), reader.byte_length()) else {
        return Ok(String::new());
    };
    let Some(cache) = header.cache else {
        return Ok(String::new());
    };
    let tokens = header.entries.iter().filter_map(|entry| match entry {
        Entry::Tensor(tensor) => Some(tensor.shape.tokens),
        Entry::Frozen(tensor) => Some(tensor.shape.tokens),
        Entry::Raw(_) => None,
    });
    let arrays = header.entries.iter().filter_map(|entry| match entry {
        Entry::Raw(raw) => raw.about_array().map(|name| ToldArray {
            name,
            dtype: &raw.dtype,
            shape: &raw.shape,
            byte_length: raw.section.1,
        }),
        _ => None,
    });
    to_json(&Told {
        kind: header.kind,
        cache,
        tokens: tokens.min().unwrap_or(0),
        byte_length,
        model: about.model.as_deref(),
        token_ids: about.token_ids.as_ref().map(Vec::len),
        metadata: &about.metadata,
        arrays: arrays.collect(),
    })
}

/// The bytes of ids and arrays that were read, in the order in which [`to_json_of`] names them.
///
/// # Errors
/// `OUT_OF_RANGE` where memory is full.
pub fn bytes_of(reader: &CacheReader) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(about) = reader.about() {
        let ids = about.token_ids.as_deref().unwrap_or_default();
        let length = 4 * ids.len() + about.arrays.iter().map(|array| array.bytes.len()).sum::<usize>();
        bytes.try_reserve_exact(length).map_err(|_| {
            GearError::new(ErrorCode::OutOfRange, "what travels with the cache does not fit into memory")
        })?;
        bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
        about.arrays.iter().for_each(|array| bytes.extend_from_slice(&array.bytes));
    }
    Ok(bytes)
}
