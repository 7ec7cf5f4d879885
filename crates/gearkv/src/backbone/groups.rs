//! Ranges, scales, codes and their inverse for any grouping.

use super::scales::{self, ScaleRecipe, ScaleView, Scales};
use super::{Grouping, fit};
use crate::config::Range;
use crate::simd;

/// Takes the values at `positions` out of the ranges and gives back what stood there.
pub(crate) fn exclude_from_range(x: &mut [f32], positions: &[u32]) -> Vec<f32> {
    positions.iter().map(|&p| std::mem::replace(&mut x[p as usize], f32::NAN)).collect()
}

/// Scales of one head, `x` being `[tokens, dim]` with NaN at values that are left out.
/// Empty for [`Grouping::TokenAllHeads`].
pub(crate) fn head_scales(grouping: Grouping, x: &[f32], dim: usize, recipe: ScaleRecipe) -> Scales {
    let tokens = x.len() / dim;
    let count = grouping.scales_per_head(tokens, dim);
    let (mut min, mut max) = (vec![0.0; count], vec![0.0; count]);
    match grouping {
        Grouping::Channel { tokens: group } => {
            let ranges = min.chunks_exact_mut(dim).zip(max.chunks_exact_mut(dim));
            for (rows, (min, max)) in x.chunks(group * dim).zip(ranges) {
                simd::column_range(rows, min, max);
            }
        }
        Grouping::Token { channels } => {
            let groups = x.chunks_exact(dim).flat_map(|row| row.chunks(channels));
            for (i, group) in groups.enumerate() {
                (min[i], max[i]) = simd::row_range(group);
            }
        }
        Grouping::TokenAllHeads => return Scales::none(recipe.small),
    }
    let grid = scales::grid_for(recipe, &min, &max);
    let (mut scale, mut zero) = scales::cover(grid, recipe.levels(), &min, &max);
    if recipe.range == Range::Mse {
        fit::fit_head(grouping, x, dim, recipe.levels(), grid, &mut scale, &mut zero);
    }
    scales::store(grid, &scale, &zero)
}

/// Scales that all heads of a batch item share, `heads` being one `[tokens, dim]` a head; `None` where heads have their own.
pub(crate) fn item_scales(
    grouping: Grouping,
    heads: &[Vec<f32>],
    tokens: usize,
    dim: usize,
    recipe: ScaleRecipe,
) -> Option<Scales> {
    if grouping != Grouping::TokenAllHeads {
        return None;
    }
    let (mut min, mut max) = (vec![f32::INFINITY; tokens], vec![f32::NEG_INFINITY; tokens]);
    for head in heads {
        for (t, row) in head.chunks_exact(dim).enumerate() {
            let (lo, hi) = simd::row_range(row);
            min[t] = min[t].min(lo);
            max[t] = max[t].max(hi);
        }
    }
    let grid = scales::grid_for(recipe, &min, &max);
    let (mut scale, mut zero) = scales::cover(grid, recipe.levels(), &min, &max);
    if recipe.range == Range::Mse {
        fit::fit_item(heads, dim, recipe.levels(), grid, &mut scale, &mut zero);
    }
    Some(scales::store(grid, &scale, &zero))
}

/// Rows of one head whose codes, from token `first` on, are at hand; scales are the whole head's.
#[derive(Clone, Copy)]
pub(crate) struct CodeRows<'a> {
    pub grouping: Grouping,
    pub scales: ScaleView<'a>,
    pub first: usize,
    pub dim: usize,
}

/// Memory for scales and zeros: of each channel of a row, and of a block of tokens.
#[derive(Default)]
pub(crate) struct ScaleRoom {
    pub scale: Vec<f32>,
    pub zero: Vec<f32>,
    block: [Vec<f32>; 2],
}

impl CodeRows<'_> {
    /// Walks a block of rows in runs that share one row of scales: calls `f(rows, scale_row, zero_row)`.
    fn for_each(&self, tokens: usize, room: &mut ScaleRoom, mut f: impl FnMut(std::ops::Range<usize>, &[f32], &[f32])) {
        let Self { dim, first, .. } = *self;
        room.scale.resize(dim, 0.0);
        room.zero.resize(dim, 0.0);
        match self.grouping {
            Grouping::Channel { tokens: group } => {
                let end = first + tokens;
                let mut t = first;
                while t < end {
                    let g = t / group;
                    let stop = ((g + 1) * group).min(end);
                    self.scales.load(g * dim, &mut room.scale, &mut room.zero);
                    f(t - first..stop - first, &room.scale, &room.zero);
                    t = stop;
                }
            }
            Grouping::Token { channels } => self.for_each_token(tokens, dim.div_ceil(channels), channels, room, f),
            Grouping::TokenAllHeads => self.for_each_token(tokens, 1, dim, room, f),
        }
    }

    fn for_each_token(
        &self,
        tokens: usize,
        groups: usize,
        channels: usize,
        ScaleRoom { scale, zero, block: [scales, zeros] }: &mut ScaleRoom,
        mut f: impl FnMut(std::ops::Range<usize>, &[f32], &[f32]),
    ) {
        scales.resize(tokens * groups, 0.0);
        zeros.resize(tokens * groups, 0.0);
        self.scales.load(self.first * groups, scales, zeros);
        for t in 0..tokens {
            for g in 0..groups {
                let channels = g * channels..((g + 1) * channels).min(self.dim);
                scale[channels.clone()].fill(scales[t * groups + g]);
                zero[channels].fill(zeros[t * groups + g]);
            }
            f(t..t + 1, scale, zero);
        }
    }
}

/// Packed codes of one head. With `residual`, `x` (`[tokens, dim]`) becomes `x − x̂`.
pub(crate) fn quantize_head(
    grouping: Grouping,
    scales: ScaleView,
    x: &mut [f32],
    dim: usize,
    bits: u32,
    residual: bool,
    packed: &mut [u8],
) {
    let tokens = x.len() / dim;
    let mut codes = vec![0u8; x.len()];
    let levels = ((1u32 << bits) - 1) as f32;
    let rows = CodeRows { grouping, scales, first: 0, dim };
    rows.for_each(tokens, &mut ScaleRoom::default(), |run, scale, zero| {
        let values = run.start * dim..run.end * dim;
        simd::quantize_rows(&mut x[values.clone()], scale, zero, levels, &mut codes[values], residual);
    });
    simd::pack_rows(&codes, dim, bits, packed);
}

/// `x̂` of as many tokens as `out` (`[tokens, dim]`) holds. `packed` holds their rows.
pub(crate) fn dequantize(rows: CodeRows, packed: &[u8], bits: u32, out: &mut [f32], room: &mut ScaleRoom) {
    let dim = rows.dim;
    let bytes = simd::row_bytes(dim, bits);
    rows.for_each(out.len() / dim, room, |run, scale, zero| {
        let packed = &packed[run.start * bytes..run.end * bytes];
        simd::dequantize_rows(packed, bits, scale, zero, &mut out[run.start * dim..run.end * dim], dim);
    });
}
