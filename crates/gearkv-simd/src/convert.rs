//! Conversions between float16 and float32, and the exponential of online softmax.

use half::f16;
use half::slice::HalfFloatSliceExt;
use multiversion::multiversion;

use super::LANES;
use super::level::level;
use super::vector::{Vector, kernel};

/// Widens finite float16 to float32 (exact).
pub fn widen(from: &[f16], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    if cfg!(any(target_arch = "x86_64", target_arch = "wasm32")) {
        widen_at(level(), from, to);
    } else {
        from.convert_to_f32_slice(to);
    }
}

kernel!(fn widen_at(from: &[f16], to: &mut [f32]) = widen_by);

#[inline(always)]
unsafe fn widen_by<V: Vector>(from: &[f16], to: &mut [f32]) {
    let (chunks, rest) = from.as_chunks::<LANES>();
    let (wide, rest_wide) = to.as_chunks_mut::<LANES>();
    for (from, to) in chunks.iter().zip(wide) {
        // SAFETY: both have as many values as a register.
        unsafe { V::put(V::widened(from.as_ptr().cast()), to.as_mut_ptr()) };
    }
    for (from, to) in rest.iter().zip(rest_wide) {
        *to = widened_by_scaling(from.to_bits());
    }
}

/// Narrows float32 within ±65504 to float16, rounding half to even.
pub fn narrow(from: &[f32], to: &mut [f16]) {
    if cfg!(target_arch = "wasm32") { narrow_by_scaling(from, to) } else { to.convert_from_f32_slice(from) }
}

/// The exponents of float16 and float32 are 112 apart.
pub(super) const EXPONENT_GAP: f32 = f32::from_bits((127 + 112) << 23);
const EXPONENT_GAP_INVERSE: f32 = f32::from_bits((127 - 112) << 23);

/// For machines without an instruction for it: a float16's exponent and mantissa, read as a float32, are 2¹¹² too small.
#[inline(always)]
pub(super) fn widened_by_scaling(bits: u16) -> f32 {
    let bits = u32::from(bits);
    let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * EXPONENT_GAP;
    f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
}

/// The inverse of [`widened_by_scaling`], after rounding.
fn narrow_by_scaling(from: &[f32], to: &mut [f16]) {
    for (from, to) in from.iter().zip(to) {
        let rounded = near_f16(*from);
        let magnitude = f32::from_bits(rounded.to_bits() & 0x7FFF_FFFF) * EXPONENT_GAP_INVERSE;
        *to = f16::from_bits((magnitude.to_bits() >> 13) as u16 | ((rounded.to_bits() >> 16) & 0x8000) as u16);
    }
}

/// Rounds every value to the nearest float16, in place, half to even. Values must be within ±65504.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn round_to_f16(x: &mut [f32]) {
    for x in x {
        *x = near_f16(*x);
    }
}

/// As [`round_to_f16`], of values that stay as they are.
pub fn rounded_to_f16(from: &[f32], to: &mut [f32]) {
    assert_eq!(from.len(), to.len());
    round_at(level(), from, to);
}

kernel!(fn round_at(from: &[f32], to: &mut [f32]) = round);

#[inline(always)]
unsafe fn round<V: Vector>(from: &[f32], to: &mut [f32]) {
    let (chunks, rest) = from.as_chunks::<LANES>();
    let (rounded, rest_rounded) = to.as_chunks_mut::<LANES>();
    for (from, to) in chunks.iter().zip(rounded) {
        // SAFETY: both have as many values as a register.
        unsafe { V::put(V::rounded(V::floats(from.as_ptr())), to.as_mut_ptr()) };
    }
    for (from, to) in rest.iter().zip(rest_rounded) {
        *to = near_f16(*from);
    }
}

/// Below the smallest normal float16 the spacing is fixed; adding and subtracting 0.5 rounds to it.
pub(super) const SMALLEST_NORMAL: f32 = 1.0 / 16384.0;

#[inline(always)]
pub(super) fn near_f16(x: f32) -> f32 {
    let bits = x.to_bits();
    let magnitude = f32::from_bits(bits & 0x7FFF_FFFF);
    let rounded = f32::from_bits(bits.wrapping_add(0xFFF + ((bits >> 13) & 1)) & !0x1FFF);
    let small = f32::from_bits(((magnitude + 0.5) - 0.5).to_bits() | (bits & 0x8000_0000));
    if magnitude < SMALLEST_NORMAL { small } else { rounded }
}

