//! Safetensors files, through the `safetensors` crate: which tensor lies where, and writing tensors back.

use std::borrow::Cow;
use std::collections::{BTreeMap, HashSet};

use gearkv::{ErrorCode, GearError, Result};
use safetensors::tensor::Metadata;
use safetensors::{Dtype, View};
use serde::{Deserialize, Serialize};

use crate::frame::{corrupt, too_large};

/// The same bound that the `safetensors` crate sets.
const MAX_HEADER_BYTES: usize = 100_000_000;

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
    let (header, data_start) = read_header(bytes)?;
    let tensors = header.tensors();
    let mut spans = Vec::with_capacity(tensors.len());
    for (name, info) in tensors {
        let (begin, end) = info.data_offsets;
        spans.push(TensorSpan {
            name,
            dtype: info.dtype.to_string(),
            shape: info.shape.iter().map(|&extent| extent as u64).collect(),
            begin: (data_start + begin) as u64,
            end: (data_start + end) as u64,
        });
    }
    spans.sort_by(|a, b| (a.begin, a.end, &a.name).cmp(&(b.begin, b.end, &b.name)));
    Ok(spans)
}

/// The file's own `__metadata__`: text by text.
///
/// # Errors
/// `CORRUPT_DATA` when the file is not intact safetensors.
pub fn metadata(bytes: &[u8]) -> Result<BTreeMap<String, String>> {
    let (header, _) = read_header(bytes)?;
    Ok(header.metadata().iter().flatten().map(|(key, value)| (key.clone(), value.clone())).collect())
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
    let mut names = HashSet::with_capacity(entries.len());
    let mut total = 0_usize;
    let mut views = Vec::with_capacity(entries.len());
    for entry in entries {
        if !names.insert(entry.name.as_str()) || entry.name == "__metadata__" {
            return Err(GearError::new(
                ErrorCode::InvalidOption,
                format!("the name {:?} is taken; names in a safetensors file are unique", entry.name),
            ));
        }
        let view = SpanView::new(entry, payload)?;
        // Ranges may overlap, so that the sum is not bounded by the payload.
        total = total.checked_add(view.data.len()).ok_or_else(|| too_large("the safetensors file"))?;
        views.push((entry.name.as_str(), view));
    }
    // The library allocates the whole file at once and aborts where that fails; find out first.
    Vec::<u8>::new().try_reserve_exact(total).map_err(|_| too_large("the safetensors file"))?;
    let metadata = metadata.map(|texts| texts.iter().map(|(key, value)| (key.clone(), value.clone())).collect());
    safetensors::serialize(views, metadata)
        .map_err(|e| GearError::new(ErrorCode::Internal, format!("safetensors could not be written: {e}")))
}

/// Bytes that a tensor takes.
///
/// # Errors
/// `INVALID_OPTION` for an unknown data type, `SHAPE_MISMATCH` for a size that is not addressable or not whole.
pub(crate) fn byte_length(dtype: &str, shape: &[u64]) -> Result<u64> {
    let bits_each = parse_dtype(dtype)?.bitsize() as u64;
    let bits = shape.iter().try_fold(bits_each, |product, &extent| product.checked_mul(extent));
    bits.filter(|bits| bits % 8 == 0).map(|bits| bits / 8).ok_or_else(|| {
        GearError::new(
            ErrorCode::ShapeMismatch,
            format!("{dtype} of shape {shape:?} is not a whole, addressable number of bytes"),
        )
    })
}

fn parse_dtype(name: &str) -> Result<Dtype> {
    // The crate reads data types through serde only.
    serde_json::from_value(serde_json::Value::from(name)).map_err(|_| {
        GearError::new(
            ErrorCode::InvalidOption,
            format!("{name:?} is not a safetensors data type such as \"F32\", \"F16\" or \"BF16\""),
        )
    })
}

/// The checked header, and where the data starts. The crate's own reader adds offsets without checking for overflow.
fn read_header(bytes: &[u8]) -> Result<(Metadata, usize)> {
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
    let header: Metadata =
        serde_json::from_slice(json).map_err(|e| corrupt(format!("the safetensors header is malformed: {e}")))?;
    let data = rest.len() - length;
    if header.data_len() != data {
        return Err(corrupt(format!(
            "the safetensors header describes {} bytes of data, but {data} follow it",
            header.data_len()
        )));
    }
    Ok((header, 8 + length))
}

struct SpanView<'a> {
    dtype: Dtype,
    shape: Vec<usize>,
    data: &'a [u8],
}

impl<'a> SpanView<'a> {
    fn new(entry: &TensorSpan, payload: &'a [u8]) -> Result<Self> {
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
        let shape = shape.iter().map(|&extent| usize::try_from(extent)).collect::<std::result::Result<_, _>>();
        let shape = shape.map_err(|_| mismatch("an extent is larger than this machine can address".to_owned()))?;
        Ok(Self { dtype: parse_dtype(dtype)?, shape, data })
    }
}

impl View for SpanView<'_> {
    fn dtype(&self) -> Dtype {
        self.dtype
    }

    fn shape(&self) -> &[usize] {
        &self.shape
    }

    fn data(&self) -> Cow<'_, [u8]> {
        Cow::Borrowed(self.data)
    }

    fn data_len(&self) -> usize {
        self.data.len()
    }
}
