//! Safetensors files: which tensor lies where, and writing tensors back.
//!
//! Not through the `safetensors` crate, whose readers and writers take a tenth of the WebAssembly module; tests hold files against it, both ways.

use std::collections::{BTreeMap, BTreeSet};

use gearkv::{ErrorCode, GearError, Result};
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::frame::{corrupt, too_large};

/// The same bound that the `safetensors` crate sets.
const MAX_HEADER_BYTES: usize = 100_000_000;

/// Where a header keeps what belongs to no tensor.
const TEXTS: &str = "__metadata__";

/// Data types and their bits, by their alignment: the crate writes those of the largest first.
const DTYPES: [(&str, u64); 22] = [
    ("BOOL", 8),
    ("F4", 4),
    ("F6_E2M3", 6),
    ("F6_E3M2", 6),
    ("U8", 8),
    ("I8", 8),
    ("F8_E5M2", 8),
    ("F8_E4M3", 8),
    ("F8_E8M0", 8),
    ("F8_E4M3FNUZ", 8),
    ("F8_E5M2FNUZ", 8),
    ("I16", 16),
    ("U16", 16),
    ("F16", 16),
    ("BF16", 16),
    ("I32", 32),
    ("U32", 32),
    ("F32", 32),
    ("C64", 64),
    ("F64", 64),
    ("I64", 64),
    ("U64", 64),
];

/// A tensor, and the range of bytes that holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct TensorSpan {
    /// Its name.
    pub name: String,
    /// A safetensors data type, for example `F32` or `BF16`.
    pub dtype: String,
    /// Row-major extents; empty for a scalar.
    pub shape: Vec<u64>,
    /// First byte.
    pub begin: u64,
    /// One past the last byte.
    pub end: u64,
}

/// The tensors of a file in the order of their bytes; offsets count from the start of the file.
///
/// # Errors
/// `CORRUPT_DATA` when the file is not intact safetensors.
pub fn index(bytes: &[u8]) -> Result<Vec<TensorSpan>> {
    Ok(read_header(bytes)?.tensors)
}

/// The file's own `__metadata__`: text by text.
///
/// # Errors
/// `CORRUPT_DATA` when the file is not intact safetensors.
pub fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    Ok(read_header(bytes)?.texts)
}

/// A file that holds `entries`, whose offsets count from the start of `payload`, and the given `__metadata__`.
///
/// # Errors
/// `INVALID_OPTION` for an unknown data type or a name that comes twice, `SHAPE_MISMATCH` when a range lies outside
/// the payload or has the wrong length for its shape, `OUT_OF_RANGE` when the file would not fit in memory.
pub fn serialize(
    entries: &[TensorSpan],
    payload: &[u8],
    metadata: Option<&BTreeMap<String, String>>,
) -> Result<Vec<u8>> {
    let mut names = BTreeSet::from([TEXTS]);
    let mut total = 0_usize;
    let mut tensors = Vec::with_capacity(entries.len());
    for entry in entries {
        if !names.insert(&entry.name) {
            return Err(GearError::new(
                ErrorCode::InvalidOption,
                format!("the name {:?} is taken; names in a safetensors file are unique", entry.name),
            ));
        }
        let data = data_of(entry, payload)?;
        // Ranges may overlap, so that the sum is not bounded by the payload.
        total = total.checked_add(data.len()).ok_or_else(|| too_large("the safetensors file"))?;
        tensors.push((place_of(&entry.dtype)?, entry, data));
    }
    tensors.sort_by(|(a, left, _), (b, right, _)| b.cmp(a).then_with(|| left.name.cmp(&right.name)));
    let mut fields = Vec::with_capacity(1 + tensors.len());
    if let Some(texts) = metadata {
        fields.push((TEXTS, Field::Texts(texts)));
    }
    let mut offset = 0;
    for (_, TensorSpan { name, dtype, shape, .. }, data) in &tensors {
        let end = offset + data.len();
        fields.push((name, Field::Tensor { dtype, shape, data_offsets: (offset, end) }));
        offset = end;
    }
    let mut header = header_of(fields)
        .map_err(|e| GearError::new(ErrorCode::Internal, format!("safetensors could not be written: {e}")))?;
    header.resize(header.len().next_multiple_of(8), b' ');
    if header.len() > MAX_HEADER_BYTES {
        return Err(too_large("the safetensors file's header"));
    }
    let mut file = Vec::new();
    let length = total.checked_add(8 + header.len()).ok_or_else(|| too_large("the safetensors file"))?;
    file.try_reserve_exact(length).map_err(|_| too_large("the safetensors file"))?;
    file.extend_from_slice(&(header.len() as u64).to_le_bytes());
    file.extend_from_slice(&header);
    tensors.iter().for_each(|(_, _, data)| file.extend_from_slice(data));
    Ok(file)
}

/// What a header says under one name.
#[derive(Serialize)]
#[serde(untagged)]
enum Field<'a> {
    Texts(&'a BTreeMap<String, String>),
    Tensor { dtype: &'a str, shape: &'a [u64], data_offsets: (usize, usize) },
}

