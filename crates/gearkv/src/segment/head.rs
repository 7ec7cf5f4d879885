//! One head of a segment: codes and scales, then the low-rank of what is left.

use half::f16;

use crate::backbone::coupling::Metric;
use crate::backbone::rotated::{Means, RotatedCoder};
use crate::backbone::{ChannelCoder, Coder, Grouping, Scales, TokenCoder};
use crate::config::GearConfig;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::factors::{FactorLayout, Factors};
use crate::lowrank::{self, Pair};
use crate::shape::Role;
use crate::simd::{self, TILE};
use crate::spread::{RowWidths, Widths};

use super::SegmentLayout;
use super::encode::Rows;
use super::packer::Packer;
use super::source::Source;
use super::tiles::{HeadCodes, Tiling};

/// All that is known about a head beside its values.
pub(super) struct HeadPlan<'a> {
    pub plane: usize,
    /// Outliers: `token · dim + channel`.
    pub positions: &'a [u32],
    pub widths: &'a Widths,
    /// Scales that all heads share.
    pub shared: Option<&'a Scales>,
    /// Where power iteration starts.
    pub start: &'a [f32],
    /// `E[q qᵀ]`
    pub moments: Option<&'a [f32]>,
}

/// A head between its codes and its factors: how many ranks it gets may depend on the other heads.
pub(super) struct QuantizedHead {
    pub scales: Scales,
    pub means: Means,
    /// As many ranks as the head can get.
    pair: Pair,
    /// What each rank takes away.
    pub gains: Vec<f32>,
    /// What stood where outliers are, and what codes leave of it, in the order of the head's positions.
    kept: Vec<f32>,
    left: Vec<f32>,
}

