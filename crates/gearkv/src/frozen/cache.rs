//! A whole model's frozen cache.

use std::sync::Arc;

use crate::cache::{CacheShape, GearCache, check_layers};
use crate::config::GearConfig;
use crate::error::{Cancel, GearError, Result, check};
use crate::parallel;
use crate::shape::{KvShape, KvSlice, Role};
use crate::tensor::GearTensor;

use super::observe;
use super::options::FreezeOptions;
use super::plane::{Frame, weight_index};
use super::rate::{self, Sampled, depth_of};
use super::statistics::{Statistics, Turns};
use super::tables::Tables;
use super::tensor::{FrozenTensor, Liquid};

/// Channels' steps differ by this much from a head's at most, in octaves.
const MOST_OCTAVES: f64 = 3.32;

/// Without queries: how much smaller the step of a channel is that varies more. Channels in which keys vary much are channels that
/// queries look at.
const KEY_EXPONENT: f64 = -0.8;

/// A model's cache at rest: entropy-coded, to be thawed before anything attends to it. Cloning shares everything.
#[derive(Clone)]
pub struct FrozenCache {
    shape: CacheShape,
    statistics: Arc<Statistics>,
    /// Keys and values of each layer.
    layers: Vec<(FrozenTensor, FrozenTensor)>,
}

impl FrozenCache {
    /// Freezes what `cache` holds now, decompressing a layer at a time. `queries`, where they are known, are mean squares of
    /// queries: one slice a layer, `[batch · kv_heads, head_dim]`, over all query heads that share a KV head; a channel of keys
    /// gets a step in inverse proportion to their root.
    ///
    /// # Errors
    /// `INVALID_OPTION`, `SHAPE_MISMATCH` when `queries` are of another shape, `NOT_FINITE` when they are, `ABORTED`.
    pub fn freeze(
        cache: &GearCache,
        options: &FreezeOptions,
        queries: Option<&[&[f32]]>,
        cancel: Cancel,
    ) -> Result<Self> {
        let (target, sinks, threads) = (options.target()?, options.sinks()?, options.threads()?);
        let shape = cache.shape();
        check_queries(queries, shape)?;
        let rotations = observe::rotations(cache, sinks, cancel)?;
        let tokens =
            (0..shape.layers).map(|layer| cache.layer_tokens(layer)).try_fold(0, |n, t| t.map(|t| n.max(t)))?;
        let turns = Turns::new(&rotations, tokens, shape.head_dim);
        let frames = Statistics::new(shape.head_dim, rotations.clone(), [Tables::built_in(), Tables::built_in()]);
        let key_frames: Vec<Frame> = (0..rotations.len()).map(|i| frames.frame(&turns, Role::Key, i)).collect();
        let liquid = |layer: usize, role: Role| -> Result<Liquid> {
            let tensor = cache.tensor(layer, role)?;
            let values = tensor.decompress(cancel)?;
            let rotation = match role {
                Role::Key => observe::rotation_of(&values, &key_frames, tensor.shape(), sinks),
                Role::Value => 0,
            };
            let weigh = |plane: usize, squares: &[f32]| match role {
                Role::Value => Vec::new(),
                Role::Key => match queries {
                    Some(queries) => weights(&queries[layer][plane * shape.head_dim..][..shape.head_dim], -1.0),
                    None => weights(squares, KEY_EXPONENT),
                },
            };
            let what = (role, tensor.shape(), tensor.config().clone(), rotation);
            Ok(Liquid::new(what, values, sinks, &frames.frame(&turns, role, rotation), weigh))
        };
        let (picked, share) = rate::sample(shape.layers);
        let mut sampled = Vec::with_capacity(2 * picked.len());
        for layer in picked {
            for role in [Role::Key, Role::Value] {
                sampled.push(Sampled { tensor: liquid(layer, role)?, depth: depth_of(layer, shape.layers) });
            }
        }
        let frame = |tensor: &Liquid| frames.frame(&turns, tensor.role, tensor.rotation);
        let (step, tables) = rate::choose(&sampled, &frame, (target, share, threads), cancel)?;
        drop(sampled);
        let frozen = parallel::map(2 * shape.layers, threads, |i| {
            let (layer, role) = (i / 2, if i % 2 == 0 { Role::Key } else { Role::Value });
            let tensor = liquid(layer, role)?;
            let steps = rate::steps(&tensor, step, depth_of(layer, shape.layers));
            let frame = frame(&tensor);
            tensor.freeze(&steps, &frame, &tables[role as usize])
        });
        check(cancel)?;
        let mut tensors = frozen.into_iter();
        let mut layers = Vec::with_capacity(shape.layers);
        while let (Some(key), Some(value)) = (tensors.next(), tensors.next()) {
            layers.push((key?, value?));
        }
        let statistics = Arc::new(Statistics::new(shape.head_dim, rotations, tables));
        Ok(Self { shape, statistics, layers })
    }

    /// A frozen cache from its parts.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when a tensor does not fit its place.
    pub fn from_parts(
        shape: CacheShape,
        statistics: Statistics,
        layers: Vec<(FrozenTensor, FrozenTensor)>,
    ) -> Result<Self> {
        check_layers(shape.layers)?;
        if layers.len() != shape.layers {
            return Err(GearError::shape(format!("{} layers given, expected {}", layers.len(), shape.layers)));
        }
        for (layer, (key, value)) in layers.iter().enumerate() {
            let CacheShape { batch, kv_heads: heads, head_dim, .. } = shape;
            let expected = KvShape { batch, heads, tokens: key.shape().tokens, head_dim };
            let fits = key.role() == Role::Key
                && value.role() == Role::Value
                && key.shape() == expected
                && value.shape() == expected
                && key.rotation() < statistics.rotations();
            if !fits {
                return Err(GearError::shape(format!("the tensors of layer {layer} do not fit the cache")));
            }
        }
        Ok(Self { shape, statistics: Arc::new(statistics), layers })
    }

