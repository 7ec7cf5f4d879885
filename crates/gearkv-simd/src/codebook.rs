//! Codes that stand for the levels of a Lloyd-Max quantizer of a normal distribution (`backbone/rotated.rs`).

use multiversion::multiversion;

use super::LANES;
use super::stripes::Stripe;

/// Levels in 128ths of the scale: 8-bit integers, as a table for byte shuffles and integer products holds them.
pub const LEVELS_1: [i8; 2] = [-127, 127];
/// See [`LEVELS_1`].
pub const LEVELS_2: [i8; 4] = [-127, -38, 38, 127];
/// See [`LEVELS_1`].
pub const LEVELS_3: [i8; 8] = [-127, -79, -45, -14, 14, 45, 79, 127];
/// See [`LEVELS_1`].
pub const LEVELS_4: [i8; 16] = [-127, -96, -75, -58, -44, -31, -18, -6, 6, 18, 31, 44, 58, 75, 96, 127];

pub(super) const UNIT: f32 = 1.0 / 128.0;

/// With 8 bits levels are evenly spaced: `2 · code − 255` in 256ths of the scale.
pub(super) const FINE_UNIT: f32 = 1.0 / 256.0;
pub(super) const FINE_WIDEST: f32 = 255.0;

/// Codes whose levels are nearest to each `x / scale`, of the tokens in some lanes of `stripes`: of the first of these lanes and the tokens there. They are
/// put to their rows of `codes` (`[tokens, stripes.len()]`). `channels` neighbouring channels share a scale. With a scale of 0 any code will do.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn nearest_codes(
    stripes: &[Stripe],
    bits: u32,
    channels: usize,
    scale: &[Stripe],
    lanes: (usize, &[u8]),
    codes: &mut [u8],
) {
    match bits {
        1 => nearest(stripes, channels, scale, lanes, codes, |z| code(z, &LEVELS_1)),
        2 => nearest(stripes, channels, scale, lanes, codes, |z| code(z, &LEVELS_2)),
        3 => nearest(stripes, channels, scale, lanes, codes, |z| code(z, &LEVELS_3)),
        8 => nearest(stripes, channels, scale, lanes, codes, fine_code),
        _ => nearest(stripes, channels, scale, lanes, codes, |z| code(z, &LEVELS_4)),
    }
}

#[inline(always)]
fn nearest(
    stripes: &[Stripe],
    channels: usize,
    scale: &[Stripe],
    lanes: (usize, &[u8]),
    codes: &mut [u8],
    code: impl Fn(f32) -> u32,
) {
    /// Channels whose codes are put at once: the bytes of a word.
    const AT_ONCE: usize = 4;
    let dim = stripes.len();
    let mut inverse = [0.0; LANES];
    let mut group = usize::MAX;
    for (first, stripes) in stripes.chunks(AT_ONCE).enumerate() {
        let first = first * AT_ONCE;
        let mut words = [0u32; LANES];
        for (place, x) in stripes.iter().enumerate() {
            let own = (first + place) / channels;
            if own != group {
                inverse = scale[own].map(inverse_of);
                group = own;
            }
            for i in 0..LANES {
                words[i] |= code(x[i] * inverse[i]) << (8 * place);
            }
        }
        for (word, token) in words[lanes.0..].iter().zip(lanes.1) {
            let codes = &mut codes[usize::from(*token) * dim + first..][..stripes.len()];
            match codes.first_chunk_mut() {
                Some(all) => *all = word.to_le_bytes(),
                None => codes.copy_from_slice(&word.to_le_bytes()[..stripes.len()]),
            }
        }
    }
}

#[inline(always)]
fn fine_code(z: f32) -> u32 {
    /// Adding 2²³ to a float in `[0, 2²³)` leaves its value, rounded, in the mantissa's low bits.
    const ROUNDING: f32 = 8_388_608.0;
    let v = (z * (1.0 / FINE_UNIT) + FINE_WIDEST) * 0.5;
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < FINE_WIDEST { v } else { FINE_WIDEST };
    (v + ROUNDING).to_bits() & 255
}

#[inline(always)]
fn inverse_of(scale: f32) -> f32 {
    let inverse = 1.0 / scale;
    if inverse < f32::INFINITY { inverse } else { 0.0 }
}

/// A magnitude that orders among thresholds as `z` does, as the bits of a float; and whether `z` belongs to the lower half. There a threshold
/// itself is exceeded, as in the upper half it is not: levels are taken by how many thresholds, from the lowest on, are below.
#[inline(always)]
fn magnitude(z: f32) -> (i32, bool) {
    let lower = z <= 0.0;
    ((z.to_bits() & 0x7FFF_FFFF) as i32 + i32::from(lower), lower)
}

/// The threshold halfway between two neighbours in the upper half, as the bits of a float.
#[inline(always)]
fn threshold<const N: usize>(levels: &[i8; N], step: usize) -> i32 {
    let (below, above) = (f32::from(levels[N / 2 + step]), f32::from(levels[N / 2 + step + 1]));
    ((below + above) * (0.5 * UNIT)).to_bits() as i32
}

