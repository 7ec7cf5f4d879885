//! A sequence of tokens with its cache.

use std::borrow::BorrowMut;

use gearkv::{Cancel, GearCache, GearConfig, NEVER, Result};

use crate::forcing::LOGIT_ROWS;
use crate::forward::logits;
use crate::intake::Intake;
use crate::model::Model;
use crate::pass::{GoOn, Lane, Progress};
use crate::queries::QueryLog;
use crate::recompress::Recompression;
use crate::timings::Timings;

/// A model at work on one sequence. Cloning forks it: the model and what is compressed are shared.
#[derive(Clone)]
pub struct Session {
    pub(crate) model: Model,
    pub(crate) cache: GearCache,
    pub(crate) tokens: Vec<u32>,
    pub(crate) logits: Vec<f32>,
    pub(crate) timings: Timings,
    pub(crate) exact_prefill: bool,
    /// Notes the queries of new tokens, where somebody wants them.
    pub(crate) queries: Option<QueryLog>,
    /// A prompt that is on its way in: layers of the cache may have some of it.
    intake: Option<Intake>,
}

impl Session {
    pub(crate) fn new(model: Model, key: GearConfig, value: GearConfig) -> Result<Self> {
        let cache = GearCache::new(model.cache_shape(), key, value)?;
        Ok(Self::assemble(model, cache, Vec::new()))
    }

    fn assemble(model: Model, cache: GearCache, tokens: Vec<u32>) -> Self {
        Self {
            model,
            cache,
            tokens,
            logits: Vec::new(),
            timings: Timings::default(),
            exact_prefill: true,
            queries: None,
            intake: None,
        }
    }

    /// A session from a cache that was saved, and the tokens that are in it.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when the cache is not of this model or has another number of tokens.
    pub fn restore(model: &Model, cache: GearCache, tokens: Vec<u32>) -> Result<Self> {
        model.0.architecture.check_cache(&cache, &tokens)?;
        Ok(Self::assemble(model.clone(), cache, tokens))
    }

    /// Whether the tokens of one [`Self::prefill`] see each other uncompressed (default). Otherwise they are compressed chunk by
    /// chunk.
    pub fn set_exact_prefill(&mut self, exact: bool) {
        self.exact_prefill = exact;
    }

    /// Appends a prompt; [`Self::logits`] are those of its last token then. What an error or a cancellation interrupts leaves
    /// the session with the tokens that it had.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a token that the model does not know or a context beyond its limit, `ABORTED`.
    pub fn prefill(&mut self, tokens: &[u32], cancel: Cancel) -> Result<()> {
        self.begin(tokens)?;
        self.read(cancel, &mut |_| true)?;
        Ok(())
    }

