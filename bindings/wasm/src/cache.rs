//! The K and V of every layer of a model.

use gearkv::{CacheShape, GearCache, KvSlice, NEVER, Role, f16_slice};
use gearkv_format::CacheWriter as Writer;
use gearkv_marshal::{NewTokens, Result, Slot, about, info, options, shift, whole};
use js_sys::{Float32Array, Uint8Array, Uint16Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_f32, copy_u8, copy_u16, decompress_to, room_to_compress, thrown, zeros};
use crate::cache_file::CacheWriter;

/// The K and V of every layer of a model.
#[wasm_bindgen]
pub struct Cache {
    slot: Slot<GearCache>,
}

impl Cache {
    pub(crate) fn new(cache: GearCache) -> Self {
        Self { slot: Slot::new("cache", cache) }
    }

    pub(crate) fn slot(&self) -> &Slot<GearCache> {
        &self.slot
    }

    fn append(&mut self, new: NewTokens) -> Result<()> {
        room_to_compress(new.len())?;
        self.slot.change(|cache| new.append_to(cache))
    }

    fn attend(&self, layer: f64, q: KvSlice, queries: f64, attend_json: &str, out: &Float32Array) -> Result<()> {
        let cache = self.slot.get()?;
        let (layer, queries) = (whole("layer", layer)?, whole("queries", queries)?);
        let options = options::attend(attend_json)?;
        let mut values = zeros(out.length())?;
        cache.attend(layer, q, queries, &options, &mut values, NEVER)?;
        out.copy_from(&values);
        Ok(())
    }
}

#[wasm_bindgen]
impl Cache {
    /// An empty cache. K and V are configured apart.
    pub fn create(
        layers: f64,
        batch: f64,
        kv_heads: f64,
        head_dim: f64,
        key_options_json: &str,
        value_options_json: &str,
    ) -> JsResult<Cache> {
        let create = || {
            let shape = CacheShape {
                layers: whole("layers", layers)?,
                batch: whole("batch", batch)?,
                kv_heads: whole("kvHeads", kv_heads)?,
                head_dim: whole("headDim", head_dim)?,
            };
            let (key, value) = options::pair(key_options_json, value_options_json)?;
            Ok(Self::new(GearCache::new(shape, key, value)?))
        };
        create().map_err(thrown)
    }

    /// Appends tokens to a layer: `[batch, kvHeads, tokens, headDim]`, K and V.
    #[wasm_bindgen(js_name = appendF32)]
    pub fn append_f32(&mut self, layer: f64, k: &Float32Array, v: &Float32Array, tokens: f64) -> JsResult<()> {
        let (k, v) = (copy_f32(k).map_err(thrown)?, copy_f32(v).map_err(thrown)?);
        let (key, value) = (KvSlice::F32(&k), KvSlice::F32(&v));
        self.append(NewTokens { layer, key, value, tokens, queries: None }).map_err(thrown)
    }

    /// The same for the bits of float16 values.
    #[wasm_bindgen(js_name = appendF16)]
    pub fn append_f16(&mut self, layer: f64, k: &Uint16Array, v: &Uint16Array, tokens: f64) -> JsResult<()> {
        let (k, v) = (copy_u16(k).map_err(thrown)?, copy_u16(v).map_err(thrown)?);
        let (key, value) = (KvSlice::F16(f16_slice(&k)), KvSlice::F16(f16_slice(&v)));
        self.append(NewTokens { layer, key, value, tokens, queries: None }).map_err(thrown)
    }

    /// Appends tokens whose queries, `[batch, queryHeads, tokens, headDim]`, say what to compress most exactly.
    #[wasm_bindgen(js_name = appendQueriedF32)]
    pub fn append_queried_f32(
        &mut self,
        layer: f64,
        k: &Float32Array,
        v: &Float32Array,
        tokens: f64,
        queries: &Float32Array,
        attend_json: &str,
    ) -> JsResult<()> {
        let (k, v) = (copy_f32(k).map_err(thrown)?, copy_f32(v).map_err(thrown)?);
        let queries = copy_f32(queries).map_err(thrown)?;
        let (key, value) = (KvSlice::F32(&k), KvSlice::F32(&v));
        let queries = Some((&queries[..], attend_json));
        self.append(NewTokens { layer, key, value, tokens, queries }).map_err(thrown)
    }

