//! `rotated`: the mean of each channel over the segment removed, rows turned by a Hadamard matrix over head_dim, one scale a
//! token and group of channels, and the levels of a Lloyd-Max quantizer, for K and V alike.
//!
//! Turned, the values of a token are nearly normally distributed whatever they were, which is what the levels are made for:
//! `D̂ = rotate(level[code] · scale) + mean`. As the rotation is orthonormal and its own inverse, attention never undoes it token
//! by token: `q·rotate(y) = rotate(q)·y` for keys, and a weighted sum of values is turned back once. The mean adds one constant
//! to a segment's logits, and its multiple by the weights' sum to the output.
//!
//! Outliers count as their channel's mean here; what that leaves is theirs to carry.

use half::f16;

use super::scales::{ScaleRecipe, ScaleView, Scales};
use super::{CodeRows, Grouping, ScaleRoom};
use crate::raw::{f16_bytes, finite_f16};
use crate::simd::{self, LANES, Stripe};
use crate::spread::RowWidths;

const LARGEST_MEAN: f32 = 127.0;

/// Means of each channel of each head: none where the backbone is another.
pub(crate) enum Means {
    /// `[planes, dim]`
    Wide(Box<[f16]>),
    /// Multiples of `steps` (`[planes]`): `[planes, dim]`.
    Small { steps: Box<[f16]>, multiples: Box<[i8]> },
}

impl Means {
    /// Rounds the means of one head, and leaves what they have become in `mean`.
    fn store(small: bool, mean: &mut [f32]) -> Self {
        if !small {
            let mut wide = vec![f16::ZERO; mean.len()];
            simd::narrow(mean, &mut wide);
            simd::widen(&wide, mean);
            return Self::Wide(wide.into());
        }
        let step = f16::from_f32(simd::largest_magnitude(mean) / LARGEST_MEAN);
        let wide = step.to_f32();
        let multiple =
            |x: f32| if wide > 0.0 { (x / wide).round_ties_even().clamp(-LARGEST_MEAN, LARGEST_MEAN) } else { 0.0 };
        let multiples = mean.iter().map(|&x| multiple(x) as i8).collect();
        mean.iter_mut().for_each(|x| *x = multiple(*x) * wide);
        Self::Small { steps: [step].into(), multiples }
    }

    /// Those of all heads.
    pub fn concat<'a>(parts: impl Iterator<Item = &'a Self> + Clone, small: bool) -> Self {
        let wide = parts.clone().filter_map(|part| match part {
            Self::Wide(means) => Some(&**means),
            Self::Small { .. } => None,
        });
        let narrow = parts.filter_map(|part| match part {
            Self::Wide(_) => None,
            Self::Small { steps, multiples } => Some((&**steps, &**multiples)),
        });
        if small {
            let (steps, multiples): (Vec<_>, Vec<_>) = narrow.unzip();
            Self::Small { steps: steps.concat().into(), multiples: multiples.concat().into() }
        } else {
            Self::Wide(wide.collect::<Vec<_>>().concat().into())
        }
    }

    /// None at all.
    pub fn none() -> Self {
        Self::Wide(Box::default())
    }

    pub fn byte_length(&self) -> usize {
        match self {
            Self::Wide(means) => size_of_val(&**means),
            Self::Small { steps, multiples } => size_of_val(&**steps) + multiples.len(),
        }
    }

    /// Steps where there are any, then means: little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Wide(means) => f16_bytes(means).into_owned(),
            Self::Small { steps, multiples } => [&*f16_bytes(steps), bytemuck::cast_slice(multiples)].concat(),
        }
    }

    /// What [`Self::bytes`] gave; `None` where the length does not fit or a number is not finite.
    pub fn from_bytes(small: bool, planes: usize, dim: usize, bytes: &[u8]) -> Option<Self> {
        if !small {
            return Some(Self::Wide(finite_f16(bytes, planes * dim)?.into()));
        }
        let (steps, multiples) = bytes.split_at_checked(2 * planes)?;
        let steps = finite_f16(steps, planes)?.into();
        (multiples.len() == planes * dim)
            .then(|| Self::Small { steps, multiples: bytemuck::cast_slice(multiples).into() })
    }

    /// Those of one plane.
    pub fn load(&self, plane: usize, out: &mut [f32]) {
        let range = plane * out.len()..(plane + 1) * out.len();
        match self {
            Self::Wide(means) => simd::widen(&means[range], out),
            Self::Small { steps, multiples } => {
                let step = steps[plane].to_f32();
                for (out, &multiple) in out.iter_mut().zip(&multiples[range]) {
                    *out = f32::from(multiple) * step;
                }
            }
        }
    }
}

