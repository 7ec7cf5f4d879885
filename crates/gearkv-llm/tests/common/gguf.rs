//! Writes GGUF files.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

pub enum Meta {
    U32(u32),
    F32(f32),
    Bool(bool),
    Text(String),
    Texts(Vec<String>),
    I32s(Vec<i32>),
    F32s(Vec<f32>),
    Bools(Vec<bool>),
    /// A type's number and what stands behind it.
    Raw(u32, Vec<u8>),
}

pub struct TensorData {
    pub name: String,
    /// The first is contiguous.
    pub dims: Vec<u64>,
    pub kind: u32,
    pub bytes: Vec<u8>,
}

impl TensorData {
    pub fn f32(name: &str, dims: &[usize], values: &[f32]) -> Self {
        assert_eq!(dims.iter().product::<usize>(), values.len(), "{name}");
        let bytes = values.iter().flat_map(|x| x.to_le_bytes()).collect();
        Self { name: name.into(), dims: dims.iter().map(|&n| n as u64).collect(), kind: 0, bytes }
    }

    /// As candle quantizes it.
    pub fn quantized(name: &str, dims: &[usize], values: &[f32], kind: GgmlDType) -> Self {
        if kind == GgmlDType::F32 {
            return Self::f32(name, dims, values);
        }
        let shape: Vec<usize> = dims.iter().rev().copied().collect();
        let tensor = Tensor::from_slice(values, shape, &Device::Cpu).unwrap();
        let bytes = QTensor::quantize(&tensor, kind).unwrap().data().unwrap().to_vec();
        Self { name: name.into(), dims: dims.iter().map(|&n| n as u64).collect(), kind: number(kind), bytes }
    }
}

/// The types that candle reads, and their numbers in a GGUF.
pub const KINDS: [(GgmlDType, u32); 13] = [
    (GgmlDType::F32, 0),
    (GgmlDType::F16, 1),
    (GgmlDType::Q4_0, 2),
    (GgmlDType::Q4_1, 3),
    (GgmlDType::Q5_0, 6),
    (GgmlDType::Q5_1, 7),
    (GgmlDType::Q8_0, 8),
    (GgmlDType::Q2K, 10),
    (GgmlDType::Q3K, 11),
    (GgmlDType::Q4K, 12),
    (GgmlDType::Q5K, 13),
    (GgmlDType::Q6K, 14),
    (GgmlDType::BF16, 30),
];

fn number(kind: GgmlDType) -> u32 {
    KINDS.iter().find(|(k, _)| *k == kind).unwrap().1
}

#[derive(Default)]
pub struct File {
    pub metadata: Vec<(String, Meta)>,
    pub tensors: Vec<TensorData>,
}

fn text(out: &mut Vec<u8>, s: &str) {
    out.extend((s.len() as u64).to_le_bytes());
    out.extend(s.as_bytes());
}

impl File {
    pub fn set(&mut self, key: &str, value: Meta) {
        self.metadata.retain(|(k, _)| k != key);
        self.metadata.push((key.into(), value));
    }

    pub fn tensor_mut(&mut self, name: &str) -> &mut TensorData {
        self.tensors.iter_mut().find(|tensor| tensor.name == name).unwrap()
    }

    pub fn bytes(&self) -> Vec<u8> {
        let mut out = b"GGUF".to_vec();
        out.extend(3u32.to_le_bytes());
        out.extend((self.tensors.len() as u64).to_le_bytes());
        out.extend((self.metadata.len() as u64).to_le_bytes());
        for (key, value) in &self.metadata {
            text(&mut out, key);
            value.write(&mut out);
        }
        let mut offset = 0u64;
        for tensor in &self.tensors {
            text(&mut out, &tensor.name);
            out.extend((tensor.dims.len() as u32).to_le_bytes());
            tensor.dims.iter().for_each(|n| out.extend(n.to_le_bytes()));
            out.extend(tensor.kind.to_le_bytes());
            out.extend(offset.to_le_bytes());
            offset = (offset + tensor.bytes.len() as u64).next_multiple_of(32);
        }
        for tensor in &self.tensors {
            out.resize(out.len().next_multiple_of(32), 0);
            out.extend(&tensor.bytes);
        }
        out
    }
}

impl Meta {
    fn write(&self, out: &mut Vec<u8>) {
        fn array(out: &mut Vec<u8>, kind: u32, n: usize) {
            out.extend(9u32.to_le_bytes());
            out.extend(kind.to_le_bytes());
            out.extend((n as u64).to_le_bytes());
        }
        match self {
            Self::U32(x) => {
                out.extend(4u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Self::F32(x) => {
                out.extend(6u32.to_le_bytes());
                out.extend(x.to_le_bytes());
            }
            Self::Bool(x) => {
                out.extend(7u32.to_le_bytes());
                out.push(u8::from(*x));
            }
            Self::Text(x) => {
                out.extend(8u32.to_le_bytes());
                text(out, x);
            }
            Self::Texts(all) => {
                array(out, 8, all.len());
                all.iter().for_each(|x| text(out, x));
            }
            Self::I32s(all) => {
                array(out, 5, all.len());
                all.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::F32s(all) => {
                array(out, 6, all.len());
                all.iter().for_each(|x| out.extend(x.to_le_bytes()));
            }
            Self::Raw(kind, bytes) => {
                out.extend(kind.to_le_bytes());
                out.extend(bytes);
            }
            Self::Bools(all) => {
                array(out, 7, all.len());
                out.extend(all.iter().map(|&x| u8::from(x)));
            }
        }
    }
}