/// The largest magnitude in `x`; NaN when there is a NaN, infinity when there is an infinity and no NaN.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn largest_magnitude(x: &[f32]) -> f32 {
    // As integers, magnitudes order like the floats they stand for, with infinity and NaN on top. One maximum, whose order is free: of sixteen, a lane
    // each, compilers make shuffles.
    f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)))
}

/// The sum of `x`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn sum(x: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] += chunk[i];
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane += x;
    }
    super::linear::sum_of_lanes(lanes)
}

/// Replaces each `x` by `exp(x − shift)` and returns their sum. `x − shift` must not exceed 0; `−∞` gives 0.
///
/// Relative error below 3·10⁻⁷ (tested), which softmax in float32 cannot tell from exact.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn exp_in_place(x: &mut [f32], shift: f32) -> f32 {
    let mut sums = [0.0f32; LANES];
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp_of_negative(chunk[i] - shift);
            sums[i] += chunk[i];
        }
    }
    let mut sum = 0.0;
    for x in rest {
        *x = exp_of_negative(*x - shift);
        sum += *x;
    }
    for lane in sums {
        sum += lane;
    }
    sum
}

/// What one row of online softmax comes to.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct SoftmaxRow {
    /// The largest logit so far, to which weights are relative.
    pub most: f32,
    /// Of the row's weights.
    pub sum: f32,
    /// The largest of the row's weights: 1 where its logit is the largest so far.
    pub largest: f32,
}

/// The largest of numbers; −∞ where there are none.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn largest(x: &[f32]) -> f32 {
    largest_of(x)
}

#[inline(always)]
fn largest_of(x: &[f32]) -> f32 {
    let mut lanes = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lanes[i] = if chunk[i] > lanes[i] { chunk[i] } else { lanes[i] };
        }
    }
    for (lane, x) in lanes.iter_mut().zip(rest) {
        *lane = if *x > *lane { *x } else { *lane };
    }
    // Halves against halves: a chain of all lanes would wait for each.
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            lanes[i] = if lanes[i + half] > lanes[i] { lanes[i + half] } else { lanes[i] };
        }
        half /= 2;
    }
    lanes[0]
}

/// One row of online softmax: replaces each `x` by `exp(x − m)`, where *m* is the largest of them and of `before`. All become 0 where *m* is −∞.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn softmax_row(x: &mut [f32], before: f32) -> SoftmaxRow {
    let own = largest_of(x);
    let (chunks, rest) = x.as_chunks_mut::<LANES>();
    let most = if own > before { own } else { before };
    let mut sums = [0.0f32; LANES];
    if most == f32::NEG_INFINITY {
        x.fill(0.0);
        return SoftmaxRow { most, sum: 0.0, largest: 0.0 };
    }
    for chunk in chunks {
        for i in 0..LANES {
            chunk[i] = exp_of_negative(chunk[i] - most);
            sums[i] += chunk[i];
        }
    }
    for (lane, x) in sums.iter_mut().zip(rest) {
        *x = exp_of_negative(*x - most);
        *lane += *x;
    }
    SoftmaxRow { most, sum: super::linear::sum_of_lanes(sums), largest: exp_of_negative(own - most) }
}