/// Packed codes, scales and means of one head, `x` being `[tokens, dim]` with NaN at values that are left out. `packed` holds rows of
/// these widths.
pub(crate) fn encode_head(
    grouping: Grouping,
    x: &[f32],
    dim: usize,
    recipe: ScaleRecipe,
    widths: RowWidths,
    packed: &mut [u8],
) -> (Scales, Means) {
    let mut mean = channel_means(x, dim);
    let means = Means::store(recipe.small, &mut mean);
    let mut turned: Vec<f32> = Vec::with_capacity(x.len());
    for row in x.chunks_exact(dim) {
        turned.extend(row.iter().zip(&mean).map(|(&x, &mean)| if x.is_nan() { 0.0 } else { x - mean }));
    }
    simd::rotate_rows(&mut turned, dim);
    let channels = group_channels(grouping, dim);
    let scales = Scales::of_magnitudes(recipe, &fit_rows(&turned, dim, channels, widths));
    let mut codes = vec![0; dim];
    let mut scale = vec![0.0; dim];
    let mut packed = packed;
    let view = scales.view(recipe.bits, 0, 0..scales.len());
    for (t, row) in turned.chunks_exact(dim).enumerate() {
        let bits = widths.of(t);
        let (own, rest) = packed.split_at_mut(simd::row_bytes(dim, bits));
        scales_of_row(view, t, channels, &mut scale);
        simd::nearest_rows(row, bits, &scale, &mut codes);
        simd::pack_rows(&codes, dim, bits, own);
        packed = rest;
    }
    (scales, means)
}

/// Of each row, over what is not left out: its squared distance from the means of the channels.
pub(crate) fn variances(x: &[f32], dim: usize) -> Vec<f32> {
    let mean = channel_means(x, dim);
    let square = |(&x, &mean): (&f32, &f32)| if x.is_nan() { 0.0 } else { (x - mean) * (x - mean) };
    x.chunks_exact(dim).map(|row| row.iter().zip(&mean).map(square).sum()).collect()
}

/// Turned rows without their mean, as many as `out` (`[tokens, dim]`) holds. `packed` starts with those rows; widths are the whole
/// head's.
pub(crate) fn turned_rows(rows: CodeRows, packed: &[u8], widths: RowWidths, out: &mut [f32], room: &mut ScaleRoom) {
    let CodeRows { grouping, scales, first, dim } = rows;
    let channels = group_channels(grouping, dim);
    room.scale.resize(dim, 0.0);
    let mut packed = packed;
    for (t, out) in out.chunks_exact_mut(dim).enumerate() {
        let bits = widths.of(first + t);
        let (row, rest) = packed.split_at(simd::row_bytes(dim, bits));
        scales_of_row(scales, first + t, channels, &mut room.scale);
        simd::look_up_rows(row, bits, &room.scale, out);
        packed = rest;
    }
}

