//! Tokens that are appended now and compressed later: an exact prefill, and decoding whose newest token sees its neighbours
//! uncompressed.

use std::sync::Arc;

use crate::config::{MAX_SEGMENT_TOKENS, Storage};
use crate::error::{Cancel, Result};
use crate::raw::RawTokens;
use crate::segment::{self, Rows, SegmentLayout};
use crate::shape::{KvShape, KvSlice};

use super::{GearTensor, PreparedAppend, SegmentView};

/// Tokens from `first` on of a buffer.
struct HeldRows<'a> {
    buffer: &'a RawTokens,
    first: usize,
}

impl Rows for HeldRows<'_> {
    fn load(&self, plane: usize, out: &mut [f32]) {
        self.buffer.rows(plane, self.first, out);
    }
}

/// A settling that can no longer fail.
pub(crate) struct PreparedSettle {
    segments: Vec<SegmentView>,
    /// Tokens of the buffer that are in `segments`.
    taken: usize,
}

impl GearTensor {
    /// Makes room for `tokens` tokens more in the buffer, at once instead of little by little. Changes nothing else.
    pub fn reserve(&mut self, tokens: usize) {
        self.buffer.reserve(tokens);
    }

    /// As [`Self::append`], but no token leaves the buffer, however full it is, until [`Self::settle`].
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`.
    pub fn hold(&mut self, input: KvSlice, tokens: usize) -> Result<()> {
        let prepared = self.prepare_hold(input, tokens)?;
        self.commit(prepared);
        Ok(())
    }

    pub(crate) fn prepare_hold<'a>(&self, input: KvSlice<'a>, tokens: usize) -> Result<PreparedAppend<'a>> {
        KvShape::new(self.batch, self.heads, self.tokens().saturating_add(tokens), self.dim)?;
        let shape = KvShape::new(self.batch, self.heads, tokens, self.dim)?;
        let mended = self.check_input(input, shape)?;
        let sinks = self.sinks_to_fill(tokens);
        Ok(PreparedAppend {
            input,
            mended,
            shape,
            sinks,
            segments: Vec::new(),
            keeps_buffer: true,
            buffered_from: sinks,
        })
    }

    /// Compresses what waits in the buffer when that is `bufferTokens` tokens or more: one segment, of rank `decodeRank` when
    /// it is exactly that many and of rank `rank` when it is more. On an error nothing is changed.
    ///
    /// # Errors
    /// `ABORTED`.
    pub fn settle(&mut self, cancel: Cancel) -> Result<()> {
        if let Some(prepared) = self.prepare_settle(cancel)? {
            self.commit_settle(prepared);
        }
        Ok(())
    }

    pub(crate) fn prepare_settle(&self, cancel: Cancel) -> Result<Option<PreparedSettle>> {
        let capacity = self.config.buffer_tokens as usize;
        let held = self.buffer.tokens();
        if self.config.storage != Storage::Gear || held < capacity {
            return Ok(None);
        }
        let mut segments = Vec::new();
        let mut taken = 0;
        while held - taken >= capacity {
            let run = (held - taken).min(MAX_SEGMENT_TOKENS);
            let rank = if run > capacity { self.config.rank } else { self.config.decode_rank };
            let layout =
                SegmentLayout::new(&self.config, self.role, self.batch, self.heads, run, self.dim, rank as usize);
            let rows = HeldRows { buffer: &self.buffer, first: taken };
            let segment = segment::encode(&rows, layout, &self.config, cancel)?;
            segments.push(SegmentView { segment: Arc::new(segment), visible: run });
            taken += run;
        }
        Ok(Some(PreparedSettle { segments, taken }))
    }

    pub(crate) fn commit_settle(&mut self, mut prepared: PreparedSettle) {
        self.segments.append(&mut prepared.segments);
        self.buffer.remove_first(prepared.taken, self.config.buffer_tokens as usize);
    }
}
