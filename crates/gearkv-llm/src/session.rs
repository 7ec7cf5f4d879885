//! A sequence of tokens with its cache.

use gearkv::{Cancel, ErrorCode, GearCache, GearConfig, GearError, KvSlice, NEVER, Result, Role};

use crate::forward::{Part, forward, logits};
use crate::model::Model;
use crate::timings::Timings;

/// Rows of logits that are made at once, so that memory does not grow with the text.
const LOGIT_ROWS: usize = 64;

/// A model at work on one sequence. Cloning forks it: the model and what is compressed are shared.
#[derive(Clone)]
pub struct Session {
    model: Model,
    cache: GearCache,
    tokens: Vec<u32>,
    logits: Vec<f32>,
    timings: Timings,
    exact_prefill: bool,
}

impl Session {
    pub(crate) fn new(model: Model, key: GearConfig, value: GearConfig) -> Result<Self> {
        let cache = GearCache::new(model.cache_shape(), key, value)?;
        Ok(Self::assemble(model, cache, Vec::new()))
    }

    fn assemble(model: Model, cache: GearCache, tokens: Vec<u32>) -> Self {
        Self { model, cache, tokens, logits: Vec::new(), timings: Timings::default(), exact_prefill: true }
    }

    /// A session from a cache that was saved, and the tokens that are in it.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when the cache is not of this model or has another number of tokens.
    pub fn restore(model: &Model, cache: GearCache, tokens: Vec<u32>) -> Result<Self> {
        let expected = model.cache_shape();
        if cache.shape() != expected || cache.tokens() != tokens.len() {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!(
                    "the cache is {:?} with {} tokens; the model and its text need {expected:?} with {}",
                    cache.shape(),
                    cache.tokens(),
                    tokens.len()
                ),
            ));
        }
        model.check_tokens(&tokens)?;
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
        if tokens.is_empty() {
            return Ok(());
        }
        let states = self.advance(tokens, self.exact_prefill, cancel)?;
        let width = self.model.0.architecture.width;
        let last = &states[states.len() - width..];
        let (model, timings) = (self.model.clone(), &mut self.timings);
        self.logits = model.on_threads(|| logits(&model.0, last, timings));
        Ok(())
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
        let states = self.advance(tokens, true, cancel)?;
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

    fn advance(&mut self, tokens: &[u32], exact: bool, cancel: Cancel) -> Result<Vec<f32>> {
        let (model, before) = (self.model.clone(), self.tokens.len());
        model.check_tokens(tokens)?;
        let (cache, timings) = (&mut self.cache, &mut self.timings);
        let result =
            model.on_threads(|| forward(&model.0, &mut [Part { cache: &mut *cache, tokens, exact }], timings, cancel));
        match result {
            Ok(states) => {
                self.tokens.extend_from_slice(tokens);
                Ok(states)
            }
            Err(error) => {
                self.cache.truncate(before)?;
                Err(error)
            }
        }
    }

    /// One step of several sessions of the same model at once; their lengths may differ. Each gets the logits of its next token.
    ///
    /// # Errors
    /// As [`Self::step`]; `INVALID_OPTION` when the sessions are not of one model. No session is changed then.
    pub fn step_all(sessions: &mut [Self], tokens: &[u32]) -> Result<()> {
        if sessions.len() != tokens.len() {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!("{} tokens for {} sessions; expected one each", tokens.len(), sessions.len()),
            ));
        }
        let Some(model) = sessions.first().map(|session| session.model.clone()) else { return Ok(()) };
        if sessions.iter().any(|session| !std::sync::Arc::ptr_eq(&session.model.0, &model.0)) {
            return Err(GearError::new(ErrorCode::InvalidOption, "the sessions are of different models"));
        }
        model.check_tokens(tokens)?;
        let mut timings = Timings::default();
        let result = model.on_threads(|| {
            let caches = sessions.iter_mut().map(|session| &mut session.cache);
            let mut parts: Vec<Part> =
                caches.zip(tokens.chunks_exact(1)).map(|(cache, tokens)| Part { cache, tokens, exact: true }).collect();
            let states = forward(&model.0, &mut parts, &mut timings, NEVER)?;
            Ok(logits(&model.0, &states, &mut timings))
        });
        match result {
            Ok(rows) => {
                let vocabulary = model.0.architecture.vocabulary;
                for ((session, &token), logits) in sessions.iter_mut().zip(tokens).zip(rows.chunks_exact(vocabulary)) {
                    session.tokens.push(token);
                    session.logits.clear();
                    session.logits.extend_from_slice(logits);
                    session.timings.add_share(&timings, tokens.len());
                }
                Ok(())
            }
            Err(error) => {
                for session in sessions {
                    session.cache.truncate(session.tokens.len())?;
                }
                Err(error)
            }
        }
    }

    /// The same tokens on a cache of other configurations, compressed as one prompt from what this cache holds.
    ///
    /// # Errors
    /// `INVALID_OPTION`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn recompress(&self, key: GearConfig, value: GearConfig, cancel: Cancel) -> Result<Self> {
        let mut cache = GearCache::new(self.cache.shape(), key, value)?;
        for layer in 0..cache.shape().layers {
            let keys = self.cache.tensor(layer, Role::Key)?.decompress(cancel)?;
            let values = self.cache.tensor(layer, Role::Value)?.decompress(cancel)?;
            cache.hold(layer, KvSlice::F32(&keys), KvSlice::F32(&values), self.tokens.len())?;
            cache.settle(layer, cancel)?;
        }
        Ok(Self { cache, timings: Timings::default(), ..self.clone() })
    }

    /// Logits of the next token; empty before the first, and behind [`Self::truncate`].
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The cache.
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
        self.cache.truncate(tokens)?;
        if tokens < self.tokens.len() {
            self.tokens.truncate(tokens);
            self.logits.clear();
        }
        Ok(())
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        self.cache.clear();
        self.tokens.clear();
        self.logits.clear();
        self.timings = Timings::default();
    }
}
