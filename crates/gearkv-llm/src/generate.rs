//! A text from a prompt, piece by piece.

use gearkv::{Cancel, ErrorCode, GearError, Result};
use serde::{Deserialize, Serialize};

use crate::sampler::{Sampler, SamplerOptions};
use crate::sequence::Sequence;
use crate::session::Session;
use crate::stop::StopStrings;
use crate::tokenizer::StreamDecoder;

/// When to stop, and how to choose.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GenerateOptions {
    /// Tokens to generate at most.
    pub max_tokens: usize,
    /// Texts that end the answer; they are not part of it.
    pub stop: Vec<String>,
    /// Whether the model's own end tokens are passed over.
    pub ignore_end: bool,
    /// See [`SamplerOptions::temperature`].
    pub temperature: f32,
    /// See [`SamplerOptions::top_k`].
    pub top_k: usize,
    /// See [`SamplerOptions::top_p`].
    pub top_p: f32,
    /// See [`SamplerOptions::seed`].
    pub seed: u32,
}

impl Default for GenerateOptions {
    fn default() -> Self {
        let SamplerOptions { temperature, top_k, top_p, seed } = SamplerOptions::default();
        Self { max_tokens: 256, stop: Vec::new(), ignore_end: false, temperature, top_k, top_p, seed }
    }
}

impl GenerateOptions {
    /// Reads options from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` for a field that does not exist or has the wrong type.
    pub fn from_json(json: &str) -> Result<Self> {
        let invalid = |message: String| GearError::new(ErrorCode::InvalidOption, message);
        if !json.trim_start().starts_with('{') {
            return Err(invalid("generation options: expected a JSON object".into()));
        }
        serde_json::from_str(json).map_err(|e| invalid(format!("generation options: {e}")))
    }

    fn sampler(&self) -> Result<Sampler> {
        let Self { temperature, top_k, top_p, seed, .. } = *self;
        Sampler::new(SamplerOptions { temperature, top_k, top_p, seed })
    }
}

/// Why a text ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Reason {
    /// The model said so, or a stop string came.
    Stop,
    /// `maxTokens` tokens, or the end of the model's context.
    Length,
}

/// What [`Generation::next`] gives.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Step {
    /// The token; `None` where the end came without one.
    pub token: Option<u32>,
    /// Text that is certain now; may be empty, as when a character is not complete yet.
    pub text: String,
    /// Why this is the last step; `None` when it is not.
    pub reason: Option<Reason>,
}

/// A text in the making: one [`Self::next`] a token.
#[derive(Clone)]
pub struct Generation {
    options: GenerateOptions,
    sampler: Sampler,
    stop: StopStrings,
    decoder: StreamDecoder,
    generated: usize,
    done: Option<Reason>,
}

impl Generation {
    /// Begins behind what the session holds.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn new(options: GenerateOptions) -> Result<Self> {
        Ok(Self {
            sampler: options.sampler()?,
            stop: StopStrings::new(&options.stop)?,
            decoder: StreamDecoder::default(),
            options,
            generated: 0,
            done: None,
        })
    }

    /// The next token and its text. The session then has all tokens but the one that it was given last; an end token is left out.
    ///
    /// # Errors
    /// What [`Sequence::push`] finds wrong; `SHAPE_MISMATCH` when the session is empty.
    pub fn next<S: Sequence>(&mut self, session: &mut S, cancel: Cancel) -> Result<Step> {
        let step = self.choose(session)?;
        if let (Some(token), None) = (step.token, step.reason) {
            session.push(token, cancel)?;
        }
        Ok(step)
    }

    /// [`Self::next`] of several texts, each with its session. The weights are read once for all of them.
    ///
    /// # Errors
    /// As [`Self::next`], and as [`Session::step_all`].
    pub fn next_all(generations: &mut [&mut Self], sessions: &mut [&mut Session], cancel: Cancel) -> Result<Vec<Step>> {
        if generations.len() != sessions.len() {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!("{} texts for {} sessions; expected one each", generations.len(), sessions.len()),
            ));
        }
        let chosen = generations.iter_mut().zip(sessions.iter());
        let steps = chosen.map(|(generation, session)| generation.choose(&**session)).collect::<Result<Vec<_>>>()?;
        let (mut going, mut tokens) = (Vec::new(), Vec::new());
        for (step, session) in steps.iter().zip(sessions.iter_mut()) {
            if let (Some(token), None) = (step.token, step.reason) {
                going.push(&mut **session);
                tokens.push(token);
            }
        }
        if !going.is_empty() {
            Session::step_all(&mut going, &tokens, cancel)?;
        }
        Ok(steps)
    }

    /// The next token, which the session does not have yet.
    fn choose<S: Sequence>(&mut self, session: &S) -> Result<Step> {
        if let Some(reason) = self.done {
            return Ok(Step { token: None, text: String::new(), reason: Some(reason) });
        }
        if self.generated >= self.options.max_tokens {
            return Ok(self.finish(None, Reason::Length));
        }
        let token = self.sampler.sample(session.logits())?;
        let tokenizer = session.tokenizer();
        if tokenizer.is_end(token) && !self.options.ignore_end {
            return Ok(self.finish(None, Reason::Stop));
        }
        self.generated += 1;
        let (text, stopped) = self.stop.push(&self.decoder.push(tokenizer, token));
        if stopped {
            self.done = Some(Reason::Stop);
            return Ok(Step { token: Some(token), text, reason: self.done });
        }
        let full = session.tokens().len() >= session.info().context_length;
        if self.generated >= self.options.max_tokens || full {
            let mut last = self.finish(Some(token), Reason::Length);
            last.text.insert_str(0, &text);
            return Ok(last);
        }
        Ok(Step { token: Some(token), text, reason: None })
    }

    /// Why it has ended; `None` while it goes on.
    pub(crate) fn ended(&self) -> Option<Reason> {
        self.done
    }

    /// Ends a text that cannot begin, since its prompt fills the context.
    pub(crate) fn end_for_length(&mut self) {
        self.done = Some(Reason::Length);
    }

    fn finish(&mut self, token: Option<u32>, reason: Reason) -> Step {
        self.done = Some(reason);
        let rest = self.decoder.finish();
        let (mut text, stopped) = self.stop.push(&rest);
        if !stopped {
            text += &self.stop.finish();
        }
        Step { token, text, reason: Some(reason) }
    }
}

/// A finished text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Generated {
    /// The tokens, without the end token.
    pub tokens: Vec<u32>,
    /// Their text, without the stop string.
    pub text: String,
    /// Why it ended.
    pub reason: Reason,
}

/// Appends `prompt` and generates; `on_piece` gets the text as it comes.
///
/// # Errors
/// `INVALID_OPTION`, `OUT_OF_RANGE` when the prompt is longer than the context, `ABORTED`: the session then has what was done.
pub fn generate<S: Sequence>(
    session: &mut S,
    prompt: &[u32],
    options: &GenerateOptions,
    cancel: Cancel,
    on_piece: &mut dyn FnMut(&str),
) -> Result<Generated> {
    let mut generation = Generation::new(options.clone())?;
    session.extend(prompt, cancel)?;
    let (mut tokens, mut text) = (Vec::new(), String::new());
    loop {
        let step = generation.next(session, cancel)?;
        tokens.extend(step.token);
        if !step.text.is_empty() {
            on_piece(&step.text);
            text += &step.text;
        }
        if let Some(reason) = step.reason {
            return Ok(Generated { tokens, text, reason });
        }
    }
}