/// How many thresholds, halfway between neighbours, `z` exceeds.
#[inline(always)]
fn code<const N: usize>(z: f32, levels: &[i8; N]) -> u32 {
    let (magnitude, lower) = magnitude(z);
    let mut from_middle = 0;
    for step in 0..N / 2 - 1 {
        from_middle += u32::from(magnitude > threshold(levels, step));
    }
    let half = N as u32 / 2;
    if lower { half - 1 - from_middle } else { half + from_middle }
}

/// The level of [`code`] without its sign, of a [`magnitude`].
#[inline(always)]
fn size_of_level<const N: usize>(magnitude: i32, levels: &[i8; N]) -> f32 {
    let mut level = f32::from(levels[N / 2]) * UNIT;
    for step in 0..N / 2 - 1 {
        let more = (f32::from(levels[N / 2 + step + 1]) - f32::from(levels[N / 2 + step])) * UNIT;
        level += if magnitude > threshold(levels, step) { more } else { 0.0 };
    }
    level
}

/// The scale of least squared error of sixteen groups, one a lane; 0 for a group of zeros.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn fit_levels(values: &[Stripe], bits: u32) -> Stripe {
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
                // A level has its value's sign, so that their product has none; and `magnitude` without going through it.
                let size = x[i].abs();
                let magnitude = (size * inverse[i]).to_bits() + (x[i].to_bits() >> 31);
                let c = size_of_level(magnitude as i32, levels);
                along[i] += c * size;
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
    use super::*;
    use crate::expand::{LowRank, Meaning, expand_rows};

    /// Of rows as long as `scale`.
    fn codes_of(x: &[f32], bits: u32, scale: &[f32]) -> Vec<u8> {
        let dim = scale.len();
        let rows: Vec<&[f32]> = x.chunks_exact(dim).collect();
        let stripes: Vec<Stripe> =
            (0..dim).map(|d| std::array::from_fn(|lane| rows.get(lane).map_or(0.0, |row| row[d]))).collect();
        let scale: Vec<Stripe> = scale.iter().map(|&scale| [scale; LANES]).collect();
        let tokens: Vec<u8> = (0..rows.len() as u8).collect();
        let mut codes = vec![0; x.len()];
        nearest_codes(&stripes, bits, 1, &scale, (0, &tokens), &mut codes);
        codes
    }

    /// What they stand for.
    fn look_up(codes: &[u8], bits: u32, channels: usize, scale: &[f32]) -> Vec<f32> {
        let dim = scale.len() * channels;
        let rows = codes.len() / dim;
        let (bits, mut out) = (vec![bits as u8; rows], vec![0.0; codes.len()]);
        let meaning = Meaning::Turned { channels, scale: &scale.repeat(rows), bits: &bits, mean: None };
        expand_rows(codes, dim, meaning, LowRank::NONE, &mut out);
        out
    }

    #[test]
    fn codes_count_the_thresholds_that_are_exceeded() {
        for z in [0.0f32, -0.0, 1e-30, 50.0, -50.0].into_iter().chain((-512..=512).map(|i| i as f32 / 512.0)) {
            for levels in [&LEVELS_1[..], &LEVELS_2, &LEVELS_3, &LEVELS_4] {
                let below = |pair: &&[i8]| z > (f32::from(pair[0]) + f32::from(pair[1])) * (0.5 * UNIT);
                let expected = levels.windows(2).filter(below).count();
                let (magnitude, lower) = magnitude(z);
                let (code, size) = match levels.len() {
                    2 => (code(z, &LEVELS_1), size_of_level(magnitude, &LEVELS_1)),
                    4 => (code(z, &LEVELS_2), size_of_level(magnitude, &LEVELS_2)),
                    8 => (code(z, &LEVELS_3), size_of_level(magnitude, &LEVELS_3)),
                    _ => (code(z, &LEVELS_4), size_of_level(magnitude, &LEVELS_4)),
                };
                let level = if lower { -size } else { size };
                assert_eq!((code as usize, level), (expected, f32::from(levels[expected]) * UNIT), "{z}");
            }
        }
    }

    #[test]
    fn what_is_looked_up_is_the_nearest_level() {
        for (bits, levels) in [(1u32, &LEVELS_1[..]), (2, &LEVELS_2), (3, &LEVELS_3), (4, &LEVELS_4)] {
            for dim in [1, 2, 3, 7, 8, 16, 21, 64] {
                let x: Vec<f32> = (0..3 * dim).map(|i| (i as f32 * 1.7).sin() * 3.0).collect();
                let scale: Vec<f32> = (0..dim).map(|i| 1.5 + i as f32 * 0.01).collect();
                let codes = codes_of(&x, bits, &scale);
                let out = look_up(&codes, bits, 1, &scale);
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
        let codes = codes_of(&x, 8, &scale);
        assert_eq!((codes[0], codes[63]), (0, 255));
        let out = look_up(&codes, 8, 1, &scale);
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
            let codes = codes_of(&x, bits, &vec![scale; x.len()]);
            let out = look_up(&codes, bits, x.len(), &[scale]);
            let power: f32 = x.iter().map(|x| x * x).sum();
            let error: f32 = x.iter().zip(&out).map(|(x, y)| (x - y) * (x - y)).sum();
            assert!((error / power / theory - 1.0).abs() < 0.08, "{bits} bits: {}", error / power);
        }
    }
}