    /// A cache with the frozen one's tokens, each layer compressed as one prompt. `key` and `value` are the configurations
    /// that it is to have; without them it has those of the cache that was frozen.
    ///
    /// # Errors
    /// `INVALID_OPTION`, `OUT_OF_RANGE`, `CORRUPT_DATA`, `ABORTED`.
    pub fn thaw(&self, key: Option<GearConfig>, value: Option<GearConfig>, cancel: Cancel) -> Result<GearCache> {
        let turns = self.statistics.turns(self.most_tokens());
        let threads = key.as_ref().unwrap_or(self.layers[0].0.config()).threads;
        let thaw = |layer: usize, tensor: &FrozenTensor, config: Option<&GearConfig>| {
            let mut values = vec![0.0; tensor.shape().elements()];
            self.decode(tensor, &turns, threads, &mut values, cancel)?;
            let config = config.unwrap_or(tensor.config()).of_layer(layer, self.layers.len())?;
            GearTensor::compress(KvSlice::F32(&values), tensor.shape(), tensor.role(), config, cancel)
        };
        let layers = parallel::map(self.layers.len(), threads, |layer| {
            let (k, v) = &self.layers[layer];
            Ok((thaw(layer, k, key.as_ref())?, thaw(layer, v, value.as_ref())?))
        });
        GearCache::from_tensors(self.shape, layers.into_iter().collect::<Result<_>>()?)
    }

    /// All tokens of a layer's keys or values, `[batch, kv_heads, tokens, head_dim]`, into `out`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer or `out` is of another length, `CORRUPT_DATA`, `ABORTED`.
    pub fn decompress_into(&self, layer: usize, role: Role, out: &mut [f32], cancel: Cancel) -> Result<()> {
        let tensor = self.tensor(layer, role)?;
        let turns = self.statistics.turns(tensor.shape().tokens);
        self.decode(tensor, &turns, tensor.config().threads, out, cancel)
    }

    fn decode(
        &self,
        tensor: &FrozenTensor,
        turns: &Turns,
        threads: u32,
        out: &mut [f32],
        cancel: Cancel,
    ) -> Result<()> {
        let role = tensor.role();
        let frame = self.statistics.frame(turns, role, tensor.rotation());
        tensor.decode(&frame, self.statistics.tables(role), threads, out, cancel)
    }

    /// The K or V tensor of a layer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when there is no such layer.
    pub fn tensor(&self, layer: usize, role: Role) -> Result<&FrozenTensor> {
        let (key, value) = self.layers.get(layer).ok_or_else(|| {
            GearError::shape(format!("layer is {layer}; the cache has layers 0 to {}", self.layers.len() - 1))
        })?;
        Ok(match role {
            Role::Key => key,
            Role::Value => value,
        })
    }

    /// What all tensors share.
    pub fn statistics(&self) -> &Statistics {
        &self.statistics
    }

    /// What all layers have in common.
    pub fn shape(&self) -> CacheShape {
        self.shape
    }

    /// Tokens that every layer has.
    pub fn tokens(&self) -> usize {
        self.layers.iter().map(|(key, _)| key.shape().tokens).min().unwrap_or(0)
    }

    fn most_tokens(&self) -> usize {
        self.layers.iter().map(|(key, _)| key.shape().tokens).max().unwrap_or(0)
    }

    /// Bytes that are kept, of everything.
    pub fn byte_length(&self) -> usize {
        let tensors = self.layers.iter().map(|(key, value)| key.byte_length() + value.byte_length());
        tensors.sum::<usize>() + self.statistics.bytes().len()
    }

    /// Bytes that the same tokens take in float16.
    pub fn float16_byte_length(&self) -> usize {
        self.layers.iter().map(|(key, value)| 2 * (key.shape().elements() + value.shape().elements())).sum()
    }
}

/// Weights of channels by the root of their mean squares to this power, around one.
fn weights(squares: &[f32], exponent: f64) -> Vec<u8> {
    let logs: Vec<f64> =
        squares.iter().map(|s| 0.5 * exponent * libm::log2(f64::from(s.max(f32::MIN_POSITIVE)))).collect();
    let middle = logs.iter().sum::<f64>() / logs.len() as f64;
    logs.iter().map(|log| weight_index((log - middle).clamp(-MOST_OCTAVES, MOST_OCTAVES))).collect()
}

fn check_queries(queries: Option<&[&[f32]]>, shape: CacheShape) -> Result<()> {
    let Some(queries) = queries else { return Ok(()) };
    let expected = shape.batch * shape.kv_heads * shape.head_dim;
    if queries.len() != shape.layers || queries.iter().any(|layer| layer.len() != expected) {
        return Err(GearError::shape(format!(
            "mean squares of queries are of {} layers; expected {} of {expected} values, one a channel and KV head",
            queries.len(),
            shape.layers
        )));
    }
    if queries.iter().any(|layer| layer.iter().any(|x| !x.is_finite() || *x < 0.0)) {
        return Err(GearError::new(
            crate::error::ErrorCode::NotFinite,
            "mean squares of queries hold a number that is not finite or is negative",
        ));
    }
    Ok(())
}
