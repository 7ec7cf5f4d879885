//! Codes that stand for the levels of a Lloyd-Max quantizer of a normal distribution (`backbone/rotated.rs`).

use multiversion::multiversion;

use super::LANES;
use super::codes::row_bytes;
use super::fit::Stripe;

/// Levels in 128ths of the scale: 8-bit integers, as a table for byte shuffles and integer products holds them.
pub(crate) const LEVELS_1: [i8; 2] = [-127, 127];
/// See [`LEVELS_1`].
pub(crate) const LEVELS_2: [i8; 4] = [-127, -38, 38, 127];
/// See [`LEVELS_1`].
pub(crate) const LEVELS_3: [i8; 8] = [-127, -79, -45, -14, 14, 45, 79, 127];
/// See [`LEVELS_1`].
pub(crate) const LEVELS_4: [i8; 16] = [-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127];

const UNIT: f32 = 1.0 / 128.0;

/// The values that `N` codes side by side in a word of `bits·N` bits stand for, for every such word.
const fn words<const N: usize, const WORDS: usize>(levels: &[i8], bits: usize) -> [[f32; N]; WORDS] {
    let mut table = [[0.0; N]; WORDS];
    let mut word = 0;
    while word < WORDS {
        let mut i = 0;
        while i < N {
            table[word][i] = levels[(word >> (i * bits)) & ((1 << bits) - 1)] as f32 * UNIT;
            i += 1;
        }
        word += 1;
    }
    table
}

static WORDS_1: [[f32; 8]; 256] = words(&LEVELS_1, 1);
static WORDS_2: [[f32; 4]; 256] = words(&LEVELS_2, 2);
static WORDS_3: [[f32; 2]; 64] = words(&LEVELS_3, 3);
static WORDS_4: [[f32; 2]; 256] = words(&LEVELS_4, 4);

/// With 8 bits levels are evenly spaced: `2 · code − 255` in 256ths of the scale.
const FINE_UNIT: f32 = 1.0 / 256.0;
const FINE_WIDEST: f32 = 255.0;

/// `out[row][i] = level of code[row][i] · scale[i]` for packed rows of `scale.len()` codes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn look_up_rows(packed: &[u8], bits: u32, scale: &[f32], out: &mut [f32]) {
    let dim = scale.len();
    for (packed, out) in packed.chunks_exact(row_bytes(dim, bits)).zip(out.chunks_exact_mut(dim)) {
        match bits {
            1 => {
                let (eights, rest) = out.as_chunks_mut::<8>();
                for (eight, &byte) in eights.iter_mut().zip(packed) {
                    *eight = WORDS_1[usize::from(byte)];
                }
                if let Some(&byte) = packed.get(eights.len()) {
                    rest.copy_from_slice(&WORDS_1[usize::from(byte)][..rest.len()]);
                }
            }
            2 => {
                let (fours, rest) = out.as_chunks_mut::<4>();
                for (four, &byte) in fours.iter_mut().zip(packed) {
                    *four = WORDS_2[usize::from(byte)];
                }
                if let Some(&byte) = packed.get(fours.len()) {
                    rest.copy_from_slice(&WORDS_2[usize::from(byte)][..rest.len()]);
                }
            }
            3 => {
                let (eights, rest) = out.as_chunks_mut::<8>();
                let (triples, tail) = packed.as_chunks::<3>();
                for (eight, &[a, b, c]) in eights.iter_mut().zip(triples) {
                    *eight = eight_of_three(u32::from_le_bytes([a, b, c, 0]));
                }
                // Six or seven codes take three bytes, too.
                let tail =
                    if tail.is_empty() { triples.get(eights.len()).map_or(tail, |last| &last[..]) } else { tail };
                let mut le = [0; 4];
                le[..tail.len()].copy_from_slice(tail);
                rest.copy_from_slice(&eight_of_three(u32::from_le_bytes(le))[..rest.len()]);
            }
            8 => {
                for (out, &code) in out.iter_mut().zip(packed) {
                    *out = (2.0 * f32::from(code) - FINE_WIDEST) * FINE_UNIT;
                }
            }
            _ => {
                let (twos, rest) = out.as_chunks_mut::<2>();
                for (two, &byte) in twos.iter_mut().zip(packed) {
                    *two = WORDS_4[usize::from(byte)];
                }
                if let Some(&byte) = packed.get(twos.len()) {
                    rest.copy_from_slice(&WORDS_4[usize::from(byte)][..rest.len()]);
                }
            }
        }
        for (out, scale) in out.iter_mut().zip(scale) {
            *out *= scale;
        }
    }
}

