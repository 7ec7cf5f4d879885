//! A loaded model.

use gearkv_llm::{Batch as LiveBatch, GenerateOptions, Message, Model as LoadedModel};
use gearkv_marshal::{Result, Slot, info, options};
use js_sys::{Uint8Array, Uint32Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_u8, room_for, thrown, zeros};
use crate::batch::Batch;
use crate::saved;
use crate::session::Session;

/// A loaded model.
#[wasm_bindgen]
pub struct Model {
    pub(crate) slot: Slot<LoadedModel>,
}

#[wasm_bindgen]
impl Model {
    /// Loads a GGUF file's bytes, which are copied.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &Uint8Array) -> JsResult<Model> {
        let load = || {
            // The weights come to stand beside the file, laid out anew.
            room_for((bytes.length() as usize).saturating_mul(5) / 2)?;
            Ok(Self { slot: Slot::new("model", LoadedModel::from_bytes(copy_u8(bytes)?)?) })
        };
        load().map_err(thrown)
    }

    /// What it is, as JSON.
    pub fn info(&self) -> JsResult<String> {
        self.slot.get().and_then(|model| info::to_json(model.info())).map_err(thrown)
    }

    /// A text's tokens.
    pub fn tokenize(&self, text: &str, add_bos: bool) -> JsResult<Uint32Array> {
        let ids = self.slot.get().and_then(|model| Ok(model.tokenizer().encode(text, add_bos)?));
        Ok(Uint32Array::from(&ids.map_err(thrown)?[..]))
    }

    /// The text of tokens.
    pub fn detokenize(&self, ids: &Uint32Array) -> JsResult<String> {
        self.slot.get().and_then(|model| Ok(model.tokenizer().decode(&copy_u32(ids)?))).map_err(thrown)
    }

    /// A conversation in the model's own form.
    #[wasm_bindgen(js_name = renderChat)]
    pub fn render_chat(&self, messages_json: &str, add_generation_prompt: bool) -> JsResult<String> {
        let render = |model: &LoadedModel| {
            let messages = options::read::<Vec<Message>>("messages", messages_json)?;
            Ok(model.tokenizer().render_chat(&messages, add_generation_prompt)?)
        };
        self.slot.get().and_then(render).map_err(thrown)
    }

    /// A conversation without tokens, on a cache of these options.
    pub fn session(&self, key_options_json: &str, value_options_json: &str) -> JsResult<Session> {
        let begin = |model: &LoadedModel| {
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            Ok(Session::new(model.session(key, value)?))
        };
        self.slot.get().and_then(begin).map_err(thrown)
    }

    /// Answers behind several prompts, JSON of lists of tokens, each on a cache of these options.
    pub fn batch(
        &self,
        prompts_json: &str,
        key_options_json: &str,
        value_options_json: &str,
        options_json: &str,
    ) -> JsResult<Batch> {
        let begin = |model: &LoadedModel| {
            let prompts: Vec<Vec<u32>> = options::read("prompts", prompts_json)?;
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            let options = GenerateOptions::from_json(options_json)?;
            Ok(Batch::new(LiveBatch::new(model, &key, &value, prompts, &options)?))
        };
        self.slot.get().and_then(begin).map_err(thrown)
    }

    /// The conversation that `Session.toBytes` wrote.
    pub fn restore(&self, bytes: &Uint8Array) -> JsResult<Session> {
        let restore = |model: &LoadedModel| {
            room_for((bytes.length() as usize).saturating_mul(2))?;
            Ok(Session::new(saved::from_bytes(model, &copy_u8(bytes)?)?))
        };
        self.slot.get().and_then(restore).map_err(thrown)
    }

    /// Frees the memory as soon as no session uses it. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}

pub(crate) fn copy_u32(array: &Uint32Array) -> Result<Vec<u32>> {
    let mut values = zeros(array.length())?;
    array.copy_to(&mut values);
    Ok(values)
}
