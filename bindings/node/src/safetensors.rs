//! Safetensors files.

use gearkv_format::safetensors::{index, metadata, serialize};
use gearkv_marshal::{info, options};
use napi::Env;
use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use crate::guard::guard;

/// Which tensor lies where in a file, as JSON.
#[napi]
pub fn safetensors_index(bytes: &[u8]) -> napi::Result<String> {
    guard(|| info::to_json(&index(bytes)?))
}

/// The file's own `__metadata__`, as JSON.
#[napi]
pub fn safetensors_metadata(bytes: &[u8]) -> napi::Result<String> {
    guard(|| info::to_json(&metadata(bytes)?))
}

/// A file of the entries, whose offsets count from the start of `payload`: a list, or an object with `metadata`, too.
#[napi]
pub fn safetensors_serialize<'env>(
    env: &'env Env,
    entries_json: String,
    payload: &[u8],
) -> napi::Result<Uint8ArraySlice<'env>> {
    let bytes = guard(|| {
        let file = options::safetensors_file(&entries_json)?;
        Ok(serialize(&file.entries, payload, file.metadata.as_ref())?)
    })?;
    Uint8ArraySlice::copy_from(env, bytes)
}
