//! gear-kv for WebAssembly: marshalling, no algorithm.
//!
//! Typed arrays are copied into and out of the module's memory, which JavaScript's lie outside of. Copies are asked for
//! in a way that can fail, so that a full memory becomes an error where it is met first. A panic traps, since wasm
//! does not unwind; `lastPanic` then tells what it was.

#![deny(missing_docs)]
#![forbid(unsafe_code)]

mod arrays;
mod cache;
mod cache_file;
mod container;
mod frozen;
mod half_floats;
mod module;
mod safetensors;
mod tensor;