fn header_of(fields: Vec<(&str, Field)>) -> serde_json::Result<Vec<u8>> {
    let mut json = Vec::new();
    serde::Serializer::collect_map(&mut serde_json::Serializer::new(&mut json), fields)?;
    Ok(json)
}

/// Bytes that a tensor takes.
///
/// # Errors
/// `INVALID_OPTION` for an unknown data type, `SHAPE_MISMATCH` for a size that is not addressable or not whole.
pub(crate) fn byte_length(dtype: &str, shape: &[u64]) -> Result<u64> {
    let (_, bits_each) = DTYPES[place_of(dtype)?];
    let bits = shape.iter().try_fold(bits_each, |product, &extent| product.checked_mul(extent));
    bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8).ok_or_else(|| {
        GearError::new(
            ErrorCode::ShapeMismatch,
            format!("{dtype} of shape {shape:?} is not a whole, addressable number of bytes"),
        )
    })
}

/// A data type's place among [`DTYPES`].
fn place_of(dtype: &str) -> Result<usize> {
    DTYPES.iter().position(|&(name, _)| name == dtype).ok_or_else(|| {
        GearError::new(
            ErrorCode::InvalidOption,
            format!("{dtype:?} is not a safetensors data type such as \"F32\", \"F16\" or \"BF16\""),
        )
    })
}

struct Header {
    /// In the order of their bytes; offsets count from the start of the file.
    tensors: Vec<TensorSpan>,
    texts: BTreeMap<String, String>,
}

/// What a header says of a tensor; offsets count from the start of the data.
#[derive(Deserialize)]
struct TensorField {
    dtype: String,
    shape: Vec<u64>,
    data_offsets: (u64, u64),
}

fn read_header(bytes: &[u8]) -> Result<Header> {
    let Some((length, rest)) = bytes.split_first_chunk::<8>() else {
        return Err(corrupt(format!("{} bytes are too few for a safetensors file", bytes.len())));
    };
    let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
    if length > MAX_HEADER_BYTES {
        return Err(corrupt("not a safetensors file, or its header is larger than 100 MB"));
    }
    let Some(json) = rest.get(..length) else {
        return Err(corrupt(format!("the safetensors header claims {length} bytes, but {} follow", rest.len())));
    };
    let malformed = |e: serde_json::Error| corrupt(format!("the safetensors header is malformed: {e}"));
    let Value::Object(mut fields) = gearkv::from_json(json).map_err(malformed)? else {
        return Err(corrupt("the safetensors header is malformed: expected an object"));
    };
    let texts = match fields.remove(TEXTS) {
        Some(texts) => Option::deserialize(texts).map_err(malformed)?.unwrap_or_default(),
        None => BTreeMap::new(),
    };
    let start = 8 + length as u64;
    let mut tensors = Vec::with_capacity(fields.len());
    for (name, field) in fields {
        let TensorField { dtype, shape, data_offsets: (begin, end) } =
            gearkv::object_from_tree(field).map_err(malformed)?;
        let bytes = byte_length(&dtype, &shape).map_err(|e| corrupt(format!("tensor {name:?}: {e}")))?;
        // Both offsets are real ones once each tensor begins where the one before it ends.
        if begin.checked_add(bytes) != Some(end) {
            return Err(corrupt(format!(
                "tensor {name:?} takes {bytes} bytes, but has the bytes from {begin} to {end}"
            )));
        }
        tensors.push(TensorSpan { name, dtype, shape, begin, end });
    }
    tensors.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    let mut last = 0;
    for TensorSpan { name, begin, end, .. } in &tensors {
        if *begin != last {
            return Err(corrupt(format!(
                "tensor {name:?} begins at byte {begin} of the data, but the one before it ends at {last}"
            )));
        }
        last = *end;
    }
    let data = (rest.len() - length) as u64;
    if last != data {
        return Err(corrupt(format!("the safetensors header describes {last} bytes of data, but {data} follow it")));
    }
    for span in &mut tensors {
        span.begin += start;
        span.end += start;
    }
    Ok(Header { tensors, texts })
}

/// The bytes of an entry, which are as many as its shape needs.
fn data_of<'a>(entry: &TensorSpan, payload: &'a [u8]) -> Result<&'a [u8]> {
    let TensorSpan { name, dtype, shape, begin, end } = entry;
    let mismatch = |message: String| GearError::new(ErrorCode::ShapeMismatch, format!("{name:?}: {message}"));
    let data = usize::try_from(*begin)
        .ok()
        .zip(usize::try_from(*end).ok())
        .and_then(|(begin, end)| payload.get(begin..end))
        .ok_or_else(|| mismatch(format!("[{begin}, {end}) is not a range of {} bytes", payload.len())))?;
    let expected = byte_length(dtype, shape)?;
    if expected != data.len() as u64 {
        let given = data.len();
        return Err(mismatch(format!("{dtype} of shape {shape:?} takes {expected} bytes, but {given} are given")));
    }
    Ok(data)
}
