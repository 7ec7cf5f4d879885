//! When a tensor of preset `auto` chooses its configuration: before its first run of tokens is compressed.

use crate::auto::{Chosen, Limit, Run, Trial, choose};
use crate::config::{GearConfig, MAX_SEGMENT_TOKENS};
use crate::error::{Cancel, Result};
use crate::need::Survey;
use crate::segment::Rows;

use super::hold::HeldRows;
use super::{GearTensor, TENSOR_HEADER_BYTES};

impl GearTensor {
    /// Whether it has a goal, and nothing compressed yet that has settled how to reach it.
    pub(crate) fn is_undecided(&self) -> bool {
        self.config.has_goal() && self.segments.is_empty()
    }

    /// What it chose for its goal (preset `auto`); `None` where it has none, or has not compressed anything yet.
    pub fn chosen(&self) -> Option<Chosen> {
        let &GearConfig { mean_bits, rank, decode_rank, sparsity, .. } = &self.config;
        let has_chosen = self.config.has_goal() && !self.segments.is_empty();
        has_chosen.then_some(Chosen { mean_bits, rank, decode_rank, sparsity })
    }

    /// The first tokens that [`Self::prepare_settle`] is going to compress.
    pub(crate) fn first_run(&self) -> (HeldRows<'_>, usize) {
        (HeldRows { buffer: &self.buffer, first: 0 }, self.buffer.tokens().min(MAX_SEGMENT_TOKENS))
    }

    /// `tokens` tokens of `rows` as a run to try candidates on.
    pub(crate) fn run<'a>(&self, rows: &'a dyn Rows, tokens: usize, survey: Option<&'a Survey>) -> Run<'a> {
        let Self { batch, heads, dim, role, .. } = *self;
        let need = survey.and_then(|survey| survey.newest(self.buffer.tokens().max(tokens)));
        Run { rows, role, batch, heads, tokens, dim, need }
    }

    /// Bytes that a run of `tokens` tokens may take, where a size is asked for. A prompt pays for the sinks before it and for the tensor,
    /// too; the first tokens of a sequence that comes little by little do not, as many are to follow that do not have to.
    pub(crate) fn byte_limit(&self, tokens: usize) -> f64 {
        let values = self.batch * self.heads * self.dim;
        let bits = self.config.max_bits_per_element;
        if self.comes_from_buffer(tokens) {
            return bits * (values * tokens) as f64 / 8.0;
        }
        let before = self.sinks.tokens();
        let bytes = bits * (values * (tokens + before)) as f64 / 8.0;
        bytes - (TENSOR_HEADER_BYTES + self.sinks.byte_length()) as f64
    }

    /// Whether so many tokens are what fills the buffer rather than a prompt.
    pub(crate) fn comes_from_buffer(&self, tokens: usize) -> bool {
        tokens == self.config.buffer_tokens as usize
    }

    /// The configuration for a first run of `tokens` tokens of `rows`: its own where it has no goal or has reached it before.
    pub(super) fn decided(
        &self,
        rows: &dyn Rows,
        tokens: usize,
        from_buffer: bool,
        survey: Option<&Survey>,
        cancel: Cancel,
    ) -> Result<Option<GearConfig>> {
        if !self.is_undecided() {
            return Ok(None);
        }
        let limit = match self.config.max_error {
            0.0 => Limit::Bytes(self.byte_limit(tokens)),
            error => Limit::Error(error),
        };
        let run = self.run(rows, tokens, survey);
        let trial = Trial { run, config: &self.config, from_buffer, cancel };
        Ok(Some(choose(&trial, limit)?.of(&self.config)))
    }
}
