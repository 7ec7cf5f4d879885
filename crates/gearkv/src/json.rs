//! Reading JSON.

use serde::de::DeserializeOwned;
use serde_json::Value;

/// Reads `T` from JSON by way of its tree. A parser for each type would be faster, and take a fifth of the WebAssembly module.
///
/// # Errors
/// What is malformed, or does not fit `T`.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    T::deserialize(tree(json)?)
}

#[inline(never)]
fn tree(json: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(json)
}
