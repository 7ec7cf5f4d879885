//! What crosses the boundary to JavaScript, whichever binding it crosses.
//!
//! Numbers arrive as doubles and options as JSON; infos leave as JSON and errors as text that starts with their code.
//! Keeping all of it here makes the node and the wasm binding behave alike. There is no JavaScript in this crate, so
//! `cargo test` covers it.

#![forbid(unsafe_code)]

pub mod about;
pub mod freeze;
pub mod half_floats;
pub mod info;
pub mod options;

mod append;
mod device;
mod error;
mod number;
mod slot;

pub use append::NewTokens;
pub use device::Device;
pub use error::{BindingError, Result};
pub use number::{extents, shift, whole};
pub use slot::Slot;
