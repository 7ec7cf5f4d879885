//! One K or V tensor: sinks, then segments, then the buffer, in token order.

mod choice;
mod decompress;
mod hold;
mod parts;
mod reorder;
mod runs;
mod shift;
mod view;

pub use parts::Parts;
use runs::Run;
pub(crate) use runs::{Piece, PreparedAppend};
pub(crate) use view::SegmentView;

use std::sync::Arc;

use crate::config::{GearConfig, MAX_SEGMENT_TOKENS, Storage};
use crate::error::{Cancel, GearError, Result};
use crate::input::{self, InputRows};
use crate::raw::RawTokens;
use crate::segment::{self, Guidance, Rows, SEGMENT_HEADER_BYTES, SegmentLayout};
use crate::shape::{KvShape, KvSlice, Role};
use crate::spread::{MAX_CHANNELS, Widths};

/// What a tensor keeps beside its arrays, on every target. Asserted below.
pub(crate) const TENSOR_HEADER_BYTES: usize = 320;

/// A compressed K or V tensor. Cloning shares the segments.
#[derive(Clone)]
pub struct GearTensor {
    batch: usize,
    heads: usize,
    dim: usize,
    role: Role,
    config: GearConfig,
    sinks: RawTokens,
    segments: Vec<SegmentView>,
    buffer: RawTokens,
}

const _: () = assert!(size_of::<GearTensor>() <= TENSOR_HEADER_BYTES);

impl GearTensor {
    /// A tensor without tokens.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for a zero or absurd extent, `INVALID_OPTION` for a configuration out of range.
    pub fn new(batch: usize, heads: usize, head_dim: usize, role: Role, config: GearConfig) -> Result<Self> {
        KvShape::new(batch, heads, 0, head_dim)?;
        config.validate()?;
        config.check_role(role)?;
        if !config.layer_bits.is_empty() {
            return Err(GearError::option("layerBits is for a cache; a tensor has no layers"));
        }
        if config.mean_bits != 0.0 && head_dim > MAX_CHANNELS {
            return Err(GearError::option(format!(
                "meanBits is given with headDim {head_dim}; at most {MAX_CHANNELS} channels can have widths of their own"
            )));
        }
        let float32 = config.storage == Storage::Float32;
        let raw = RawTokens::new(batch * heads, head_dim, float32);
        let sinks = raw.clone();
        Ok(Self { batch, heads, dim: head_dim, role, config, sinks, segments: Vec::new(), buffer: raw })
    }

