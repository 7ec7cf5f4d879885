//! What becomes of tokens that a cache has: taken back, dropped, given to other items of the batch.

use std::sync::Arc;

use super::layer::Layer;
use super::{CacheShape, GearCache};
use crate::error::{GearError, Result};
use crate::shape::KvShape;

impl GearCache {
    /// Keeps the first `tokens` tokens of every layer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when a layer has fewer; nothing is changed then.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        if tokens > self.tokens() {
            return Err(GearError::shape(format!(
                "truncate({tokens}) on a cache of {} tokens; it can only become shorter",
                self.tokens()
            )));
        }
        // One that is as long as that already stays shared, unless it has queries to forget.
        let stays = |layer: &Layer| layer.key.tokens() == tokens && layer.observed.is_empty();
        for layer in self.layers.iter_mut().filter(|layer| !stays(layer)) {
            let layer = Arc::make_mut(layer);
            layer.key.truncate(tokens)?;
            layer.value.truncate(tokens)?;
            // They were of tokens that may be gone.
            layer.observed.clear();
        }
        Ok(())
    }

    /// Drops `drop` tokens behind the first `keep` (where that is `None`: behind the sinks) in every layer: a context shift. What is left
    /// decompresses to what it did before, and a key stays turned by the position that it was embedded with.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when a layer has fewer tokens than that, or `keep` is less than its sinks; nothing is changed then.
    pub fn shift(&mut self, keep: Option<usize>, drop: usize) -> Result<()> {
        let sinks = |layer: &Arc<Layer>| layer.key.sinks().tokens().max(layer.value.sinks().tokens());
        let sinks = self.layers.iter().map(sinks).max().unwrap_or(0);
        let keep = keep.unwrap_or(sinks);
        let end = keep.saturating_add(drop);
        if keep < sinks || end > self.tokens() {
            return Err(GearError::shape(format!(
                "shift of {drop} tokens behind {keep}; keep at least the {sinks} sinks, of {} tokens in all",
                self.tokens()
            )));
        }
        for layer in self.layers.iter_mut().filter(|_| drop > 0).map(Arc::make_mut) {
            // Queries are of what waits in the buffer.
            if end + layer.key.buffer().tokens() > layer.key.tokens() {
                layer.observed.clear();
            }
            layer.key.remove(keep..end);
            layer.value.remove(keep..end);
        }
        Ok(())
    }

    /// Makes batch item `i` of every layer a copy of what item `order[i]` was: beam search. Items may be repeated and left out, so that
    /// the batch becomes as large as `order` is long. Of what is compressed nothing moves.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for no items at all, for items that are not there, and when a tensor could not be addressed. Nothing is
    /// changed then.
    pub fn reorder(&mut self, order: &[u32]) -> Result<()> {
        let CacheShape { batch, kv_heads, head_dim, .. } = self.shape;
        let (mut most, mut present, mut tokens) = (0, order.len() == batch, 0);
        for (i, &item) in order.iter().enumerate() {
            most = most.max(item as usize);
            present &= i == item as usize;
        }
        if most >= batch {
            return Err(GearError::shape(format!("item {most} is in the order; a batch of {batch} does not have it")));
        }
        for layer in &self.layers {
            tokens = layer.key.tokens().max(tokens);
        }
        KvShape::new(order.len(), kv_heads, tokens, head_dim)?;
        if present {
            return Ok(());
        }
        for layer in self.layers.iter_mut().map(Arc::make_mut) {
            layer.key.reorder(order);
            layer.value.reorder(order);
            layer.observed.reorder(order, batch);
        }
        self.shape.batch = order.len();
        Ok(())
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        for layer in self.layers.iter_mut().map(Arc::make_mut) {
            layer.key.clear();
            layer.value.clear();
            layer.observed.clear();
        }
    }
}