/// As [`look_up_rows`], of one row of codes of one byte each.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn look_up_codes(codes: &[u8], bits: u32, scale: &[f32], out: &mut [f32]) {
    let levels: &[i8] = match bits {
        1 => &LEVELS_1,
        2 => &LEVELS_2,
        3 => &LEVELS_3,
        8 => {
            for ((out, &code), scale) in out.iter_mut().zip(codes).zip(scale) {
                *out = (2.0 * f32::from(code) - FINE_WIDEST) * FINE_UNIT * scale;
            }
            return;
        }
        _ => &LEVELS_4,
    };
    let mut table = [0.0; 16];
    table.iter_mut().zip(levels).for_each(|(entry, &level)| *entry = f32::from(level) * UNIT);
    for ((out, &code), scale) in out.iter_mut().zip(codes).zip(scale) {
        *out = table[usize::from(code & 15)] * scale;
    }
}

#[inline(always)]
fn eight_of_three(word: u32) -> [f32; 8] {
    let [a, b] = WORDS_3[word as usize & 63];
    let [c, d] = WORDS_3[(word >> 6) as usize & 63];
    let [e, f] = WORDS_3[(word >> 12) as usize & 63];
    let [g, h] = WORDS_3[(word >> 18) as usize & 63];
    [a, b, c, d, e, f, g, h]
}

/// The code whose level is nearest to each `x / scale`. With a scale of 0 any will do.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn nearest_rows(x: &[f32], bits: u32, scale: &[f32], codes: &mut [u8]) {
    match bits {
        1 => nearest(x, &LEVELS_1, scale, codes),
        2 => nearest(x, &LEVELS_2, scale, codes),
        3 => nearest(x, &LEVELS_3, scale, codes),
        8 => nearest_fine(x, scale, codes),
        _ => nearest(x, &LEVELS_4, scale, codes),
    }
}

#[inline(always)]
fn nearest<const N: usize>(x: &[f32], levels: &[i8; N], scale: &[f32], codes: &mut [u8]) {
    let dim = scale.len();
    let inverse: Vec<f32> = scale.iter().map(|&scale| inverse_of(scale)).collect();
    for (x, codes) in x.chunks_exact(dim).zip(codes.chunks_exact_mut(dim)) {
        for i in 0..dim {
            codes[i] = code(x[i] * inverse[i], levels) as u8;
        }
    }
}

#[inline(always)]
fn nearest_fine(x: &[f32], scale: &[f32], codes: &mut [u8]) {
    /// Adding 2²³ to a float in `[0, 2²³)` leaves its value, rounded, in the mantissa's low bits.
    const ROUNDING: f32 = 8_388_608.0;
    let dim = scale.len();
    let inverse: Vec<f32> = scale.iter().map(|&scale| inverse_of(scale)).collect();
    for (x, codes) in x.chunks_exact(dim).zip(codes.chunks_exact_mut(dim)) {
        for i in 0..dim {
            let v = (x[i] * inverse[i] * (1.0 / FINE_UNIT) + FINE_WIDEST) * 0.5;
            let v = if v > 0.0 { v } else { 0.0 };
            let v = if v < FINE_WIDEST { v } else { FINE_WIDEST };
            codes[i] = (v + ROUNDING).to_bits() as u8;
        }
    }
}

#[inline(always)]
fn inverse_of(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse < f32::INFINITY { inverse } else { 0.0 }
}

/// How many thresholds, halfway between neighbours, `z` exceeds.
#[inline(always)]
fn code<const N: usize>(z: f32, levels: &[i8; N]) -> u32 {
    let mut code = 0;
    for pair in levels.windows(2) {
        let threshold = (f32::from(pair[0]) + f32::from(pair[1])) * (0.5 * UNIT);
        code += u32::from(z > threshold);
    }
    code
}

/// The sum of the steps between levels that `z` exceeds, which is the level itself.
#[inline(always)]
fn level<const N: usize>(z: f32, levels: &[i8; N]) -> f32 {
    let mut level = f32::from(levels[0]);
    for pair in levels.windows(2) {
        let threshold = (f32::from(pair[0]) + f32::from(pair[1])) * (0.5 * UNIT);
        let step = f32::from(pair[1]) - f32::from(pair[0]);
        level += if z > threshold { step } else { 0.0 };
    }
    level * UNIT
}

/// The scale of least squared error of sixteen groups, one a lane; 0 for a group of zeros.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn fit_levels(values: &[Stripe], bits: u32) -> Stripe {
    match bits {
        1 => fit(values, &LEVELS_1, 0.7979),
        2 => fit(values, &LEVELS_2, 1.5104),
        3 => fit(values, &LEVELS_3, 2.1520),
        8 => cover(values),
        _ => fit(values, &LEVELS_4, 2.7326),
    }
}

/// With so many levels nothing is gained by clipping.
#[inline(always)]
fn cover(values: &[Stripe]) -> Stripe {
    let mut scale = [0.0f32; LANES];
    for x in values {
        for i in 0..LANES {
            let magnitude = x[i].abs() * (1.0 / (FINE_WIDEST * FINE_UNIT));
            scale[i] = if magnitude > scale[i] { magnitude } else { scale[i] };
        }
    }
    scale
}

