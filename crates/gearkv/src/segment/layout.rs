//! How long each array of a segment is: a function of the configuration and the shape, and of nothing else.

use crate::backbone::{Grouping, ScaleRecipe};
use crate::config::{Backbone, GearConfig};
use crate::factors::FactorLayout;
use crate::lowrank;
use crate::ranks;
use crate::shape::Role;
use crate::simd::{self, IndexWidth};

/// Shape and parameters of one segment.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct SegmentLayout {
    pub role: Role,
    pub batch: usize,
    pub heads: usize,
    pub tokens: usize,
    pub dim: usize,
    pub scales: ScaleRecipe,
    pub grouping: Grouping,
    /// Whether codes stand for turned rows without their mean.
    pub rotated: bool,
    /// Bits of a code on the average where codes differ in width (`spread`); 0 where they do not.
    pub mean_bits: f64,
    /// Ranks of the low-rank part that a head has on the average.
    pub rank: usize,
    /// Whether heads have their ranks by need.
    pub rank_by_need: bool,
    pub factor_bits: u8,
    /// Outliers of a line: twice the number on each side.
    pub per_line: u32,
}

impl SegmentLayout {
    pub fn new(
        config: &GearConfig,
        role: Role,
        batch: usize,
        heads: usize,
        tokens: usize,
        dim: usize,
        rank: usize,
    ) -> Self {
        let line = match role {
            Role::Key => tokens,
            Role::Value => heads * dim,
        };
        let share = lowrank::usable_rank(rank, tokens, dim);
        Self {
            role,
            batch,
            heads,
            tokens,
            dim,
            scales: ScaleRecipe::of(config),
            grouping: Grouping::of(config.backbone, role, config.group_size as usize, tokens),
            rotated: config.backbone == Backbone::Rotated,
            mean_bits: config.mean_bits,
            rank: share,
            rank_by_need: config.rank_by_need && ranks::can_differ(share),
            factor_bits: config.factor_bits as u8,
            per_line: 2 * config.outliers_per_side(line) as u32,
        }
    }

    pub fn planes(&self) -> usize {
        self.batch * self.heads
    }

    /// Of a token's codes in one plane, where all are of one width.
    pub fn row_bytes(&self) -> usize {
        simd::row_bytes(self.dim, self.scales.bits)
    }

    /// Tokens that share a scale, where channels have their own.
    pub fn group_tokens(&self) -> usize {
        match self.grouping {
            Grouping::Channel { tokens } => tokens,
            _ => self.tokens.max(1),
        }
    }

    /// Where all codes are of one width.
    pub fn head_code_bytes(&self) -> usize {
        self.tokens * self.row_bytes()
    }

    /// Where all codes are of one width.
    pub fn code_bytes(&self) -> usize {
        self.planes() * self.head_code_bytes()
    }

    pub fn scales_per_item(&self) -> usize {
        self.grouping.scales_per_item(self.heads, self.tokens, self.dim)
    }

    /// Where head `h` of one item finds its scales among the item's.
    pub fn head_scale_range(&self, h: usize) -> std::ops::Range<usize> {
        match self.grouping {
            Grouping::TokenAllHeads => 0..self.tokens,
            _ => {
                let n = self.grouping.scales_per_head(self.tokens, self.dim);
                h * n..(h + 1) * n
            }
        }
    }

    /// Outliers of a line.
    pub fn per_line(&self) -> usize {
        self.per_line as usize
    }

    /// All scales of the segment.
    pub fn scale_count(&self) -> usize {
        self.batch * self.scales_per_item()
    }

    /// All zeros of the segment.
    pub fn zero_count(&self) -> usize {
        if self.rotated { 0 } else { self.scale_count() }
    }

    /// Heads, or batch items where heads share their scales: each has a super-scale, where there are any.
    pub fn scale_sets(&self) -> usize {
        match self.grouping {
            Grouping::TokenAllHeads => self.batch,
            _ => self.planes(),
        }
    }

    pub fn factors(&self) -> FactorLayout {
        let &Self { rank, tokens, dim, factor_bits, .. } = self;
        FactorLayout { rows: self.planes() * rank, tokens, dim, bits: u32::from(factor_bits) }
    }

    /// The largest rank a head can have.
    pub fn most_rank(&self) -> usize {
        if self.rank_by_need {
            ranks::most(self.rank, lowrank::usable_rank(usize::MAX, self.tokens, self.dim))
        } else {
            self.rank
        }
    }

    /// Lines of one batch item.
    pub fn lines_per_item(&self) -> usize {
        match self.role {
            Role::Key => self.heads * self.dim,
            Role::Value => self.tokens,
        }
    }

    /// Values of a line: what an outlier's index is smaller than.
    pub fn line_length(&self) -> usize {
        match self.role {
            Role::Key => self.tokens,
            Role::Value => self.heads * self.dim,
        }
    }

    pub fn outliers(&self) -> usize {
        self.batch * self.lines_per_item() * self.per_line()
    }

    pub fn index_width(&self) -> IndexWidth {
        IndexWidth::for_line(self.line_length())
    }
}
