//! What the module says of itself, and options without a tensor.

use gearkv_marshal::options;
use napi_derive::napi;

use crate::guard::guard;

/// The version of gear-kv.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The instruction set that the hot loops run on.
#[napi]
pub fn simd_level() -> napi::Result<&'static str> {
    guard(|| Ok(gearkv::simd_level()))
}

/// Names of all presets.
#[napi]
pub fn preset_names() -> Vec<&'static str> {
    gearkv::preset_names().to_vec()
}

/// The complete configuration that options resolve to for keys or for values, as JSON.
#[napi]
pub fn resolve_options(options_json: String, role: String) -> napi::Result<String> {
    guard(|| options::resolve(&options_json, &role))
}
