//! Presets beside a float16 cache on the same text: KL divergence, agreement, perplexity, bits an element.
//!
//! Protocol: an exact prefill, compressed once; then the continuation is forced, a buffer of tokens at a time, and compressed as
//! it streams.

use gearkv::{Cancel, ErrorCode, GearCache, GearConfig, GearError, GearOptions, Result, Role};
use serde::{Deserialize, Serialize};

use crate::model::Model;
use crate::perplexity::{log_sum_exp, stride};
use crate::sampler::likeliest;
use crate::session::Session;

/// Texts as token ids.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Tokens of each text that are the prompt.
    pub prompt_tokens: usize,
    /// Tokens behind the prompt that are predicted.
    pub continuation_tokens: usize,
    /// Names of the texts.
    #[serde(default)]
    pub names: Vec<String>,
    /// The texts; each has at least one token more than prompt and continuation together.
    pub token_ids: Vec<Vec<u32>>,
}

impl Windows {
    /// Reads windows from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` when something is missing or a window is too short.
    pub fn from_json(json: &str) -> Result<Self> {
        let windows: Self = serde_json::from_str(json).map_err(|e| invalid(format!("windows: {e}")))?;
        windows.check()?;
        Ok(windows)
    }

    fn check(&self) -> Result<()> {
        if self.prompt_tokens == 0 || self.continuation_tokens == 0 || self.token_ids.is_empty() {
            return Err(invalid("windows: expected promptTokens, continuationTokens and tokenIds, none of them empty"));
        }
        let needed = self.prompt_tokens.saturating_add(self.continuation_tokens).saturating_add(1);
        match self.token_ids.iter().position(|ids| ids.len() < needed) {
            None => Ok(()),
            Some(at) => Err(invalid(format!(
                "window {at} has {} tokens; {} of prompt and {} of continuation need {needed}",
                self.token_ids[at].len(),
                self.prompt_tokens,
                self.continuation_tokens
            ))),
        }
    }
}

fn invalid(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::InvalidOption, message)
}

/// A cache to be looked at.
#[derive(Debug, Clone, PartialEq)]
pub struct Candidate {
    /// What its row is called.
    pub name: String,
    /// How keys are kept.
    pub key: GearConfig,
    /// How values are kept.
    pub value: GearConfig,
}

impl Candidate {
    /// Keys and values by one preset.
    ///
    /// # Errors
    /// `INVALID_OPTION` when there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        let config = GearOptions { preset: Some(name.to_owned()), ..Default::default() }.resolve()?;
        Ok(Self { name: name.to_owned(), key: config.clone(), value: config })
    }
}

/// What [`eval_windows`] finds about one candidate.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct EvalRow {
    /// The candidate's name.
    pub preset: String,
    /// Bits of an element of the prompt, all metadata counted.
    pub bits_per_element: f64,
    /// Bits of an element of what was compressed while decoding; `None` when nothing was.
    pub decode_bits_per_element: Option<f64>,
    /// Mean Kullback-Leibler divergence of the next token's distribution from that on a float16 cache, in nats.
    pub kl: f64,
    /// Share of positions where both think the same token the likeliest.
    pub top1: f64,
    /// Of the continuation.
    pub perplexity: f64,
}

/// What [`eval_windows`] finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Perplexity on a float16 cache.
    pub float16_perplexity: f64,
    /// One row a candidate, in their order.
    pub rows: Vec<EvalRow>,
}

#[derive(Clone, Default)]
struct Sums {
    prompt_bits: f64,
    prompt_elements: f64,
    decode_bits: f64,
    decode_elements: f64,
    kl: f64,
    same: usize,
    loss: f64,
    positions: usize,
}

/// Compares caches with a float16 cache. `progress` is called with windows and candidates done, and all there are.
///
/// # Errors
/// `INVALID_OPTION`, `OUT_OF_RANGE` when a window does not suit the model, `ABORTED`.
pub fn eval_windows(
    model: &Model,
    windows: &Windows,
    candidates: &[Candidate],
    cancel: Cancel,
    progress: &mut dyn FnMut(usize, usize),
) -> Result<Evaluation> {
    windows.check()?;
    let float16 = Candidate::preset("float16")?;
    let mut sums = vec![Sums::default(); candidates.len()];
    let mut baseline = Sums::default();
    let total = windows.token_ids.len() * (candidates.len() + 1);
    let mut done = 0;
    for ids in &windows.token_ids {
        let (prompt, rest) = ids.split_at(windows.prompt_tokens);
        let mut exact = model.session(float16.key.clone(), float16.value.clone())?;
        exact.prefill(prompt, cancel)?;
        let reference = Reference::of(&mut exact.fork(), &rest[..=windows.continuation_tokens], cancel)?;
        baseline.loss += reference.loss;
        baseline.positions += windows.continuation_tokens;
        done += 1;
        progress(done, total);
        for (candidate, sums) in candidates.iter().zip(&mut sums) {
            let mut session = exact.recompress(candidate.key.clone(), candidate.value.clone(), cancel)?;
            let prompt_size = size(session.cache());
            sums.prompt_bits += prompt_size.0;
            sums.prompt_elements += prompt_size.1;
            reference.compare(&mut session, &rest[..=windows.continuation_tokens], sums, cancel)?;
            let compressed = compressed_size(session.cache());
            sums.decode_bits += compressed.0 - prompt_size.2.0;
            sums.decode_elements += compressed.1 - prompt_size.2.1;
            done += 1;
            progress(done, total);
        }
    }
    let rows = candidates.iter().zip(&sums).map(|(candidate, sums)| sums.row(&candidate.name)).collect();
    Ok(Evaluation { float16_perplexity: (baseline.loss / baseline.positions as f64).exp(), rows })
}

