//! Errors on a recorded cache (`fixtures/`): of keys, of values, and of what attention makes of both.

use std::path::Path;

use gearkv::{
    AttendOptions, CacheShape, ErrorCode, GearCache, GearConfig, GearError, GearOptions, GearTensor, KvShape, KvSlice,
    NEVER, Result, Role, f16,
};
use safetensors::SafeTensors;
use serde::Serialize;

use crate::methods::Codec;

const LAYERS: [usize; 4] = [0, 10, 20, 29];

/// Relative errors, each ‖x̂ − x‖ / ‖x‖ of a layer, and the mean of the layers.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Errors {
    /// Of keys.
    pub key: f64,
    /// Of values.
    pub value: f64,
    /// Of the attention of the queries recorded behind the tokens.
    pub attention: f64,
}

/// Keys, values and queries of one layer.
#[derive(Default)]
pub(crate) struct Layer {
    /// `[kv_heads, tokens, head_dim]`
    pub key: Vec<f32>,
    /// As `key`.
    pub value: Vec<f32>,
    /// `[heads, queries, head_dim]`
    pub query: Vec<f32>,
    /// What logits are multiplied by.
    pub scale: f32,
    /// The queries' attention to all tokens, as `query`; [`Fixture::new`] computes it.
    pub attended: Vec<f32>,
}

/// A recorded cache.
pub struct Fixture {
    shape: KvShape,
    query_heads: usize,
    queries: usize,
    layers: Vec<Layer>,
}

impl Fixture {
    /// Reads a file as `fixtures/README.md` describes it.
    ///
    /// # Errors
    /// `IO_FAILED`, `CORRUPT_DATA`.
    pub fn read(path: &Path) -> Result<Self> {
        let failed = |code, e: &dyn std::fmt::Display| GearError::new(code, format!("{}: {e}", path.display()));
        let bytes = std::fs::read(path).map_err(|e| failed(ErrorCode::IoFailed, &e))?;
        let file = SafeTensors::deserialize(&bytes).map_err(|e| failed(ErrorCode::CorruptData, &e))?;
        let read = |layer: usize, what: &str| -> Result<(Vec<usize>, Vec<f32>)> {
            let tensor =
                file.tensor(&format!("layer.{layer}.{what}")).map_err(|e| failed(ErrorCode::CorruptData, &e))?;
            let values = tensor.data().as_chunks().0.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
            Ok((tensor.shape().to_vec(), values))
        };
        let dims = |shape: &[usize]| -> Result<[usize; 3]> {
            shape.try_into().map_err(|_| failed(ErrorCode::CorruptData, &"expected [heads, tokens, channels]"))
        };
        let [heads, tokens, head_dim] = dims(&read(LAYERS[0], "key")?.0)?;
        let [query_heads, queries, _] = dims(&read(LAYERS[0], "query")?.0)?;
        let shape = KvShape::new(1, heads, tokens, head_dim)?;
        let scale = 1.0 / (head_dim as f32).sqrt();
        let layer = |layer| {
            let (key, value, query) = (read(layer, "key")?.1, read(layer, "value")?.1, read(layer, "query")?.1);
            Ok(Layer { key, value, query, scale, ..Layer::default() })
        };
        Self::new(shape, query_heads, queries, LAYERS.into_iter().map(layer).collect::<Result<_>>()?)
    }

    /// From layers, of which nothing is attended yet.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH`.
    pub(crate) fn new(shape: KvShape, query_heads: usize, queries: usize, layers: Vec<Layer>) -> Result<Self> {
        let mut fixture = Self { shape, query_heads, queries, layers: Vec::new() };
        for mut layer in layers {
            layer.attended = fixture.attend(&layer, &layer.key, &layer.value)?;
            fixture.layers.push(layer);
        }
        Ok(fixture)
    }

    /// What a codec does to it.
    ///
    /// # Errors
    /// None in practice.
    pub fn codec(&self, codec: &dyn Codec) -> Result<Errors> {
        let dim = self.shape.head_dim;
        self.errors(|_, x| {
            let mut x = x.to_vec();
            x.chunks_exact_mut(dim).for_each(|head| {
                codec.pass(head);
            });
            Ok(x)
        })
    }

    /// What GEAR does to it, all tokens being one prompt.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn gear(&self, key: &GearConfig, value: &GearConfig) -> Result<Errors> {
        self.errors(|role, x| {
            let config = if role == Role::Key { key } else { value };
            GearTensor::compress(KvSlice::F32(x), self.shape, role, config.clone(), NEVER)?.decompress(NEVER)
        })
    }

    fn errors(&self, restored: impl Fn(Role, &[f32]) -> Result<Vec<f32>>) -> Result<Errors> {
        let mut sum = Errors { key: 0.0, value: 0.0, attention: 0.0 };
        let count = self.layers.len() as f64;
        for layer in &self.layers {
            let (key, value) = (restored(Role::Key, &layer.key)?, restored(Role::Value, &layer.value)?);
            sum.key += relative(&layer.key, &key) / count;
            sum.value += relative(&layer.value, &value) / count;
            sum.attention += relative(&layer.attended, &self.attend(layer, &key, &value)?) / count;
        }
        Ok(sum)
    }

    /// What the layer's queries make of these keys and values; all of them see all tokens.
    fn attend(&self, layer: &Layer, key: &[f32], value: &[f32]) -> Result<Vec<f32>> {
        let query = &layer.query;
        let KvShape { batch, heads, tokens, head_dim } = self.shape;
        let float32 = GearOptions { preset: Some("float32".into()), ..Default::default() };
        let shape = CacheShape { layers: 1, batch, kv_heads: heads, head_dim };
        let mut cache = GearCache::new(shape, float32.resolve(Role::Key)?, float32.resolve(Role::Value)?)?;
        cache.append(0, KvSlice::F32(key), KvSlice::F32(value), tokens, NEVER)?;
        let options = AttendOptions { causal: false, scale: Some(layer.scale), ..AttendOptions::new(self.query_heads) };
        let mut out = vec![0.0; query.len()];
        cache.attend(0, KvSlice::F32(query), self.queries, &options, &mut out, NEVER)?;
        Ok(out)
    }
}

fn relative(exact: &[f32], got: &[f32]) -> f64 {
    let squares = |x: &mut dyn Iterator<Item = f64>| x.map(|x| x * x).sum::<f64>();
    let left = squares(&mut exact.iter().zip(got).map(|(x, y)| f64::from(*x) - f64::from(*y)));
    (left / squares(&mut exact.iter().map(|x| f64::from(*x)))).sqrt()
}
