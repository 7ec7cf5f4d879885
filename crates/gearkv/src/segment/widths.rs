//! The widths of a segment's codes: dealt out by what the segment holds and by what attention needs.

use std::sync::Arc;

use crate::backbone::{Grouping, rotated};
use crate::need::{LEAST_WEIGHT, Need};
use crate::simd;
use crate::spread::{ChannelWidths, TokenWidths, Widths};

use super::SegmentLayout;

/// Widths of one batch item, whose heads are `planes` (`[tokens, dim]`, NaN at values that are left out).
pub(super) enum ItemWidths {
    Even,
    Channels(ChannelWidths),
    Tokens(TokenWidths),
}

impl ItemWidths {
    pub fn deal(planes: &[Vec<f32>], item: usize, layout: &SegmentLayout, need: Option<Need>) -> Self {
        let &SegmentLayout { heads, tokens, dim, mean_bits, .. } = layout;
        if mean_bits == 0.0 {
            return Self::Even;
        }
        if layout.rotated {
            let weights = planes
                .iter()
                .enumerate()
                .flat_map(|(head, x)| row_weights(x, dim, need.map(|need| need.weights(item * heads + head, tokens))));
            let weights: Vec<f64> = weights.collect();
            return Self::Tokens(TokenWidths::dealt(&weights, tokens, dim, mean_bits, need.is_none()));
        }
        let weights = planes
            .iter()
            .enumerate()
            .flat_map(|(head, x)| channel_weights(x, layout, need.map(|need| need.moments(item * heads + head))));
        Self::Channels(ChannelWidths::dealt(&weights.collect::<Vec<_>>(), dim, mean_bits))
    }

    /// Those of all items.
    pub fn join(items: Vec<Self>, layout: &SegmentLayout) -> Widths {
        let (mut channels, mut tokens) = (Vec::new(), Vec::new());
        for item in items {
            match item {
                Self::Even => return Widths::Even,
                Self::Channels(widths) => channels.push(widths),
                Self::Tokens(widths) => tokens.push(widths),
            }
        }
        if tokens.is_empty() {
            Widths::Channels(Arc::new(ChannelWidths::concat(&channels, layout.dim)))
        } else {
            Widths::Tokens(Arc::new(TokenWidths::concat(&tokens, layout.tokens, layout.dim, layout.mean_bits)))
        }
    }
}

/// Of each channel: the mean square of its groups' ranges, times the mean square of the queries there. Where queries are not known,
/// the keys stand for them: what a model's keys have much of in a channel its queries look for.
fn channel_weights(x: &[f32], layout: &SegmentLayout, moments: Option<&[f32]>) -> Vec<f64> {
    let (dim, group) = (layout.dim, layout.group_tokens());
    debug_assert!(matches!(layout.grouping, Grouping::Channel { .. }));
    let mut weights = vec![0.0f64; dim];
    let (mut min, mut max) = (vec![0.0; dim], vec![0.0; dim]);
    for rows in x.chunks(group * dim) {
        simd::column_range(rows, &mut min, &mut max);
        for ((weight, lo), hi) in weights.iter_mut().zip(&min).zip(&max) {
            // A group without values has no range.
            let range = if hi > lo { f64::from(hi - lo) } else { 0.0 };
            *weight += range * range;
        }
    }
    match moments {
        Some(moments) => {
            for (channel, weight) in weights.iter_mut().enumerate() {
                *weight *= f64::from(moments[channel * dim + channel]).max(0.0);
            }
        }
        None => {
            let mut squares = vec![0.0f64; dim];
            for row in x.chunks_exact(dim) {
                for (sum, &x) in squares.iter_mut().zip(row) {
                    *sum += if x.is_nan() { 0.0 } else { f64::from(x) * f64::from(x) };
                }
            }
            weights.iter_mut().zip(&squares).for_each(|(weight, square)| *weight *= square);
        }
    }
    weights
}

/// Of each token: its variance, times the square root of the share of the squared weights that queries gave it. The root, because
/// what these queries look at is only a hint of what later ones will.
fn row_weights(x: &[f32], dim: usize, weights: Option<&[f32]>) -> Vec<f64> {
    let variances = rotated::variances(x, dim).into_iter().map(f64::from);
    let Some(weights) = weights else { return variances.collect() };
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len().max(1) as f64;
    let share = |&w: &f32| if mean > 0.0 { f64::from(w) / mean } else { 1.0 };
    variances.zip(weights).map(|(variance, w)| variance * (share(w) + LEAST_WEIGHT).sqrt()).collect()
}
