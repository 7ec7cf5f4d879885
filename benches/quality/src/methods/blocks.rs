//! Blocks of channels of one token under one float16 scale, symmetric around zero: llama.cpp's cache types (`ggml-quants.c`), and
//! plain 8-bit integers.

use half::f16;

use super::codec::Codec;

/// Channels of a block of llama.cpp.
const BLOCK: usize = 32;
/// Channels of a group of plain integers.
const GROUP: usize = 64;
const SCALE_BITS: f64 = 16.0;

/// A type of blocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Blocks {
    /// 8 bits, 32 channels a scale; the largest magnitude becomes 127.
    Q8_0,
    /// 5 bits, 32 channels a scale; the value of largest magnitude becomes −16, whatever its sign.
    Q5_0,
    /// As [`Self::Q5_0`], 4 bits: it becomes −8.
    Q4_0,
    /// 8 bits, 64 channels a scale.
    Int8,
}

impl Codec for Blocks {
    fn pass(&self, head: &mut [f32]) -> f64 {
        let (size, bits, pass): (usize, f64, fn(&mut [f32])) = match self {
            Self::Q8_0 => (BLOCK, 8.0, |block| symmetric(block)),
            Self::Q5_0 => (BLOCK, 5.0, |block| signed(block, 16.0)),
            Self::Q4_0 => (BLOCK, 4.0, |block| signed(block, 8.0)),
            Self::Int8 => (GROUP, 8.0, |block| symmetric(block)),
        };
        let mut total = 0.0;
        for block in head.chunks_mut(size) {
            pass(block);
            total += bits * block.len() as f64 + SCALE_BITS;
        }
        total
    }
}

/// Codes from −127 to 127.
fn symmetric(block: &mut [f32]) {
    let largest = block.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    let step = largest / 127.0;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let kept = f16::from_f32(step).to_f32();
    for x in block {
        *x = (*x * inverse).round() * kept;
    }
}

/// Codes from 0 to `2·half − 1`, of which `half` stands for zero.
fn signed(block: &mut [f32], half: f32) {
    let extreme = block.iter().fold(0.0f32, |most, &x| if x.abs() > most.abs() { x } else { most });
    let step = extreme / -half;
    let inverse = if step == 0.0 { 0.0 } else { 1.0 / step };
    let kept = f16::from_f32(step).to_f32();
    for x in block {
        let code = (*x * inverse + half + 0.5).floor().clamp(0.0, 2.0 * half - 1.0);
        *x = (code - half) * kept;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn passed(blocks: Blocks, x: &[f32]) -> (Vec<f32>, f64) {
        let mut y = x.to_vec();
        let bits = blocks.pass(&mut y);
        (y, bits)
    }

    #[test]
    fn codes_are_those_of_the_formulas() {
        let x: Vec<f32> = (0..32).map(|i| i as f32 - 16.0).collect();
        // -16 is the value of largest magnitude: the step is 2, and what lies between two codes goes up.
        let (y, bits) = passed(Blocks::Q4_0, &x);
        assert_eq!((y[0], y[1], y[16], y[31]), (-16.0, -14.0, 0.0, 14.0));
        assert_eq!(bits, 4.5 * 32.0);
        let (y, bits) = passed(Blocks::Q5_0, &x);
        assert_eq!(y, x);
        assert_eq!(bits, 5.5 * 32.0);
        let (y, bits) = passed(Blocks::Q8_0, &x.iter().map(|x| x * 127.0 / 16.0).collect::<Vec<_>>());
        assert_eq!((y[0], y[16]), (-127.0, 0.0));
        assert_eq!(bits, 8.5 * 32.0);
        assert_eq!(passed(Blocks::Int8, &[0.0; 64]), (vec![0.0; 64], 8.25 * 64.0));
    }

    #[test]
    fn errors_are_within_half_a_step() {
        let x: Vec<f32> = (0..96).map(|i| ((i * 37) % 101) as f32 / 50.0 - 1.0).collect();
        for (blocks, steps, size) in [(Blocks::Q8_0, 127.0, 32), (Blocks::Q4_0, 8.0, 32), (Blocks::Int8, 127.0, 64)] {
            let (y, _) = passed(blocks, &x);
            for (x, y) in x.chunks(size).zip(y.chunks(size)) {
                let largest = x.iter().fold(0.0f32, |most, x| most.max(x.abs()));
                // A code short at the far end, where there is none for it.
                let most = if blocks == Blocks::Q4_0 { 1.01 } else { 0.51 };
                assert!(x.iter().zip(y).all(|(x, y)| (x - y).abs() <= most * largest / steps), "{blocks:?}");
            }
        }
    }
}