#[inline(always)]
fn exp_of_negative(x: f32) -> f32 {
    // exp(x) = 2^n · exp(f), n = round(x / ln 2), |f| ≤ ln 2 / 2. Below −87 the result is not a normal float: 0.
    const LOWEST: f32 = -87.0;
    const ROUNDING: f32 = 12_582_912.0; // 1.5 · 2²³
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let clamped = if x > LOWEST { x } else { LOWEST };
    let shifted = clamped * std::f32::consts::LOG2_E + ROUNDING;
    let n = shifted - ROUNDING;
    let f = (clamped - n * LN2_HIGH) - n * LN2_LOW;
    // Taylor to the sixth power: the seventh term is below 1.2·10⁻⁷ on this interval.
    let p = 1.0 / 720.0;
    let p = p * f + 1.0 / 120.0;
    let p = p * f + 1.0 / 24.0;
    let p = p * f + 1.0 / 6.0;
    let p = p * f + 0.5;
    let p = p * f + 1.0;
    let p = p * f + 1.0;
    // The low bits of `shifted` are n itself; moved up, they are an exponent that lacks its bias.
    let power = f32::from_bits((shifted.to_bits() << 23).wrapping_add(127 << 23));
    if x > LOWEST { p * power } else { 0.0 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;

    #[test]
    fn rounding_agrees_with_half_for_every_exponent() {
        let mut x = Vec::new();
        for exponent in 60..=142u32 {
            for step in 0..4096u32 {
                let bits = (exponent << 23) | (step << 11) | (step & 1);
                for bits in [bits, bits | 0x8000_0000, bits | 0x1000] {
                    let value = f32::from_bits(bits);
                    if value.abs() <= 65504.0 {
                        x.push(value);
                    }
                }
            }
        }
        x.push(0.0);
        x.push(-0.0);
        let expected: Vec<u32> = x.iter().map(|&v| f16::from_f32(v).to_f32().to_bits()).collect();
        let mut narrow = vec![f16::ZERO; x.len()];
        narrow_by_scaling(&x, &mut narrow);
        assert_eq!(narrow, x.iter().map(|&v| f16::from_f32(v)).collect::<Vec<_>>());
        for level in levels() {
            let mut rounded = vec![1.0; x.len()];
            round_at(level, &x, &mut rounded);
            assert_eq!(rounded.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected, "{level:?}");
        }
        round_to_f16(&mut x);
        assert_eq!(x.iter().map(|v| v.to_bits()).collect::<Vec<_>>(), expected);
    }

    #[test]
    fn widening_is_exact_for_every_finite_float16() {
        let mut all: Vec<f16> = (0..=u16::MAX).map(f16::from_bits).filter(|x| x.is_finite()).collect();
        // The last ones by themselves.
        all.truncate(all.len() - 3);
        let bits = |x: &[f32]| x.iter().map(|v| v.to_bits()).collect::<Vec<_>>();
        let expected = bits(&all.iter().map(|x| x.to_f32()).collect::<Vec<_>>());
        assert_eq!(bits(&all.iter().map(|x| widened_by_scaling(x.to_bits())).collect::<Vec<_>>()), expected);
        for level in levels() {
            let mut wide = vec![1.0; all.len()];
            widen_at(level, &all, &mut wide);
            assert_eq!(bits(&wide), expected, "{level:?}");
        }
    }

    #[test]
    fn exponential_is_accurate_and_vanishes_at_minus_infinity() {
        let inputs: Vec<f32> = (0..80_000).map(|i| -i as f32 * 1e-3).collect();
        let mut out = inputs.clone();
        exp_in_place(&mut out, 0.0);
        for (x, y) in inputs.iter().zip(&out) {
            let exact = f64::from(*x).exp();
            assert!(((f64::from(*y) - exact) / exact).abs() < 3e-7, "exp({x}) = {y}, expected {exact}");
        }
        for (length, before) in [(1, -1.0), (37, f32::NEG_INFINITY), (80_000, 2.0)] {
            let mut row = inputs[..length].to_vec();
            let SoftmaxRow { most, sum, largest } = softmax_row(&mut row, before);
            assert_eq!((most, largest), (before.max(0.0), row[0]));
            let expected: f64 = inputs[..length].iter().map(|x| f64::from(*x - most).exp()).sum();
            assert!((f64::from(sum) / expected - 1.0).abs() < 1e-5, "{sum} {expected}");
            assert_eq!(row[0], if before > 0.0 { exp_of_negative(-before) } else { 1.0 });
        }
        let mut unseen = [f32::NEG_INFINITY; 20];
        let nothing = SoftmaxRow { most: f32::NEG_INFINITY, sum: 0.0, largest: 0.0 };
        assert_eq!(softmax_row(&mut unseen, f32::NEG_INFINITY), nothing);
        assert_eq!(unseen, [0.0; 20]);
        let mut masked = [f32::NEG_INFINITY, 0.0];
        assert_eq!(exp_in_place(&mut masked, 0.0), 1.0);
        assert_eq!(masked, [0.0, 1.0]);
    }

    #[test]
    fn the_largest_magnitude_sees_what_is_not_finite() {
        assert_eq!(largest_magnitude(&[1.0, -3.0]), 3.0);
        assert!(largest_magnitude(&[f32::INFINITY, 1.0]).is_infinite());
        assert!(largest_magnitude(&[f32::INFINITY, f32::NAN]).is_nan());
    }
}
