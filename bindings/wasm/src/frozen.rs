//! A model's cache at rest.

use gearkv::{FrozenCache, NEVER, Role};
use gearkv_format::{frozen_from_bytes, frozen_to_bytes};
use gearkv_marshal::{Slot, freeze, info, whole};
use js_sys::{Float32Array, Uint8Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_f32, copy_u8, room_for, room_to_compress, thrown, zeros};
use crate::cache::Cache;

/// A model's cache at rest: entropy-coded.
#[wasm_bindgen]
pub struct Frozen {
    slot: Slot<FrozenCache>,
}

impl Frozen {
    fn new(cache: FrozenCache) -> Self {
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

    /// The cache as a `.gear` container.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> JsResult<Uint8Array> {
        let bytes = self.slot.get().and_then(|cache| Ok(frozen_to_bytes(cache)?)).map_err(thrown)?;
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// Reads what `toBytes` wrote.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &Uint8Array) -> JsResult<Frozen> {
        let restore = |bytes: Vec<u8>| {
            room_for(bytes.len())?;
            Ok(Self::new(frozen_from_bytes(&bytes)?))
        };
        copy_u8(bytes).and_then(restore).map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