    /// Compresses a whole prompt: sinks aside, all tokens become segments and none waits in the buffer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn compress(input: KvSlice, shape: KvShape, role: Role, config: GearConfig, cancel: Cancel) -> Result<Self> {
        let shape = KvShape::new(shape.batch, shape.heads, shape.tokens, shape.head_dim)?;
        let mut tensor = Self::new(shape.batch, shape.heads, shape.head_dim, role, config)?;
        let mended = tensor.check_input(input, shape)?;
        let input = mended.as_deref().map_or(input, KvSlice::F32);
        if tensor.config.storage != Storage::Gear {
            tensor.buffer.push(input, shape, 0..shape.tokens);
            return Ok(tensor);
        }
        let mut first = shape.tokens.min(tensor.config.sinks as usize);
        tensor.sinks.push(input, shape, 0..first);
        while first < shape.tokens {
            let tokens = (shape.tokens - first).min(MAX_SEGMENT_TOKENS);
            let rows = InputRows { input, shape, first };
            if let Some(config) = tensor.decided(&rows, tokens, false, None, cancel)? {
                tensor.config = config;
            }
            let view = tensor.encode(&tensor.config, &rows, tokens, Run::prompt(), cancel)?;
            tensor.segments.push(view);
            first += tokens;
        }
        Ok(tensor)
    }

    /// Appends new tokens: `input` is `[batch, heads, tokens, head_dim]`. Tokens wait in the buffer; when `bufferTokens` of
    /// them are there they become a segment of rank `decodeRank`. What is longer than that (a prompt) becomes one segment of rank
    /// `rank` at once. What was compressed stays as it is. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn append(&mut self, input: KvSlice, tokens: usize, cancel: Cancel) -> Result<()> {
        if self.is_undecided() {
            // All that there is to choose by, at once.
            let mut next = self.clone();
            next.hold(input, tokens)?;
            next.settle(cancel)?;
            *self = next;
            return Ok(());
        }
        let prepared = self.prepare_append(input, tokens, cancel)?;
        self.commit(prepared);
        Ok(())
    }

    /// Everything about an append that can fail.
    pub(crate) fn prepare_append<'a>(
        &self,
        input: KvSlice<'a>,
        tokens: usize,
        cancel: Cancel,
    ) -> Result<PreparedAppend<'a>> {
        KvShape::new(self.batch, self.heads, self.tokens().saturating_add(tokens), self.dim)?;
        let shape = KvShape::new(self.batch, self.heads, tokens, self.dim)?;
        let mended = self.check_input(input, shape)?;
        let mut prepared = PreparedAppend {
            input,
            mended,
            shape,
            sinks: 0,
            segments: Vec::new(),
            keeps_buffer: true,
            buffered_from: 0,
        };
        if self.config.storage != Storage::Gear {
            return Ok(prepared);
        }
        prepared.sinks = self.sinks_to_fill(tokens);
        let mut first = prepared.sinks;
        let capacity = self.config.buffer_tokens as usize;
        // The common step of decoding: tokens that fit the buffer cost a copy of themselves and no more.
        if self.fills(tokens) {
            let input = prepared.input();
            let mut segments = Vec::new();
            if self.buffer.tokens() > 0 {
                let room = capacity - self.buffer.tokens();
                let mut full = self.buffer.clone();
                full.push(input, shape, first..first + room);
                first += room;
                segments.push(self.encode(&self.config, &full, capacity, Run::buffer(segments.last()), cancel)?);
            }
            while tokens - first >= capacity {
                let run = (tokens - first).min(MAX_SEGMENT_TOKENS);
                let kind = if run > capacity { Run::prompt() } else { Run::buffer(segments.last()) };
                segments.push(self.encode(&self.config, &InputRows { input, shape, first }, run, kind, cancel)?);
                first += run;
            }
            prepared.segments = segments;
            prepared.keeps_buffer = false;
        }
        prepared.buffered_from = first;
        Ok(prepared)
    }

    /// How many of the next `tokens` tokens become sinks.
    fn sinks_to_fill(&self, tokens: usize) -> usize {
        if self.config.storage != Storage::Gear || !self.segments.is_empty() || self.buffer.tokens() > 0 {
            return 0;
        }
        (self.config.sinks as usize).saturating_sub(self.sinks.tokens()).min(tokens)
    }

    pub(crate) fn commit(&mut self, mut prepared: PreparedAppend) {
        if !prepared.keeps_buffer {
            self.buffer.truncate(0);
        }
        self.segments.append(&mut prepared.segments);
        let (input, shape) = (prepared.input(), prepared.shape);
        self.sinks.push(input, shape, 0..prepared.sinks);
        self.buffer.push(input, shape, prepared.buffered_from..shape.tokens);
    }

    fn check_input(&self, input: KvSlice, shape: KvShape) -> Result<Option<Vec<f32>>> {
        let what = match self.role {
            Role::Key => "the key input",
            Role::Value => "the value input",
        };
        input.check_shape(what, shape)?;
        input::check_values(input, shape, &self.config)
    }

    /// Compresses `tokens` tokens.
    fn encode(
        &self,
        config: &GearConfig,
        rows: &dyn Rows,
        tokens: usize,
        run: Run,
        cancel: Cancel,
    ) -> Result<SegmentView> {
        let rank = if run.from_buffer { config.decode_rank } else { config.rank };
        let layout = SegmentLayout::new(config, self.role, self.batch, self.heads, tokens, self.dim, rank as usize);
        // Widths of its own would take more than they save where there are as few tokens as that.
        let before = if run.from_buffer { run.before.or(self.segments.last()) } else { None };
        let widths = before.map(SegmentView::widths);
        let guidance = Guidance { need: run.need, widths: widths.as_deref() };
        let segment = segment::encode(rows, layout, config, guidance, cancel)?;
        Ok(SegmentView::new(segment))
    }

    /// The last segment's widths, where these are equal: what was shared before it was saved is shared again.
    pub(crate) fn shared_widths(&self, widths: Widths) -> Widths {
        match (&widths, self.segments.last().map(|view| &view.segment.widths)) {
            (Widths::Channels(own), Some(before @ Widths::Channels(last))) if own == last => before.clone(),
            _ => widths,
        }
    }

    /// Its parts in token order, without empty ones.
    pub(crate) fn pieces(&self) -> impl Iterator<Item = Piece<'_>> {
        (0..self.piece_count()).map(|i| self.piece(i)).filter(|piece| piece.tokens() > 0)
    }

    /// The `i`-th of its parts in token order; the first and the last may be empty.
    pub(crate) fn piece(&self, i: usize) -> Piece<'_> {
        match i.checked_sub(1).map(|i| self.segments.get(i)) {
            None => Piece::Raw(&self.sinks),
            Some(Some(view)) => Piece::Segment(view),
            Some(None) => Piece::Raw(&self.buffer),
        }
    }

    /// How many parts there are, empty ones included.
    pub(crate) fn piece_count(&self) -> usize {
        self.segments.len() + 2
    }

    /// Its present shape.
    pub fn shape(&self) -> KvShape {
        KvShape { batch: self.batch, heads: self.heads, tokens: self.tokens(), head_dim: self.dim }
    }

    /// Keys or values.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its configuration.
    pub fn config(&self) -> &GearConfig {
        &self.config
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        let compressed: usize = self.segments.iter().map(SegmentView::visible).sum();
        self.sinks.tokens() + compressed + self.buffer.tokens()
    }

    /// Tokens of them that wait in the buffer.
    pub fn waiting(&self) -> usize {
        self.buffer.tokens()
    }

    /// Bytes of each part.
    pub fn parts(&self) -> Parts {
        let mut parts = self.segment_parts(false);
        parts.sinks = self.sinks.byte_length();
        parts.buffer = self.buffer.byte_length();
        parts.headers += TENSOR_HEADER_BYTES;
        parts
    }

    /// What segments take: all, or those that other tensors (clones of it) have, too.
    fn segment_parts(&self, only_shared: bool) -> Parts {
        let mut parts = Parts::default();
        let mut last: Option<&SegmentView> = None;
        for view in &self.segments {
            let (segment, before) = (&view.segment, last.replace(view));
            // What was dropped between two parts of a segment leaves two views of it.
            let again = |other: &SegmentView| Arc::ptr_eq(segment, &other.segment);
            if only_shared && Arc::strong_count(segment) <= self.segments.iter().filter(|view| again(view)).count() {
                continue;
            }
            parts.headers += SEGMENT_HEADER_BYTES + view.item_bytes(before);
            if before.is_some_and(again) {
                continue;
            }
            let shares_widths = before.is_some_and(|before| segment.widths.shares(&before.segment.widths));
            parts.codes += segment.codes.len() + if shares_widths { 0 } else { segment.widths.byte_length() };
            parts.scales += segment.scales.byte_length() + segment.means.byte_length();
            parts.low_rank += segment.low_rank_bytes();
            parts.sparse += segment.outlier_indices.len() + size_of_val(&*segment.outlier_values);
        }
        parts
    }

    /// Bytes that are kept, of everything.
    pub fn byte_length(&self) -> usize {
        self.parts().total()
    }

    /// Of [`Self::byte_length`], bytes of segments that other tensors (clones of it) have, too.
    pub fn shared_byte_length(&self) -> usize {
        self.segment_parts(true).total()
    }

    /// Bytes that the same tokens take in float16.
    pub fn float16_byte_length(&self) -> usize {
        2 * self.shape().elements()
    }

    /// Keeps the first `tokens` tokens.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there are fewer.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        if tokens > self.tokens() {
            return Err(GearError::shape(format!(
                "truncate({tokens}) on a tensor of {} tokens; it can only become shorter",
                self.tokens()
            )));
        }
        let mut left = tokens;
        self.sinks.truncate(left);
        left -= self.sinks.tokens();
        self.segments.retain_mut(|view| {
            view.truncate(left);
            left -= view.visible();
            view.visible() > 0
        });
        self.buffer.truncate(left);
        Ok(())
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.sinks.truncate(0);
        self.segments.clear();
        self.buffer.truncate(0);
    }

    pub(crate) fn sinks(&self) -> &RawTokens {
        &self.sinks
    }

    pub(crate) fn segments(&self) -> &[SegmentView] {
        &self.segments
    }

    pub(crate) fn buffer(&self) -> &RawTokens {
        &self.buffer
    }

    pub(crate) fn raw_mut(&mut self) -> (&mut RawTokens, &mut RawTokens) {
        (&mut self.sinks, &mut self.buffer)
    }

    pub(crate) fn push_segment(&mut self, view: SegmentView) {
        self.segments.push(view);
    }
}
