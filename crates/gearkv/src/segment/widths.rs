//! The widths of a segment's codes: dealt out by what the segment holds and by what attention needs.

use std::sync::Arc;

use crate::backbone::Grouping;
use crate::backbone::rotated::ColumnMeans;
use crate::need::{LEAST_WEIGHT, Need};
use crate::simd::{self, TILE};
use crate::spread::{ChannelWidths, TokenWidths, Widths};

use super::SegmentLayout;
use super::source::Source;

/// Widths of one batch item.
pub(super) enum ItemWidths {
    Even,
    Channels(ChannelWidths),
    Tokens(TokenWidths),
}

impl ItemWidths {
    /// What each channel or token of a head weighs, whose values that are left out are NaN.
    pub fn weights(source: &mut Source, plane: usize, layout: &SegmentLayout, need: Option<Need>) -> Vec<f64> {
        let &SegmentLayout { heads, tokens, dim, mean_bits, .. } = layout;
        if !layout.rotated {
            return channel_weights(source, layout, need.map(|need| need.moments(plane)));
        }
        if need.is_none() && !TokenWidths::weights_matter(heads * tokens, mean_bits) {
            return vec![0.0; tokens];
        }
        row_weights(source, dim, need.map(|need| need.weights(plane, tokens)))
    }

    /// Widths by the weights of all heads. Where no queries are known (`blind`), tokens' widths differ by no more than one step.
    pub fn deal(weights: &[f64], layout: &SegmentLayout, blind: bool) -> Self {
        let &SegmentLayout { tokens, dim, mean_bits, .. } = layout;
        if layout.rotated {
            Self::Tokens(TokenWidths::dealt(weights, tokens, dim, mean_bits, blind))
        } else {
            Self::Channels(ChannelWidths::dealt(weights, dim, mean_bits))
        }
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
        if let [_, _, ..] = tokens[..] {
            tokens = vec![TokenWidths::concat(&tokens, layout.tokens, layout.dim, layout.mean_bits)];
        }
        match (tokens.pop(), channels.pop()) {
            (Some(tokens), _) => Widths::Tokens(Arc::new(tokens)),
            (None, Some(only)) if channels.is_empty() => Widths::Channels(Arc::new(only)),
            (None, last) => {
                channels.extend(last);
                Widths::Channels(Arc::new(ChannelWidths::concat(&channels, layout.dim)))
            }
        }
    }
}

/// Of each channel: the mean square of its groups' ranges, times the mean square of the queries there. Where queries are not known,
/// the keys stand for them: what a model's keys have much of in a channel its queries look for.
fn channel_weights(source: &mut Source, layout: &SegmentLayout, moments: Option<&[f32]>) -> Vec<f64> {
    let (dim, group) = (layout.dim, layout.group_tokens());
    debug_assert!(matches!(layout.grouping, Grouping::Channel { .. }));
    let (mut weights, mut squares) = (vec![0.0f64; dim], vec![0.0f64; dim]);
    let (mut min, mut max) = (vec![0.0; dim], vec![0.0; dim]);
    for (first, count) in source.blocks(group) {
        let rows = source.block(first, count);
        simd::column_range(rows, &mut min, &mut max);
        for ((weight, lo), hi) in weights.iter_mut().zip(&min).zip(&max) {
            // A group without values has no range.
            let range = if hi > lo { f64::from(hi - lo) } else { 0.0 };
            *weight += range * range;
        }
        if moments.is_none() {
            simd::add_column_squares(rows, &mut squares);
        }
    }
    if let Some(moments) = moments {
        for (channel, square) in squares.iter_mut().enumerate() {
            *square = f64::from(moments[channel * dim + channel]).max(0.0);
        }
    }
    weights.iter_mut().zip(&squares).for_each(|(weight, square)| *weight *= square);
    weights
}

/// Of each token: its variance, times the square root of the share of the squared weights that queries gave it. The root, because
/// what these queries look at is only a hint of what later ones will.
fn row_weights(source: &mut Source, dim: usize, weights: Option<&[f32]>) -> Vec<f64> {
    let mut columns = ColumnMeans::new(dim);
    source.blocks(TILE).for_each(|(first, count)| columns.add(source.block(first, count)));
    let mean = columns.means();
    let mut variances = Vec::new();
    for (first, count) in source.blocks(TILE) {
        let mut squares = [0.0; TILE];
        simd::row_variances(source.block(first, count), &mean, &mut squares[..count]);
        variances.extend(squares[..count].iter().map(|&square| f64::from(square)));
    }
    let Some(weights) = weights else { return variances };
    let mean = weights.iter().map(|&w| f64::from(w)).sum::<f64>() / weights.len().max(1) as f64;
    let share = |&w: &f32| if mean > 0.0 { f64::from(w) / mean } else { 1.0 };
    variances.into_iter().zip(weights).map(|(variance, w)| variance * (share(w) + LEAST_WEIGHT).sqrt()).collect()
}
