//! One run of tokens as `D̂ + L + S`. What a segment holds never changes; a tensor may show fewer of its tokens.

mod decode;
mod encode;
mod head;
mod layout;
mod operands;
mod packer;
mod source;
mod tail;
mod tiles;
mod widths;

use half::f16;

use crate::backbone::Scales;
use crate::backbone::rotated::Means;
use crate::factors::Factors;
use crate::ranks::Ranks;
use crate::spread::Widths;

pub(crate) use decode::{BlockScratch, KeyCursor};
pub(crate) use encode::{Guidance, Rows, encode};
pub(crate) use layout::SegmentLayout;
pub(crate) use operands::{KeyPlan, Run, ValuePlan};
use tiles::Tiling;
pub(crate) use tiles::held;

/// What one segment keeps beside its arrays, on every target. Asserted below.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 352;

/// One compressed run of tokens of all heads and batch items.
pub(crate) struct Segment {
    pub layout: SegmentLayout,
    /// `[batch, heads]`, of each its tiles and rows (`tiles`).
    pub codes: Box<[u8]>,
    tiling: Tiling,
    pub widths: Widths,
    /// Per batch item; within it see [`Scales`].
    pub scales: Scales,
    /// None where the backbone is not `rotated`.
    pub means: Means,
    pub ranks: Ranks,
    pub factors: Factors,
    /// K: `[batch, heads, head_dim, per_line]` token indices. V: `[batch, tokens, per_line]` indices `head · head_dim + channel`.
    pub outlier_indices: Box<[u8]>,
    /// As `outlier_indices`.
    pub outlier_values: Box<[f16]>,
}

/// The two reference counts in front of what an `Arc` holds.
const ARC_COUNTS: usize = 2 * size_of::<usize>();
const _: () =
    assert!(size_of::<Segment>() + ARC_COUNTS + size_of::<crate::tensor::SegmentView>() <= SEGMENT_HEADER_BYTES);

/// What a segment consists of.
pub(crate) struct SegmentParts {
    pub layout: SegmentLayout,
    /// As they are held (`tiles`).
    pub codes: Box<[u8]>,
    pub widths: Widths,
    pub scales: Scales,
    pub means: Means,
    pub ranks: Ranks,
    pub factors: Factors,
    pub outlier_indices: Box<[u8]>,
    pub outlier_values: Box<[f16]>,
}

impl Segment {
    /// The segment of these parts.
    pub fn new(parts: SegmentParts) -> Self {
        let SegmentParts { layout, codes, widths, scales, means, ranks, factors, outlier_indices, outlier_values } =
            parts;
        let tiling = Tiling::of(&layout, &widths);
        Self { layout, codes, tiling, widths, scales, means, ranks, factors, outlier_indices, outlier_values }
    }

    /// Tokens that were compressed together.
    pub fn tokens(&self) -> usize {
        self.layout.tokens
    }

    /// Bytes of the low-rank part.
    pub fn low_rank_bytes(&self) -> usize {
        self.ranks.byte_length() + self.factors.byte_length()
    }

    /// Bytes of all its arrays, widths included.
    pub fn byte_length(&self) -> usize {
        let backbone =
            self.codes.len() + self.widths.byte_length() + self.scales.byte_length() + self.means.byte_length();
        backbone + self.low_rank_bytes() + self.outlier_indices.len() + size_of_val(&*self.outlier_values)
    }
}
