//! How well a model predicts texts on a compressed cache.

use gearkv_llm::{Candidate, EvalRun, PerplexityRun, Texts, TuneRun, Windows};
use gearkv_marshal::{Slot, info, options};
use js_sys::Uint32Array;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::model::{Model, copy_u32};
use crate::slice::Slice;

/// A text on its way to its perplexity.
#[wasm_bindgen]
pub struct Perplexity {
    slot: Slot<PerplexityRun>,
}

#[wasm_bindgen]
impl Perplexity {
    /// Before the first token.
    #[wasm_bindgen(constructor)]
    pub fn new(
        model: &Model,
        ids: &Uint32Array,
        key_options_json: &str,
        value_options_json: &str,
    ) -> JsResult<Perplexity> {
        let begin = || {
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            let run = PerplexityRun::new(model.slot.get()?, &copy_u32(ids)?, key, value)?;
            Ok(Slot::new("measurement", run))
        };
        Ok(Self { slot: begin().map_err(thrown)? })
    }

    /// Goes on for about `milliseconds`, at least by one unit of work: tokens that are done, and all.
    pub fn advance(&mut self, milliseconds: f64) -> JsResult<Vec<u32>> {
        let slice = Slice::of(milliseconds);
        let advance = |run: &mut PerplexityRun| Ok(slice.counts(run.advance(gearkv::NEVER, &mut |_| slice.lasts())?));
        self.slot.change(advance).map_err(thrown)
    }

    /// What was found, as JSON.
    pub fn found(&self) -> JsResult<String> {
        self.slot.get().and_then(|run| info::to_json(&run.found())).map_err(thrown)
    }
}

/// Presets that are compared with a float16 cache.
#[wasm_bindgen]
pub struct Evaluation {
    slot: Slot<EvalRun>,
}

#[wasm_bindgen]
impl Evaluation {
    /// Before the first window.
    #[wasm_bindgen(constructor)]
    pub fn new(model: &Model, windows_json: &str, presets_json: &str) -> JsResult<Evaluation> {
        let begin = || {
            let candidates = Candidate::list_from_json(presets_json)?;
            let run = EvalRun::of_texts(model.slot.get()?, Texts::from_json(windows_json)?, candidates)?;
            Ok(Slot::new("evaluation", run))
        };
        Ok(Self { slot: begin().map_err(thrown)? })
    }

    /// Goes on for about `milliseconds`, at least by one unit of work: windows that are done, once for each preset and once for
    /// float16, and all.
    pub fn advance(&mut self, milliseconds: f64) -> JsResult<Vec<u32>> {
        let slice = Slice::of(milliseconds);
        let advance = |run: &mut EvalRun| Ok(slice.counts(run.advance(gearkv::NEVER, &mut |_| slice.lasts())?));
        self.slot.change(advance).map_err(thrown)
    }

    /// JSON of `{float16Perplexity, rows}`, and `windows` where they were asked for.
    pub fn found(&self) -> JsResult<String> {
        self.slot.get().and_then(|run| info::to_json(&run.found())).map_err(thrown)
    }
}

/// What each layer's bits are worth, being found out.
#[wasm_bindgen]
pub struct LayerTuning {
    slot: Slot<TuneRun>,
}

#[wasm_bindgen]
impl LayerTuning {
    /// Before the first window.
    #[wasm_bindgen(constructor)]
    pub fn new(
        model: &Model,
        windows_json: &str,
        key_options_json: &str,
        value_options_json: &str,
    ) -> JsResult<LayerTuning> {
        let begin = || {
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            let run = TuneRun::new(model.slot.get()?, Windows::from_json(windows_json)?, &key, &value)?;
            Ok(Slot::new("tuning", run))
        };
        Ok(Self { slot: begin().map_err(thrown)? })
    }

    /// Goes on for about `milliseconds`, at least by one unit of work: windows that are done, once for each half of each layer and
    /// once for float16, and all.
    pub fn advance(&mut self, milliseconds: f64) -> JsResult<Vec<u32>> {
        let slice = Slice::of(milliseconds);
        let advance = |run: &mut TuneRun| Ok(slice.counts(run.advance(gearkv::NEVER, &mut |_| slice.lasts())?));
        self.slot.change(advance).map_err(thrown)
    }

    /// JSON of `{key, value}`, each `{layerBits, kl}`.
    pub fn found(&self) -> JsResult<String> {
        self.slot.get().and_then(|run| info::to_json(&run.found())).map_err(thrown)
    }
}
