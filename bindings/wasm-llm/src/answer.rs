//! Taking tokens in, and generating them one by one.

use gearkv_llm::{GenerateOptions, Generation};
use gearkv_marshal::{Slot, info};
use js_sys::{Function, Uint32Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::model::copy_u32;
use crate::session::Session;
use crate::stopped::Stopped;

/// An answer in the making.
#[wasm_bindgen]
pub struct Answer {
    slot: Slot<Generation>,
}

#[wasm_bindgen]
impl Answer {
    /// Begins behind what a session holds; see [`next`].
    #[wasm_bindgen(constructor)]
    pub fn new(options_json: &str) -> JsResult<Answer> {
        let begin = || Ok(Slot::new("answer", Generation::new(GenerateOptions::from_json(options_json)?)?));
        Ok(Self { slot: begin().map_err(thrown)? })
    }
}

/// Appends tokens to a session. `stopped` is asked now and then; when it answers `true` or throws, the session is what it was.
#[wasm_bindgen]
pub fn prefill(session: &mut Session, ids: &Uint32Array, stopped: &Function) -> JsResult<()> {
    let stopped = Stopped(stopped);
    let append = |ids: Vec<u32>| session.slot.change(|session| Ok(session.prefill(&ids, &|| stopped.raised())?));
    copy_u32(ids).and_then(append).map_err(thrown)
}

/// The answer's next token: JSON of `{token, text, reason}`.
#[wasm_bindgen]
pub fn next(session: &mut Session, answer: &mut Answer) -> JsResult<String> {
    let step = session
        .slot
        .change(|session| answer.slot.change(|generation| info::to_json(&generation.next(session, gearkv::NEVER)?)));
    step.map_err(thrown)
}
