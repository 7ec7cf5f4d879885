//! A session's cache at rest, and what it is when it is needed again.

use gearkv::{Cancel, FreezeOptions, FrozenCache, Result};

use crate::eval::preset_pair;
use crate::session::Session;

/// A session on what freezing and thawing make of its cache, and the bits and elements that were at rest. `queries` are mean
/// squares, layer by layer.
///
/// # Errors
/// `INVALID_OPTION`, `ABORTED`.
pub(crate) fn frozen(
    session: Session,
    options: &FreezeOptions,
    queries: Option<&[Vec<f32>]>,
    cancel: Cancel,
) -> Result<(Session, (f64, f64))> {
    let queries: Option<Vec<&[f32]>> = queries.map(|layers| layers.iter().map(Vec::as_slice).collect());
    let (key, value) = preset_pair("float16")?;
    let (cache, size) = session.model.on_threads(|| -> Result<_> {
        let frozen = FrozenCache::freeze(session.cache(), options, queries.as_deref(), cancel)?;
        let size = (8.0 * frozen.byte_length() as f64, frozen.float16_byte_length() as f64 / 2.0);
        Ok((frozen.thaw(Some(key), Some(value), cancel)?, size))
    })?;
    let timings = session.timings();
    Ok((session.with_cache(cache, timings), size))
}

/// Over the tokens and the query heads of each KV head, `[kv_heads, head_dim]`, of `[heads, tokens, head_dim]`.
pub(crate) fn mean_squares(queries: &[f32], heads: usize, kv_heads: usize, head_dim: usize) -> Vec<f32> {
    let (group, shared) = (queries.len() / kv_heads, queries.len() / heads / head_dim * (heads / kv_heads));
    let mut squares = vec![0.0; kv_heads * head_dim];
    for (queries, squares) in queries.chunks_exact(group.max(1)).zip(squares.chunks_exact_mut(head_dim)) {
        for query in queries.chunks_exact(head_dim) {
            for (square, x) in squares.iter_mut().zip(query) {
                *square += x * x / shared as f32;
            }
        }
    }
    squares
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn squares_are_of_all_query_heads_that_share_a_kv_head() {
        // Two KV heads with two query heads each, two tokens, two channels.
        let queries = [1.0, 2.0, 3.0, 0.0, 5.0, 2.0, 1.0, 0.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0, 2.0];
        assert_eq!(mean_squares(&queries, 4, 2, 2), [9.0, 2.0, 4.0, 4.0]);
        assert_eq!(mean_squares(&[], 4, 2, 2), [0.0; 4]);
    }
}
