//! A conversation on its way to another cache.

use gearkv_llm::Recompression as LiveRecompression;
use gearkv_marshal::{Slot, options};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::session::Session;
use crate::slice::Slice;

/// A session's tokens on their way to a cache of other options.
#[wasm_bindgen]
pub struct Recompression {
    slot: Slot<LiveRecompression>,
}

#[wasm_bindgen]
impl Recompression {
    /// Of what the session holds now.
    #[wasm_bindgen(constructor)]
    pub fn new(session: &Session, key_options_json: &str, value_options_json: &str) -> JsResult<Recompression> {
        let begin = || {
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            Ok(Slot::new("recompression", LiveRecompression::new(session.idle()?, key, value)?))
        };
        Ok(Self { slot: begin().map_err(thrown)? })
    }

    /// Goes on for about `milliseconds`, at least by one layer: layers that are done, and all.
    pub fn advance(&mut self, milliseconds: f64) -> JsResult<Vec<u32>> {
        let slice = Slice::of(milliseconds);
        let advance = |recompression: &mut LiveRecompression| {
            Ok(slice.counts(recompression.advance(gearkv::NEVER, &mut |_| slice.lasts())?))
        };
        self.slot.change(advance).map_err(thrown)
    }

    /// The new session, once all layers are done.
    pub fn finish(self) -> JsResult<Session> {
        self.slot.into_value().map(|done| Session::new(done.finish())).map_err(thrown)
    }
}
