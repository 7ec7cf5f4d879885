//! Presets beside a float16 cache on the same text: KL divergence, agreement, perplexity, bits an element.
//!
//! Protocol: an exact prefill, compressed once; then the continuation is forced, a buffer of tokens at a time, and compressed as
//! it streams.

use std::sync::Arc;

use gearkv::{Cancel, ErrorCode, FreezeOptions, GearConfig, GearError, GearOptions, Result, Role};
use serde::{Deserialize, Serialize};

use crate::comparison::EvalRun;
use crate::method::Method;
use crate::model::Model;
use crate::pass::Progress;

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

    pub(crate) fn check(&self) -> Result<()> {
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
#[derive(Clone)]
pub struct Candidate {
    /// What its row is called.
    pub name: String,
    /// What it is.
    pub cache: Cache,
}

/// How keys and values are kept.
#[derive(Clone)]
pub enum Cache {
    /// In a [`gearkv::GearCache`].
    Gear {
        /// How keys are kept.
        key: GearConfig,
        /// How values are kept.
        value: GearConfig,
        /// Whether the prompt's queries are at hand when it is compressed, as they are in a prefill.
        queries: bool,
    },
    /// In a [`gearkv::GearCache`] of which only the keys or the values of one layer are compressed, with the prompt's queries at hand; all
    /// others are in float16.
    Half {
        /// The layer.
        layer: usize,
        /// Whether it is its keys or its values.
        role: Role,
        /// How they are kept.
        config: GearConfig,
    },
    /// At rest: the prompt is frozen and thawed into float16; what comes behind it stays in float16.
    Frozen {
        /// How small.
        options: FreezeOptions,
        /// Whether steps of keys follow the prompt's queries.
        queries: bool,
    },
    /// By something else.
    Method(Arc<dyn Method>),
}

/// The configurations of keys and of values of a preset.
///
/// # Errors
/// `INVALID_OPTION` when there is no such preset.
pub(crate) fn preset_pair(name: &str) -> Result<(GearConfig, GearConfig)> {
    let options = GearOptions { preset: Some(name.to_owned()), ..Default::default() };
    Ok((options.resolve(Role::Key)?, options.resolve(Role::Value)?))
}

impl Cache {
    /// Whether what becomes of the prompt depends on its queries.
    pub(crate) fn needs_queries(&self) -> bool {
        match self {
            Self::Gear { key, value, queries } => *queries && (key.mean_bits != 0.0 || value.mean_bits != 0.0),
            Self::Half { config, .. } => config.mean_bits != 0.0,
            Self::Frozen { queries, .. } => *queries,
            Self::Method(_) => true,
        }
    }
}

impl Candidate {
    /// As if the prompt's queries were not at hand when it is compressed.
    #[must_use]
    pub fn without_queries(mut self) -> Self {
        if let Cache::Gear { queries, .. } = &mut self.cache {
            *queries = false;
        }
        self
    }

    /// Keys and values by one preset; or `frozen-3.1` for a cache at rest in that many bits an element, and
    /// `frozen-3.1-queries` for one whose steps follow the queries.
    ///
    /// # Errors
    /// `INVALID_OPTION` when there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        if let Some(size) = name.strip_prefix("frozen-") {
            return Self::frozen(name, size);
        }
        let options = GearOptions { preset: Some(name.to_owned()), ..Default::default() };
        Self::gear(name, &options, &options)
    }

    /// Reads a list of them: names, as [`Self::preset`] takes them, and `{"name", "key", "value"}` with options of keys and of values.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn list_from_json(json: &str) -> Result<Vec<Self>> {
        #[derive(Deserialize)]
        #[serde(untagged)]
        enum Given {
            Name(String),
            Options { name: String, key: Box<GearOptions>, value: Box<GearOptions> },
        }
        let given: Vec<Given> = serde_json::from_str(json).map_err(|e| invalid(format!("presets: {e}")))?;
        let candidate = |given| match given {
            Given::Name(name) => Self::preset(&name),
            Given::Options { name, key, value } => Self::gear(&name, &key, &value),
        };
        given.into_iter().map(candidate).collect()
    }

    fn frozen(name: &str, size: &str) -> Result<Self> {
        let (bits, queries) = match size.strip_suffix("-queries") {
            Some(bits) => (bits, true),
            None => (size, false),
        };
        let Ok(bits) = bits.parse::<f64>() else {
            return Err(invalid(format!(
                "{name:?} is not a preset; a frozen cache is named by its size, as frozen-3.1"
            )));
        };
        let options = FreezeOptions { bits_per_element: Some(bits), ..Default::default() };
        Ok(Self { name: name.to_owned(), cache: Cache::Frozen { options, queries } })
    }

    /// Keys and values by options.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn gear(name: &str, key: &GearOptions, value: &GearOptions) -> Result<Self> {
        let cache = Cache::Gear { key: key.resolve(Role::Key)?, value: value.resolve(Role::Value)?, queries: true };
        Ok(Self { name: name.to_owned(), cache })
    }

    /// Keys and values by something that is no preset.
    pub fn method(method: Arc<dyn Method>) -> Self {
        Self { name: method.name().to_owned(), cache: Cache::Method(method) }
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

/// Compares caches with a float16 cache. `progress` is called with windows and candidates done, and all there are.
///
/// # Errors
/// `INVALID_OPTION`, `OUT_OF_RANGE` when a window does not suit the model, `ABORTED`.
pub fn eval_windows(
    model: &Model,
    windows: &Windows,
    candidates: &[Candidate],
    cancel: Cancel,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Evaluation> {
    let mut run = EvalRun::new(model, windows.clone(), candidates.to_vec())?;
    let mut told = 0;
    run.advance(cancel, &mut |Progress { done, total }| {
        if done > told {
            told = done;
            progress(done, total);
        }
        true
    })?;
    Ok(run.found())
}
