//! `D̂ = dequant(quant_b(X − S))`: asymmetric min/max codes in groups (paper, section 3, "quantization backbone").
//!
//! With range `minmax`, for one group, `scale = (max − min) / (2^b − 1)` and `zero = min`, both rounded *before* the codes are taken,
//! so that the decoder uses exactly what the encoder used: `code = clamp(round((x − zero) / scale))`,
//! `x̂ = code · scale + zero`. The schemes differ only in which values form a group.

pub(crate) mod banded;
mod channels;
pub(crate) mod coupling;
mod fit;
mod groups;
mod kcvt;
mod kivi;
pub(crate) mod rotated;
mod scales;
mod uniform;

pub(crate) use channels::ChannelCoder;
pub(crate) use groups::{CodeRows, ScaleRoom, TokenCoder, dequantize, item_scales};
pub(crate) use scales::{ScaleRecipe, ScaleView, Scales, zero_unit};

use crate::config::Backbone;
use crate::shape::Role;

/// Finds the scales and the codes of one head, block after block of its tokens (`[tokens, dim]`). Where values are left out of ranges they are
/// NaN, until codes are taken.
pub(crate) trait Coder {
    /// Tokens of a block; the last one may have fewer.
    fn block_tokens(&self) -> usize;
    /// Whether it has to have looked at all blocks before it finds scales.
    fn looks(&self) -> bool;
    /// Looks at the next block.
    fn look(&mut self, rows: &[f32]);
    /// It has looked at all blocks.
    fn decide(&mut self);
    /// Scales of the block that begins at token `first`; blocks come in order. Leaves the rows as they are.
    fn scale(&mut self, first: usize, rows: &mut [f32]);
    /// Codes, one byte each, of a block whose scales were found. With `residual`, rows become what codes leave of them.
    fn code(&mut self, first: usize, rows: &mut [f32], residual: bool, codes: &mut [u8]);
    /// Both at once.
    fn scale_and_code(&mut self, first: usize, rows: &mut [f32], codes: &mut [u8]) {
        self.scale(first, rows);
        self.code(first, rows, false, codes);
    }
    /// The scales of the head; none where heads share them.
    fn finish(self: Box<Self>) -> Scales;
}

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
