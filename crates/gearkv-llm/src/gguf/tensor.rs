//! One tensor of a GGUF.

use candle_core::Device;
use candle_core::quantized::{GgmlDType, ggml_file::qtensor_from_ggml};
use gearkv::{ErrorCode, GearError, Result};

use super::corrupt;
use super::input::Input;

const MAX_DIMS: u32 = 4;

/// Where a tensor is, and what it holds.
#[derive(Debug, Clone)]
pub(crate) struct TensorEntry {
    pub kind: GgmlDType,
    /// The first is contiguous.
    pub dims: Vec<usize>,
    pub offset: u64,
    pub bytes: usize,
}

impl TensorEntry {
    pub fn read(input: &mut Input) -> Result<(String, Self)> {
        let name = input.string()?;
        let rank = input.u32()?;
        if rank == 0 || rank > MAX_DIMS {
            return Err(corrupt(format!("tensor {name:?} has {rank} dimensions; expected 1 to {MAX_DIMS}")));
        }
        let sizes = (0..rank).map(|_| input.u64()).collect::<Result<Vec<_>>>()?;
        let number = input.u32()?;
        let kind = kind(number).ok_or_else(|| {
            GearError::new(
                ErrorCode::UnsupportedModel,
                format!(
                    "tensor {name:?} is of GGML type {number}{}, which is not supported; use a GGUF in F32, F16, BF16, \
                     Q4_0, Q4_1, Q5_0, Q5_1, Q8_0 or Q2_K to Q6_K",
                    name_of(number).map_or_else(String::new, |name| format!(" ({name})"))
                ),
            )
        })?;
        let offset = input.u64()?;
        let elements = sizes.iter().try_fold(1u64, |n, &size| n.checked_mul(size));
        let block = kind.block_size() as u64;
        let bytes = elements.and_then(|n| (n / block).checked_mul(kind.type_size() as u64));
        let addressable = bytes.and_then(|n| usize::try_from(n).ok()).filter(|&n| n <= isize::MAX as usize);
        let (Some(bytes), true) = (addressable, sizes[0].is_multiple_of(block) && sizes.iter().all(|&n| n > 0)) else {
            return Err(corrupt(format!("tensor {name:?} has the impossible shape {sizes:?} for its type {kind:?}")));
        };
        let dims = sizes.iter().map(|&n| n as usize).collect();
        Ok((name, Self { kind, dims, offset, bytes }))
    }

    /// Whether all of it lies in the file.
    pub fn check(&self, name: &str, data_start: u64, length: u64) -> Result<()> {
        let end = data_start.checked_add(self.offset).and_then(|start| start.checked_add(self.bytes as u64));
        if end.is_none_or(|end| end > length) {
            return Err(corrupt(format!(
                "the GGUF is cut short: tensor {name:?} needs {} bytes at {} + {}, but the file has {length}; download it again",
                self.bytes, data_start, self.offset
            )));
        }
        Ok(())
    }

    pub fn elements(&self) -> usize {
        self.dims.iter().product()
    }
}

fn kind(number: u32) -> Option<GgmlDType> {
    Some(match number {
        0 => GgmlDType::F32,
        1 => GgmlDType::F16,
        2 => GgmlDType::Q4_0,
        3 => GgmlDType::Q4_1,
        6 => GgmlDType::Q5_0,
        7 => GgmlDType::Q5_1,
        8 => GgmlDType::Q8_0,
        10 => GgmlDType::Q2K,
        11 => GgmlDType::Q3K,
        12 => GgmlDType::Q4K,
        13 => GgmlDType::Q5K,
        14 => GgmlDType::Q6K,
        30 => GgmlDType::BF16,
        _ => return None,
    })
}

/// Types that ggml has and candle does not read, so that the error can name them.
fn name_of(number: u32) -> Option<&'static str> {
    Some(match number {
        9 => "Q8_1",
        15 => "Q8_K",
        16 => "IQ2_XXS",
        17 => "IQ2_XS",
        18 => "IQ3_XXS",
        19 => "IQ1_S",
        20 => "IQ4_NL",
        21 => "IQ3_S",
        22 => "IQ2_S",
        23 => "IQ4_XS",
        24 => "I8",
        25 => "I16",
        26 => "I32",
        27 => "I64",
        28 => "F64",
        29 => "IQ1_M",
        34 => "TQ1_0",
        35 => "TQ2_0",
        39 => "MXFP4",
        40 => "NVFP4",
        _ => return None,
    })
}

/// A tensor's bytes as the file has them.
pub(crate) struct RawTensor {
    pub name: String,
    pub kind: GgmlDType,
    pub dims: Vec<usize>,
    pub bytes: Vec<u8>,
}

impl RawTensor {
    /// All values, in float32.
    pub fn to_f32(&self) -> Result<Vec<f32>> {
        let dims = self.dims.iter().rev().copied().collect();
        let values: Vec<f32> = qtensor_from_ggml(self.kind, &self.bytes, dims, &Device::Cpu)
            .and_then(|tensor| tensor.dequantize(&Device::Cpu))
            .and_then(|tensor| tensor.flatten_all())
            .and_then(|tensor| tensor.to_vec1())
            .map_err(|e| corrupt(format!("tensor {:?}: {e}", self.name)))?;
        if let Some(at) = values.iter().position(|x| !x.is_finite()) {
            return Err(corrupt(format!("tensor {:?} holds {} at value {at}", self.name, values[at])));
        }
        Ok(values)
    }
}
