//! Quantize, pack, unpack and dequantize rows of codes.
//!
//! A row is a little-endian bit stream: code `i` occupies bits `[i·b, (i+1)·b)`, and the row is padded to a whole byte.
//! Eight codes are always `b` bytes, so the loops work on eight codes at a time whatever `b` is.

#[cfg(target_arch = "x86_64")]
mod multishift;

use multiversion::multiversion;

use crate::level::Level;

/// Adding 2²³ to a float in `[0, 2²³)` leaves its value, rounded half to even, in the mantissa's low bits.
const ROUNDING: f32 = 8_388_608.0;
const STEP: usize = 8;

/// Bytes of one packed row of `dim` codes.
pub fn row_bytes(dim: usize, bits: u32) -> usize {
    (dim * bits as usize).div_ceil(8)
}

/// Codes of the rows of `x` (`[rows, scale.len()]`), one byte each: `clamp(round((x − zero) / scale), 0, levels)`, each channel with its own.
/// With `residual`, `x` becomes `x − (code · scale + zero)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn quantize_rows(x: &mut [f32], scale: &[f32], zero: &[f32], levels: &[f32], codes: &mut [u8], residual: bool) {
    let dim = scale.len();
    let (zero, levels) = (&zero[..dim], &levels[..dim]);
    for (x, codes) in x.chunks_exact_mut(dim).zip(codes.chunks_exact_mut(dim)) {
        for i in 0..dim {
            let left;
            (codes[i], left) = quantize(x[i], scale[i], zero[i], levels[i]);
            if residual {
                x[i] = left;
            }
        }
    }
}

/// As [`quantize_rows`], `shape` being the length of a row and of its groups of neighbours, which have a scale and a zero each.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn quantize_groups(
    x: &mut [f32],
    shape: (usize, usize),
    scales: (&[f32], &[f32]),
    levels: f32,
    codes: &mut [u8],
    residual: bool,
) {
    let ((dim, channels), (scale, zero)) = (shape, scales);
    let rows = x.chunks_exact_mut(dim).zip(codes.chunks_exact_mut(dim));
    let groups = rows.flat_map(|(x, codes)| x.chunks_mut(channels).zip(codes.chunks_mut(channels)));
    for (((x, codes), &scale), &zero) in groups.zip(scale).zip(zero) {
        for (x, code) in x.iter_mut().zip(codes) {
            let left;
            (*code, left) = quantize(*x, scale, zero, levels);
            if residual {
                *x = left;
            }
        }
    }
}

/// A code, and what it leaves. A division, not a product with the reciprocal: float16 values often fall exactly between two codes.
#[inline(always)]
fn quantize(x: f32, scale: f32, zero: f32, levels: f32) -> (u8, f32) {
    let v = (x - zero) / scale;
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < levels { v } else { levels };
    let rounded = v + ROUNDING;
    (rounded.to_bits() as u8, x - ((rounded - ROUNDING) * scale + zero))
}

/// Packs rows of `dim` one-byte codes, which begin `stride` bytes after each other, into rows of `row_bytes(dim, bits)` bytes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn pack_rows(codes: &[u8], stride: usize, dim: usize, bits: u32, packed: &mut [u8]) {
    match bits {
        1 => pack::<1>(codes, stride, dim, packed),
        2 => pack::<2>(codes, stride, dim, packed),
        3 => pack::<3>(codes, stride, dim, packed),
        4 => pack::<4>(codes, stride, dim, packed),
        6 => pack::<6>(codes, stride, dim, packed),
        _ => {
            for (codes, packed) in codes.chunks(stride).zip(packed.chunks_exact_mut(dim)) {
                packed.copy_from_slice(&codes[..dim]);
            }
        }
    }
}

#[inline(always)]
fn pack<const BITS: usize>(codes: &[u8], stride: usize, dim: usize, packed: &mut [u8]) {
    let bytes = row_bytes(dim, BITS as u32);
    for (codes, packed) in codes.chunks(stride).zip(packed.chunks_exact_mut(bytes)) {
        let (eights, rest) = codes[..dim].as_chunks::<STEP>();
        let mut words = packed.chunks_mut(BITS);
        for (eight, word) in eights.iter().zip(&mut words) {
            word.copy_from_slice(&word_of::<BITS>(eight)[..BITS]);
        }
        if let Some(word) = words.next() {
            let n = word.len();
            word.copy_from_slice(&word_of::<BITS>(rest)[..n]);
        }
    }
}

