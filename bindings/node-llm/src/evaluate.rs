//! How well a model predicts texts on a compressed cache.

use gearkv::GearConfig;
use gearkv_llm::{Candidate, Model as LoadedModel, Windows, eval_windows, perplexity};
use gearkv_marshal::{Result, info, options};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::cancel::{Cancel, Flag};
use crate::guard::guard;
use crate::model::Model;
use crate::progress::{Counts, Progress};

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
    let (key, value) = guard(|| options::pair(&key_options_json, &value_options_json))?;
    Ok(AsyncTask::new(MeasurePerplexity { model, ids: ids.to_vec(), key, value, cancel: cancel.flag() }))
}

/// Presets to be compared with a float16 cache.
pub struct Evaluate {
    model: LoadedModel,
    windows: Windows,
    candidates: Vec<Candidate>,
    counts: Counts,
    cancel: Flag,
}

impl Task for Evaluate {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| {
            let mut progress = |done, total| self.counts.tell(done, total);
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
    let (counts, cancel) = (progress.counts(), cancel.flag());
    Ok(AsyncTask::new(Evaluate { model, windows, candidates, counts, cancel }))
}
