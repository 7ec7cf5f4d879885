//! One run of tokens as `D̂ + L + S`. What a segment holds never changes; a tensor may show fewer of its tokens.

mod decode;
mod encode;
mod layout;
mod sparse;
mod widths;

use half::f16;

use crate::backbone::Scales;
use crate::backbone::rotated::Means;
use crate::factors::Factors;
use crate::spread::Widths;

pub(crate) use decode::{BlockScratch, KeyCursor};
pub(crate) use encode::{Guidance, Rows, encode};
pub(crate) use layout::SegmentLayout;

/// What one segment keeps beside its arrays, on every target. Asserted below.
pub(crate) const SEGMENT_HEADER_BYTES: usize = 352;

/// One compressed run of tokens of all heads and batch items.
pub(crate) struct Segment {
    pub layout: SegmentLayout,
    /// `[batch, heads, tokens, row_bytes]`; where widths differ see there.
    pub codes: Box<[u8]>,
    pub widths: Widths,
    /// Per batch item; within it see [`Scales`].
    pub scales: Scales,
    /// None where the backbone is not `rotated`.
    pub means: Means,
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

impl Segment {
    /// Tokens that were compressed together.
    pub fn tokens(&self) -> usize {
        self.layout.tokens
    }

    /// Bytes of all its arrays, widths included.
    pub fn byte_length(&self) -> usize {
        let backbone =
            self.codes.len() + self.widths.byte_length() + self.scales.byte_length() + self.means.byte_length();
        backbone + self.factors.byte_length() + self.outlier_indices.len() + size_of_val(&*self.outlier_values)
    }
}
