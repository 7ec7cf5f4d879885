//! How well a model predicts texts on a compressed cache.

use gearkv_llm::{Candidate, Windows, eval_windows};
use gearkv_marshal::{Result, info, options};
use js_sys::{Function, Uint32Array};
use wasm_bindgen::JsValue;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::model::{Model, copy_u32};
use crate::stopped::Stopped;

/// Perplexity of tokens, as JSON.
#[wasm_bindgen]
pub fn perplexity(
    model: &Model,
    ids: &Uint32Array,
    key_options_json: &str,
    value_options_json: &str,
    stopped: &Function,
) -> JsResult<String> {
    let measure = || {
        let (key, value) = (options::config(key_options_json)?, options::config(value_options_json)?);
        let (ids, stopped) = (copy_u32(ids)?, Stopped(stopped));
        info::to_json(&gearkv_llm::perplexity(model.slot.get()?, &ids, key, value, &|| stopped.raised())?)
    };
    measure().map_err(thrown)
}

/// Compares presets with a float16 cache: JSON of `{float16Perplexity, rows}`. `progress` is told `(done, total)`.
#[wasm_bindgen]
pub fn evaluate(
    model: &Model,
    windows_json: &str,
    presets_json: &str,
    stopped: &Function,
    progress: &Function,
) -> JsResult<String> {
    let compare = || {
        let presets: Vec<String> = options::read("presets", presets_json)?;
        let candidates = presets.iter().map(|name| Ok(Candidate::preset(name)?)).collect::<Result<Vec<_>>>()?;
        let (windows, stopped) = (Windows::from_json(windows_json)?, Stopped(stopped));
        let mut tell = |done: usize, total: usize| {
            // Whoever listens may fail; the work does not depend on it.
            let _ = progress.call2(&JsValue::UNDEFINED, &(done as f64).into(), &(total as f64).into());
        };
        info::to_json(&eval_windows(model.slot.get()?, &windows, &candidates, &|| stopped.raised(), &mut tell)?)
    };
    compare().map_err(thrown)
}
