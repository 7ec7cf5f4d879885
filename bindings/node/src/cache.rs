//! The K and V of every layer of a model.

use std::mem::size_of_val;
use std::sync::Arc;

use gearkv::{CacheShape, GearCache, KvSlice, NEVER, Role, f16_slice};
use gearkv_format::CacheWriter as Writer;
use gearkv_marshal::{NewTokens, about, info, options, whole};
use napi::Env;
use napi::bindgen_prelude::{Float32ArraySlice, ObjectFinalize};
use napi_derive::napi;

use crate::arrays::writable;
use crate::cache_file::CacheWriter;
use crate::guard::guard;
use crate::held::Held;
use crate::placed::Placed;

/// The K and V of every layer of a model.
#[napi(custom_finalize)]
pub struct Cache {
    pub(crate) held: Arc<Held<Placed>>,
}

impl Cache {
    pub(crate) fn new(env: &Env, cache: GearCache) -> Self {
        Self { held: Held::new(env, Placed::Main(cache, None)) }
    }

    fn append(&self, env: &Env, new: NewTokens, bytes: usize) -> napi::Result<()> {
        self.held.change(|cache| cache.append(new))?;
        self.held.grew(env, bytes);
        Ok(())
    }

    fn attend(&self, layer: f64, q: KvSlice, queries: f64, attend_json: &str, out: &mut [f32]) -> napi::Result<()> {
        self.held.read(|cache| {
            let (layer, queries) = (whole("layer", layer)?, whole("queries", queries)?);
            let options = options::attend(attend_json)?;
            cache.attend(layer, q, queries, &options, out)
        })
    }
}

#[napi]
impl Cache {
    /// An empty cache. K and V are configured apart.
    #[napi]
    pub fn create(
        env: &Env,
        layers: f64,
        batch: f64,
        kv_heads: f64,
        head_dim: f64,
        key_options_json: String,
        value_options_json: String,
    ) -> napi::Result<Self> {
        let cache = guard(|| {
            let shape = CacheShape {
                layers: whole("layers", layers)?,
                batch: whole("batch", batch)?,
                kv_heads: whole("kvHeads", kv_heads)?,
                head_dim: whole("headDim", head_dim)?,
            };
            let (key, value) = options::pair(&key_options_json, &value_options_json)?;
            Ok(GearCache::new(shape, key, value)?)
        })?;
        Ok(Self::new(env, cache))
    }

    /// Appends tokens to a layer: `[batch, kvHeads, tokens, headDim]`, K and V.
    #[napi(js_name = "appendF32")]
    pub fn append_f32(&self, env: &Env, layer: f64, k: &[f32], v: &[f32], tokens: f64) -> napi::Result<()> {
        let bytes = size_of_val(k) + size_of_val(v);
        let (key, value) = (KvSlice::F32(k), KvSlice::F32(v));
        self.append(env, NewTokens { layer, key, value, tokens, queries: None }, bytes)
    }

    /// The same for the bits of float16 values.
    #[napi(js_name = "appendF16")]
    pub fn append_f16(&self, env: &Env, layer: f64, k: &[u16], v: &[u16], tokens: f64) -> napi::Result<()> {
        let bytes = size_of_val(k) + size_of_val(v);
        let (key, value) = (KvSlice::F16(f16_slice(k)), KvSlice::F16(f16_slice(v)));
        self.append(env, NewTokens { layer, key, value, tokens, queries: None }, bytes)
    }

    /// Appends tokens whose queries, `[batch, queryHeads, tokens, headDim]`, say what to compress most exactly.
    #[napi(js_name = "appendQueriedF32")]
    #[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
    pub fn append_queried_f32(
        &self,
        env: &Env,
        layer: f64,
        k: &[f32],
        v: &[f32],
        tokens: f64,
        queries: &[f32],
        attend_json: String,
    ) -> napi::Result<()> {
        let bytes = size_of_val(k) + size_of_val(v) + size_of_val(queries);
        let (key, value) = (KvSlice::F32(k), KvSlice::F32(v));
        let queries = Some((queries, attend_json.as_str()));
        self.append(env, NewTokens { layer, key, value, tokens, queries }, bytes)
    }

    /// The same for the bits of float16 keys and values.
    #[napi(js_name = "appendQueriedF16")]
    #[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
    pub fn append_queried_f16(
        &self,
        env: &Env,
        layer: f64,
        k: &[u16],
        v: &[u16],
        tokens: f64,
        queries: &[f32],
        attend_json: String,
    ) -> napi::Result<()> {
        let bytes = size_of_val(k) + size_of_val(v) + size_of_val(queries);
        let (key, value) = (KvSlice::F16(f16_slice(k)), KvSlice::F16(f16_slice(v)));
        let queries = Some((queries, attend_json.as_str()));
        self.append(env, NewTokens { layer, key, value, tokens, queries }, bytes)
    }

