//! Products with a few tokens, as one step of a batch makes them: a panel's codes are read and become floats once for four
//! tokens. Each token's sums are made in the order of [`super::kernels::multiply_one`], so that it gets what it gets alone.

use half::f16;
use multiversion::{multiversion, target::match_target};

use super::kernels::{Lanes, PanelCodes, multiply_add, multiply_one, widen};
use super::{BLOCK, PANEL};

/// Tokens at once: their sums, two of each, and a column's weights stay in registers.
const TOGETHER: usize = 4;

type Columns<'a> = [&'a [f32; BLOCK]; TOGETHER];

/// Adds the products of a block of 4-bit codes. Loops over lanes are innermost, and each is one instruction or a few.
#[inline(always)]
fn add_block_of_four<const FMA: bool>(
    codes: &[[u8; PANEL]; BLOCK / 2],
    scales: &[[f16; PANEL]; 2],
    x: Columns,
    sums: [f32; TOGETHER],
    out: &mut [Lanes; TOGETHER],
) {
    let (mut low, mut high) = ([[0.0; PANEL]; TOGETHER], [[0.0; PANEL]; TOGETHER]);
    for i in 0..BLOCK / 2 {
        let first: Lanes = std::array::from_fn(|r| (i32::from(codes[i][r]) & 15) as f32);
        let second: Lanes = std::array::from_fn(|r| (i32::from(codes[i][r]) >> 4) as f32);
        add_column::<FMA>(&first, x.map(|x| x[i]), &mut low);
        add_column::<FMA>(&second, x.map(|x| x[BLOCK / 2 + i]), &mut high);
    }
    add_scaled::<FMA>(scales, &low, &high, sums, out);
}

/// As [`add_block_of_four`].
#[inline(always)]
fn add_block_of_eight<const FMA: bool>(
    codes: &[[u8; PANEL]; BLOCK],
    scales: &[[f16; PANEL]; 2],
    x: Columns,
    sums: [f32; TOGETHER],
    out: &mut [Lanes; TOGETHER],
) {
    let (mut low, mut high) = ([[0.0; PANEL]; TOGETHER], [[0.0; PANEL]; TOGETHER]);
    for i in 0..BLOCK / 2 {
        let first: Lanes = std::array::from_fn(|r| i32::from(codes[i][r]) as f32);
        let second: Lanes = std::array::from_fn(|r| i32::from(codes[BLOCK / 2 + i][r]) as f32);
        add_column::<FMA>(&first, x.map(|x| x[i]), &mut low);
        add_column::<FMA>(&second, x.map(|x| x[BLOCK / 2 + i]), &mut high);
    }
    add_scaled::<FMA>(scales, &low, &high, sums, out);
}

/// Adds one column's products.
#[inline(always)]
fn add_column<const FMA: bool>(weights: &Lanes, x: [f32; TOGETHER], out: &mut [Lanes; TOGETHER]) {
    for t in 0..TOGETHER {
        for r in 0..PANEL {
            out[t][r] = multiply_add::<FMA>(weights[r], x[t], out[t][r]);
        }
    }
}

/// Adds a block's sums, scaled, and its zeros.
#[inline(always)]
fn add_scaled<const FMA: bool>(
    scales: &[[f16; PANEL]; 2],
    low: &[Lanes; TOGETHER],
    high: &[Lanes; TOGETHER],
    sums: [f32; TOGETHER],
    out: &mut [Lanes; TOGETHER],
) {
    for t in 0..TOGETHER {
        for r in 0..PANEL {
            let product = multiply_add::<FMA>(widen(scales[0][r]), low[t][r] + high[t][r], out[t][r]);
            out[t][r] = multiply_add::<FMA>(widen(scales[1][r]), sums[t], product);
        }
    }
}

#[inline(always)]
fn together<const FMA: bool>(panel: PanelCodes, x: [&[f32]; TOGETHER], sums: [&[f32]; TOGETHER]) -> [Lanes; TOGETHER] {
    let mut out = [[0.0; PANEL]; TOGETHER];
    let blocks = x.map(|x| x.as_chunks::<BLOCK>().0);
    match panel {
        PanelCodes::Four { codes, scales } => {
            let codes = codes.as_chunks::<PANEL>().0.as_chunks::<{ BLOCK / 2 }>().0;
            let scales = scales.as_chunks::<PANEL>().0.as_chunks::<2>().0;
            for (b, (codes, scales)) in codes.iter().zip(scales).enumerate() {
                add_block_of_four::<FMA>(codes, scales, blocks.map(|x| &x[b]), sums.map(|sums| sums[b]), &mut out);
            }
        }
        PanelCodes::Eight { codes, scales } => {
            let codes = codes.as_chunks::<PANEL>().0.as_chunks::<BLOCK>().0;
            let scales = scales.as_chunks::<PANEL>().0.as_chunks::<2>().0;
            for (b, (codes, scales)) in codes.iter().zip(scales).enumerate() {
                add_block_of_eight::<FMA>(codes, scales, blocks.map(|x| &x[b]), sums.map(|sums| sums[b]), &mut out);
            }
        }
        PanelCodes::Float { weights } => {
            for (column, weights) in weights.as_chunks::<PANEL>().0.iter().enumerate() {
                add_column::<FMA>(weights, x.map(|x| x[column]), &mut out);
            }
        }
    }
    out
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2+fma+f16c", "aarch64+neon"))]
fn multiply_together(panel: PanelCodes, x: [&[f32]; TOGETHER], sums: [&[f32]; TOGETHER]) -> [Lanes; TOGETHER] {
    match_target! {
        "x86_64+avx512f" => together::<true>(panel, x, sums),
        "x86_64+fma" => together::<true>(panel, x, sums),
        "aarch64+neon" => together::<true>(panel, x, sums),
        _ => together::<false>(panel, x, sums),
    }
}

/// `out[token][row] = Σ_column weight[row][column] · x[token][column]`: `x` is `[out.len(), columns]`, and `sums` are those of
/// `x` over blocks, `[out.len(), columns / 32]`.
pub(super) fn multiply_few(panel: PanelCodes, x: &[f32], sums: &[f32], out: &mut [Lanes]) {
    let (columns, blocks) = (x.len() / out.len(), sums.len() / out.len());
    let mut first = 0;
    while first < out.len() {
        let of = |t: usize| &x[t * columns..(t + 1) * columns];
        let sums_of = |t: usize| &sums[t * blocks..(t + 1) * blocks];
        if let Some(out) = out[first..].first_chunk_mut::<TOGETHER>() {
            let tokens: [usize; TOGETHER] = std::array::from_fn(|i| first + i);
            *out = multiply_together(panel, tokens.map(of), tokens.map(sums_of));
            first += TOGETHER;
        } else {
            out[first] = multiply_one(panel, of(first), sums_of(first));
            first += 1;
        }
    }
}
