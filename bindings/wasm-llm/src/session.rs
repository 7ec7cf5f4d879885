//! A conversation's tokens and cache.

use gearkv_llm::Session as LiveSession;
use gearkv_marshal::{BindingError, Result, Slot, info, whole};
use js_sys::{Uint8Array, Uint32Array};
use serde::Serialize;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::saved;

/// A conversation's tokens and cache.
#[wasm_bindgen]
pub struct Session {
    pub(crate) slot: Slot<LiveSession>,
}

impl Session {
    pub(crate) fn new(session: LiveSession) -> Self {
        Self { slot: Slot::new("session", session) }
    }

    /// The session, unless a prompt is on its way in: it has only some of that then.
    pub(crate) fn idle(&self) -> Result<&LiveSession> {
        let session = self.slot.get()?;
        if session.reading().is_some() { Err(BindingError::at_work("session")) } else { Ok(session) }
    }

    fn change(&mut self, change: impl FnOnce(&mut LiveSession) -> Result<()>) -> JsResult<()> {
        self.idle().map_err(thrown)?;
        self.slot.change(change).map_err(thrown)
    }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionInfo {
    tokens: usize,
    byte_length: usize,
    float16_byte_length: usize,
    timings: gearkv_llm::Timings,
}

#[wasm_bindgen]
impl Session {
    /// Sizes of the cache, and where the time went, as JSON.
    pub fn info(&self) -> JsResult<String> {
        let describe = |session: &LiveSession| {
            info::to_json(&SessionInfo {
                tokens: session.tokens().len(),
                byte_length: session.cache().byte_length(),
                float16_byte_length: session.cache().float16_byte_length(),
                timings: session.timings(),
            })
        };
        self.idle().and_then(describe).map_err(thrown)
    }

    /// All tokens so far.
    pub fn tokens(&self) -> JsResult<Uint32Array> {
        self.idle().map(|session| Uint32Array::from(session.tokens())).map_err(thrown)
    }

    /// A second session with the same content; compressed segments are shared.
    pub fn fork(&self) -> JsResult<Session> {
        self.idle().map(|session| Self::new(session.fork())).map_err(thrown)
    }

    /// Keeps the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: f64) -> JsResult<()> {
        self.change(|session| Ok(session.truncate(whole("tokens", tokens)?)?))
    }

    /// Removes all tokens.
    pub fn clear(&mut self) -> JsResult<()> {
        self.change(|session| {
            session.clear();
            Ok(())
        })
    }

    /// The conversation as a `.gear` container.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> JsResult<Uint8Array> {
        let bytes = self.idle().and_then(saved::to_bytes).map_err(thrown)?;
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
