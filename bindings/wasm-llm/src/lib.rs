//! The engine of `gear-kv/llm` for WebAssembly: marshalling, no arithmetic.
//!
//! A module of its own, so that who only wants the codec does not download the engine. Every call computes on the thread that
//! makes it: a page keeps it in a worker.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

// What both modules for WebAssembly need: copies of arrays, and the last panic.
#[path = "../../wasm/src/arrays.rs"]
#[allow(dead_code, reason = "the codec copies more kinds of arrays")]
mod arrays;
#[path = "../../wasm/src/module.rs"]
mod module;
// What both engines write: a conversation that was saved in one can be restored in the other.
#[path = "../../node-llm/src/saved.rs"]
mod saved;

mod answer;
mod batch;
mod evaluate;
mod model;
mod recompress;
mod session;
mod slice;