/// As [`turned_rows`], of codes of one byte each.
pub(crate) fn turned_codes(rows: CodeRows, codes: &[u8], widths: RowWidths, out: &mut [f32], room: &mut ScaleRoom) {
    let CodeRows { grouping, scales, first, dim } = rows;
    let channels = group_channels(grouping, dim);
    room.scale.resize(dim, 0.0);
    for (t, (out, codes)) in out.chunks_exact_mut(dim).zip(codes.chunks_exact(dim)).enumerate() {
        scales_of_row(scales, first + t, channels, &mut room.scale);
        simd::look_up_codes(codes, widths.of(first + t), &room.scale, out);
    }
}

/// What turned rows stand for.
pub(crate) fn turn_back(rows: &mut [f32], mean: &[f32]) {
    simd::rotate_rows(rows, mean.len());
    for row in rows.chunks_exact_mut(mean.len()) {
        row.iter_mut().zip(mean).for_each(|(x, mean)| *x += mean);
    }
}

fn group_channels(grouping: Grouping, dim: usize) -> usize {
    match grouping {
        Grouping::Token { channels } => channels,
        _ => dim,
    }
}

/// The scale of every channel of token `t`.
fn scales_of_row(scales: ScaleView, t: usize, channels: usize, out: &mut [f32]) {
    let groups = out.len().div_ceil(channels);
    for (g, out) in out.chunks_mut(channels).enumerate() {
        let mut scale = [0.0];
        scales.load_scales(t * groups + g, &mut scale);
        out.fill(scale[0]);
    }
}

/// Of each column, over what is not left out.
fn channel_means(x: &[f32], dim: usize) -> Vec<f32> {
    let (mut sums, mut counts) = (vec![0.0f32; dim], vec![0.0f32; dim]);
    for row in x.chunks_exact(dim) {
        for ((&x, sum), count) in row.iter().zip(&mut sums).zip(&mut counts) {
            let there = !x.is_nan();
            *sum += if there { x } else { 0.0 };
            *count += if there { 1.0 } else { 0.0 };
        }
    }
    sums.iter().zip(&counts).map(|(sum, &count)| if count > 0.0 { sum / count } else { 0.0 }).collect()
}

/// Scales of least squared error, `[token][group]`, of rows whose widths may differ.
fn fit_rows(turned: &[f32], dim: usize, channels: usize, widths: RowWidths) -> Vec<f32> {
    if let RowWidths::Even(bits) = widths {
        return fit_scales(turned, dim, channels, bits);
    }
    let (tokens, groups) = (turned.len() / dim, dim.div_ceil(channels));
    let mut scales = vec![0.0; tokens * groups];
    for bits in 1..=8 {
        let own: Vec<usize> = (0..tokens).filter(|&t| widths.of(t) == bits).collect();
        let rows: Vec<f32> = own.iter().flat_map(|&t| &turned[t * dim..(t + 1) * dim]).copied().collect();
        for (&t, fitted) in own.iter().zip(fit_scales(&rows, dim, channels, bits).chunks_exact(groups)) {
            scales[t * groups..(t + 1) * groups].copy_from_slice(fitted);
        }
    }
    scales
}

/// Scales of least squared error, `[token][group]`.
fn fit_scales(turned: &[f32], dim: usize, channels: usize, bits: u32) -> Vec<f32> {
    let groups = dim.div_ceil(channels);
    let mut scales = vec![0.0; turned.len() / dim * groups];
    let mut values: Vec<Stripe> = Vec::with_capacity(channels.min(dim));
    for (block, rows) in turned.chunks(LANES * dim).enumerate() {
        for g in 0..groups {
            let range = g * channels..dim.min((g + 1) * channels);
            values.clear();
            values.resize(range.len(), [0.0; LANES]);
            for (t, row) in rows.chunks_exact(dim).enumerate() {
                values.iter_mut().zip(&row[range.clone()]).for_each(|(stripe, &x)| stripe[t] = x);
            }
            let fitted = simd::fit_levels(&values, bits);
            for (t, scale) in fitted.iter().enumerate().take(rows.len() / dim) {
                scales[(block * LANES + t) * groups + g] = *scale;
            }
        }
    }
    scales
}
