//! A whole model's cache: one K and one V tensor a layer.

mod layer;
mod life;

use std::sync::Arc;

use crate::attention::{self, AttendOptions};
use crate::config::GearConfig;
use crate::error::{Cancel, GearError, Result};
use crate::shape::{KvShape, KvSlice, Role};
use crate::tensor::GearTensor;
use layer::Layer;

/// What all layers of a cache have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct CacheShape {
    /// Layers of the model.
    pub layers: usize,
    /// Independent sequences.
    pub batch: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
}

/// More layers than any model has: a bound on what a wrong number can allocate.
const MAX_LAYERS: usize = 4096;

/// A model's compressed cache. Cloning (forking) shares every layer until one of the two changes it, and what is compressed for good.
#[derive(Clone)]
pub struct GearCache {
    shape: CacheShape,
    /// Shared between forks: sinks, buffers and lists of segments together are more than what is compressed, once there are many forks.
    layers: Vec<Arc<Layer>>,
}

impl GearCache {
    /// An empty cache. `layer_bits` of a configuration say how its layers differ.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for a zero or absurd extent, `INVALID_OPTION` for a configuration out of range.
    pub fn new(shape: CacheShape, key: GearConfig, value: GearConfig) -> Result<Self> {
        check_layers(shape.layers)?;
        let CacheShape { batch, kv_heads, head_dim, .. } = shape;
        let layers = (0..shape.layers).map(|layer| {
            let tensor = |role, config: &GearConfig| {
                GearTensor::new(batch, kv_heads, head_dim, role, config.of_layer(layer, shape.layers)?)
            };
            Ok(Arc::new(Layer::new(tensor(Role::Key, &key)?, tensor(Role::Value, &value)?)))
        });
        Ok(Self { shape, layers: layers.collect::<Result<_>>()? })
    }

    /// A cache from one (key, value) pair a layer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when a tensor does not fit its place.
    pub fn from_tensors(shape: CacheShape, tensors: Vec<(GearTensor, GearTensor)>) -> Result<Self> {
        check_layers(shape.layers)?;
        if tensors.len() != shape.layers {
            return Err(GearError::shape(format!("{} layers given, expected {}", tensors.len(), shape.layers)));
        }
        for (layer, (key, value)) in tensors.iter().enumerate() {
            let expected =
                KvShape { batch: shape.batch, heads: shape.kv_heads, tokens: key.tokens(), head_dim: shape.head_dim };
            let fits = key.role() == Role::Key
                && value.role() == Role::Value
                && key.shape() == expected
                && value.shape() == expected;
            if !fits {
                return Err(GearError::shape(format!("the tensors of layer {layer} do not fit the cache")));
            }
        }
        let layers = tensors.into_iter().map(|(key, value)| Arc::new(Layer::new(key, value))).collect();
        Ok(Self { shape, layers })
    }

    fn layer(&self, layer: usize) -> Result<&Layer> {
        self.layers.get(layer).map(|layer| &**layer).ok_or_else(|| no_layer(layer, self.layers.len()))
    }

    /// A layer that is about to change: its own from here on.
    fn layer_mut(&mut self, layer: usize) -> Result<&mut Layer> {
        let count = self.layers.len();
        self.layers.get_mut(layer).map(Arc::make_mut).ok_or_else(|| no_layer(layer, count))
    }

    /// Puts in a layer's place what was made of a copy of it.
    fn replace(&mut self, layer: usize, next: Layer) {
        self.layers[layer] = Arc::new(next);
    }