    /// Begins to append a prompt, which [`Self::read`] does little by little. Until that has finished the session has the tokens
    /// that it had, and whatever else is asked of it that changes it abandons the prompt.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn begin(&mut self, tokens: &[u32]) -> Result<()> {
        self.abandon();
        if !tokens.is_empty() {
            self.intake = Some(Intake::begin(&[&*self], &[tokens], self.exact_prefill)?);
        }
        Ok(())
    }

    /// Goes on with the prompt that [`Self::begin`] began, until it has been appended or `go_on` says no, which it is asked after
    /// each chunk of a layer. Nothing is left to do where there is no prompt.
    ///
    /// # Errors
    /// As [`Self::prefill`]; the prompt is abandoned then.
    pub fn read(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        let Some(mut intake) = self.intake.take() else { return Ok(Progress { done: 0, total: 0 }) };
        let progress = intake.advance(&mut [&mut *self], cancel, go_on)?;
        if progress.finished() {
            intake.finish(&mut [&mut *self]);
        } else {
            self.intake = Some(intake);
        }
        Ok(progress)
    }

    /// How far the prompt has come that [`Self::begin`] began; `None` when there is none.
    pub fn reading(&self) -> Option<Progress> {
        self.intake.as_ref().map(Intake::progress)
    }

    /// Gives up the prompt that [`Self::begin`] began: the session has the tokens that it had. Without one nothing happens.
    pub fn abandon(&mut self) {
        if self.intake.take().is_some() {
            Intake::undo(&mut [&mut *self]);
        }
    }

    /// Appends one token and gives the logits of the next.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn step(&mut self, token: u32) -> Result<&[f32]> {
        self.prefill(&[token], NEVER)?;
        Ok(&self.logits)
    }

    /// Appends tokens, and calls `f(i, logits)` with the logits behind each of them.
    ///
    /// # Errors
    /// As [`Self::prefill`].
    pub fn force(&mut self, tokens: &[u32], cancel: Cancel, mut f: impl FnMut(usize, &[f32])) -> Result<()> {
        self.abandon();
        if tokens.is_empty() {
            return Ok(());
        }
        let mut intake = Intake::begin(&[&*self], &[tokens], true)?;
        intake.advance(&mut [&mut *self], cancel, &mut |_| true)?;
        let states = intake.append(&mut [&mut *self]);
        let a = &self.model.0.architecture;
        let (width, vocabulary) = (a.width, a.vocabulary);
        let (model, timings) = (self.model.clone(), &mut self.timings);
        for (chunk, states) in states.chunks(LOGIT_ROWS * width).enumerate() {
            let rows = model.on_threads(|| logits(&model.0, states, timings));
            for (row, logits) in rows.chunks_exact(vocabulary).enumerate() {
                f(chunk * LOGIT_ROWS + row, logits);
            }
            self.logits.clear();
            self.logits.extend_from_slice(&rows[rows.len() - vocabulary..]);
        }
        Ok(())
    }

    /// One step of several sessions of the same model at once; their lengths may differ. Each gets the logits of its next token.
    ///
    /// # Errors
    /// As [`Self::step`]; `ABORTED`; `SHAPE_MISMATCH` when there are not as many tokens as sessions, `INVALID_OPTION` when the
    /// sessions are not of one model. No session is changed then.
    pub fn step_all<S: BorrowMut<Self> + Send>(sessions: &mut [S], tokens: &[u32], cancel: Cancel) -> Result<()> {
        sessions.iter_mut().for_each(|session| session.borrow_mut().abandon());
        let prompts: Vec<&[u32]> = tokens.chunks(1).collect();
        let mut intake = Intake::begin(sessions, &prompts, true)?;
        intake.advance(sessions, cancel, &mut |_| true)?;
        intake.finish(sessions);
        Ok(())
    }

    /// The same tokens on a cache of other configurations, compressed as one prompt from what this cache holds.
    ///
    /// # Errors
    /// `INVALID_OPTION`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn recompress(&self, key: GearConfig, value: GearConfig, cancel: Cancel) -> Result<Self> {
        let mut recompression = Recompression::new(self, key, value)?;
        recompression.advance(cancel, &mut |_| true)?;
        Ok(recompression.finish())
    }

    /// Where new tokens go.
    pub(crate) fn lane(&mut self) -> Lane<'_> {
        Lane { cache: &mut self.cache, queries: self.queries.as_mut() }
    }

    /// The same tokens on a cache that holds them.
    pub(crate) fn with_cache(self, cache: GearCache, timings: Timings) -> Self {
        Self { cache, timings, ..self }
    }

    /// Logits of the next token; empty before the first, and behind [`Self::truncate`].
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The cache. While a prompt is on its way in, its first layers have tokens of it.
    pub fn cache(&self) -> &GearCache {
        &self.cache
    }

    /// The model.
    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Where the time went.
    pub fn timings(&self) -> Timings {
        self.timings
    }

    /// A second session that goes on from here.
    pub fn fork(&self) -> Self {
        self.clone()
    }

    /// Keeps the first `tokens` tokens.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there are fewer.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        self.abandon();
        self.cache.truncate(tokens)?;
        if tokens < self.tokens.len() {
            self.tokens.truncate(tokens);
            self.logits.clear();
        }
        Ok(())
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.intake = None;
        self.cache.clear();
        self.tokens.clear();
        self.logits.clear();
        self.timings = Timings::default();
    }
}
