//! Reading JSON.

use serde::de::{DeserializeOwned, Error as _};
use serde_json::Value;

/// Reads `T` from JSON by way of its tree. A parser for each type would be faster, and take a fifth of the WebAssembly module.
///
/// # Errors
/// What is malformed, or does not fit `T`.
pub fn from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    T::deserialize(tree(json)?)
}

/// Reads `T` from JSON that must be an object. Of an array, too, serde would make a struct, for which it has code of its own.
///
/// # Errors
/// What is malformed, or does not fit `T`.
pub fn object_from_json<T: DeserializeOwned>(json: &[u8]) -> serde_json::Result<T> {
    object_from_tree(tree(json)?)
}

/// The same of JSON that was read already.
///
/// # Errors
/// What does not fit `T`.
pub fn object_from_tree<T: DeserializeOwned>(tree: Value) -> serde_json::Result<T> {
    match tree {
        Value::Object(fields) => T::deserialize(fields),
        _ => Err(serde_json::Error::custom("expected a JSON object")),
    }
}

#[inline(never)]
fn tree(json: &[u8]) -> serde_json::Result<Value> {
    serde_json::from_slice(json)
}
