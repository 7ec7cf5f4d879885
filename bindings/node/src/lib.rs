//! gear-kv for Node-API: marshalling and background tasks, no algorithm.
//!
//! Sync calls borrow the caller's typed arrays for their duration and keep nothing of them. Background tasks copy their
//! input on the calling thread, because JavaScript may change, transfer or shrink an array at any time after.
//! Every body runs under `guard`: a panic becomes an error, it never unwinds into the engine.

#![deny(missing_docs)]

mod arrays;
mod cache;
mod cache_file;
mod container;
mod frozen;
mod guard;
mod half_floats;
mod held;
mod module;
mod placed;
mod safetensors;
mod task;
mod tensor;
