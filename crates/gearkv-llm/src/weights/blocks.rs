//! Codes, scale and zero of each 32 weights, whatever the file's type: `weight = code · scale + zero`.

use candle_core::quantized::GgmlDType;
use gearkv::Result;
use half::f16;

use crate::gguf::RawTensor;

use super::{BLOCK, PANEL};

/// How wide a matrix's codes are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Width {
    Four,
    Eight,
    /// Not quantized in the file, and not here.
    Float,
}

impl Width {
    pub fn of(kind: GgmlDType, columns: usize) -> Self {
        match kind {
            GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => Self::Float,
            _ if !columns.is_multiple_of(BLOCK) => Self::Float,
            GgmlDType::Q4_0 | GgmlDType::Q4_1 | GgmlDType::Q4K => Self::Four,
            _ => Self::Eight,
        }
    }

    /// Bytes of codes for 32 columns of a panel.
    pub fn block_bytes(self) -> usize {
        match self {
            Self::Four => PANEL * BLOCK / 2,
            Self::Eight => PANEL * BLOCK,
            Self::Float => 0,
        }
    }
}

/// 32 weights of one row.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Block {
    pub codes: [u8; BLOCK],
    pub scale: f32,
    pub zero: f32,
}

/// All blocks of a tensor in the file's order, which is row by row.
pub(crate) fn blocks(tensor: &RawTensor) -> Result<Vec<Block>> {
    let bytes = &tensor.bytes;
    let of = |size: usize, f: &dyn Fn(&[u8]) -> Block| Ok(bytes.chunks_exact(size).map(f).collect());
    match tensor.kind {
        GgmlDType::Q4_0 => of(18, &|b| {
            let scale = half(b, 0);
            Block { codes: nibbles(&b[2..]), scale, zero: -8.0 * scale }
        }),
        GgmlDType::Q4_1 => of(20, &|b| Block { codes: nibbles(&b[4..]), scale: half(b, 0), zero: half(b, 2) }),
        GgmlDType::Q5_0 => of(22, &|b| {
            let scale = half(b, 0);
            Block { codes: fifth_bits(nibbles(&b[6..]), &b[2..]), scale, zero: -16.0 * scale }
        }),
        GgmlDType::Q5_1 => {
            of(24, &|b| Block { codes: fifth_bits(nibbles(&b[8..]), &b[4..]), scale: half(b, 0), zero: half(b, 2) })
        }
        GgmlDType::Q8_0 => of(34, &|b| {
            let scale = half(b, 0);
            // From signed to unsigned codes.
            let codes = std::array::from_fn(|i| b[2 + i] ^ 0x80);
            Block { codes, scale, zero: -128.0 * scale }
        }),
        GgmlDType::Q4K => Ok(bytes.chunks_exact(144).flat_map(four_bit_super_block).collect()),
        GgmlDType::Q5K => Ok(bytes.chunks_exact(176).flat_map(five_bit_super_block).collect()),
        _ => Ok(tensor.to_f32()?.chunks_exact(BLOCK).map(quantized).collect()),
    }
}

fn half(bytes: &[u8], at: usize) -> f32 {
    f16::from_le_bytes([bytes[at], bytes[at + 1]]).to_f32()
}

/// Low nibbles are the first 16 codes, high nibbles the last.
fn nibbles(bytes: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| if i < 16 { bytes[i] & 15 } else { bytes[i - 16] >> 4 })
}

fn fifth_bits(codes: [u8; BLOCK], bits: &[u8]) -> [u8; BLOCK] {
    std::array::from_fn(|i| codes[i] | (bits[i / 8] >> (i % 8) & 1) << 4)
}

/// Eight scales and zeros of six bits each, of Q4_K and Q5_K, under two float16 factors.
fn six_bit_scales(b: &[u8]) -> [(f32, f32); 8] {
    let (scale, zero, packed) = (half(b, 0), half(b, 2), &b[4..16]);
    std::array::from_fn(|i| {
        let (s, z) = if i < 4 {
            (packed[i] & 63, packed[i + 4] & 63)
        } else {
            let high = packed[i + 4];
            ((high & 15) | (packed[i - 4] >> 6) << 4, (high >> 4) | (packed[i] >> 6) << 4)
        };
        (scale * f32::from(s), -zero * f32::from(z))
    })
}

