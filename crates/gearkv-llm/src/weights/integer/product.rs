//! A panel of 16 rows times some tokens.

use half::f16;

use super::activations::{Activations, TILE, Tile};
use super::vector::{self, Floats, Pairs, Sums};
use crate::weights::kernels::PanelCodes;
use crate::weights::{BLOCK, PANEL};

/// Vectors of four rows.
const GROUPS: usize = PANEL / 4;
/// Groups whose sums for a tile of tokens stay in registers, of which there are 16.
const AT_ONCE: usize = 2;
/// Pairs of columns in a block.
const PAIRS: usize = BLOCK / 2;

/// `out[t][row] = Σ_column weight[row][column] · x[t][column]`
pub fn multiply_panel(panel: PanelCodes, x: &Activations, out: &mut [[f32; PANEL]]) {
    match (panel, out) {
        (PanelCodes::Four { codes, scales }, [out]) => one::<4, { PAIRS / 4 }>(codes, scales, x, out, four),
        (PanelCodes::Eight { codes, scales }, [out]) => one::<2, { PAIRS / 2 }>(codes, scales, x, out, eight),
        (PanelCodes::Four { codes, scales }, out) => many::<4, { PAIRS / 4 }>(codes, scales, x, out, four),
        (PanelCodes::Eight { codes, scales }, out) => many::<2, { PAIRS / 2 }>(codes, scales, x, out, eight),
        (PanelCodes::Float { .. }, _) => unreachable!("floats are not multiplied as integers"),
    }
}

#[inline(always)]
fn four(codes: Pairs) -> [Pairs; 4] {
    [
        vector::field::<0>(codes, 15),
        vector::field::<4>(codes, 15),
        vector::field::<8>(codes, 15),
        vector::field::<12>(codes, 15),
    ]
}

#[inline(always)]
fn eight(codes: Pairs) -> [Pairs; 2] {
    [vector::field::<0>(codes, 255), vector::field::<8>(codes, 255)]
}

/// A block's codes: `[vector of F pairs][four rows][16 bytes]`; `N · F` are all pairs.
type Codes<const N: usize> = [[[u8; 16]; GROUPS]; N];
/// `[four rows][row][scale, zero]`
type Scales = [[f16; 8]; GROUPS];

#[inline(always)]
fn blocks<'a, const N: usize>(codes: &'a [u8], scales: &'a [f16]) -> impl Iterator<Item = (&'a Codes<N>, &'a Scales)> {
    let codes = codes.as_chunks::<16>().0.as_chunks::<GROUPS>().0.as_chunks::<N>().0;
    codes.iter().zip(scales.as_chunks().0.as_chunks().0)
}

#[inline(always)]
fn widen(scales: &[f16; 8]) -> (Floats, Floats) {
    vector::widen_both(vector::load_halves(scales))
}

/// `out + (sums · scale + zero · Σ codes) · the block's own scale` for one of the tile's tokens.
#[inline(always)]
fn finish(out: Floats, sums: Sums, (scale, zero): (Floats, Floats), x: &Tile, token: usize) -> Floats {
    let codes = vector::multiply(vector::to_floats(sums), scale);
    let zeros = vector::multiply(zero, vector::splat(x.sums[token]));
    vector::add(out, vector::multiply(vector::add(codes, zeros), vector::splat(x.scales[token])))
}

/// One token: codes are multiplied as they are unpacked.
#[cfg_attr(target_arch = "wasm32", inline(never))]
fn one<const F: usize, const N: usize>(
    codes: &[u8],
    scales: &[f16],
    x: &Activations,
    out: &mut [f32; PANEL],
    unpack: impl Fn(Pairs) -> [Pairs; F],
) {
    let mut totals = [vector::splat(0.0); GROUPS];
    for ((codes, scales), x) in blocks::<N>(codes, scales).zip(x.blocks()) {
        let Some(x) = x.first() else { continue };
        let mut sums = [vector::NO_SUMS; GROUPS];
        for (codes, pairs) in codes.iter().zip(x.pairs.as_chunks::<F>().0) {
            for g in 0..GROUPS {
                let codes = unpack(vector::load(&codes[g]));
                for f in 0..F {
                    sums[g] = vector::add_products(sums[g], codes[f], pairs[f][0]);
                }
            }
        }
        for g in 0..GROUPS {
            totals[g] = finish(totals[g], sums[g], widen(&scales[g]), x, 0);
        }
    }
    for (out, total) in out.as_chunks_mut().0.iter_mut().zip(totals) {
        *out = vector::store(total);
    }
}

/// A block's codes, unpacked.
type Unpacked = [[[Pairs; AT_ONCE]; PAIRS]; GROUPS / AT_ONCE];

/// Many tokens: a block is unpacked once for all of them.
fn many<const F: usize, const N: usize>(
    codes: &[u8],
    scales: &[f16],
    x: &Activations,
    out: &mut [[f32; PANEL]],
    unpack: impl Fn(Pairs) -> [Pairs; F],
) {
    let mut unpacked: Unpacked = [[[vector::NO_PAIRS; AT_ONCE]; PAIRS]; GROUPS / AT_ONCE];
    out.fill([0.0; PANEL]);
    for ((codes, scales), x) in blocks::<N>(codes, scales).zip(x.blocks()) {
        for (n, codes) in codes.iter().enumerate() {
            for g in 0..GROUPS {
                let codes = unpack(vector::load(&codes[g]));
                for f in 0..F {
                    unpacked[g / AT_ONCE][n * F + f][g % AT_ONCE] = codes[f];
                }
            }
        }
        add_block(&unpacked, scales, x, out);
    }
}

/// Adds a block's products.
// For wasm a function of its own, small enough for the compiler to keep everything in registers.
#[cfg_attr(target_arch = "wasm32", inline(never))]
fn add_block(codes: &Unpacked, scales: &Scales, x: &[Tile], out: &mut [[f32; PANEL]]) {
    let scales: [(Floats, Floats); GROUPS] = std::array::from_fn(|g| widen(&scales[g]));
    for (x, out) in x.iter().zip(out.chunks_mut(TILE)) {
        for (i, codes) in codes.iter().enumerate() {
            let mut sums = [[vector::NO_SUMS; AT_ONCE]; TILE];
            for (codes, pairs) in codes.iter().zip(&x.pairs) {
                for t in 0..TILE {
                    for g in 0..AT_ONCE {
                        sums[t][g] = vector::add_products(sums[t][g], codes[g], pairs[t]);
                    }
                }
            }
            for (t, out) in out.iter_mut().enumerate() {
                let out = &mut out.as_chunks_mut::<4>().0[i * AT_ONCE..][..AT_ONCE];
                for g in 0..AT_ONCE {
                    let total = finish(vector::load_floats(&out[g]), sums[t][g], scales[i * AT_ONCE + g], x, t);
                    out[g] = vector::store(total);
                }
            }
        }
    }
}
