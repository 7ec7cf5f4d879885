//! Reading a GGUF file: its metadata, and its tensors one at a time.
//!
//! Every count and length in the file is checked against the bytes that are left before anything is allocated for it.

mod input;
mod tensor;
mod value;

use std::collections::HashMap;
use std::io::{Read, Seek, SeekFrom};

use gearkv::{ErrorCode, GearError, Result};

use input::Input;
pub(crate) use tensor::{RawTensor, TensorEntry};
pub(crate) use value::Value;

/// Where a GGUF comes from.
pub(crate) trait Source: Read + Seek + Send {}
impl<T: Read + Seek + Send> Source for T {}

const MAGIC: &[u8; 4] = b"GGUF";
const DEFAULT_ALIGNMENT: u64 = 32;
/// More than any model has; bounds the work that a made-up header can ask for.
const MAX_ENTRIES: u64 = 1 << 20;

/// The parsed header of a GGUF, and the source that its tensors are read from.
pub(crate) struct Gguf {
    source: Box<dyn Source>,
    metadata: HashMap<String, Value>,
    tensors: HashMap<String, TensorEntry>,
    data_start: u64,
    length: u64,
}

pub(crate) fn corrupt(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::CorruptData, message)
}

pub(crate) fn io_failed(what: &str, error: &std::io::Error) -> GearError {
    GearError::new(ErrorCode::IoFailed, format!("{what}: {error}"))
}

impl Gguf {
    /// Reads the header.
    pub fn read(mut source: Box<dyn Source>) -> Result<Self> {
        let length = source.seek(SeekFrom::End(0)).map_err(|e| io_failed("the model's length", &e))?;
        source.seek(SeekFrom::Start(0)).map_err(|e| io_failed("the model", &e))?;
        let mut input = Input::new(&mut source, length);
        let magic: [u8; 4] = input.array()?;
        if &magic != MAGIC {
            return Err(corrupt("this is not a GGUF file: it does not start with \"GGUF\""));
        }
        let version = input.u32()?;
        if version != 2 && version != 3 {
            return Err(GearError::new(
                ErrorCode::UnsupportedVersion,
                format!("GGUF version {version}; expected 2 or 3, little-endian"),
            ));
        }
        let tensor_count = count(&mut input, "tensors")?;
        let metadata_count = count(&mut input, "metadata entries")?;
        let mut metadata = HashMap::new();
        for _ in 0..metadata_count {
            let key = input.string()?;
            let value = Value::read(&mut input)?;
            if metadata.contains_key(&key) {
                return Err(corrupt(format!("the metadata has {key:?} twice")));
            }
            metadata.insert(key, value);
        }
        let mut tensors = HashMap::new();
        for _ in 0..tensor_count {
            let (name, entry) = TensorEntry::read(&mut input)?;
            if tensors.contains_key(&name) {
                return Err(corrupt(format!("there are two tensors {name:?}")));
            }
            tensors.insert(name, entry);
        }
        let alignment = match metadata.get("general.alignment").and_then(Value::integer) {
            Some(x) if (1..=1 << 20).contains(&x) => x as u64,
            Some(x) => return Err(corrupt(format!("general.alignment is {x}; expected 1 to 1048576"))),
            None => DEFAULT_ALIGNMENT,
        };
        let data_start = input.position().next_multiple_of(alignment);
        if let Some(parts) = metadata.get("split.count").and_then(Value::integer).filter(|&parts| parts > 1) {
            return Err(GearError::new(
                ErrorCode::UnsupportedModel,
                format!("this is one of {parts} files of a model; join them first (llama-gguf-split --merge)"),
            ));
        }
        for (name, entry) in &tensors {
            entry.check(name, data_start, length)?;
        }
        check_apart(&tensors)?;
        Ok(Self { source, metadata, tensors, data_start, length })
    }

    /// Bytes of the whole file.
    pub fn byte_length(&self) -> u64 {
        self.length
    }

    /// One metadata entry.
    pub fn value(&self, key: &str) -> Option<&Value> {
        self.metadata.get(key)
    }

    /// All tensors.
    pub fn tensors(&self) -> impl Iterator<Item = (&str, &TensorEntry)> {
        self.tensors.iter().map(|(name, entry)| (name.as_str(), entry))
    }

    /// Whether there is a tensor of this name.
    pub fn has(&self, name: &str) -> bool {
        self.tensors.contains_key(name)
    }

    /// Reads a tensor of exactly this shape (`dims[0]` is contiguous, as in GGUF).
    pub fn tensor(&mut self, name: &str, dims: &[usize]) -> Result<RawTensor> {
        let entry = self
            .tensors
            .get(name)
            .ok_or_else(|| corrupt(format!("the model has no tensor {name:?}, which its architecture needs")))?;
        if entry.dims != dims {
            return Err(corrupt(format!("tensor {name:?} is {:?}; the model's metadata says {dims:?}", entry.dims)));
        }
        let mut bytes = vec![0; entry.bytes];
        self.source
            .seek(SeekFrom::Start(self.data_start + entry.offset))
            .and_then(|_| self.source.read_exact(&mut bytes))
            .map_err(|e| io_failed(&format!("tensor {name:?}"), &e))?;
        Ok(RawTensor { name: name.to_owned(), kind: entry.kind, dims: dims.to_vec(), bytes })
    }

    /// A vector of `n` values.
    pub fn vector(&mut self, name: &str, n: usize) -> Result<Vec<f32>> {
        self.tensor(name, &[n])?.to_f32()
    }

    /// A vector of `n` values, where the model has it.
    pub fn optional_vector(&mut self, name: &str, n: usize) -> Result<Option<Vec<f32>>> {
        if self.has(name) { self.vector(name, n).map(Some) } else { Ok(None) }
    }
}

/// Tensors that share bytes would take more memory than the file has.
fn check_apart(tensors: &HashMap<String, TensorEntry>) -> Result<()> {
    let mut runs: Vec<(u64, u64, &str)> =
        tensors.iter().map(|(name, entry)| (entry.offset, entry.bytes as u64, name.as_str())).collect();
    runs.sort_unstable();
    match runs.windows(2).find(|pair| pair[0].0 + pair[0].1 > pair[1].0) {
        None => Ok(()),
        Some(pair) => Err(corrupt(format!("tensors {:?} and {:?} overlap", pair[0].2, pair[1].2))),
    }
}

fn count(input: &mut Input, what: &str) -> Result<u64> {
    let n = input.u64()?;
    if n > MAX_ENTRIES {
        return Err(corrupt(format!("the header says {n} {what}; expected at most {MAX_ENTRIES}")));
    }
    Ok(n)
}
