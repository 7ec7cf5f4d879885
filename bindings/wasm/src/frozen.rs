//! A model's cache at rest.

use gearkv::{FrozenCache, NEVER, Role};
use gearkv_format::CacheWriter as Writer;
use gearkv_marshal::{Slot, about, freeze, info, whole};
use js_sys::{Float32Array, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_f32, copy_u8, room_to_compress, thrown, zeros};
use crate::cache::Cache;
use crate::cache_file::CacheWriter;

/// A model's cache at rest: entropy-coded.
#[wasm_bindgen]
pub struct Frozen {
    slot: Slot<FrozenCache>,
}

impl Frozen {
    pub(crate) fn new(cache: FrozenCache) -> Self {
        Self { slot: Slot::new("frozen cache", cache) }
    }
}

#[wasm_bindgen]
impl Frozen {
    /// Freezes what a cache holds now. `queries` are mean squares of queries, layer after layer, or empty.
    pub fn freeze(cache: &Cache, options_json: &str, queries: &Float32Array) -> JsResult<Frozen> {
        let freeze = |queries: Vec<f32>| {
            let cache = cache.slot().get()?;
            // A layer at a time is decompressed, and some for the statistics.
            room_to_compress(cache.float16_byte_length() / 2 / cache.shape().layers * 8)?;
            Ok(Self::new(freeze::freeze(cache, options_json, &queries, NEVER)?))
        };
        copy_f32(queries).and_then(freeze).map_err(thrown)
    }

    /// A cache with these tokens. Options are JSON, or empty for those of the cache that was frozen.
    pub fn thaw(&self, key_options_json: &str, value_options_json: &str) -> JsResult<Cache> {
        let thaw = |cache: &FrozenCache| {
            room_to_compress(cache.float16_byte_length() / 2)?;
            Ok(Cache::new(freeze::thaw(cache, key_options_json, value_options_json, NEVER)?))
        };
        self.slot.get().and_then(thaw).map_err(thrown)
    }

    /// Writes all values of a layer's K or V into `out`.
    #[wasm_bindgen(js_name = decompressInto)]
    pub fn decompress_into(&self, layer: f64, role: &str, out: &Float32Array) -> JsResult<()> {
        let values = self.slot.get().and_then(|cache| {
            let mut values = zeros(out.length())?;
            cache.decompress_into(whole("layer", layer)?, Role::parse(role)?, &mut values, NEVER)?;
            Ok(values)
        });
        out.copy_from(&values.map_err(thrown)?);
        Ok(())
    }

    /// Extents, configurations and sizes as JSON.
    pub fn info(&self) -> JsResult<String> {
        self.slot.get().and_then(info::frozen).map_err(thrown)
    }

    /// The cache as a `.gear` container, piece by piece, with what is to be said of it.
    pub fn writer(&self, about_json: &str, about_bytes: &Uint8Array) -> JsResult<CacheWriter> {
        let writer = || {
            let about = about::from_json(about_json, &copy_u8(about_bytes)?)?;
            Ok(CacheWriter::new(Writer::frozen(self.slot.get()?, about)?))
        };
        writer().map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
