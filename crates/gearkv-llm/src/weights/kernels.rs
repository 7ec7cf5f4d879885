//! The loops that multiply: plain Rust that the compiler vectorizes, compiled once for each instruction set.
//!
//! A panel is 16 rows of weights side by side, so that a sum over columns never crosses lanes. For one token codes become
//! floats in registers; for many, a panel becomes floats once and is multiplied with tiles of tokens.

use half::f16;
use multiversion::{multiversion, target::match_target};

use super::{BLOCK, PANEL};

type Lanes = [f32; PANEL];

/// A panel's codes; scales are `[block][scale, zero][row]`.
#[derive(Clone, Copy)]
pub(super) enum PanelCodes<'a> {
    /// `[block][column pair (i, i + 16)][row]`, the first column in the low nibble.
    Four { codes: &'a [u8], scales: &'a [f16] },
    /// `[column][row]`
    Eight { codes: &'a [u8], scales: &'a [f16] },
    /// `[column][row]`
    Float { weights: &'a [f32] },
}

#[inline(always)]
fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Where there is no such instruction, `mul_add` is a slow library call.
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Finite float16, without a branch, so that it vectorizes everywhere.
#[inline(always)]
fn widen(x: f16) -> f32 {
    const EXPONENT_GAP: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(x.to_bits());
    let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * EXPONENT_GAP;
    f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
}

#[inline(always)]
fn lanes(x: &[f16]) -> Lanes {
    let x: &[f16; PANEL] = x.first_chunk().unwrap_or(&[f16::ZERO; PANEL]);
    std::array::from_fn(|r| widen(x[r]))
}

/// `sum += a · x`. Tokens are unrolled by hand around it: given a loop over them, the compiler vectorizes across tokens.
#[inline(always)]
fn add_product<const FMA: bool>(sum: &mut Lanes, a: &Lanes, x: f32) {
    for r in 0..PANEL {
        sum[r] = multiply_add::<FMA>(a[r], x, sum[r]);
    }
}

/// Products of a block's codes, in two sums: additions wait for each other.
// For wasm a function of its own: inlined into all that is around it, it is not vectorized, and four times as slow.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn block_of_four<const FMA: bool>(codes: &[u8], x: &[f32; BLOCK]) -> (Lanes, Lanes) {
    let (mut low, mut high) = ([0.0; PANEL], [0.0; PANEL]);
    for (i, codes) in codes.as_chunks::<PANEL>().0.iter().take(BLOCK / 2).enumerate() {
        let first: Lanes = std::array::from_fn(|r| i32::from(codes[r] & 15) as f32);
        let last: Lanes = std::array::from_fn(|r| i32::from(codes[r] >> 4) as f32);
        add_product::<FMA>(&mut low, &first, x[i]);
        add_product::<FMA>(&mut high, &last, x[BLOCK / 2 + i]);
    }
    (low, high)
}

/// As [`block_of_four`].
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn block_of_eight<const FMA: bool>(codes: &[u8], x: &[f32; BLOCK]) -> (Lanes, Lanes) {
    let (mut even, mut odd) = ([0.0; PANEL], [0.0; PANEL]);
    let pairs = codes.as_chunks::<{ 2 * PANEL }>().0;
    for (codes, x) in pairs.iter().zip(x.as_chunks::<2>().0) {
        let first: Lanes = std::array::from_fn(|r| i32::from(codes[r]) as f32);
        let last: Lanes = std::array::from_fn(|r| i32::from(codes[PANEL + r]) as f32);
        add_product::<FMA>(&mut even, &first, x[0]);
        add_product::<FMA>(&mut odd, &last, x[1]);
    }
    (even, odd)
}

