//! How well a model predicts texts on a compressed cache.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use gearkv::GearConfig;
use gearkv_llm::{Candidate, Model as LoadedModel, Windows, eval_windows, perplexity};
use gearkv_marshal::{Result, info, options};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::cancel::{Cancel, Flag};
use crate::guard::guard;
use crate::model::Model;

/// How far a task has come; to be looked at now and then.
#[napi]
pub struct Progress {
    counts: Arc<Counts>,
}

#[derive(Default)]
struct Counts {
    done: AtomicU32,
    total: AtomicU32,
}

#[napi]
impl Progress {
    /// Nothing done yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript makes one")]
    pub fn new() -> Self {
        Self { counts: Arc::default() }
    }

    /// Parts of the work that are done.
    #[napi]
    pub fn done(&self) -> u32 {
        self.counts.done.load(Ordering::Relaxed)
    }

    /// All parts; 0 before the first is done.
    #[napi]
    pub fn total(&self) -> u32 {
        self.counts.total.load(Ordering::Relaxed)
    }
}

/// A text whose tokens are to be predicted.
pub struct MeasurePerplexity {
    model: LoadedModel,
    ids: Vec<u32>,
    key: GearConfig,
    value: GearConfig,
    cancel: Flag,
}

impl Task for MeasurePerplexity {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| {
            let Self { model, ids, key, value, cancel } = self;
            info::to_json(&perplexity(model, ids, key.clone(), value.clone(), &|| cancel.raised())?)
        })
    }

    fn resolve(&mut self, _env: Env, found: String) -> napi::Result<String> {
        Ok(found)
    }
}

/// Perplexity of tokens in the background, as JSON.
#[napi(ts_return_type = "Promise<string>")]
pub fn perplexity_task(
    model: &Model,
    ids: &[u32],
    key_options_json: String,
    value_options_json: String,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<MeasurePerplexity>> {
    let model = model.held.read(|model| Ok(model.clone()))?;
    let (key, value) = guard(|| Ok((options::config(&key_options_json)?, options::config(&value_options_json)?)))?;
    Ok(AsyncTask::new(MeasurePerplexity { model, ids: ids.to_vec(), key, value, cancel: cancel.flag() }))
}

/// Presets to be compared with a float16 cache.
pub struct Evaluate {
    model: LoadedModel,
    windows: Windows,
    candidates: Vec<Candidate>,
    counts: Arc<Counts>,
    cancel: Flag,
}

impl Task for Evaluate {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| {
            let mut progress = |done: usize, total: usize| {
                self.counts.total.store(total as u32, Ordering::Relaxed);
                self.counts.done.store(done as u32, Ordering::Relaxed);
            };
            let cancel = || self.cancel.raised();
            info::to_json(&eval_windows(&self.model, &self.windows, &self.candidates, &cancel, &mut progress)?)
        })
    }

    fn resolve(&mut self, _env: Env, found: String) -> napi::Result<String> {
        Ok(found)
    }
}

/// Compares presets with a float16 cache in the background: JSON of `{float16Perplexity, rows}`.
#[napi(ts_return_type = "Promise<string>")]
pub fn eval_task(
    model: &Model,
    windows_json: String,
    presets_json: String,
    cancel: &Cancel,
    progress: &Progress,
) -> napi::Result<AsyncTask<Evaluate>> {
    let model = model.held.read(|model| Ok(model.clone()))?;
    let (windows, candidates) = guard(|| {
        let presets: Vec<String> = options::read("presets", &presets_json)?;
        let candidates = presets.iter().map(|name| Ok(Candidate::preset(name)?)).collect::<Result<_>>()?;
        Ok((Windows::from_json(&windows_json)?, candidates))
    })?;
    let (counts, cancel) = (progress.counts.clone(), cancel.flag());
    Ok(AsyncTask::new(Evaluate { model, windows, candidates, counts, cancel }))
}
