//! A model's cache at rest.

use std::sync::Arc;

use gearkv::{FrozenCache, NEVER, Role};
use gearkv_format::CacheWriter as Writer;
use gearkv_marshal::{about, freeze, info, whole};
use napi::Env;
use napi::bindgen_prelude::{Float32ArraySlice, ObjectFinalize};
use napi_derive::napi;

use crate::arrays::writable;
use crate::cache::Cache;
use crate::cache_file::CacheWriter;
use crate::held::Held;

/// A model's cache at rest: entropy-coded.
#[napi(custom_finalize)]
pub struct Frozen {
    pub(crate) held: Arc<Held<FrozenCache>>,
}

impl Frozen {
    pub(crate) fn new(env: &Env, cache: FrozenCache) -> Self {
        Self { held: Held::new(env, cache) }
    }
}

#[napi]
impl Frozen {
    /// Freezes what a cache holds now. `queries` are mean squares of queries, layer after layer, or empty.
    #[napi]
    pub fn freeze(env: &Env, cache: &Cache, options_json: String, queries: &[f32]) -> napi::Result<Self> {
        let frozen = cache.held.read(|cache| freeze::freeze(cache.host(), &options_json, queries, NEVER))?;
        Ok(Self::new(env, frozen))
    }

    /// A cache with these tokens. Options are JSON, or empty for those of the cache that was frozen.
    #[napi]
    pub fn thaw(&self, env: &Env, key_options_json: String, value_options_json: String) -> napi::Result<Cache> {
        let cache = self.held.read(|cache| freeze::thaw(cache, &key_options_json, &value_options_json, NEVER))?;
        Ok(Cache::new(env, cache))
    }

    /// Writes all values of a layer's K or V into `out`.
    #[napi]
    pub fn decompress_into(&self, layer: f64, role: String, mut out: Float32ArraySlice) -> napi::Result<()> {
        let out = writable::<f32>(&mut out, &[])?;
        self.held.read(|cache| Ok(cache.decompress_into(whole("layer", layer)?, Role::parse(&role)?, out, NEVER)?))
    }

    /// Extents, configurations and sizes as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(info::frozen)
    }

    /// The cache as a `.gear` container, piece by piece, with what is to be said of it.
    #[napi]
    pub fn writer(&self, about_json: String, about_bytes: &[u8]) -> napi::Result<CacheWriter> {
        self.held.read(|cache| {
            let about = about::from_json(&about_json, about_bytes)?;
            Ok(CacheWriter::new(Writer::frozen(cache, about)?))
        })
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) {
        self.held.release(env);
    }
}

impl ObjectFinalize for Frozen {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}
