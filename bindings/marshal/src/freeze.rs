//! Freezing and thawing as JavaScript asks for it.

use gearkv::{Cancel, FreezeOptions, FrozenCache, GearCache};

use crate::{Result, options};

/// Freezes a cache. `queries` are mean squares of queries, layer after layer, `[layers, batch, kvHeads, headDim]`; empty where
/// they are not known.
///
/// # Errors
/// `INVALID_OPTION`, `SHAPE_MISMATCH`, `NOT_FINITE`, `ABORTED`.
pub fn freeze(cache: &GearCache, options_json: &str, queries: &[f32], cancel: Cancel) -> Result<FrozenCache> {
    let options = FreezeOptions::from_json(options_json)?;
    // What does not come out even is of a wrong length, which the core says better.
    let layers: Vec<&[f32]> = queries.chunks(queries.len().div_ceil(cache.shape().layers).max(1)).collect();
    Ok(FrozenCache::freeze(cache, &options, (!layers.is_empty()).then_some(&layers[..]), cancel)?)
}

/// A cache from a frozen one. Options that are empty are those of the cache that was frozen.
///
/// # Errors
/// `INVALID_OPTION`, `OUT_OF_RANGE`, `CORRUPT_DATA`, `ABORTED`.
pub fn thaw(
    frozen: &FrozenCache,
    key_options_json: &str,
    value_options_json: &str,
    cancel: Cancel,
) -> Result<GearCache> {
    if key_options_json.is_empty() {
        return Ok(frozen.thaw(None, None, cancel)?);
    }
    let (key, value) = options::pair(key_options_json, value_options_json)?;
    Ok(frozen.thaw(Some(key), Some(value), cancel)?)
}
