//! The engine of `gear-kv/llm` for Node-API: marshalling and background tasks, no arithmetic.
//!
//! A module of its own, so that who only wants the codec does not load the engine. Whatever takes longer than a moment
//! is a task; a session takes one at a time and answers `BUSY` to anything else meanwhile.

#![deny(missing_docs)]

// The same few lines in both native modules: a class that is registered with Node-API cannot be shared as a crate.
#[path = "../../node/src/task/cancel.rs"]
mod cancel;
#[path = "../../node/src/guard.rs"]
mod guard;

mod batch;
mod evaluate;
mod generate;
mod held;
mod model;
mod progress;
mod requantize;
mod saved;
mod session;

use napi_derive::napi;

/// The version of gear-kv.
#[napi]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

/// The instruction set that the hot loops of the cache run on.
#[napi]
pub fn simd_level() -> napi::Result<&'static str> {
    guard::guard(|| Ok(gearkv::simd_level()))
}