impl HeadPlan<'_> {
    /// Codes into `codes`, and what else there is of the backbone.
    pub fn quantize(
        &self,
        rows: &dyn Rows,
        layout: &SegmentLayout,
        config: &GearConfig,
        codes: &mut [u8],
        cancel: Cancel,
    ) -> Result<QuantizedHead> {
        check(cancel)?;
        let &SegmentLayout { tokens, dim, .. } = layout;
        let has_rank = layout.rank > 0;
        let mut source = Source::new(rows, self.plane, tokens, dim, has_rank || !self.positions.is_empty());
        let kept = source.leave_out(self.positions);
        let head = HeadCodes::of(layout, self.widths, self.plane);
        let packer = Packer::new(head, dim, tokens, Tiling::of(layout, self.widths), codes);
        let (scales, means) = if layout.rotated {
            self.rotated(&mut source, &kept, layout, packer)
        } else {
            let mut coder = self.coder(layout);
            self.affine(&mut source, &kept, &mut *coder, packer);
            (coder.finish(), Means::none())
        };
        check(cancel)?;
        let (mut pair, mut gains, mut left) = Default::default();
        if source.is_whole() {
            let x = source.all();
            left = self.positions.iter().map(|&p| std::mem::replace(&mut x[p as usize], 0.0)).collect();
            if has_rank {
                (pair, gains) = self.approximate(x, layout, config);
            }
        }
        Ok(QuantizedHead { scales, means, pair, gains, kept, left })
    }

    fn coder<'b>(&'b self, layout: &SegmentLayout) -> Box<dyn Coder + 'b> {
        let &SegmentLayout { tokens, dim, scales: recipe, .. } = layout;
        match (layout.grouping, self.shared) {
            (Grouping::Channel { tokens: group }, _) => {
                let widths = match self.widths {
                    Widths::Channels(widths) => Some((&**widths, self.plane)),
                    _ => None,
                };
                // An outlier is no error that others could make good.
                let moments = self.moments.filter(|_| self.positions.is_empty());
                Box::new(ChannelCoder::new(recipe, (tokens, dim), group, widths, moments))
            }
            (_, Some(shared)) => Box::new(TokenCoder::with(recipe, shared, dim)),
            (Grouping::Token { channels }, None) => Box::new(TokenCoder::new(recipe, (tokens, dim), channels)),
            (Grouping::TokenAllHeads, None) => Box::new(TokenCoder::new(recipe, (tokens, dim), dim)),
        }
    }

    /// Where all rows are in memory they become what codes leave of them.
    fn affine(&self, source: &mut Source, kept: &[f32], coder: &mut dyn Coder, mut packer: Packer) {
        let count = coder.block_tokens();
        if coder.looks() {
            source.blocks(count).for_each(|(first, count)| coder.look(source.block(first, count)));
            coder.decide();
        }
        let whole = source.is_whole();
        if whole {
            source.blocks(count).for_each(|(first, count)| coder.scale(first, source.block(first, count)));
            source.restore(self.positions, kept);
        }
        let mut codes = Vec::new();
        for (first, count) in source.blocks(count) {
            let rows = source.block(first, count);
            codes.resize(rows.len(), 0);
            if whole {
                coder.code(first, rows, true, &mut codes);
            } else {
                coder.scale_and_code(first, rows, &mut codes);
            }
            codes.chunks(TILE * rows.len() / count).for_each(|codes| packer.put(codes));
        }
    }

    fn rotated(
        &self,
        source: &mut Source,
        kept: &[f32],
        layout: &SegmentLayout,
        mut packer: Packer,
    ) -> (Scales, Means) {
        let &SegmentLayout { tokens, dim, scales: recipe, .. } = layout;
        let widths = match self.widths {
            Widths::Tokens(widths) => widths.rows(self.plane),
            _ => RowWidths::Even(recipe.bits),
        };
        let mut coder = RotatedCoder::new(layout.grouping, recipe, (tokens, dim), widths);
        source.blocks(TILE).for_each(|(first, count)| coder.look(source.block(first, count)));
        coder.decide_means();
        source.blocks(TILE).for_each(|(first, count)| coder.scale(first, source.block(first, count)));
        coder.decide_scales();
        let mut codes = vec![0; TILE * dim];
        // Outliers count as their channel's mean here, and what that leaves is theirs to carry.
        let mut outliers: Vec<(usize, f32)> =
            self.positions.iter().map(|&p| p as usize).zip(kept.iter().copied()).collect();
        outliers.sort_unstable_by_key(|&(position, _)| position);
        let mut outliers = &outliers[..];
        for (first, count) in source.blocks(TILE) {
            let (codes, rows) = (&mut codes[..count * dim], source.block(first, count));
            coder.code(first, rows, codes);
            packer.put(codes);
            if source.is_whole() {
                let rows = source.block(first, count);
                let own = outliers.partition_point(|&(position, _)| position < (first + count) * dim);
                outliers[..own].iter().for_each(|&(position, value)| rows[position - first * dim] = value);
                outliers = &outliers[own..];
                coder.subtract(first, codes, rows);
            }
        }
        coder.finish()
    }

    /// The low-rank part of what is left, as its queries see it where they are known; and what each of its ranks takes away.
    fn approximate(&self, x: &[f32], layout: &SegmentLayout, config: &GearConfig) -> (Pair, Vec<f32>) {
        let passes = config.power_iterations as usize;
        let moments = if layout.role == Role::Key { self.moments } else { None };
        match moments.and_then(|moments| Metric::new(moments, layout.dim)) {
            Some(metric) => {
                let mut pair = lowrank::power_iteration(&metric.apply(x), layout.dim, self.start, passes);
                let gains = pair.squares(layout.dim);
                metric.restore(&mut pair.b);
                (pair, gains)
            }
            None => {
                let pair = lowrank::power_iteration(x, layout.dim, self.start, passes);
                let gains = pair.squares(layout.dim);
                (pair, gains)
            }
        }
    }
}

impl QuantizedHead {
    /// Rounds the first `rank` ranks, and the outliers (at `positions`) to what codes and these leave of them.
    pub fn finish(&mut self, positions: &[u32], layout: &SegmentLayout, rank: usize) -> Result<(Factors, Vec<f16>)> {
        let &SegmentLayout { tokens, dim, .. } = layout;
        let Self { pair, left, kept, .. } = self;
        pair.a.truncate(rank * tokens);
        pair.b.truncate(rank * dim);
        let factors = Factors::store(&FactorLayout { rows: rank, ..layout.factors() }, pair);
        for (left, &p) in left.iter_mut().zip(positions) {
            let (t, d) = (p as usize / dim, p as usize % dim);
            for r in 0..rank {
                *left -= pair.a[r * tokens + t] * pair.b[r * dim + d];
            }
        }
        if let Some(at) = left.iter().position(|x| x.abs() > f32::from(f16::MAX)) {
            return Err(GearError::new(
                ErrorCode::OutOfRange,
                format!(
                    "an outlier near {} cannot be held: the values beside it span more than float16 does; use preset \"float32\"",
                    kept[at]
                ),
            ));
        }
        let mut outlier_values = vec![f16::ZERO; left.len()];
        simd::narrow(left, &mut outlier_values);
        Ok((factors, outlier_values))
    }
}
