//! `D̂ = dequant(quant_b(X − S))`: asymmetric min/max codes in groups (paper, section 3, "quantization backbone").
//!
//! With range `minmax`, for one group, `scale = (max − min) / (2^b − 1)` and `zero = min`, both rounded *before* the codes are taken,
//! so that the decoder uses exactly what the encoder used: `code = clamp(round((x − zero) / scale))`,
//! `x̂ = code · scale + zero`. The schemes differ only in which values form a group.

pub(crate) mod banded;
pub(crate) mod coupling;
mod fit;
mod groups;
mod kcvt;
mod kivi;
pub(crate) mod rotated;
mod scales;
mod uniform;

pub(crate) use groups::{CodeRows, ScaleRoom, dequantize, exclude_from_range, head_scales, item_scales, quantize_head};
pub(crate) use scales::{ScaleRecipe, ScaleView, Scales, zero_unit};

use crate::config::Backbone;
use crate::shape::Role;

/// Which values of one segment share a scale.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Grouping {
    /// `tokens` consecutive tokens of one channel. The last group may be shorter.
    Channel { tokens: usize },
    /// `channels` consecutive channels of one token and head. The last group may be shorter.
    Token { channels: usize },
    /// All heads and channels of one token.
    TokenAllHeads,
}

impl Grouping {
    pub(crate) fn of(backbone: Backbone, role: Role, group_size: usize, segment_tokens: usize) -> Self {
        match backbone {
            Backbone::Uniform => uniform::grouping(group_size),
            Backbone::Kcvt => kcvt::grouping(role, segment_tokens),
            Backbone::Kivi => kivi::grouping(role, group_size),
            Backbone::Rotated => Self::Token { channels: group_size },
        }
    }

    /// Scales of one batch item's segment (as many zeros come with them).
    pub(crate) fn scales_per_item(self, heads: usize, tokens: usize, dim: usize) -> usize {
        match self {
            Self::TokenAllHeads => tokens,
            _ => heads * self.scales_per_head(tokens, dim),
        }
    }

    /// Scales of one head's segment; 0 where heads share them.
    pub(crate) fn scales_per_head(self, tokens: usize, dim: usize) -> usize {
        match self {
            Self::Channel { tokens: group } => tokens.div_ceil(group) * dim,
            Self::Token { channels } => tokens * dim.div_ceil(channels),
            Self::TokenAllHeads => 0,
        }
    }
}
