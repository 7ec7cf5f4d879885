//! The loops that multiply: plain Rust that the compiler vectorizes, compiled once for each instruction set.
//!
//! A panel is 16 rows of weights side by side, so that a sum over columns never crosses lanes. With few tokens codes become
//! floats in registers; with many, a panel becomes floats once and is multiplied with tiles of tokens.

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

/// `out[t][row] = Σ_column weight[row][column] · x[t][column]` for `T` tokens; `sums[t][block]` are the sums of `x` over blocks.
#[inline(always)]
fn few<const T: usize, const FMA: bool>(panel: PanelCodes, x: [&[f32]; T], sums: [&[f32]; T]) -> [Lanes; T] {
    let mut out = [[0.0; PANEL]; T];
    match panel {
        PanelCodes::Four { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK / 2 * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for (b, (codes, scales)) in blocks.enumerate() {
                // Two sums a token: additions wait for each other.
                let (mut low, mut high) = ([[0.0; PANEL]; T], [[0.0; PANEL]; T]);
                let first = x.map(|x| &x[b * BLOCK..][..BLOCK / 2]);
                let last = x.map(|x| &x[b * BLOCK + BLOCK / 2..][..BLOCK / 2]);
                for (i, codes) in codes.as_chunks::<PANEL>().0.iter().enumerate() {
                    let a: Lanes = std::array::from_fn(|r| i32::from(codes[r] & 15) as f32);
                    let z: Lanes = std::array::from_fn(|r| i32::from(codes[r] >> 4) as f32);
                    for t in 0..T {
                        for r in 0..PANEL {
                            low[t][r] = multiply_add::<FMA>(a[r], first[t][i], low[t][r]);
                            high[t][r] = multiply_add::<FMA>(z[r], last[t][i], high[t][r]);
                        }
                    }
                }
                add_block::<T, FMA>(&mut out, &low, &high, scales, sums, b);
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for (b, (codes, scales)) in blocks.enumerate() {
                let (mut even, mut odd) = ([[0.0; PANEL]; T], [[0.0; PANEL]; T]);
                let x = x.map(|x| &x[b * BLOCK..][..BLOCK]);
                let (pairs, _) = codes.as_chunks::<{ 2 * PANEL }>();
                for (i, codes) in pairs.iter().enumerate() {
                    let a: Lanes = std::array::from_fn(|r| i32::from(codes[r]) as f32);
                    let z: Lanes = std::array::from_fn(|r| i32::from(codes[PANEL + r]) as f32);
                    for t in 0..T {
                        for r in 0..PANEL {
                            even[t][r] = multiply_add::<FMA>(a[r], x[t][2 * i], even[t][r]);
                            odd[t][r] = multiply_add::<FMA>(z[r], x[t][2 * i + 1], odd[t][r]);
                        }
                    }
                }
                add_block::<T, FMA>(&mut out, &even, &odd, scales, sums, b);
            }
        }
        PanelCodes::Float { weights } => {
            for (i, w) in weights.as_chunks::<PANEL>().0.iter().enumerate() {
                for t in 0..T {
                    for r in 0..PANEL {
                        out[t][r] = multiply_add::<FMA>(w[r], x[t][i], out[t][r]);
                    }
                }
            }
        }
    }
    out
}

#[inline(always)]
fn add_block<const T: usize, const FMA: bool>(
    out: &mut [Lanes; T],
    one: &[Lanes; T],
    other: &[Lanes; T],
    scales: &[f16],
    sums: [&[f32]; T],
    block: usize,
) {
    let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
    for t in 0..T {
        let sum = sums[t][block];
        for r in 0..PANEL {
            let product = multiply_add::<FMA>(scale[r], one[t][r] + other[t][r], out[t][r]);
            out[t][r] = multiply_add::<FMA>(zero[r], sum, product);
        }
    }
}

/// As `few`, for 1, 2 or 4 rows of `x` (`[tokens][columns]`); `out` is `[tokens][PANEL]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn multiply_few(panel: PanelCodes, x: &[f32], columns: usize, sums: &[f32], out: &mut [f32]) {
    #[inline(always)]
    fn run<const T: usize, const FMA: bool>(
        panel: PanelCodes,
        x: &[f32],
        columns: usize,
        sums: &[f32],
        out: &mut [f32],
    ) {
        let blocks = columns / BLOCK;
        let x = std::array::from_fn(|t| &x[t * columns..][..columns]);
        let sums = std::array::from_fn(|t| &sums[t * blocks..][..blocks]);
        let result = few::<T, FMA>(panel, x, sums);
        for (out, lanes) in out.as_chunks_mut::<PANEL>().0.iter_mut().zip(result) {
            *out = lanes;
        }
    }
    match_target! {
        "x86_64+fma" => match x.len() / columns {
            1 => run::<1, true>(panel, x, columns, sums, out),
            2 => run::<2, true>(panel, x, columns, sums, out),
            _ => run::<4, true>(panel, x, columns, sums, out),
        },
        "aarch64+neon" => match x.len() / columns {
            1 => run::<1, true>(panel, x, columns, sums, out),
            2 => run::<2, true>(panel, x, columns, sums, out),
            _ => run::<4, true>(panel, x, columns, sums, out),
        },
        _ => match x.len() / columns {
            1 => run::<1, false>(panel, x, columns, sums, out),
            2 => run::<2, false>(panel, x, columns, sums, out),
            _ => run::<4, false>(panel, x, columns, sums, out),
        },
    }
}

