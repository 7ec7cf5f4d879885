//! Safetensors files.

use gearkv_format::safetensors::{index, metadata, serialize};
use gearkv_marshal::{info, options};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_u8, thrown};

/// Which tensor lies where in a file, as JSON.
#[wasm_bindgen(js_name = safetensorsIndex)]
pub fn safetensors_index(bytes: &Uint8Array) -> JsResult<String> {
    copy_u8(bytes).and_then(|bytes| info::to_json(&index(&bytes)?)).map_err(thrown)
}

/// The file's own `__metadata__`, as JSON.
#[wasm_bindgen(js_name = safetensorsMetadata)]
pub fn safetensors_metadata(bytes: &Uint8Array) -> JsResult<String> {
    copy_u8(bytes).and_then(|bytes| info::to_json(&metadata(&bytes)?)).map_err(thrown)
}

/// A file of the entries, whose offsets count from the start of `payload`: a list, or an object with `metadata`, too.
#[wasm_bindgen(js_name = safetensorsSerialize)]
pub fn safetensors_serialize(entries_json: &str, payload: &Uint8Array) -> JsResult<Uint8Array> {
    let bytes = options::safetensors_file(entries_json).and_then(|file| {
        let payload = copy_u8(payload)?;
        Ok(serialize(&file.entries, &payload, file.metadata.as_ref())?)
    });
    Ok(Uint8Array::from(&bytes.map_err(thrown)?[..]))
}
