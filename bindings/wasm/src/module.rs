//! What the module says of itself, options without a tensor, and the last panic.

use std::cell::RefCell;

use gearkv_marshal::options;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};

thread_local! {
    static LAST_PANIC: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Runs once, when the module is instantiated.
#[wasm_bindgen(start)]
pub fn record_panics() {
    std::panic::set_hook(Box::new(|panic| {
        LAST_PANIC.with_borrow_mut(|last| *last = Some(panic.to_string()));
    }));
}

/// What the last trap was about, told once. The module's memory may be inconsistent after it.
#[wasm_bindgen(js_name = lastPanic)]
pub fn last_panic() -> Option<String> {
    LAST_PANIC.take()
}

/// The version of gear-kv.
#[wasm_bindgen]
pub fn version() -> String {
    env!("CARGO_PKG_VERSION").to_owned()
}

/// The instruction set that the hot loops run on.
#[wasm_bindgen(js_name = simdLevel)]
pub fn simd_level() -> String {
    gearkv::simd_level().to_owned()
}

/// Names of all presets.
#[wasm_bindgen(js_name = presetNames)]
pub fn preset_names() -> Vec<String> {
    gearkv::preset_names().iter().map(|&name| name.to_owned()).collect()
}

/// The complete configuration that options resolve to for keys or for values, as JSON.
#[wasm_bindgen(js_name = resolveOptions)]
pub fn resolve_options(options_json: &str, role: &str) -> JsResult<String> {
    options::resolve(options_json, role).map_err(thrown)
}
