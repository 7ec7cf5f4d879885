//! How well a model predicts a text on a given cache.

use gearkv::{Cancel, ErrorCode, GearConfig, GearError, Result};
use serde::Serialize;

use crate::forcing::Forcing;
use crate::model::Model;
use crate::pass::{GoOn, Progress};
use crate::session::Session;

/// What [`perplexity`] finds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Perplexity {
    /// `exp` of the mean negative log-likelihood of a token.
    pub perplexity: f64,
    /// Tokens that were predicted.
    pub tokens: usize,
    /// Bytes of the cache at the end.
    pub cache_bytes: usize,
    /// Bytes that it would have in float16.
    pub float16_bytes: usize,
}

/// Log-probability of one token under logits.
pub(crate) fn log_probability(logits: &[f32], token: u32) -> f64 {
    f64::from(logits[token as usize]) - log_sum_exp(logits)
}

/// `ln Σ exp(logit)`.
pub(crate) fn log_sum_exp(logits: &[f32]) -> f64 {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|x| f64::from((x - most).exp())).sum();
    f64::from(most) + sum.ln()
}

/// A text on its way to its [`Perplexity`].
pub struct PerplexityRun {
    session: Session,
    forcing: Forcing,
    sum: f64,
}

impl PerplexityRun {
    /// As [`perplexity`], before the first token.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for fewer than two tokens, `OUT_OF_RANGE` for a token that the model does not know, `INVALID_OPTION`.
    pub fn new(model: &Model, tokens: &[u32], key: GearConfig, value: GearConfig) -> Result<Self> {
        if tokens.len() < 2 {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!("perplexity needs at least two tokens, but the text has {}", tokens.len()),
            ));
        }
        model.check_tokens(tokens)?;
        let session = model.session(key, value)?;
        let forcing = Forcing::new(&session, tokens);
        Ok(Self { session, forcing, sum: 0.0 })
    }

    /// One unit of work after the other, until none is left or `go_on` says no; it is told of tokens. Not to be called again
    /// after an error.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` beyond the model's context, `ABORTED`.
    pub fn advance(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        let Self { session, forcing, sum } = self;
        loop {
            forcing.advance(session, cancel, &mut |_, logits, next| *sum -= log_probability(logits, next))?;
            let (done, total) = forcing.seen();
            let progress = Progress { done, total };
            if !go_on(progress) || progress.finished() {
                return Ok(progress);
            }
        }
    }

    /// What was found about the tokens so far.
    pub fn found(&self) -> Perplexity {
        let (tokens, _) = self.forcing.seen();
        Perplexity {
            perplexity: (self.sum / tokens as f64).exp(),
            tokens,
            cache_bytes: self.session.cache().byte_length(),
            float16_bytes: self.session.cache().float16_byte_length(),
        }
    }
}

/// Perplexity of `tokens` on a cache of these configurations, each token being predicted from the compressed cache of those
/// before it. The first token is given.
///
/// # Errors
/// `SHAPE_MISMATCH` for fewer than two tokens, `OUT_OF_RANGE` beyond the model's context, `INVALID_OPTION`, `ABORTED`.
pub fn perplexity(
    model: &Model,
    tokens: &[u32],
    key: GearConfig,
    value: GearConfig,
    cancel: Cancel,
) -> Result<Perplexity> {
    let mut run = PerplexityRun::new(model, tokens, key, value)?;
    run.advance(cancel, &mut |_| true)?;
    Ok(run.found())
}
