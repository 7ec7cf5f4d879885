//! Small scales and zeros: rounding to them, and back to float32 (their form is described in `backbone/scales.rs`).

use multiversion::multiversion;

/// A code and this, moved behind 19 mantissa bits, are the float `(16 + s mod 16) · 2^(⌊s/16⌋ − 20)`.
pub(super) const CODE_OF_ZERO: u32 = (127 - 16) << 4;
pub(super) const MANTISSA_LEFT_OUT: u32 = 19;
const LARGEST_CODE: i32 = 255;
const LARGEST_ZERO: f32 = 127.0;
/// Adding it and taking it away rounds a float below 2²² to a whole number, halves to even.
const ROUNDING: f32 = 12_582_912.0; // 1.5 · 2²³

/// What small scales and zeros are multiples of.
#[derive(Clone, Copy)]
pub struct SmallGrid {
    /// What scales are multiples of.
    pub super_scale: f32,
    /// A step of a zero in steps of its group.
    pub zero_unit: f32,
}

#[inline(always)]
fn scale_of_code(code: u32, super_scale: f32) -> f32 {
    super_scale * share_of_code(code)
}

/// What a scale is of its super-scale.
#[inline(always)]
pub(super) fn share_of_code(code: u32) -> f32 {
    f32::from_bits((code + CODE_OF_ZERO) << MANTISSA_LEFT_OUT)
}

#[inline(always)]
fn code_of(ratio: f32, rounding: u32) -> i32 {
    ((ratio.to_bits() + rounding) >> MANTISSA_LEFT_OUT) as i32 - CODE_OF_ZERO as i32
}

/// The scale and zero that are kept for what is wanted; with `cover`, none that is smaller (larger, for the zero).
#[inline(always)]
pub(super) fn rounded_pair(scale: f32, zero: f32, grid: SmallGrid, cover: bool) -> (f32, f32) {
    const UP: u32 = (1 << MANTISSA_LEFT_OUT) - 1;
    const NEAREST: u32 = 1 << (MANTISSA_LEFT_OUT - 1);
    let SmallGrid { super_scale, zero_unit } = grid;
    // A zero that is far out needs a scale that reaches it.
    let reaching = code_of(zero.abs() / (LARGEST_ZERO * zero_unit) / super_scale, UP);
    let wanted = code_of(scale / super_scale, if cover { UP } else { NEAREST });
    let code = if wanted > reaching { wanted } else { reaching };
    let code = if code > 0 { code } else { 0 };
    let code = if code < LARGEST_CODE { code } else { LARGEST_CODE };
    let scale = scale_of_code(code as u32, super_scale);
    let steps = zero / (scale * zero_unit);
    let steps = if steps > -LARGEST_ZERO { steps } else { -LARGEST_ZERO };
    let steps = if steps < LARGEST_ZERO { steps } else { LARGEST_ZERO };
    let whole = (steps + ROUNDING) - ROUNDING;
    let whole = if cover && whole > steps { whole - 1.0 } else { whole };
    let whole = if whole > -LARGEST_ZERO { whole } else { -LARGEST_ZERO };
    (scale, (whole * zero_unit) * scale)
}

/// Codes of rounded scales and zeros under one super-scale, `units` being the zeros' own.
pub fn narrow_scales(
    (scale, zero): (&[f32], &[f32]),
    super_scale: f32,
    units: impl Iterator<Item = f32>,
    scales: &mut [u8],
    zeros: &mut [i8],
) {
    for ((((&scale, &zero), unit), code), steps) in scale.iter().zip(zero).zip(units).zip(scales).zip(zeros) {
        // Both quotients are whole but for rounding.
        *code = code_of(scale / super_scale, 1 << (MANTISSA_LEFT_OUT - 1)) as u8;
        *steps = (zero / (scale * unit)).round_ties_even() as i8;
    }
}

/// Codes of the scales that are nearest. With a super-scale of 0 all are 0.
pub fn narrow_magnitudes(scale: &[f32], super_scale: f32, codes: &mut [u8]) {
    for (&scale, code) in scale.iter().zip(codes) {
        let nearest = if super_scale > 0.0 { code_of(scale / super_scale, 1 << (MANTISSA_LEFT_OUT - 1)) } else { 0 };
        *code = nearest.clamp(0, LARGEST_CODE) as u8;
    }
}

/// Scales of codes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn widen_scales(codes: &[u8], super_scale: f32, out: &mut [f32]) {
    for (out, &code) in out.iter_mut().zip(codes) {
        *out = scale_of_code(u32::from(code), super_scale);
    }
}

/// Zeros, given their groups' scales.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn widen_zeros(steps: &[i8], zero_unit: f32, scale: &[f32], out: &mut [f32]) {
    for ((out, &steps), &scale) in out.iter_mut().zip(steps).zip(scale) {
        *out = (f32::from(steps) * zero_unit) * scale;
    }
}

/// `multiple · step` of each.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn widen_multiples(multiples: &[i8], step: f32, out: &mut [f32]) {
    for (out, &multiple) in out.iter_mut().zip(multiples) {
        *out = f32::from(multiple) * step;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GRID: SmallGrid = SmallGrid { super_scale: 0.75, zero_unit: 15.0 / 32.0 };

    #[test]
    fn every_code_survives_rounding_and_narrowing() {
        for code in 0..=255u8 {
            for steps in -127..=127i8 {
                let mut scale = [0.0];
                let mut zero = [0.0];
                widen_scales(&[code], GRID.super_scale, &mut scale);
                widen_zeros(&[steps], GRID.zero_unit, &scale, &mut zero);
                for cover in [false, true] {
                    let (s, z) = rounded_pair(scale[0], zero[0], GRID, cover);
                    // A zero that is whole but for rounding may be rounded down by one step.
                    let off = ((z - zero[0]) / (scale[0] * GRID.zero_unit)).round();
                    assert!(s == scale[0] && (off == 0.0 || cover && off == -1.0), "{code} {steps} {cover}");
                }
                let (mut codes, mut zeros) = ([0], [0]);
                let units = std::iter::once(GRID.zero_unit);
                narrow_scales((&scale, &zero), GRID.super_scale, units, &mut codes, &mut zeros);
                assert_eq!((codes[0], zeros[0]), (code, steps));
            }
        }
    }

    #[test]
    fn what_is_rounded_covers_what_was_wanted() {
        for i in 0..4000 {
            let scale = 0.7 * (1.0 - i as f32 * 2.4e-4);
            for zero in [-8.0f32, -1.3, -0.01, 0.0, 0.02, 5.0] {
                let (s, z) = rounded_pair(scale, zero, GRID, true);
                assert!(s >= scale && z <= zero + 1e-6 && zero - z <= s * GRID.zero_unit * 1.000_001, "{scale} {zero}");
                let (near, _) = rounded_pair(scale, 0.0, GRID, false);
                assert!((near / scale - 1.0).abs() < 0.032);
            }
        }
        // Far out, the scale grows until the zero is reached.
        let (s, z) = rounded_pair(1e-3, -8.0, GRID, false);
        assert!((z + 8.0).abs() <= s * GRID.zero_unit && s < 0.15);
    }
}