#[inline(always)]
fn one<const FMA: bool>(panel: PanelCodes, x: &[f32], sums: &[f32]) -> Lanes {
    let mut out = [0.0; PANEL];
    match panel {
        PanelCodes::Four { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK / 2 * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for ((codes, scales), (x, sum)) in blocks.zip(x.as_chunks::<BLOCK>().0.iter().zip(sums)) {
                let (low, high) = block_of_four::<FMA>(codes, x);
                add_block::<FMA>(&mut out, &low, &high, scales, *sum);
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for ((codes, scales), (x, sum)) in blocks.zip(x.as_chunks::<BLOCK>().0.iter().zip(sums)) {
                let (even, odd) = block_of_eight::<FMA>(codes, x);
                add_block::<FMA>(&mut out, &even, &odd, scales, *sum);
            }
        }
        PanelCodes::Float { weights } => {
            for (w, x) in weights.as_chunks::<PANEL>().0.iter().zip(x) {
                add_product::<FMA>(&mut out, w, *x);
            }
        }
    }
    out
}

#[inline(always)]
fn add_block<const FMA: bool>(out: &mut Lanes, one: &Lanes, other: &Lanes, scales: &[f16], sum: f32) {
    let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
    for r in 0..PANEL {
        let product = multiply_add::<FMA>(scale[r], one[r] + other[r], out[r]);
        out[r] = multiply_add::<FMA>(zero[r], sum, product);
    }
}

/// `out[row] = Σ_column weight[row][column] · x[column]`; `sums` are those of `x` over blocks.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn multiply_one(panel: PanelCodes, x: &[f32], sums: &[f32]) -> [f32; PANEL] {
    match_target! {
        "x86_64+avx512f" => one::<true>(panel, x, sums),
        "x86_64+fma" => one::<true>(panel, x, sums),
        "aarch64+neon" => one::<true>(panel, x, sums),
        _ => one::<false>(panel, x, sums),
    }
}

/// A panel's weights, as lanes `first` to `first + 16` of each column.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn unpack(panel: PanelCodes, out: &mut [[f32; STRIP]], first: usize) {
    let mut rows = out.iter_mut().filter_map(|row| row[first..].first_chunk_mut::<PANEL>());
    match panel {
        PanelCodes::Four { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK / 2 * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for (codes, scales) in blocks {
                let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
                let codes = codes.as_chunks::<PANEL>().0;
                for (codes, out) in codes.iter().zip(&mut rows) {
                    for r in 0..PANEL {
                        out[r] = i32::from(codes[r] & 15) as f32 * scale[r] + zero[r];
                    }
                }
                for (codes, out) in codes.iter().zip(&mut rows) {
                    for r in 0..PANEL {
                        out[r] = i32::from(codes[r] >> 4) as f32 * scale[r] + zero[r];
                    }
                }
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for (codes, scales) in blocks {
                let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
                for (codes, out) in codes.as_chunks::<PANEL>().0.iter().zip(&mut rows) {
                    for r in 0..PANEL {
                        out[r] = i32::from(codes[r]) as f32 * scale[r] + zero[r];
                    }
                }
            }
        }
        PanelCodes::Float { weights } => {
            for (weights, out) in weights.as_chunks::<PANEL>().0.iter().zip(rows) {
                *out = *weights;
            }
        }
    }
}

/// Rows that are unpacked together: a token's sums of them, and some columns of their weights, fit the first-level cache.
pub(super) const STRIP: usize = 128;

/// Adds products with `K` columns at a time to the sums of each token: sums are loaded and stored once for all of them.
#[inline(always)]
fn add_columns<const K: usize, const FMA: bool>(
    weights: &[[f32; STRIP]; K],
    x: &[f32],
    stride: usize,
    out: &mut [[f32; STRIP]],
) {
    for (out, x) in out.iter_mut().zip(x.chunks(stride)) {
        let Some(x) = x.first_chunk::<K>() else { continue };
        for r in 0..STRIP {
            let mut sum = out[r];
            for k in 0..K {
                sum = multiply_add::<FMA>(x[k], weights[k][r], sum);
            }
            out[r] = sum;
        }
    }
}

#[inline(always)]
fn many<const K: usize, const FMA: bool>(weights: &[[f32; STRIP]], x: &[f32], stride: usize, out: &mut [[f32; STRIP]]) {
    let (groups, rest) = weights.as_chunks::<K>();
    for (i, group) in groups.iter().enumerate() {
        add_columns::<K, FMA>(group, &x[i * K..], stride, out);
    }
    for (i, column) in rest.iter().enumerate() {
        add_columns::<1, FMA>(&[*column], &x[groups.len() * K + i..], stride, out);
    }
}

/// `out[t][row] += Σ_column weights[column][row] · x[t][column]`; `x` is `[tokens][weights.len()]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn multiply_many(weights: &[[f32; STRIP]], x: &[f32], out: &mut [[f32; STRIP]]) {
    let stride = weights.len();
    match_target! {
        "x86_64+avx512f" => many::<16, true>(weights, x, stride, out),
        "x86_64+fma" => many::<8, true>(weights, x, stride, out),
        "aarch64+neon" => many::<8, true>(weights, x, stride, out),
        _ => many::<8, false>(weights, x, stride, out),
    }
}
