//! Taking tokens in, and generating them one by one.

use gearkv_llm::{GenerateOptions, Generation, Session as LiveSession};
use gearkv_marshal::{Slot, info};
use js_sys::Uint32Array;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::model::copy_u32;
use crate::session::Session;
use crate::slice::Slice;

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

/// Begins to append tokens to a session; [`read_prompt`] does the work. Until that is done the session answers `BUSY` to
/// anything else.
#[wasm_bindgen(js_name = beginPrompt)]
pub fn begin_prompt(session: &mut Session, ids: &Uint32Array) -> JsResult<()> {
    let begin = |ids: Vec<u32>| session.slot.change(|session| Ok(session.begin(&ids)?));
    copy_u32(ids).and_then(begin).map_err(thrown)
}

/// Goes on with a prompt for about `milliseconds`, at least by one chunk of a layer: tokens that are through, and all. When it
/// fails, the session is what it was before the prompt.
#[wasm_bindgen(js_name = readPrompt)]
pub fn read_prompt(session: &mut Session, milliseconds: f64) -> JsResult<Vec<u32>> {
    let slice = Slice::of(milliseconds);
    let read = |session: &mut LiveSession| Ok(slice.counts(session.read(gearkv::NEVER, &mut |_| slice.lasts())?));
    session.slot.change(read).map_err(thrown)
}

/// Gives a prompt up: the session is what it was before.
#[wasm_bindgen(js_name = abandonPrompt)]
pub fn abandon_prompt(session: &mut Session) -> JsResult<()> {
    let abandoned = session.slot.change(|session| {
        session.abandon();
        Ok(())
    });
    abandoned.map_err(thrown)
}

/// The answer's next token: JSON of `{token, text, reason}`.
#[wasm_bindgen]
pub fn next(session: &mut Session, answer: &mut Answer) -> JsResult<String> {
    let step = session
        .slot
        .change(|session| answer.slot.change(|generation| info::to_json(&generation.next(session, gearkv::NEVER)?)));
    step.map_err(thrown)
}