/// The inverse of [`pack_rows`]; rows of `codes` begin `stride` bytes after each other.
pub fn unpack_rows(level: Level, packed: &[u8], dim: usize, bits: u32, codes: &mut [u8], stride: usize) {
    #[cfg(target_arch = "x86_64")]
    if level == Level::Avx512 && bits < 8 {
        // SAFETY: a level is only named where the machine has it.
        return unsafe {
            match bits {
                1 => multishift::unpack::<1>(packed, dim, codes, stride),
                2 => multishift::unpack::<2>(packed, dim, codes, stride),
                3 => multishift::unpack::<3>(packed, dim, codes, stride),
                4 => multishift::unpack::<4>(packed, dim, codes, stride),
                _ => multishift::unpack::<6>(packed, dim, codes, stride),
            }
        };
    }
    let _ = level;
    unpack_eights(packed, dim, bits, codes, stride);
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn unpack_eights(packed: &[u8], dim: usize, bits: u32, codes: &mut [u8], stride: usize) {
    match bits {
        1 => unpack::<1>(packed, dim, codes, stride),
        2 => unpack::<2>(packed, dim, codes, stride),
        3 => unpack::<3>(packed, dim, codes, stride),
        4 => unpack::<4>(packed, dim, codes, stride),
        6 => unpack::<6>(packed, dim, codes, stride),
        _ => {
            for (packed, codes) in packed.chunks_exact(dim).zip(codes.chunks_mut(stride)) {
                codes[..dim].copy_from_slice(packed);
            }
        }
    }
}

#[inline(always)]
fn unpack<const BITS: usize>(packed: &[u8], dim: usize, codes: &mut [u8], stride: usize) {
    for (packed, codes) in packed.chunks_exact(row_bytes(dim, BITS as u32)).zip(codes.chunks_mut(stride)) {
        let (words, last) = packed.as_chunks::<BITS>();
        let (eights, rest) = codes[..dim].as_chunks_mut::<STEP>();
        for (word, codes) in words.iter().zip(eights) {
            *codes = eight_bytes::<BITS>(word);
        }
        if !rest.is_empty() {
            let mut word = [0; BITS];
            // A last word of more than half of the codes may be whole.
            let last = if last.is_empty() { &words[words.len() - 1][..] } else { last };
            word[..last.len()].copy_from_slice(last);
            rest.copy_from_slice(&eight_bytes::<BITS>(&word)[..rest.len()]);
        }
    }
}

/// Eight codes of one byte each, by moving halves apart, then quarters, then eighths.
#[inline(always)]
fn eight_bytes<const BITS: usize>(word: &[u8; BITS]) -> [u8; STEP] {
    let mut le = [0u8; 8];
    le[..BITS].copy_from_slice(word);
    let mask = |bits: usize, every: usize| {
        let mut mask = 0;
        let mut at = 0;
        while at < 64 {
            mask |= ((1u64 << bits) - 1) << at;
            at += every;
        }
        mask
    };
    let apart = |x: u64, bits: usize, every: usize| {
        let low = mask(bits, every);
        (x & low) | (x & (low << bits)) << (every / 2 - bits)
    };
    let mut x = u64::from_le_bytes(le);
    x = apart(x, 4 * BITS, 64);
    x = apart(x, 2 * BITS, 32);
    x = apart(x, BITS, 16);
    x.to_le_bytes()
}

/// Up to eight codes side by side.
#[inline(always)]
fn word_of<const BITS: usize>(codes: &[u8]) -> [u8; 8] {
    let mut bits = 0u64;
    for (i, &code) in codes.iter().enumerate() {
        bits |= u64::from(code) << (i * BITS);
    }
    bits.to_le_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_survive_packing_at_every_width_and_length() {
        for bits in [1u32, 2, 3, 4, 6, 8] {
            for dim in (1..40).chain([63, 64, 65, 100, 128, 150, 256]) {
                let codes: Vec<u8> = (0..3 * dim).map(|i| (i * 37 + 11) as u8 & ((1u16 << bits) - 1) as u8).collect();
                let mut packed = vec![0xAA; 3 * row_bytes(dim, bits)];
                pack_rows(&codes, dim, dim, bits, &mut packed);
                for level in crate::level::levels() {
                    // Rows apart from each other: what lies between them stays.
                    for gap in [0, 5] {
                        let mut again = vec![0xEE; 3 * (dim + gap)];
                        unpack_rows(level, &packed, dim, bits, &mut again, dim + gap);
                        for (row, codes) in again.chunks_exact(dim + gap).zip(codes.chunks_exact(dim)) {
                            assert_eq!(&row[..dim], codes, "{level:?}, bits {bits}, dim {dim}");
                            assert!(row[dim..].iter().all(|&byte| byte == 0xEE));
                        }
                    }
                }
            }
        }
    }

    #[test]
    fn codes_round_half_to_even_and_clamp() {
        let mut x = [0.5, 1.5, 2.5, -3.0, 99.0];
        let mut codes = [0; 5];
        quantize_rows(&mut x, &[1.0; 5], &[0.0; 5], &[15.0; 5], &mut codes, true);
        assert_eq!(codes, [0, 2, 2, 0, 15]);
        assert_eq!(x, [0.5, -0.5, 0.5, -3.0, 84.0]);
    }
}
