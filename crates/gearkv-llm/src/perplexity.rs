//! How well a model predicts a text on a given cache.

use gearkv::{Cancel, ErrorCode, GearConfig, GearError, Result};
use serde::Serialize;

use crate::model::Model;
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

/// Tokens that are forced at a time so that compression works as in decoding: as many as fill the buffer.
pub(crate) fn stride(session: &Session) -> usize {
    let tensor = |role| session.cache().tensor(0, role);
    let buffer = [gearkv::Role::Key, gearkv::Role::Value]
        .into_iter()
        .filter_map(|role| tensor(role).ok())
        .map(|tensor| tensor.config().buffer_tokens as usize)
        .min();
    buffer.unwrap_or(1).max(1)
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
    if tokens.len() < 2 {
        return Err(GearError::new(
            ErrorCode::ShapeMismatch,
            format!("perplexity needs at least two tokens, but the text has {}", tokens.len()),
        ));
    }
    model.check_tokens(tokens)?;
    let mut session = model.session(key, value)?;
    let mut sum = 0.0;
    let (given, predicted) = (&tokens[..tokens.len() - 1], &tokens[1..]);
    let stride = stride(&session);
    for (given, predicted) in given.chunks(stride).zip(predicted.chunks(stride)) {
        session.force(given, cancel, |i, logits| sum -= log_probability(logits, predicted[i]))?;
    }
    Ok(Perplexity {
        perplexity: (sum / predicted.len() as f64).exp(),
        tokens: predicted.len(),
        cache_bytes: session.cache().byte_length(),
        float16_bytes: session.cache().float16_byte_length(),
    })
}
