//! `range: 'mse'`: the scale and zero of least squared error instead of those that cover the range.
//!
//! From the whole range and from shares of it around its middle, codes and the least-squares fit of scale and zero to them are
//! alternated; each result is rounded to what is kept and then compared by its real error, the covering pair included.
//! A token that attention rests on must not be clipped for its neighbours' sake: use it together with sinks.

use super::Grouping;
use crate::simd::{self, Grid, LANES, Stripe};

/// Improves the scales and zeros of one head, `x` being `[tokens, dim]` with NaN at values that are left out.
pub(super) fn fit_head(
    grouping: Grouping,
    x: &[f32],
    dim: usize,
    levels: f32,
    grid: Grid,
    scale: &mut [f32],
    zero: &mut [f32],
) {
    let tokens = x.len() / dim;
    let mut values = Vec::new();
    match grouping {
        Grouping::Channel { tokens: group } => {
            for (g, rows) in x.chunks(group * dim).enumerate() {
                for first in (0..dim).step_by(LANES) {
                    let lanes = LANES.min(dim - first);
                    values.clear();
                    values.extend(rows.chunks_exact(dim).map(|row| stripe(&row[first..first + lanes])));
                    fit(&values, levels, grid, scale, zero, Lanes { first: g * dim + first, stride: 1, lanes });
                }
            }
        }
        Grouping::Token { channels } => {
            let groups = dim.div_ceil(channels);
            for first in (0..tokens).step_by(LANES) {
                let lanes = LANES.min(tokens - first);
                for g in 0..groups {
                    values.clear();
                    columns(
                        &x[first * dim..(first + lanes) * dim],
                        dim,
                        g * channels..dim.min((g + 1) * channels),
                        &mut values,
                    );
                    let lanes = Lanes { first: first * groups + g, stride: groups, lanes };
                    fit(&values, levels, grid, scale, zero, lanes);
                }
            }
        }
        Grouping::TokenAllHeads => {}
    }
}

/// Improves the scales and zeros, one a token, that all `heads` (`[tokens, dim]`) share.
pub(super) fn fit_item(heads: &[Vec<f32>], dim: usize, levels: f32, grid: Grid, scale: &mut [f32], zero: &mut [f32]) {
    let tokens = scale.len();
    let mut values = Vec::new();
    for first in (0..tokens).step_by(LANES) {
        let lanes = LANES.min(tokens - first);
        values.clear();
        for head in heads {
            columns(&head[first * dim..(first + lanes) * dim], dim, 0..dim, &mut values);
        }
        fit(&values, levels, grid, scale, zero, Lanes { first, stride: 1, lanes });
    }
}

fn stripe(values: &[f32]) -> Stripe {
    let mut stripe = [f32::NAN; LANES];
    stripe[..values.len()].copy_from_slice(values);
    stripe
}

/// Pushes one stripe a channel, its lanes being the tokens of `rows` (`[tokens, dim]`, at most [`LANES`]).
fn columns(rows: &[f32], dim: usize, channels: std::ops::Range<usize>, values: &mut Vec<Stripe>) {
    let start = values.len();
    values.resize(start + channels.len(), [f32::NAN; LANES]);
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        for (stripe, &x) in values[start..].iter_mut().zip(&row[channels.clone()]) {
            stripe[t] = x;
        }
    }
}

/// Which scales the lanes of a stripe belong to.
#[derive(Clone, Copy)]
struct Lanes {
    first: usize,
    stride: usize,
    lanes: usize,
}

fn fit(values: &[Stripe], levels: f32, grid: Grid, scale: &mut [f32], zero: &mut [f32], at: Lanes) {
    let (mut s, mut z) = ([1.0; LANES], [0.0; LANES]);
    for i in 0..at.lanes {
        (s[i], z[i]) = (scale[at.first + i * at.stride], zero[at.first + i * at.stride]);
    }
    simd::fit_stripe(values, levels, grid, &mut s, &mut z);
    for i in 0..at.lanes {
        (scale[at.first + i * at.stride], zero[at.first + i * at.stride]) = (s[i], z[i]);
    }
}
