//! The same model with weights of another type, as a new GGUF.
//!
//! Nothing is gained by more bits: weights that were in 4 bits have the same values in 16. It is for seeing what a type of weights does
//! to a cache, where a model is at hand in one type alone.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufWriter, Write};
use std::path::Path;

use candle_core::quantized::gguf_file::{self, Content, Value};
use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};
use gearkv::{Cancel, ErrorCode, GearError, Result};
use serde::Serialize;

use crate::gguf::{Gguf, corrupt, io_failed};
use crate::pass::check_cancel;

/// What was written.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Requantized {
    /// Types of the weights that were read, and how many were of each.
    pub from: BTreeMap<String, u64>,
    /// Types of the weights that were written.
    pub to: BTreeMap<String, u64>,
    /// Bytes of the new file.
    pub file_bytes: u64,
}

/// Types by their names, with the number that a file gives itself (`general.file_type`).
const TYPES: [(&str, GgmlDType, u32); 9] = [
    ("F32", GgmlDType::F32, 0),
    ("F16", GgmlDType::F16, 1),
    ("Q4_0", GgmlDType::Q4_0, 2),
    ("Q4_1", GgmlDType::Q4_1, 3),
    ("Q8_0", GgmlDType::Q8_0, 7),
    ("Q5_0", GgmlDType::Q5_0, 8),
    ("Q5_1", GgmlDType::Q5_1, 9),
    (MIXED, GgmlDType::Q4K, 15),
    ("Q6_K", GgmlDType::Q6K, 18),
];
/// Q4_K, and Q6_K for the tensors that matter most, dealt out as llama.cpp does for dense models.
const MIXED: &str = "Q4_K_M";

/// Writes the model in `from` to `to`, its matrices in the type that `weights` names: F32, F16, Q4_0, Q4_1, Q5_0, Q5_1, Q8_0, Q4_K_M or
/// Q6_K. Rows that do not fill the blocks of a type with 256 are in the next larger type with 32 (Q5_0 for Q4_K, Q8_0 for Q6_K). Vectors
/// stay as they are. `progress` is called with tensors done, and all there are. All of the new model is in memory at once.
///
/// # Errors
/// `INVALID_OPTION` for another name, `IO_FAILED`, what loading finds wrong with the file, `ABORTED`.
pub fn requantize(
    from: &Path,
    to: &Path,
    weights: &str,
    cancel: Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Requantized> {
    let Some(&(name, kind, number)) = TYPES.iter().find(|(name, ..)| *name == weights) else {
        let names = TYPES.map(|(name, ..)| name).join(", ");
        let message = format!("weights is {weights:?}; expected {names}");
        return Err(GearError::new(ErrorCode::InvalidOption, message));
    };
    let open = || File::open(from).map_err(|e| io_failed(&format!("opening {}", from.display()), &e));
    // Checks every count and length, which candle's reader does not.
    let mut gguf = Gguf::read(Box::new(open()?))?;
    let content = Content::read(&mut open()?).map_err(|e| corrupt(e.to_string()))?;
    let mut entries: Vec<_> = gguf.tensors().map(|(name, entry)| (name.to_owned(), entry.clone())).collect();
    entries.sort_by_key(|(_, entry)| entry.offset);
    let layers = 1 + entries.iter().filter_map(|(name, _)| layer_of(name)).max().unwrap_or(0);
    let tied = !gguf.has("output.weight");
    let mut found = Requantized { from: BTreeMap::new(), to: BTreeMap::new(), file_bytes: 0 };
    let mut tensors = Vec::with_capacity(entries.len());
    for (name, entry) in &entries {
        check_cancel(cancel)?;
        let target = match entry.dims.len() {
            1 => GgmlDType::F32,
            _ if kind == GgmlDType::Q4K => fitting(mixed(name, layers, tied), entry.dims[0]),
            _ => fitting(kind, entry.dims[0]),
        };
        let values = gguf.tensor(name, &entry.dims)?.to_f32()?;
        let dims: Vec<usize> = entry.dims.iter().rev().copied().collect();
        let tensor = Tensor::from_vec(values, dims, &Device::Cpu)
            .and_then(|tensor| QTensor::quantize(&tensor, target))
            .map_err(|e| corrupt(format!("tensor {name:?}: {e}")))?;
        let elements = entry.elements() as u64;
        *found.from.entry(format!("{:?}", entry.kind)).or_insert(0) += elements;
        *found.to.entry(format!("{target:?}")).or_insert(0) += elements;
        tensors.push((name.as_str(), tensor));
        progress(tensors.len(), entries.len());
    }
    let mut metadata: BTreeMap<&str, &Value> =
        content.metadata.iter().map(|(key, value)| (key.as_str(), value)).collect();
    let file_type = Value::U32(number);
    metadata.insert("general.file_type", &file_type);
    // What is written lies at multiples of 32, as it does where nothing is said.
    metadata.remove("general.alignment");
    let metadata: Vec<(&str, &Value)> = metadata.into_iter().collect();
    let tensors: Vec<(&str, &QTensor)> = tensors.iter().map(|(name, tensor)| (*name, tensor)).collect();
    let failed = |e: &std::io::Error| io_failed(&format!("writing {} in {name}", to.display()), e);
    // Beside it first: a file that is there is whole.
    let mut partial = to.as_os_str().to_owned();
    partial.push(".partial");
    let write = || -> Result<u64> {
        let mut out = BufWriter::new(File::create(&partial).map_err(|e| failed(&e))?);
        gguf_file::write(&mut out, &metadata, &tensors)
            .map_err(|e| GearError::new(ErrorCode::IoFailed, format!("writing {}: {e}", to.display())))?;
        out.flush().map_err(|e| failed(&e))?;
        out.get_ref().sync_all().map_err(|e| failed(&e))?;
        let bytes = out.get_ref().metadata().map_err(|e| failed(&e))?.len();
        std::fs::rename(&partial, to).map_err(|e| failed(&e))?;
        Ok(bytes)
    };
    found.file_bytes = write().inspect_err(|_| drop(std::fs::remove_file(&partial)))?;
    Ok(found)
}

/// The number in `blk.N.…`.
fn layer_of(name: &str) -> Option<usize> {
    name.strip_prefix("blk.")?.split('.').next()?.parse().ok()
}

/// A type whose blocks rows of `columns` fill.
fn fitting(kind: GgmlDType, columns: usize) -> GgmlDType {
    let smaller = match kind {
        _ if columns.is_multiple_of(kind.block_size()) => return kind,
        GgmlDType::Q4K => GgmlDType::Q5_0,
        GgmlDType::Q6K => GgmlDType::Q8_0,
        _ => GgmlDType::F16,
    };
    fitting(smaller, columns)
}

/// What Q4_K_M has for a tensor.
fn mixed(name: &str, layers: usize, tied: bool) -> GgmlDType {
    let output = name == "output.weight" || (tied && name == "token_embd.weight");
    let matters = name.ends_with("attn_v.weight") || name.ends_with("ffn_down.weight");
    let more = layer_of(name).is_some_and(|layer| {
        let eighth = layers / 8;
        layer < eighth || layer >= 7 * layers / 8 || (layer - eighth) % 3 == 2
    });
    if output || (matters && more) { GgmlDType::Q6K } else { GgmlDType::Q4K }
}
