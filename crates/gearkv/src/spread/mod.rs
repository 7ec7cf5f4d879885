//! Bits where they count: codes of one segment that differ in width (`meanBits`).
//!
//! What a bit more is worth differs by orders of magnitude. Keys: a channel that is wide and that queries look at has most of
//! the error of a logit, one that is narrow or overlooked next to none. Values: most of the output comes from few tokens. So
//! the same number of bits is dealt out again, to channels of keys and to tokens of values, each bit where it takes most of
//! the error away. All heads of a batch item share one stock of bits, so that heads differ, too.

mod allocation;
mod channels;
mod tokens;

pub(crate) use channels::{Band, ChannelWidths, MAX_CHANNELS};
pub(crate) use tokens::{RowWidths, TokenWidths};

use std::sync::Arc;

/// What [`ChannelWidths`] or [`TokenWidths`] takes beside its arrays, and a number of theirs, where addresses have 64 bits: sizes are the
/// same on every machine.
const HEADER_BYTES: usize = 72;
const NUMBER_BYTES: usize = 8;
const _: () = assert!(size_of::<ChannelWidths>() <= HEADER_BYTES && size_of::<TokenWidths>() <= HEADER_BYTES);
const _: () = assert!(size_of::<usize>() <= NUMBER_BYTES);

/// How wide the codes of a segment are.
#[derive(Clone)]
pub(crate) enum Widths {
    /// As wide as the configuration says.
    Even,
    /// Keys. Segments from the buffer have those of the segment before them.
    Channels(Arc<ChannelWidths>),
    Tokens(Arc<TokenWidths>),
}

impl Widths {
    /// What it takes in memory, shared or not.
    pub fn byte_length(&self) -> usize {
        match self {
            Self::Even => 0,
            Self::Channels(widths) => widths.byte_length(),
            Self::Tokens(widths) => widths.byte_length(),
        }
    }

    /// Asks for what says where the codes of values lie: of keys' widths there are few, and they stay in the caches.
    pub fn prefetch(&self) {
        if let Self::Tokens(widths) = self {
            widths.prefetch();
        }
    }

    /// Those of some batch items, of `heads` heads each.
    pub fn picked(&self, items: &[u32], heads: usize) -> Self {
        match self {
            Self::Channels(widths) => Self::Channels(Arc::new(widths.picked(items, heads))),
            // No segment has those of another.
            Self::Even | Self::Tokens(_) => Self::Even,
        }
    }

    /// Whether both are the same memory.
    pub fn shares(&self, other: &Self) -> bool {
        match (self, other) {
            (Self::Channels(a), Self::Channels(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// As they are saved.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Even => Vec::new(),
            Self::Channels(widths) => widths.bytes(),
            Self::Tokens(widths) => widths.bytes().to_vec(),
        }
    }

    /// Bytes of all codes of a segment; with even widths, `even`.
    pub fn code_bytes(&self, tokens: usize, even: usize) -> usize {
        match self {
            Self::Even => even,
            Self::Channels(widths) => tokens * widths.row_bytes_before(widths.planes()),
            Self::Tokens(widths) => widths.code_bytes(),
        }
    }
}
