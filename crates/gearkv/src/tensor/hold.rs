//! Tokens that are appended now and compressed later: an exact prefill, and decoding whose newest token sees its neighbours
//! uncompressed.

use crate::config::{GearConfig, MAX_SEGMENT_TOKENS, Storage};
use crate::error::{Cancel, Result};
use crate::need::{Observed, Survey};
use crate::raw::RawTokens;
use crate::segment::Rows;
use crate::shape::{KvShape, KvSlice};

use super::{GearTensor, PreparedAppend, Run, SegmentView};

/// Tokens from `first` on of a buffer.
pub(crate) struct HeldRows<'a> {
    pub(super) buffer: &'a RawTokens,
    pub(super) first: usize,
}

impl Rows for HeldRows<'_> {
    fn load(&self, plane: usize, first: usize, out: &mut [f32]) {
        self.buffer.rows(plane, self.first + first, out);
    }
}

/// A settling that can no longer fail.
pub(crate) struct PreparedSettle {
    segments: Vec<SegmentView>,
    /// Tokens of the buffer that are in `segments`.
    taken: usize,
    /// What was chosen, where there was something to choose.
    config: Option<GearConfig>,
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
        if let Some(prepared) = self.prepare_settle(None, None, cancel)? {
            self.commit_settle(prepared);
        }
        Ok(())
    }

    /// Whether so many tokens wait in the buffer that [`Self::settle`] compresses them.
    pub(crate) fn is_full(&self) -> bool {
        self.config.storage == Storage::Gear && self.buffer.tokens() >= self.config.buffer_tokens as usize
    }

    /// Whether `tokens` tokens more would make it full.
    pub(crate) fn fills(&self, tokens: usize) -> bool {
        let waiting = self.buffer.tokens() + tokens - self.sinks_to_fill(tokens);
        self.config.storage == Storage::Gear && waiting >= self.config.buffer_tokens as usize
    }

    /// `survey`: what queries look for among the newest tokens. `chosen`: what to have from now on, where that was chosen for more
    /// than this tensor.
    pub(crate) fn prepare_settle(
        &self,
        survey: Option<&Survey>,
        chosen: Option<GearConfig>,
        cancel: Cancel,
    ) -> Result<Option<PreparedSettle>> {
        if !self.is_full() {
            return Ok(None);
        }
        let chosen = match chosen {
            None if self.is_undecided() => {
                let (rows, tokens) = self.first_run();
                self.decided(&rows, tokens, self.comes_from_buffer(tokens), survey, cancel)?
            }
            chosen => chosen,
        };
        let config = chosen.as_ref().unwrap_or(&self.config);
        let capacity = self.config.buffer_tokens as usize;
        let held = self.buffer.tokens();
        let mut segments: Vec<SegmentView> = Vec::new();
        let mut taken = 0;
        while held - taken >= capacity {
            let run = (held - taken).min(MAX_SEGMENT_TOKENS);
            let rows = HeldRows { buffer: &self.buffer, first: taken };
            let kind = if run > capacity { Run::prompt() } else { Run::buffer(segments.last()) };
            let need = survey.and_then(|survey| survey.newest(held)).map(|need| need.behind(taken));
            segments.push(self.encode(config, &rows, run, Run { need, ..kind }, cancel)?);
            taken += run;
        }
        Ok(Some(PreparedSettle { segments, taken, config: chosen }))
    }

    /// What is held and the sinks before it, as [`Self::prepare_settle`] wants it surveyed. `self` holds keys.
    pub(crate) fn survey(&self, observed: &Observed) -> Survey {
        let sinks = self.sinks.tokens();
        let tokens = sinks + self.buffer.tokens();
        observed.survey(self.batch * self.heads, tokens, self.dim, self.config.threads, |plane, rows| {
            let (first, held) = rows.split_at_mut(sinks * self.dim);
            self.sinks.rows(plane, 0, first);
            self.buffer.rows(plane, 0, held);
        })
    }

    pub(crate) fn commit_settle(&mut self, mut prepared: PreparedSettle) {
        if let Some(config) = prepared.config {
            self.config = config;
        }
        self.segments.append(&mut prepared.segments);
        self.buffer.remove_first(prepared.taken, self.config.buffer_tokens as usize);
    }
}
