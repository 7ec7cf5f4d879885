//! Presets beside a float16 cache on the same text: KL divergence, agreement, perplexity, bits an element.
//!
//! Protocol: an exact prefill, compressed once; then the continuation is forced, a buffer of tokens at a time, and compressed as
//! it streams.

use std::sync::Arc;

use gearkv::{Cancel, ErrorCode, FreezeOptions, GearConfig, GearError, GearOptions, Result, Role};
use serde::{Deserialize, Serialize};

use crate::comparison::EvalRun;
use crate::h2o::H2o;
use crate::layer_errors::LayerError;
use crate::method::Method;
use crate::model::Model;
use crate::pass::Progress;
use crate::texts::{Texts, Windows};

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
    /// `frozen-3.1-queries` for one whose steps follow the queries; or `h2o-0.5` for heavy hitters and the newest tokens, half of all.
    ///
    /// # Errors
    /// `INVALID_OPTION` when there is no such preset.
    pub fn preset(name: &str) -> Result<Self> {
        if let Some(size) = name.strip_prefix("frozen-") {
            return Self::frozen(name, size);
        }
        if let Some(share) = name.strip_prefix("h2o-") {
            return Ok(Self::method(Arc::new(H2o::named(name, share)?)));
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
    /// Errors of each layer's prompt, where they were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub layers: Option<Vec<LayerError>>,
}

/// What [`eval_windows`] finds about one candidate in one window.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowRow {
    /// As for all windows together.
    #[serde(flatten)]
    pub row: EvalRow,
    /// Divergence at each position of the continuation, in nats.
    pub position_kl: Vec<f32>,
    /// Whether both think the same token the likeliest there.
    pub position_same: Vec<bool>,
}

/// What [`eval_windows`] finds in one window.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct WindowFound {
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
    /// Tokens behind it that were predicted.
    pub continuation_tokens: usize,
    /// Perplexity on a float16 cache.
    pub float16_perplexity: f64,
    /// One row a candidate, in their order.
    pub rows: Vec<WindowRow>,
}

/// What [`eval_windows`] finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Evaluation {
    /// Perplexity on a float16 cache.
    pub float16_perplexity: f64,
    /// One row a candidate, in their order.
    pub rows: Vec<EvalRow>,
    /// Each window, where that was asked for.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub windows: Vec<WindowFound>,
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
    eval_texts(model, windows.clone().try_into()?, candidates, cancel, progress)
}

/// As [`eval_windows`], on texts whose lengths may differ.
///
/// # Errors
/// As [`eval_windows`].
pub fn eval_texts(
    model: &Model,
    texts: Texts,
    candidates: &[Candidate],
    cancel: Cancel,
    progress: &mut (dyn FnMut(usize, usize) + Send),
) -> Result<Evaluation> {
    let mut run = EvalRun::of_texts(model, texts, candidates.to_vec())?;
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
