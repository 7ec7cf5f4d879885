//! The loops that multiply: plain Rust that the compiler vectorizes, compiled once for each instruction set.
//!
//! A panel is 16 rows of weights side by side, so that a sum over columns never crosses lanes. For one token codes become
//! floats in registers; for many, a panel becomes floats once and is multiplied with tiles of tokens.

use half::f16;
use multiversion::{multiversion, target::match_target};

use super::{BLOCK, PANEL};

pub(super) type Lanes = [f32; PANEL];

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
pub(super) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    // Where there is no such instruction, `mul_add` is a slow library call.
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Finite float16, without a branch, so that it vectorizes everywhere.
#[inline(always)]
pub(super) fn widen(x: f16) -> f32 {
    const EXPONENT_GAP: f32 = f32::from_bits((127 + 112) << 23);
    let bits = u32::from(x.to_bits());
    let magnitude = f32::from_bits((bits & 0x7FFF) << 13) * EXPONENT_GAP;
    f32::from_bits(magnitude.to_bits() | ((bits & 0x8000) << 16))
}

/// Adds the products of a block of 4-bit codes: one loop over lanes around everything, which the compiler vectorizes whatever
/// surrounds it. Two sums, since additions wait for each other.
// For wasm a function of its own: inlined into all that is around it, it is not vectorized, and four times as slow.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn add_block_of_four<const FMA: bool>(
    codes: &[[u8; PANEL]; BLOCK / 2],
    scales: &[[f16; PANEL]; 2],
    x: &[f32; BLOCK],
    sum: f32,
    out: &mut Lanes,
) {
    for r in 0..PANEL {
        let (mut low, mut high) = (0.0, 0.0);
        for i in 0..BLOCK / 2 {
            let code = i32::from(codes[i][r]);
            low = multiply_add::<FMA>((code & 15) as f32, x[i], low);
            high = multiply_add::<FMA>((code >> 4) as f32, x[BLOCK / 2 + i], high);
        }
        let product = multiply_add::<FMA>(widen(scales[0][r]), low + high, out[r]);
        out[r] = multiply_add::<FMA>(widen(scales[1][r]), sum, product);
    }
}

/// As [`add_block_of_four`].
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
fn add_block_of_eight<const FMA: bool>(
    codes: &[[u8; PANEL]; BLOCK],
    scales: &[[f16; PANEL]; 2],
    x: &[f32; BLOCK],
    sum: f32,
    out: &mut Lanes,
) {
    for r in 0..PANEL {
        let (mut low, mut high) = (0.0, 0.0);
        for i in 0..BLOCK / 2 {
            low = multiply_add::<FMA>(i32::from(codes[i][r]) as f32, x[i], low);
            high = multiply_add::<FMA>(i32::from(codes[BLOCK / 2 + i][r]) as f32, x[BLOCK / 2 + i], high);
        }
        let product = multiply_add::<FMA>(widen(scales[0][r]), low + high, out[r]);
        out[r] = multiply_add::<FMA>(widen(scales[1][r]), sum, product);
    }
}

#[inline(always)]
fn one<const FMA: bool>(panel: PanelCodes, x: &[f32], sums: &[f32]) -> Lanes {
    let mut out = [0.0; PANEL];
    match panel {
        PanelCodes::Four { codes, scales } => {
            let codes = codes.as_chunks::<PANEL>().0.as_chunks::<{ BLOCK / 2 }>().0;
            let scales = scales.as_chunks::<PANEL>().0.as_chunks::<2>().0;
            let x = x.as_chunks::<BLOCK>().0.iter().zip(sums);
            for ((codes, scales), (x, sum)) in codes.iter().zip(scales).zip(x) {
                add_block_of_four::<FMA>(codes, scales, x, *sum, &mut out);
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let codes = codes.as_chunks::<PANEL>().0.as_chunks::<BLOCK>().0;
            let scales = scales.as_chunks::<PANEL>().0.as_chunks::<2>().0;
            let x = x.as_chunks::<BLOCK>().0.iter().zip(sums);
            for ((codes, scales), (x, sum)) in codes.iter().zip(scales).zip(x) {
                add_block_of_eight::<FMA>(codes, scales, x, *sum, &mut out);
            }
        }
        PanelCodes::Float { weights } => {
            for (w, x) in weights.as_chunks::<PANEL>().0.iter().zip(x) {
                for r in 0..PANEL {
                    out[r] = multiply_add::<FMA>(w[r], *x, out[r]);
                }
            }
        }
    }
    out
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

#[inline(always)]
fn lanes(x: &[f16]) -> Lanes {
    let x: &[f16; PANEL] = x.first_chunk().unwrap_or(&[f16::ZERO; PANEL]);
    std::array::from_fn(|r| widen(x[r]))
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