    /// Appends `tokens` tokens to one layer; `k` and `v` are `[batch, kv_heads, tokens, head_dim]`. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn append(&mut self, layer: usize, k: KvSlice, v: KvSlice, tokens: usize, cancel: Cancel) -> Result<()> {
        let present = self.layer(layer)?;
        if present.key.is_undecided() || present.value.is_undecided() {
            let mut next = present.clone();
            next.hold(k, v, tokens)?;
            if tokens > 0 {
                // They are not those of the newest tokens any more.
                next.observed.clear();
            }
            next.settle(cancel)?;
            self.replace(layer, next);
            return Ok(());
        }
        // Both sides are prepared before either is changed.
        let key = present.key.prepare_append(k, tokens, cancel)?;
        let value = present.value.prepare_append(v, tokens, cancel)?;
        let layer = self.layer_mut(layer)?;
        layer.key.commit(key);
        layer.value.commit(value);
        if tokens > 0 {
            layer.observed.clear();
        }
        Ok(())
    }

    /// As [`Self::append`], with the queries of the new tokens: `q` is `[batch, query_heads, tokens, head_dim]`, asked as `options`
    /// say. What is compressed is compressed with an eye to what they look for; of earlier calls whose tokens still wait in the
    /// buffer the queries count, too, until one comes without. Under a configuration without `meanBits` it is the same as [`Self::append`].
    ///
    /// # Errors
    /// As [`Self::append`], and what is wrong with the queries.
    #[expect(clippy::too_many_arguments, reason = "an append and the queries that go with it")]
    pub fn append_with_queries(
        &mut self,
        layer: usize,
        k: KvSlice,
        v: KvSlice,
        tokens: usize,
        q: KvSlice,
        options: &AttendOptions,
        cancel: Cancel,
    ) -> Result<()> {
        let present = self.layer(layer)?;
        attention::check_queries(&present.key, q, tokens, options)?;
        if !present.heeds_queries() || tokens == 0 {
            return self.append(layer, k, v, tokens, cancel);
        }
        if !present.key.fills(tokens) && !present.value.fills(tokens) {
            // Nothing is compressed, so nothing can fail once they are held.
            self.hold(layer, k, v, tokens)?;
            self.layer_mut(layer)?.note(q, tokens, options);
            return Ok(());
        }
        // A copy shares what is compressed, and takes the place of the layer only when all went well.
        let mut next = present.clone();
        next.hold(k, v, tokens)?;
        next.note(q, tokens, options);
        next.settle(cancel)?;
        self.replace(layer, next);
        Ok(())
    }

    /// Takes note of the queries of the newest tokens that one layer holds, `[batch, query_heads, queries, head_dim]`, for when
    /// they are compressed ([`Self::settle`]). Only those of the last 64 positions are kept until then.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`.
    pub fn observe(&mut self, layer: usize, q: KvSlice, queries: usize, options: &AttendOptions) -> Result<()> {
        self.check_queries(layer, q, queries, options)?;
        if self.heeds_queries(layer)? && queries > 0 {
            self.layer_mut(layer)?.note(q, queries, options);
        }
        Ok(())
    }

    /// Makes room in one layer's buffers for `tokens` tokens that will be held, at once instead of little by little.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer.
    pub fn reserve(&mut self, layer: usize, tokens: usize) -> Result<()> {
        let layer = self.layer_mut(layer)?;
        layer.key.reserve(tokens);
        layer.value.reserve(tokens);
        Ok(())
    }

    /// As [`Self::append`], but every token waits uncompressed until [`Self::settle`]: what attends in between sees it exactly.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`.
    pub fn hold(&mut self, layer: usize, k: KvSlice, v: KvSlice, tokens: usize) -> Result<()> {
        self.layer_mut(layer)?.hold(k, v, tokens)
    }

    /// Compresses what one layer holds, where that is enough to fill the buffer. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer, `ABORTED`.
    pub fn settle(&mut self, layer: usize, cancel: Cancel) -> Result<()> {
        let present = self.layer(layer)?;
        if !present.key.is_full() && !present.value.is_full() {
            // As it is, it can stay shared.
            return Ok(());
        }
        self.layer_mut(layer)?.settle(cancel)
    }

    /// Attention of `queries` new positions over one layer: `q` and `out` are `[batch, query_heads, queries, head_dim]`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`, `ABORTED`.
    pub fn attend(
        &self,
        layer: usize,
        q: KvSlice,
        queries: usize,
        options: &AttendOptions,
        out: &mut [f32],
        cancel: Cancel,
    ) -> Result<()> {
        let layer = self.layer(layer)?;
        attention::attend(&layer.key, &layer.value, q, queries, options, out, cancel)
    }

    /// Whether queries make a difference to what is compressed of a layer: whether bits of its keys or values are dealt out by need.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` where there is no such layer.
    pub fn heeds_queries(&self, layer: usize) -> Result<bool> {
        Ok(self.layer(layer)?.heeds_queries())
    }

    /// Whether [`Self::attend`] takes these queries: what else attends to this cache's layers refuses what the core refuses.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `INVALID_OPTION`, `NOT_FINITE`.
    pub fn check_queries(&self, layer: usize, q: KvSlice, queries: usize, options: &AttendOptions) -> Result<()> {
        attention::check_queries(&self.layer(layer)?.key, q, queries, options)
    }

    /// The K or V tensor of a layer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer.
    pub fn tensor(&self, layer: usize, role: Role) -> Result<&GearTensor> {
        let layer = self.layer(layer)?;
        Ok(match role {
            Role::Key => &layer.key,
            Role::Value => &layer.value,
        })
    }

    /// What all layers have in common.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Tokens that every layer has.
    pub fn tokens(&self) -> usize {
        self.layers.iter().map(|layer| layer.key.tokens()).min().unwrap_or(0)
    }

    /// Tokens of one layer: more than [`Self::tokens`] in the middle of a step.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer.
    pub fn layer_tokens(&self, layer: usize) -> Result<usize> {
        Ok(self.layer(layer)?.key.tokens())
    }

    /// Bytes that are kept, of everything. What forks share counts in each of them: [`Self::shared_byte_length`].
    pub fn byte_length(&self) -> usize {
        self.layers.iter().map(|layer| layer.byte_length()).sum()
    }

    /// Of [`Self::byte_length`], what is there only once for this cache and others (forks): dropping this cache does not give it back.
    pub fn shared_byte_length(&self) -> usize {
        let shared = self.layers.iter().map(|layer| match Arc::strong_count(layer) {
            1 => layer.key.shared_byte_length() + layer.value.shared_byte_length(),
            _ => layer.byte_length(),
        });
        shared.sum()
    }

    /// Bytes that the same tokens take in float16.
    pub fn float16_byte_length(&self) -> usize {
        self.layers.iter().map(|layer| layer.key.float16_byte_length() + layer.value.float16_byte_length()).sum()
    }
}

pub(crate) fn check_layers(layers: usize) -> Result<()> {
    if layers == 0 || layers > MAX_LAYERS {
        return Err(GearError::shape(format!("layers is {layers}; expected 1 to {MAX_LAYERS}")));
    }
    Ok(())
}

fn no_layer(layer: usize, count: usize) -> GearError {
    GearError::shape(format!("layer is {layer}; the cache has layers 0 to {}", count - 1))
}