/// `widest`: the outermost level in standard deviations.
#[inline(always)]
fn fit<const N: usize>(values: &[Stripe], levels: &[i8; N], widest: f32) -> Stripe {
    const PASSES: usize = 3;
    let mut square = [0.0f32; LANES];
    for x in values {
        for i in 0..LANES {
            square[i] += x[i] * x[i];
        }
    }
    let mut scale = [0.0f32; LANES];
    for i in 0..LANES {
        scale[i] = (square[i] / values.len() as f32).sqrt() * (widest / (127.0 * UNIT));
    }
    for _ in 0..PASSES {
        let mut inverse = [0.0; LANES];
        for i in 0..LANES {
            inverse[i] = inverse_of(scale[i]);
        }
        let (mut along, mut length) = ([0.0f32; LANES], [0.0f32; LANES]);
        for x in values {
            for i in 0..LANES {
                let c = level(x[i] * inverse[i], levels);
                along[i] += c * x[i];
                length[i] += c * c;
            }
        }
        for i in 0..LANES {
            scale[i] = along[i] / length[i];
        }
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::super::codes::pack_rows;
    use super::*;

    #[test]
    fn what_is_looked_up_is_the_nearest_level() {
        for (bits, levels) in [(1u32, &LEVELS_1[..]), (2, &LEVELS_2), (3, &LEVELS_3), (4, &LEVELS_4)] {
            for dim in [1, 2, 3, 7, 8, 16, 21, 64] {
                let x: Vec<f32> = (0..3 * dim).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
                let scale: Vec<f32> = (0..dim).map(|i| 1.5 + i as f32 * 0.01).collect();
                let mut codes = vec![0; x.len()];
                nearest_rows(&x, bits, &scale, &mut codes);
                let mut packed = vec![0; 3 * row_bytes(dim, bits)];
                pack_rows(&codes, dim, bits, &mut packed);
                let mut out = vec![0.0; x.len()];
                look_up_rows(&packed, bits, &scale, &mut out);
                for (i, (x, out)) in x.iter().zip(&out).enumerate() {
                    let off = |level: &i8| (f32::from(*level) * UNIT * scale[i % dim] - x).abs();
                    let least = levels.iter().map(off).fold(f32::INFINITY, f32::min);
                    assert!((x - out).abs() <= least + 1e-5, "{bits} bits, dim {dim}: {x} became {out}");
                }
            }
        }
    }

    #[test]
    fn eight_bits_are_evenly_spaced_and_reach_both_ends() {
        let x: Vec<f32> = (0..64).map(|i| (i as f32 - 31.5) / 31.5 * 7.0).collect();
        let stripes: Vec<Stripe> = x.iter().map(|&x| [x; LANES]).collect();
        let scale = vec![fit_levels(&stripes, 8)[0]; 64];
        let mut codes = vec![0; 64];
        nearest_rows(&x, 8, &scale, &mut codes);
        assert_eq!((codes[0], codes[63]), (0, 255));
        let mut out = vec![0.0; 64];
        look_up_rows(&codes, 8, &scale, &mut out);
        assert!(x.iter().zip(&out).all(|(x, out)| (x - out).abs() <= 7.0 / 255.0 * 1.001));
    }

    #[test]
    fn normal_values_are_fitted_to_the_error_that_theory_gives() {
        // Sums of twelve uniform values are near enough to a normal distribution.
        let mut state = 1u32;
        let mut uniform = || {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (state >> 8) as f32 / (1 << 24) as f32 - 0.5
        };
        let values: Vec<Stripe> = (0..4096).map(|_| [(0..12).map(|_| uniform()).sum::<f32>(); LANES]).collect();
        for (bits, theory) in [(1u32, 0.3634), (2, 0.1175), (3, 0.0345), (4, 0.0095)] {
            let scale = fit_levels(&values, bits)[0];
            let x: Vec<f32> = values.iter().map(|stripe| stripe[0]).collect();
            let mut codes = vec![0; x.len()];
            nearest_rows(&x, bits, &vec![scale; x.len()], &mut codes);
            let mut packed = vec![0; row_bytes(x.len(), bits)];
            pack_rows(&codes, x.len(), bits, &mut packed);
            let mut out = vec![0.0; x.len()];
            look_up_rows(&packed, bits, &vec![scale; x.len()], &mut out);
            let power: f32 = x.iter().map(|x| x * x).sum();
            let error: f32 = x.iter().zip(&out).map(|(x, y)| (x - y) * (x - y)).sum();
            assert!((error / power / theory - 1.0).abs() < 0.08, "{bits} bits: {}", error / power);
        }
    }
}
