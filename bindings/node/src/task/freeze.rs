//! Freezing and thawing in the background.

use gearkv::{FrozenCache, GearCache};
use gearkv_marshal::freeze;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::cache::Cache;
use crate::frozen::Frozen;
use crate::guard::guard;
use crate::task::cancel::{Cancel, Flag};

/// A cache on its way to being frozen.
pub struct Freeze {
    cache: GearCache,
    options_json: String,
    queries: Vec<f32>,
    cancel: Flag,
}

impl Task for Freeze {
    type Output = FrozenCache;
    type JsValue = Frozen;

    fn compute(&mut self) -> napi::Result<FrozenCache> {
        guard(|| freeze::freeze(&self.cache, &self.options_json, &self.queries, &|| self.cancel.raised()))
    }

    fn resolve(&mut self, env: Env, cache: FrozenCache) -> napi::Result<Frozen> {
        Ok(Frozen::new(&env, cache))
    }
}

/// `Frozen.freeze` in the background, of the cache as it is now.
#[napi(ts_return_type = "Promise<Frozen>")]
pub fn freeze_task(
    cache: &Cache,
    options_json: String,
    queries: &[f32],
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Freeze>> {
    let cache = cache.held.read(|cache| Ok(cache.host().clone()))?;
    Ok(AsyncTask::new(Freeze { cache, options_json, queries: queries.to_vec(), cancel: cancel.flag() }))
}

/// A cache on its way to being thawed.
pub struct Thaw {
    cache: FrozenCache,
    key_options_json: String,
    value_options_json: String,
    cancel: Flag,
}

impl Task for Thaw {
    type Output = GearCache;
    type JsValue = Cache;

    fn compute(&mut self) -> napi::Result<GearCache> {
        let Self { cache, key_options_json, value_options_json, cancel } = self;
        guard(|| freeze::thaw(cache, key_options_json, value_options_json, &|| cancel.raised()))
    }

    fn resolve(&mut self, env: Env, cache: GearCache) -> napi::Result<Cache> {
        Ok(Cache::new(&env, cache))
    }
}

/// `Frozen.thaw` in the background.
#[napi(ts_return_type = "Promise<Cache>")]
pub fn thaw_task(
    frozen: &Frozen,
    key_options_json: String,
    value_options_json: String,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Thaw>> {
    let (cache, _) = frozen.held.copy()?;
    Ok(AsyncTask::new(Thaw { cache, key_options_json, value_options_json, cancel: cancel.flag() }))
}