/// Block `i` of 256 codes of four bits: two blocks share 32 bytes.
fn nibbles_of_pair(codes: &[u8], i: usize) -> [u8; BLOCK] {
    let pair = &codes[i / 2 * BLOCK..][..BLOCK];
    std::array::from_fn(|j| if i.is_multiple_of(2) { pair[j] & 15 } else { pair[j] >> 4 })
}

/// Q4_K: 256 weights in eight blocks.
fn four_bit_super_block(b: &[u8]) -> [Block; 8] {
    let scales = six_bit_scales(b);
    std::array::from_fn(|i| Block { codes: nibbles_of_pair(&b[16..], i), scale: scales[i].0, zero: scales[i].1 })
}

/// Q5_K: as Q4_K, and 32 bytes of fifth bits: bit `i` of byte `j` is that of code `j` of block `i`.
fn five_bit_super_block(b: &[u8]) -> [Block; 8] {
    let (scales, fifth) = (six_bit_scales(b), &b[16..48]);
    std::array::from_fn(|i| {
        let low = nibbles_of_pair(&b[48..], i);
        let codes = std::array::from_fn(|j| low[j] | (fifth[j] >> i & 1) << 4);
        Block { codes, scale: scales[i].0, zero: scales[i].1 }
    })
}

/// Types with smaller groups than 32 (Q2_K, Q3_K, Q6_K): eight bits over the block's own range.
fn quantized(values: &[f32]) -> Block {
    let least = values.iter().copied().fold(f32::INFINITY, f32::min);
    let most = values.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    // Rounded first, so that codes are made for the scale and zero that are kept.
    let scale = f16::from_f32((most - least) / 255.0).to_f32();
    let zero = f16::from_f32(least).to_f32();
    let code = |x: f32| if scale > 0.0 { ((x - zero) / scale).round_ties_even().clamp(0.0, 255.0) as u8 } else { 0 };
    Block { codes: std::array::from_fn(|i| code(values[i])), scale, zero }
}

#[cfg(test)]
mod tests {
    use candle_core::quantized::QTensor;
    use candle_core::{Device, Tensor};

    use super::*;

    #[test]
    fn blocks_are_the_weights_that_candle_reads() {
        let values: Vec<f32> = (0..1024).map(|i| ((i * 7919 % 1021) as f32 / 500.0 - 1.0) * 0.1).collect();
        for (kind, tolerance) in [
            (GgmlDType::Q4_0, 1e-6),
            (GgmlDType::Q4_1, 1e-6),
            (GgmlDType::Q5_0, 1e-6),
            (GgmlDType::Q5_1, 1e-6),
            (GgmlDType::Q8_0, 1e-6),
            (GgmlDType::Q4K, 1e-6),
            (GgmlDType::Q2K, 5e-4),
            (GgmlDType::Q3K, 5e-4),
            (GgmlDType::Q5K, 1e-6),
            (GgmlDType::Q6K, 5e-4),
        ] {
            let tensor = Tensor::from_slice(&values, (2, 512), &Device::Cpu).unwrap();
            let quantized = QTensor::quantize(&tensor, kind).unwrap();
            let bytes = quantized.data().unwrap().to_vec();
            let raw = RawTensor { name: "t".into(), kind, dims: vec![512, 2], bytes };
            let exact = raw.to_f32().unwrap();
            let got = blocks(&raw).unwrap();
            assert_eq!(got.len(), 32, "{kind:?}");
            for (i, expected) in exact.iter().enumerate() {
                let block = &got[i / BLOCK];
                let value = f32::from(block.codes[i % BLOCK]) * block.scale + block.zero;
                assert!((value - expected).abs() <= tolerance, "{kind:?} value {i}: {value}, expected {expected}");
            }
        }
    }
}