    /// The same for the bits of float16 keys and values.
    #[wasm_bindgen(js_name = appendQueriedF16)]
    pub fn append_queried_f16(
        &mut self,
        layer: f64,
        k: &Uint16Array,
        v: &Uint16Array,
        tokens: f64,
        queries: &Float32Array,
        attend_json: &str,
    ) -> JsResult<()> {
        let (k, v) = (copy_u16(k).map_err(thrown)?, copy_u16(v).map_err(thrown)?);
        let queries = copy_f32(queries).map_err(thrown)?;
        let (key, value) = (KvSlice::F16(f16_slice(&k)), KvSlice::F16(f16_slice(&v)));
        let queries = Some((&queries[..], attend_json));
        self.append(NewTokens { layer, key, value, tokens, queries }).map_err(thrown)
    }

    /// Attention of `q`, `[batch, queryHeads, queries, headDim]`, to a layer; the output takes the same shape.
    #[wasm_bindgen(js_name = attendF32)]
    pub fn attend_f32(
        &self,
        layer: f64,
        q: &Float32Array,
        queries: f64,
        attend_json: &str,
        out: &Float32Array,
    ) -> JsResult<()> {
        copy_f32(q).and_then(|q| self.attend(layer, KvSlice::F32(&q), queries, attend_json, out)).map_err(thrown)
    }

    /// The same for the bits of float16 queries.
    #[wasm_bindgen(js_name = attendF16)]
    pub fn attend_f16(
        &self,
        layer: f64,
        q: &Uint16Array,
        queries: f64,
        attend_json: &str,
        out: &Float32Array,
    ) -> JsResult<()> {
        copy_u16(q)
            .and_then(|q| self.attend(layer, KvSlice::F16(f16_slice(&q)), queries, attend_json, out))
            .map_err(thrown)
    }

    /// Writes all values of a layer's K or V into `out`.
    #[wasm_bindgen(js_name = decompressInto)]
    pub fn decompress_into(&self, layer: f64, role: &str, out: &Float32Array) -> JsResult<()> {
        let decompress = |cache: &GearCache| {
            let tensor = cache.tensor(whole("layer", layer)?, Role::parse(role)?)?;
            decompress_to(tensor, out)
        };
        self.slot.get().and_then(decompress).map_err(thrown)
    }

    /// Tokens that every layer has.
    pub fn tokens(&self) -> JsResult<f64> {
        self.slot.get().map(|cache| cache.tokens() as f64).map_err(thrown)
    }

    /// Tokens of one layer.
    #[wasm_bindgen(js_name = layerTokens)]
    pub fn layer_tokens(&self, layer: f64) -> JsResult<f64> {
        let tokens = self.slot.get().and_then(|cache| Ok(cache.layer_tokens(whole("layer", layer)?)?));
        tokens.map(|tokens| tokens as f64).map_err(thrown)
    }

    /// Extents, configurations and sizes as JSON.
    pub fn info(&self) -> JsResult<String> {
        self.slot.get().and_then(info::cache).map_err(thrown)
    }

    /// Of the bytes that are kept, those that forks keep, too.
    #[wasm_bindgen(js_name = sharedByteLength)]
    pub fn shared_byte_length(&self) -> JsResult<f64> {
        self.slot.get().map(|cache| cache.shared_byte_length() as f64).map_err(thrown)
    }

    /// An independent copy that shares all that neither of the two has changed.
    pub fn fork(&self) -> JsResult<Cache> {
        self.slot.get().map(|cache| Self::new(cache.clone())).map_err(thrown)
    }

    /// Keeps the first `tokens` tokens of every layer.
    pub fn truncate(&mut self, tokens: f64) -> JsResult<()> {
        self.slot.change(|cache| Ok(cache.truncate(whole("tokens", tokens)?)?)).map_err(thrown)
    }

    /// Drops `drop` tokens behind the first `keep`: behind the sinks, where that is left out.
    pub fn shift(&mut self, drop: f64, keep: Option<f64>) -> JsResult<()> {
        self.slot.change(|cache| shift(cache, drop, keep)).map_err(thrown)
    }

    /// Makes batch item `i` a copy of what item `order[i]` was.
    pub fn reorder(&mut self, order: &[u32]) -> JsResult<()> {
        self.slot.change(|cache| Ok(cache.reorder(order)?)).map_err(thrown)
    }

    /// Removes all tokens.
    pub fn clear(&mut self) -> JsResult<()> {
        let cleared = self.slot.change(|cache| {
            cache.clear();
            Ok(())
        });
        cleared.map_err(thrown)
    }

    /// The cache as a `.gear` container, piece by piece, with what is to be said of it.
    pub fn writer(&self, about_json: &str, about_bytes: &Uint8Array) -> JsResult<CacheWriter> {
        let writer = || {
            let about = about::from_json(about_json, &copy_u8(about_bytes)?)?;
            Ok(CacheWriter::new(Writer::cache(self.slot.get()?, about)?))
        };
        writer().map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