    /// Attention of `q`, `[batch, queryHeads, queries, headDim]`, to a layer; the output takes the same shape.
    #[napi(js_name = "attendF32")]
    pub fn attend_f32(
        &self,
        layer: f64,
        q: &[f32],
        queries: f64,
        attend_json: String,
        mut out: Float32ArraySlice,
    ) -> napi::Result<()> {
        let out = writable(&mut out, q)?;
        self.attend(layer, KvSlice::F32(q), queries, &attend_json, out)
    }

    /// The same for the bits of float16 queries.
    #[napi(js_name = "attendF16")]
    pub fn attend_f16(
        &self,
        layer: f64,
        q: &[u16],
        queries: f64,
        attend_json: String,
        mut out: Float32ArraySlice,
    ) -> napi::Result<()> {
        let out = writable(&mut out, q)?;
        self.attend(layer, KvSlice::F16(f16_slice(q)), queries, &attend_json, out)
    }

    /// Writes all values of a layer's K or V into `out`.
    #[napi]
    pub fn decompress_into(&self, layer: f64, role: String, mut out: Float32ArraySlice) -> napi::Result<()> {
        let out = writable::<f32>(&mut out, &[])?;
        self.held.read(|cache| {
            let tensor = cache.host().tensor(whole("layer", layer)?, Role::parse(&role)?)?;
            Ok(tensor.decompress_into(out, NEVER)?)
        })
    }

    /// Puts the cache on a GPU as well. Where that cannot be done it fails, or the cache stays where it is.
    #[napi]
    pub fn place(&self, or_main: bool) -> napi::Result<()> {
        self.held.change(|cache| cache.place(or_main))
    }

    /// Where it is, as JSON.
    #[napi]
    pub fn device(&self) -> napi::Result<String> {
        self.held.read(|cache| info::to_json(&cache.device()))
    }

    /// Tokens that every layer has.
    #[napi]
    pub fn tokens(&self) -> napi::Result<f64> {
        self.held.read(|cache| Ok(cache.host().tokens() as f64))
    }

    /// Tokens of one layer.
    #[napi]
    pub fn layer_tokens(&self, layer: f64) -> napi::Result<f64> {
        self.held.read(|cache| Ok(cache.host().layer_tokens(whole("layer", layer)?)? as f64))
    }

    /// Extents, configurations and sizes as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(|cache| info::cache(cache.host()))
    }

    /// Of the bytes that are kept, those that forks keep, too.
    #[napi]
    pub fn shared_byte_length(&self) -> napi::Result<f64> {
        self.held.read(|cache| Ok(cache.host().shared_byte_length() as f64))
    }

    /// An independent copy that shares all that neither of the two has changed.
    #[napi]
    pub fn fork(&self, env: &Env) -> napi::Result<Cache> {
        Ok(Self { held: self.held.fork(env)? })
    }

    /// Keeps the first `tokens` tokens of every layer.
    #[napi]
    pub fn truncate(&self, env: &Env, tokens: f64) -> napi::Result<()> {
        self.held.change(|cache| cache.truncate(whole("tokens", tokens)?))?;
        self.held.weigh(env);
        Ok(())
    }

    /// Drops `drop` tokens behind the first `keep`: behind the sinks, where that is left out.
    #[napi]
    pub fn shift(&self, env: &Env, drop: f64, keep: Option<f64>) -> napi::Result<()> {
        self.held.change(|cache| cache.shift(drop, keep))?;
        self.held.weigh(env);
        Ok(())
    }

    /// Makes batch item `i` a copy of what item `order[i]` was.
    #[napi]
    pub fn reorder(&self, env: &Env, order: &[u32]) -> napi::Result<()> {
        self.held.change(|cache| cache.reorder(order))?;
        self.held.weigh(env);
        Ok(())
    }

    /// Removes all tokens.
    #[napi]
    pub fn clear(&self, env: &Env) -> napi::Result<()> {
        self.held.change(Placed::clear)?;
        self.held.weigh(env);
        Ok(())
    }

    /// The cache as a `.gear` container, piece by piece, with what is to be said of it.
    #[napi]
    pub fn writer(&self, about_json: String, about_bytes: &[u8]) -> napi::Result<CacheWriter> {
        self.held.read(|cache| {
            let about = about::from_json(&about_json, about_bytes)?;
            Ok(CacheWriter::new(Writer::cache(cache.host(), about)?))
        })
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) {
        self.held.release(env);
    }
}

impl ObjectFinalize for Cache {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}
