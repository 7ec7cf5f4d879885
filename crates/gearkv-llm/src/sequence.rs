//! What a text is generated on.

use gearkv::{Cancel, Result};

use crate::model::ModelInfo;
use crate::session::Session;
use crate::tokenizer::Tokenizer;

/// A sequence of tokens that a model goes on with: a [`Session`], or with feature `tensors` one on a device.
pub trait Sequence {
    /// The model's tokenizer.
    fn tokenizer(&self) -> &Tokenizer;

    /// What the model is.
    fn info(&self) -> &ModelInfo;

    /// All tokens so far.
    fn tokens(&self) -> &[u32];

    /// Logits of the next token; empty before the first.
    fn logits(&self) -> &[f32];

    /// Appends a prompt; [`Self::logits`] are those of its last token then.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` for a token that the model does not know or a context beyond its limit, `ABORTED`: the sequence is what it was before.
    fn extend(&mut self, tokens: &[u32], cancel: Cancel) -> Result<()>;

    /// Appends one token.
    ///
    /// # Errors
    /// As [`Self::extend`].
    fn push(&mut self, token: u32, cancel: Cancel) -> Result<()> {
        self.extend(&[token], cancel)
    }
}

impl Sequence for Session {
    fn tokenizer(&self) -> &Tokenizer {
        self.model().tokenizer()
    }

    fn info(&self) -> &ModelInfo {
        self.model().info()
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

    fn push(&mut self, token: u32, cancel: Cancel) -> Result<()> {
        Self::step_all(&mut [self], &[token], cancel)
    }
}
