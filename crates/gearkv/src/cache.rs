//! A whole model's cache: one K and one V tensor a layer.

use crate::attention::{self, AttendOptions};
use crate::config::GearConfig;
use crate::error::{Cancel, GearError, Result};
use crate::shape::{KvShape, KvSlice, Role};
use crate::tensor::GearTensor;

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

/// A model's compressed cache. Cloning (forking) shares what is compressed.
#[derive(Clone)]
pub struct GearCache {
    shape: CacheShape,
    layers: Vec<Layer>,
}

#[derive(Clone)]
struct Layer {
    key: GearTensor,
    value: GearTensor,
}

impl GearCache {
    /// An empty cache.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for a zero or absurd extent, `INVALID_OPTION` for a configuration out of range.
    pub fn new(shape: CacheShape, key: GearConfig, value: GearConfig) -> Result<Self> {
        check_layers(shape.layers)?;
        let CacheShape { batch, kv_heads, head_dim, .. } = shape;
        let layer = Layer {
            key: GearTensor::new(batch, kv_heads, head_dim, Role::Key, key)?,
            value: GearTensor::new(batch, kv_heads, head_dim, Role::Value, value)?,
        };
        Ok(Self { shape, layers: vec![layer; shape.layers] })
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
        let layers = tensors.into_iter().map(|(key, value)| Layer { key, value }).collect();
        Ok(Self { shape, layers })
    }

    fn layer(&self, layer: usize) -> Result<&Layer> {
        self.layers.get(layer).ok_or_else(|| no_layer(layer, self.layers.len()))
    }

    /// Appends `tokens` tokens to one layer; `k` and `v` are `[batch, kv_heads, tokens, head_dim]`. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`, `ABORTED`.
    pub fn append(&mut self, layer: usize, k: KvSlice, v: KvSlice, tokens: usize, cancel: Cancel) -> Result<()> {
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer, count))?;
        // Both sides are prepared before either is changed.
        let key = layer.key.prepare_append(k, tokens, cancel)?;
        let value = layer.value.prepare_append(v, tokens, cancel)?;
        layer.key.commit(key);
        layer.value.commit(value);
        Ok(())
    }

    /// Makes room in one layer's buffers for `tokens` tokens that will be held, at once instead of little by little.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer.
    pub fn reserve(&mut self, layer: usize, tokens: usize) -> Result<()> {
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer, count))?;
        layer.key.reserve(tokens);
        layer.value.reserve(tokens);
        Ok(())
    }

    /// As [`Self::append`], but every token waits uncompressed until [`Self::settle`]: what attends in between sees it exactly.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`, `NOT_FINITE`, `OUT_OF_RANGE`.
    pub fn hold(&mut self, layer: usize, k: KvSlice, v: KvSlice, tokens: usize) -> Result<()> {
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer, count))?;
        let key = layer.key.prepare_hold(k, tokens)?;
        let value = layer.value.prepare_hold(v, tokens)?;
        layer.key.commit(key);
        layer.value.commit(value);
        Ok(())
    }

    /// Compresses what one layer holds, where that is enough to fill the buffer. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer, `ABORTED`.
    pub fn settle(&mut self, layer: usize, cancel: Cancel) -> Result<()> {
        let count = self.layers.len();
        let layer = self.layers.get_mut(layer).ok_or_else(|| no_layer(layer, count))?;
        let key = layer.key.prepare_settle(cancel)?;
        let value = layer.value.prepare_settle(cancel)?;
        if let Some(key) = key {
            layer.key.commit_settle(key);
        }
        if let Some(value) = value {
            layer.value.commit_settle(value);
        }
        Ok(())
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

    /// Bytes that are kept, of everything. What forks share counts in each of them.
    pub fn byte_length(&self) -> usize {
        self.layers.iter().map(|layer| layer.key.byte_length() + layer.value.byte_length()).sum()
    }

    /// Bytes that the same tokens take in float16.
    pub fn float16_byte_length(&self) -> usize {
        self.layers.iter().map(|layer| layer.key.float16_byte_length() + layer.value.float16_byte_length()).sum()
    }

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
        for layer in &mut self.layers {
            layer.key.truncate(tokens)?;
            layer.value.truncate(tokens)?;
        }
        Ok(())
    }

    /// Removes all tokens.
    pub fn clear(&mut self) {
        for layer in &mut self.layers {
            layer.key.clear();
            layer.value.clear();
        }
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
