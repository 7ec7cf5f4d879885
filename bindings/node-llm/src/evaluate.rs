//! How well a model predicts texts on a compressed cache.

use gearkv::GearConfig;
use gearkv_llm::{Candidate, Model as LoadedModel, Progress as Done, Texts, TuneRun, Windows, eval_texts, perplexity};
use gearkv_marshal::{info, options};
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
    texts: Texts,
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
            info::to_json(&eval_texts(&self.model, self.texts.clone(), &self.candidates, &cancel, &mut progress)?)
        })
    }

    fn resolve(&mut self, _env: Env, found: String) -> napi::Result<String> {
        Ok(found)
    }
}

/// Compares presets with a float16 cache in the background: JSON of `{float16Perplexity, rows}`, and `windows` where they were asked for.
#[napi(ts_return_type = "Promise<string>")]
pub fn eval_task(
    model: &Model,
    windows_json: String,
    presets_json: String,
    cancel: &Cancel,
    progress: &Progress,
) -> napi::Result<AsyncTask<Evaluate>> {
    let model = model.held.read(|model| Ok(model.clone()))?;
    let (texts, candidates) =
        guard(|| Ok((Texts::from_json(&windows_json)?, Candidate::list_from_json(&presets_json)?)))?;
    let (counts, cancel) = (progress.counts(), cancel.flag());
    Ok(AsyncTask::new(Evaluate { model, texts, candidates, counts, cancel }))
}

/// What each layer's bits are worth, to be found out.
pub struct TuneLayers {
    run: TuneRun,
    counts: Counts,
    cancel: Flag,
}

impl Task for TuneLayers {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| {
            let Self { run, counts, cancel } = self;
            run.advance(&|| cancel.raised(), &mut |Done { done, total }| {
                counts.tell(done, total);
                true
            })?;
            info::to_json(&run.found())
        })
    }

    fn resolve(&mut self, _env: Env, found: String) -> napi::Result<String> {
        Ok(found)
    }
}

/// Finds out in the background what each layer's bits are worth: JSON of `{key, value}`, each `{layerBits, kl}`.
#[napi(ts_return_type = "Promise<string>")]
pub fn tune_task(
    model: &Model,
    windows_json: String,
    key_options_json: String,
    value_options_json: String,
    cancel: &Cancel,
    progress: &Progress,
) -> napi::Result<AsyncTask<TuneLayers>> {
    let model = model.held.read(|model| Ok(model.clone()))?;
    let run = guard(|| {
        let (key, value) = options::pair(&key_options_json, &value_options_json)?;
        Ok(TuneRun::new(&model, Windows::from_json(&windows_json)?, &key, &value)?)
    })?;
    Ok(AsyncTask::new(TuneLayers { run, counts: progress.counts(), cancel: cancel.flag() }))
}
