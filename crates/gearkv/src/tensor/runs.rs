//! Runs of tokens: on their way into a tensor, and in it.

use crate::need::Need;
use crate::raw::RawTokens;
use crate::shape::{KvShape, KvSlice};

use super::SegmentView;

/// Where tokens that become a segment come from, and what is known about them.
#[derive(Clone, Copy)]
pub(super) struct Run<'a> {
    /// As many as fill the buffer, rather than a prompt.
    pub from_buffer: bool,
    /// The segment before, when the tensor does not have it yet.
    pub before: Option<&'a SegmentView>,
    pub need: Option<Need<'a>>,
}

impl<'a> Run<'a> {
    pub fn prompt() -> Self {
        Self { from_buffer: false, before: None, need: None }
    }

    pub fn buffer(before: Option<&'a SegmentView>) -> Self {
        Self { from_buffer: true, before, need: None }
    }
}

/// An append that can no longer fail.
pub(crate) struct PreparedAppend<'a> {
    pub(super) input: KvSlice<'a>,
    pub(super) mended: Option<Vec<f32>>,
    pub(super) shape: KvShape,
    /// Tokens that go to the sinks, from the first on.
    pub(super) sinks: usize,
    pub(super) segments: Vec<SegmentView>,
    /// Whether what waits in the buffer stays there (it is in `segments` otherwise).
    pub(super) keeps_buffer: bool,
    /// Tokens from here on wait in the buffer.
    pub(super) buffered_from: usize,
}

impl PreparedAppend<'_> {
    pub(super) fn input(&self) -> KvSlice<'_> {
        self.mended.as_deref().map_or(self.input, KvSlice::F32)
    }
}

/// A run of tokens of one kind.
#[derive(Clone, Copy)]
pub(crate) enum Piece<'a> {
    Raw(&'a RawTokens),
    Segment(&'a SegmentView),
}

impl Piece<'_> {
    /// The first token that counts: of a segment that may be behind its first.
    pub fn first(&self) -> usize {
        match self {
            Self::Raw(_) => 0,
            Self::Segment(view) => view.hidden(),
        }
    }

    pub fn tokens(&self) -> usize {
        match self {
            Self::Raw(raw) => raw.tokens(),
            Self::Segment(view) => view.visible(),
        }
    }
}
