//! `range: 'mse'`: the scale and zero of least squared error instead of those that cover the range, where channels of a token share them.
//!
//! From the whole range and from shares of it around its middle, codes and the least-squares fit of scale and zero to them are
//! alternated; each result is rounded to what is kept and then compared by its real error, the covering pair included.
//! A token that attention rests on must not be clipped for its neighbours' sake: use it together with sinks.

use super::scales::{ScaleRecipe, zero_unit};
use crate::simd::{self, Grid, LANES};

/// Scales and zeros, `[tokens, groups]`, of `rows` (`[tokens, dim]`, NaN at values that are left out), `channels` of a row being a group.
pub(super) fn fit_groups(
    rows: &[f32],
    dim: usize,
    channels: usize,
    recipe: ScaleRecipe,
    grid: Grid,
    scale: &mut [f32],
    zero: &mut [f32],
) {
    let groups = dim.div_ceil(channels);
    let mut values = Vec::new();
    for (block, rows) in rows.chunks(LANES * dim).enumerate() {
        let first = block * LANES * groups;
        for g in 0..groups {
            values.clear();
            push_columns(rows, dim, g * channels..dim.min((g + 1) * channels), &mut values);
            let fitted = fit(&values, recipe, grid);
            for t in 0..rows.len() / dim {
                (scale[first + t * groups + g], zero[first + t * groups + g]) = (fitted.0[t], fitted.1[t]);
            }
        }
    }
}

/// Scales and zeros, one a token, that all heads share; `block` is `[heads, tokens, dim]`.
pub(super) fn fit_tokens(
    block: &[f32],
    (tokens, dim): (usize, usize),
    recipe: ScaleRecipe,
    grid: Grid,
    scale: &mut [f32],
    zero: &mut [f32],
) {
    let mut values = Vec::new();
    for first in (0..tokens).step_by(LANES) {
        let lanes = LANES.min(tokens - first);
        values.clear();
        for head in block.chunks_exact(tokens * dim) {
            push_columns(&head[first * dim..(first + lanes) * dim], dim, 0..dim, &mut values);
        }
        let fitted = fit(&values, recipe, grid);
        scale[first..first + lanes].copy_from_slice(&fitted.0[..lanes]);
        zero[first..first + lanes].copy_from_slice(&fitted.1[..lanes]);
    }
}

/// Pushes one stripe a channel, its lanes being the tokens of `rows` (`[tokens, dim]`, at most [`LANES`]).
fn push_columns(rows: &[f32], dim: usize, channels: std::ops::Range<usize>, values: &mut Vec<f32>) {
    let start = values.len();
    values.resize(start + channels.len() * LANES, 0.0);
    let stripes = values[start..].as_chunks_mut::<LANES>().0;
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        for (stripe, &x) in stripes.iter_mut().zip(&row[channels.clone()]) {
            stripe[t] = x;
        }
    }
}

fn fit(values: &[f32], recipe: ScaleRecipe, grid: Grid) -> (simd::Stripe, simd::Stripe) {
    let (levels, units) = ([recipe.levels(); LANES], [zero_unit(recipe.bits); LANES]);
    simd::stripe_scales(values, LANES, &levels, &units, grid, true)
}
