//! A sequence of tokens on a device.

use gearkv::{Cancel, ErrorCode, GearCache, GearError, NEVER, Result};

use super::caches::LayerCaches;
use super::error;
use super::forward::{Chunk, Step, logits};
use super::model::DeviceModel;
use super::rotation::TensorRotation;
use crate::model::ModelInfo;
use crate::pass::check_cancel;
use crate::sequence::Sequence;
use crate::tokenizer::Tokenizer;

/// Rows that go through a layer at once.
const CHUNK: usize = 256;

/// A model on a device at work on one sequence.
pub struct DeviceSession {
    model: DeviceModel,
    caches: Box<dyn LayerCaches>,
    tokens: Vec<u32>,
    logits: Vec<f32>,
}

impl DeviceSession {
    /// A session from a cache in main memory, and the tokens that are in it.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when the cache is not of this model or has another number of tokens; as [`DeviceModel::session`].
    pub fn restore(model: &DeviceModel, cache: &GearCache, tokens: Vec<u32>) -> Result<Self> {
        model.0.architecture.check_cache(cache, &tokens)?;
        Ok(Self { model: model.clone(), caches: model.caches(cache)?, tokens, logits: Vec::new() })
    }

    /// Appends a prompt; [`Self::logits`] are those of its last token then. Its tokens see each other uncompressed. What an error or a
    /// cancellation interrupts leaves the session with the tokens that it had.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a token that the model does not know or a context beyond its limit, `ABORTED`; `BACKEND_UNAVAILABLE` when the device
    /// fails. Where it does so while it compresses what has come to all layers, the session is empty.
    pub fn prefill(&mut self, tokens: &[u32], cancel: Cancel) -> Result<()> {
        let a = &self.model.0.architecture;
        a.check_tokens(tokens)?;
        a.check_context(self.tokens.len() + tokens.len())?;
        if tokens.is_empty() {
            return Ok(());
        }
        match self.pass(tokens, cancel) {
            Ok(logits) => {
                self.logits = logits;
                self.tokens.extend_from_slice(tokens);
                Ok(())
            }
            Err(error) => {
                if self.caches.truncate(self.tokens.len()).is_err() {
                    self.clear()?;
                }
                Err(error)
            }
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

    /// Logits of the next token; empty before the first, and behind [`Self::truncate`].
    pub fn logits(&self) -> &[f32] {
        &self.logits
    }

    /// All tokens so far.
    pub fn tokens(&self) -> &[u32] {
        &self.tokens
    }

    /// The model.
    pub fn model(&self) -> &DeviceModel {
        &self.model
    }

    /// Bytes that the caches take on the device.
    pub fn cache_byte_length(&self) -> usize {
        self.caches.byte_length()
    }

    /// A second session that goes on from here. On a GPU its caches have memory of their own.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` when the device's memory does not suffice.
    pub fn fork(&self) -> Result<Self> {
        Ok(Self {
            model: self.model.clone(),
            caches: self.caches.fork()?,
            tokens: self.tokens.clone(),
            logits: self.logits.clone(),
        })
    }

    /// Keeps the first `tokens` tokens. On a GPU only those that wait in the buffer can be taken back, or all.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when there are fewer, or when some have been compressed on a GPU; nothing is changed then.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        if tokens > self.tokens.len() {
            return Err(GearError::new(
                ErrorCode::OutOfRange,
                format!("the session has {} tokens; it cannot be cut to {tokens}", self.tokens.len()),
            ));
        }
        if tokens < self.tokens.len() {
            self.caches.truncate(tokens)?;
            self.tokens.truncate(tokens);
            self.logits.clear();
        }
        Ok(())
    }

    /// Removes all tokens.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` when the device fails.
    pub fn clear(&mut self) -> Result<()> {
        self.tokens.clear();
        self.logits.clear();
        self.caches.truncate(0)
    }

    /// Tokens through all layers, and the logits behind the last one.
    fn pass(&mut self, tokens: &[u32], cancel: Cancel) -> Result<Vec<f32>> {
        let weights = &*self.model.0;
        let a = &weights.architecture;
        let mut chunks = self.chunks(tokens)?;
        let caches = &mut *self.caches;
        caches.begin(tokens.len())?;
        for (index, layer) in weights.layers.iter().enumerate() {
            let step = Step { architecture: a, layer, index };
            for chunk in &mut chunks {
                check_cancel(cancel)?;
                chunk.states = step.forward(chunk, caches, cancel)?;
            }
            caches.close(index, cancel)?;
        }
        let last = chunks.last().map(|chunk| chunk.states.narrow(0, chunk.rows - 1, 1));
        let logits = match last {
            Some(state) => logits(weights, &state.map_err(error::device)?)?,
            None => Vec::new(),
        };
        caches.finish(cancel)?;
        Ok(logits)
    }

    fn chunks(&self, tokens: &[u32]) -> Result<Vec<Chunk>> {
        let (a, device) = (&self.model.0.architecture, &self.model.0.device);
        let mut position = self.tokens.len();
        let chunk = |tokens: &[u32]| {
            let (first, rows) = (position, tokens.len());
            position += rows;
            let rotation = |config| TensorRotation::new(config, first, rows, device).map_err(error::device);
            Ok(Chunk {
                rows,
                rotation: rotation(&a.rope)?,
                local_rotation: a.local_rope.as_ref().map(rotation).transpose()?,
                states: self.model.embedded(tokens)?,
            })
        };
        tokens.chunks(CHUNK).map(chunk).collect()
    }
}

impl Sequence for DeviceSession {
    fn tokenizer(&self) -> &Tokenizer {
        self.model.tokenizer()
    }

    fn info(&self) -> &ModelInfo {
        self.model.info()
    }

    fn tokens(&self) -> &[u32] {
        Self::tokens(self)
    }

    fn logits(&self) -> &[f32] {
        Self::logits(self)
    }

    fn extend(&mut self, tokens: &[u32], cancel: Cancel) -> Result<()> {
        self.prefill(tokens, cancel)
    }
}