/// A panel's weights, `[column][row]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn unpack(panel: PanelCodes, out: &mut [f32]) {
    let out = out.as_chunks_mut::<PANEL>().0;
    match panel {
        PanelCodes::Four { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK / 2 * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for ((codes, scales), out) in blocks.zip(out.chunks_exact_mut(BLOCK)) {
                let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
                let (first, last) = out.split_at_mut(BLOCK / 2);
                for ((codes, first), last) in codes.as_chunks::<PANEL>().0.iter().zip(first).zip(last) {
                    for r in 0..PANEL {
                        first[r] = i32::from(codes[r] & 15) as f32 * scale[r] + zero[r];
                        last[r] = i32::from(codes[r] >> 4) as f32 * scale[r] + zero[r];
                    }
                }
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let blocks = codes.chunks_exact(BLOCK * PANEL).zip(scales.chunks_exact(2 * PANEL));
            for ((codes, scales), out) in blocks.zip(out.chunks_exact_mut(BLOCK)) {
                let (scale, zero) = (lanes(scales), lanes(&scales[PANEL..]));
                for (codes, out) in codes.as_chunks::<PANEL>().0.iter().zip(out) {
                    for r in 0..PANEL {
                        out[r] = i32::from(codes[r]) as f32 * scale[r] + zero[r];
                    }
                }
            }
        }
        PanelCodes::Float { weights } => out.as_flattened_mut().copy_from_slice(weights),
    }
}

/// Tokens of a tile.
pub(super) const TILE: usize = 8;

/// `out[t][row] = Σ_column weights[column][row] · tile[column][t]` for a tile of tokens.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
pub(super) fn multiply_tile(weights: &[f32], tile: &[f32], out: &mut [Lanes; TILE]) {
    #[inline(always)]
    fn run<const T: usize, const FMA: bool>(weights: &[f32], tile: &[f32], out: &mut [Lanes; TILE]) {
        let weights = weights.as_chunks::<PANEL>().0;
        let tile = tile.as_chunks::<TILE>().0;
        // Half a tile at a time where all sums do not fit the registers.
        for first in (0..TILE).step_by(T) {
            let mut sums = [[0.0; PANEL]; T];
            for (w, x) in weights.iter().zip(tile) {
                for t in 0..T {
                    for r in 0..PANEL {
                        sums[t][r] = multiply_add::<FMA>(w[r], x[first + t], sums[t][r]);
                    }
                }
            }
            out[first..first + T].copy_from_slice(&sums);
        }
    }
    match_target! {
        "x86_64+avx512f" => run::<8, true>(weights, tile, out),
        "x86_64+fma" => run::<4, true>(weights, tile, out),
        "aarch64+neon" => run::<4, true>(weights, tile, out),
        _ => run::<2, false>(weights, tile, out),
    }
}
