//! Ranges, scales, codes and their inverse for any grouping.

use half::f16;

use super::Grouping;
use crate::simd;

/// Scales and zeros of one head (or, shared by all heads, of one batch item).
///
/// Order: `[group][channel]` for [`Grouping::Channel`], `[token][group]` for [`Grouping::Token`], `[token]` for
/// [`Grouping::TokenAllHeads`].
pub(crate) struct HeadScales {
    pub scales: Vec<f16>,
    pub zeros: Vec<f16>,
}

impl HeadScales {
    /// From ranges; an empty range (`min > max`) is a group whose values are all outliers.
    fn from_ranges(min: &[f32], max: &[f32], levels: f32) -> Self {
        let spread: Vec<f32> =
            min.iter().zip(max).map(|(lo, hi)| if hi >= lo { (hi - lo) / levels } else { 0.0 }).collect();
        let least: Vec<f32> = min.iter().zip(max).map(|(lo, hi)| if hi >= lo { *lo } else { 0.0 }).collect();
        let mut scales = vec![f16::ZERO; min.len()];
        let mut zeros = vec![f16::ZERO; min.len()];
        simd::narrow(&spread, &mut scales);
        simd::narrow(&least, &mut zeros);
        for scale in &mut scales {
            // A constant group (or one narrower than float16 can say) has only code 0; any positive scale will do.
            if *scale <= f16::ZERO {
                *scale = f16::ONE;
            }
        }
        Self { scales, zeros }
    }
}

pub(crate) fn levels(bits: u32) -> f32 {
    ((1u32 << bits) - 1) as f32
}

/// Takes the values at `positions` out of the ranges and gives back what stood there.
pub(crate) fn exclude_from_range(x: &mut [f32], positions: &[u32]) -> Vec<f32> {
    positions.iter().map(|&p| std::mem::replace(&mut x[p as usize], f32::NAN)).collect()
}

/// Scales of one head, `x` being `[tokens, dim]` with NaN at values that are left out.
/// Empty for [`Grouping::TokenAllHeads`].
pub(crate) fn head_scales(grouping: Grouping, x: &[f32], dim: usize, bits: u32) -> HeadScales {
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
        Grouping::TokenAllHeads => {}
    }
    HeadScales::from_ranges(&min, &max, levels(bits))
}

/// Scales that all heads of a batch item share, `heads` being one `[tokens, dim]` a head; `None` where heads have their own.
pub(crate) fn item_scales(
    grouping: Grouping,
    heads: &[Vec<f32>],
    tokens: usize,
    dim: usize,
    bits: u32,
) -> Option<HeadScales> {
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
    Some(HeadScales::from_ranges(&min, &max, levels(bits)))
}

/// Walks a block of rows in runs that share one row of scales: calls `f(rows, scale_row, zero_row)`.
struct ScaleRows<'a> {
    grouping: Grouping,
    scales: &'a [f16],
    zeros: &'a [f16],
    dim: usize,
    first_token: usize,
    tokens: usize,
}

impl ScaleRows<'_> {
    fn for_each(&self, mut f: impl FnMut(std::ops::Range<usize>, &[f32], &[f32])) {
        let dim = self.dim;
        let (mut scale, mut zero) = (vec![0.0; dim], vec![0.0; dim]);
        match self.grouping {
            Grouping::Channel { tokens: group } => {
                let end = self.first_token + self.tokens;
                let mut t = self.first_token;
                while t < end {
                    let g = t / group;
                    let stop = ((g + 1) * group).min(end);
                    simd::widen(&self.scales[g * dim..(g + 1) * dim], &mut scale);
                    simd::widen(&self.zeros[g * dim..(g + 1) * dim], &mut zero);
                    f(t - self.first_token..stop - self.first_token, &scale, &zero);
                    t = stop;
                }
            }
            Grouping::Token { channels } => {
                self.for_each_token(dim.div_ceil(channels), channels, &mut scale, &mut zero, f);
            }
            Grouping::TokenAllHeads => self.for_each_token(1, dim, &mut scale, &mut zero, f),
        }
    }

    fn for_each_token(
        &self,
        groups: usize,
        channels: usize,
        scale: &mut [f32],
        zero: &mut [f32],
        mut f: impl FnMut(std::ops::Range<usize>, &[f32], &[f32]),
    ) {
        let range = self.first_token * groups..(self.first_token + self.tokens) * groups;
        let (mut scales, mut zeros) = (vec![0.0; range.len()], vec![0.0; range.len()]);
        simd::widen(&self.scales[range.clone()], &mut scales);
        simd::widen(&self.zeros[range], &mut zeros);
        for t in 0..self.tokens {
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
    scales: &HeadScales,
    x: &mut [f32],
    dim: usize,
    bits: u32,
    residual: bool,
    packed: &mut [u8],
) {
    let tokens = x.len() / dim;
    let mut codes = vec![0u8; x.len()];
    let rows = ScaleRows { grouping, scales: &scales.scales, zeros: &scales.zeros, dim, first_token: 0, tokens };
    rows.for_each(|run, scale, zero| {
        let values = run.start * dim..run.end * dim;
        simd::quantize_rows(&mut x[values.clone()], scale, zero, levels(bits), &mut codes[values], residual);
    });
    simd::pack_rows(&codes, dim, bits, packed);
}

/// `x̂` of `out.len() / dim` tokens from `first_token` on. `packed` holds those tokens' rows; scales are the whole head's.
pub(crate) fn dequantize(
    grouping: Grouping,
    (scales, zeros): (&[f16], &[f16]),
    first_token: usize,
    packed: &[u8],
    dim: usize,
    bits: u32,
    out: &mut [f32],
) {
    let bytes = simd::row_bytes(dim, bits);
    let rows = ScaleRows { grouping, scales, zeros, dim, first_token, tokens: out.len() / dim };
    rows.for_each(|run, scale, zero| {
        let packed = &packed[run.start * bytes..run.end * bytes];
        simd::dequantize_rows(packed, bits, scale, zero, &mut out[run.start * dim..run.end * dim]);
    });
}
