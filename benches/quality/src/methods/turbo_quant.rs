//! TurboQuant for squared error (arXiv 2504.19874, algorithm 1): a token's head is divided by its norm and turned, so that every
//! coordinate is nearly normal with variance 1/head_dim, and each becomes the nearest level of the Lloyd-Max quantizer for that.
//!
//! The rotation is Hadamard's matrix rather than a random one: measured, that makes no difference, and it needs no storage.

use half::f16;

use super::codec::Codec;

const NORM_BITS: f64 = 16.0;

/// Positive levels of the Lloyd-Max quantizer of a standard normal variable (J. Max, *Quantizing for minimum distortion*, 1960,
/// table 1); the others mirror them.
const LEVELS_2: &[f32] = &[0.4528, 1.5104];
const LEVELS_3: &[f32] = &[0.2451, 0.7560, 1.3439, 2.1520];
const LEVELS_4: &[f32] = &[0.1284, 0.3881, 0.6568, 0.9423, 1.2562, 1.6180, 2.0690, 2.7326];

/// TurboQuant of so many bits, 2 to 4.
#[derive(Debug, Clone, Copy)]
pub struct TurboQuant {
    /// Bits a code.
    pub bits: u32,
}

impl TurboQuant {
    fn levels(self) -> &'static [f32] {
        match self.bits {
            2 => LEVELS_2,
            3 => LEVELS_3,
            _ => LEVELS_4,
        }
    }
}

impl Codec for TurboQuant {
    fn pass(&self, head: &mut [f32]) -> f64 {
        let norm = f16::from_f32(head.iter().map(|x| x * x).sum::<f32>().sqrt()).to_f32();
        turn(head);
        let unit = norm / (head.len() as f32).sqrt();
        for x in head.iter_mut() {
            let level = if unit > 0.0 { nearest(self.levels(), x.abs() / unit) } else { 0.0 };
            *x = level.copysign(*x) * unit;
        }
        turn(head);
        f64::from(self.bits) * head.len() as f64 + NORM_BITS
    }
}

fn nearest(levels: &[f32], x: f32) -> f32 {
    let above = levels.windows(2).take_while(|pair| x > (pair[0] + pair[1]) / 2.0).count();
    levels[above]
}

/// The orthonormal Hadamard transform, its own inverse; of as many leading channels as a power of two has, then of the rest.
fn turn(x: &mut [f32]) {
    let (mut rest, mut left) = (x, usize::MAX);
    while left > 0 && !rest.is_empty() {
        let size = 1 << rest.len().ilog2();
        let (block, behind) = rest.split_at_mut(size);
        let mut half = 1;
        while half < size {
            for pair in block.chunks_exact_mut(2 * half) {
                let (low, high) = pair.split_at_mut(half);
                for (a, b) in low.iter_mut().zip(high) {
                    (*a, *b) = (*a + *b, *a - *b);
                }
            }
            half *= 2;
        }
        let scale = 1.0 / (size as f32).sqrt();
        block.iter_mut().for_each(|x| *x *= scale);
        left = behind.len();
        rest = behind;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn noise(n: usize) -> Vec<f32> {
        // Sums of twelve numbers of a linear congruence: nearly normal.
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32
        };
        (0..n).map(|_| (0..12).map(|_| uniform()).sum::<f32>() - 6.0).collect()
    }

    #[test]
    fn turning_twice_changes_nothing_and_keeps_the_norm() {
        for n in [64, 80, 256, 21] {
            let x = noise(n);
            let mut y = x.clone();
            turn(&mut y);
            let norm = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>().sqrt();
            assert!((norm(&x) / norm(&y) - 1.0).abs() < 1e-5);
            assert!(x.iter().zip(&y).any(|(x, y)| (x - y).abs() > 0.1));
            turn(&mut y);
            assert!(x.iter().zip(&y).all(|(x, y)| (x - y).abs() < 1e-5));
        }
    }

    #[test]
    fn the_error_is_that_of_the_quantizer_whatever_the_size() {
        // The mean squared errors of Max's table 1.
        for (bits, expected) in [(2, 0.1175), (3, 0.03454), (4, 0.009497)] {
            for size in [1e-2, 30.0] {
                let (mut left, mut all) = (0.0, 0.0);
                for head in noise(64 * 500).chunks_exact(64) {
                    let x: Vec<f32> = head.iter().map(|x| x * size).collect();
                    let mut y = x.clone();
                    assert_eq!(TurboQuant { bits }.pass(&mut y), f64::from(bits) * 64.0 + 16.0);
                    left += x.iter().zip(&y).map(|(x, y)| f64::from(x - y).powi(2)).sum::<f64>();
                    all += x.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>();
                }
                assert!((left / all / expected - 1.0).abs() < 0.06, "{bits} bits: {} of {expected}", left / all);
            }
        }
        let mut zero = [0.0; 64];
        TurboQuant { bits: 2 }.pass(&mut zero);
        assert_eq!(zero, [0.0; 64]);
    }
}
