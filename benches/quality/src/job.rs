//! What is to be measured, and measuring it.

use std::path::PathBuf;
use std::sync::Arc;

use gearkv::{ErrorCode, GearError, GearOptions, NEVER, Result, Role};
use gearkv_llm::{Cache, Candidate, Model, Windows, eval_windows};
use serde::{Deserialize, Serialize};

use crate::fixture::{Errors, Fixture};
use crate::methods::{CodecMethod, Named, find};

/// Rows to be measured on one model.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Job {
    /// A GGUF file.
    pub model: PathBuf,
    /// Texts as token ids, as [`Windows`] has them.
    pub windows: PathBuf,
    /// The GGUF file whose token ids the texts are, where that is another model: they become text, and the model's own tokens.
    #[serde(default)]
    pub windows_model: Option<PathBuf>,
    /// Which of the texts; all where this is left out.
    #[serde(default)]
    pub texts: Option<Vec<usize>>,
    /// A recorded cache for the errors of keys, values and attention; without one the model's own is recorded.
    #[serde(default)]
    pub fixture: Option<PathBuf>,
    /// What is measured.
    pub rows: Vec<Row>,
}

/// One thing to be measured: a method's name, or GEAR's options.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Row {
    /// What it is called.
    pub name: String,
    /// A name that [`find`] knows, or a frozen cache's, as [`Candidate::preset`] takes it.
    #[serde(default)]
    pub method: Option<String>,
    /// Options of keys.
    #[serde(default)]
    pub key: GearOptions,
    /// Options of values.
    #[serde(default)]
    pub value: GearOptions,
    /// Whether the prompt's queries are at hand when it is compressed.
    #[serde(default = "yes")]
    pub queries: bool,
}

fn yes() -> bool {
    true
}

/// What was found about a row.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Found {
    /// The row's name.
    pub name: String,
    /// Bits of an element of the prompt, all metadata counted.
    pub bits_per_element: f64,
    /// Bits of an element of what was kept while decoding; `None` where nothing was.
    pub decode_bits_per_element: Option<f64>,
    /// Mean Kullback-Leibler divergence from a float16 cache, in nats.
    pub kl: f64,
    /// Share of positions where both think the same token the likeliest.
    pub top1: f64,
    /// Of the continuations.
    pub perplexity: f64,
    /// On the recorded cache; `None` where a method does more than change tokens.
    pub errors: Option<Errors>,
}

/// What [`run`] tells, in this order: progress, then the perplexity of float16, then the rows.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "camelCase", rename_all_fields = "camelCase")]
pub enum Message {
    /// Texts that were read, once on float16 and once for each row, and all there are.
    Progress {
        /// Done.
        done: usize,
        /// To be done.
        total: usize,
    },
    /// The texts, and what the model makes of them on a float16 cache.
    Baseline {
        /// Perplexity of the continuations.
        perplexity: f64,
        /// Texts.
        windows: usize,
        /// Tokens of each prompt.
        prompt_tokens: usize,
        /// Tokens of each continuation.
        continuation_tokens: usize,
    },
    /// A row.
    Row(Found),
}

/// Measures all rows.
///
/// # Errors
/// `INVALID_OPTION` for options or a method that do not exist, and whatever reading the files finds wrong.
pub fn run(job: &Job, tell: &mut (dyn FnMut(Message) + Send)) -> Result<()> {
    let model = Model::load(&job.model)?;
    let windows = windows(job, &model)?;
    let fixture = match &job.fixture {
        Some(path) => Fixture::read(path)?,
        None => Fixture::record(&model, &windows)?,
    };
    // Before the texts, which take minutes: what is wrong with a row shows at once.
    let mut candidates = Vec::new();
    let mut errors = Vec::new();
    for row in &job.rows {
        let (candidate, found) = prepare(row, &fixture)?;
        candidates.push(candidate);
        errors.push(found);
    }
    let evaluation = eval_windows(&model, &windows, &candidates, NEVER, &mut |done, total| {
        tell(Message::Progress { done, total });
    })?;
    tell(Message::Baseline {
        perplexity: evaluation.float16_perplexity,
        windows: windows.token_ids.len(),
        prompt_tokens: windows.prompt_tokens,
        continuation_tokens: windows.continuation_tokens,
    });
    for (row, errors) in evaluation.rows.into_iter().zip(errors) {
        tell(Message::Row(Found {
            name: row.preset,
            bits_per_element: row.bits_per_element,
            decode_bits_per_element: row.decode_bits_per_element,
            kl: row.kl,
            top1: row.top1,
            perplexity: row.perplexity,
            errors,
        }));
    }
    Ok(())
}

fn prepare(row: &Row, fixture: &Fixture) -> Result<(Candidate, Option<Errors>)> {
    let name = row.name.clone();
    let Some(method) = &row.method else {
        let (key, value) = (row.key.resolve(Role::Key)?, row.value.resolve(Role::Value)?);
        // The recorded layers are only some of the model's.
        let is_alike = key.layer_bits.is_empty() && value.layer_bits.is_empty();
        let errors = is_alike.then(|| fixture.gear(&key, &value)).transpose()?;
        return Ok((Candidate { name, cache: Cache::Gear { key, value, queries: row.queries } }, errors));
    };
    if method.starts_with("frozen-") {
        return Ok((Candidate { name, ..Candidate::preset(method)? }, None));
    }
    match find(method)? {
        Named::Codec(codec) => {
            let errors = fixture.codec(&*codec)?;
            Ok((Candidate::method(Arc::new(CodecMethod { name, codec })), Some(errors)))
        }
        Named::Other(method) => Ok((Candidate { name, cache: Cache::Method(method) }, None)),
    }
}

fn windows(job: &Job, model: &Model) -> Result<Windows> {
    let failed =
        |e: &dyn std::fmt::Display| GearError::new(ErrorCode::IoFailed, format!("{}: {e}", job.windows.display()));
    let mut windows = Windows::from_json(&std::fs::read_to_string(&job.windows).map_err(|e| failed(&e))?)?;
    if let Some(texts) = &job.texts {
        let missing = || failed(&format!("it has {} texts, and not all of {texts:?}", windows.token_ids.len()));
        let chosen = |&text: &usize| windows.token_ids.get(text).cloned().ok_or_else(missing);
        windows.token_ids = texts.iter().map(chosen).collect::<Result<_>>()?;
        windows.names.clear();
    }
    if let Some(path) = &job.windows_model {
        translate(&mut windows, &Model::load(path)?, model)?;
    }
    Ok(windows)
}

/// The same texts in the tokens of another model, which may be fewer: prompts become as long as all texts allow, in steps of 64.
fn translate(windows: &mut Windows, from: &Model, to: &Model) -> Result<()> {
    const STEP: usize = 64;
    for ids in &mut windows.token_ids {
        *ids = to.tokenizer().encode(&from.tokenizer().decode(ids), true)?;
    }
    let shortest = windows.token_ids.iter().map(Vec::len).min().unwrap_or(0);
    let room = shortest.saturating_sub(windows.continuation_tokens + 1);
    windows.prompt_tokens = windows.prompt_tokens.min(room / STEP * STEP);
    // What does not fit is found out by whoever reads them.
    Ok(())
}