impl Sums {
    fn row(&self, name: &str) -> EvalRow {
        let positions = self.positions as f64;
        let decode = self.decode_bits / self.decode_elements;
        EvalRow {
            preset: name.to_owned(),
            bits_per_element: self.prompt_bits / self.prompt_elements,
            decode_bits_per_element: decode.is_finite().then_some(decode),
            kl: self.kl / positions,
            top1: self.same as f64 / positions,
            perplexity: (self.loss / positions).exp(),
        }
    }
}

/// Bits and elements of everything, and of the segments alone.
fn size(cache: &GearCache) -> (f64, f64, (f64, f64)) {
    let mut bits = 0.0;
    let mut elements = 0.0;
    for_each_tensor(cache, |tensor| {
        bits += tensor.parts().without_headers() as f64 * 8.0;
        elements += tensor.shape().elements() as f64;
    });
    (bits, elements, compressed_size(cache))
}

fn compressed_size(cache: &GearCache) -> (f64, f64) {
    let (mut bits, mut elements) = (0.0, 0.0);
    for_each_tensor(cache, |tensor| {
        let parts = tensor.parts();
        let raw = parts.sinks + parts.buffer;
        let wide = if tensor.config().storage == gearkv::Storage::Float32 { 4 } else { 2 };
        bits += (parts.without_headers() - raw) as f64 * 8.0;
        elements += (tensor.shape().elements() - raw / wide) as f64;
    });
    (bits, elements)
}

fn for_each_tensor(cache: &GearCache, mut f: impl FnMut(&gearkv::GearTensor)) {
    for layer in 0..cache.shape().layers {
        for role in [Role::Key, Role::Value] {
            if let Ok(tensor) = cache.tensor(layer, role) {
                f(tensor);
            }
        }
    }
}

/// Log-probabilities of a continuation on the float16 cache.
struct Reference {
    /// `[position][token]`
    log_probabilities: Vec<Vec<f32>>,
    loss: f64,
}

impl Reference {
    /// `ids` is the continuation and one token more.
    fn of(session: &mut Session, ids: &[u32], cancel: Cancel) -> Result<Self> {
        let (mut log_probabilities, mut loss) = (Vec::new(), 0.0);
        force(session, ids, cancel, |_, logits, next| {
            let normalizer = log_sum_exp(logits) as f32;
            let row: Vec<f32> = logits.iter().map(|x| x - normalizer).collect();
            loss -= f64::from(row[next as usize]);
            log_probabilities.push(row);
        })?;
        Ok(Self { log_probabilities, loss })
    }

    fn compare(&self, session: &mut Session, ids: &[u32], sums: &mut Sums, cancel: Cancel) -> Result<()> {
        force(session, ids, cancel, |position, logits, next| {
            let reference = &self.log_probabilities[position];
            let normalizer = log_sum_exp(logits);
            let kl: f64 = reference
                .iter()
                .zip(logits)
                .map(|(p, q)| f64::from(p.exp()) * (f64::from(*p) - (f64::from(*q) - normalizer)))
                .sum();
            sums.kl += kl;
            sums.same += usize::from(likeliest(reference) == likeliest(logits));
            sums.loss += normalizer - f64::from(logits[next as usize]);
            sums.positions += 1;
        })
    }
}

/// Forces `ids` but the last; `f` gets a position, the logits behind it and the token that comes next.
fn force(session: &mut Session, ids: &[u32], cancel: Cancel, mut f: impl FnMut(usize, &[f32], u32)) -> Result<()> {
    let stride = stride(session);
    let (given, next) = (&ids[..ids.len() - 1], &ids[1..]);
    for (chunk, (given, next)) in given.chunks(stride).zip(next.chunks(stride)).enumerate() {
        session.force(given, cancel, |i, logits| f(chunk * stride + i, logits, next[i]))?;
    }
    Ok(())
}
