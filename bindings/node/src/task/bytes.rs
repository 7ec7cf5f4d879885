//! Writing containers in the background.

use gearkv::{FrozenCache, GearCache, GearTensor};
use gearkv_format::{cache_to_bytes, frozen_to_bytes, tensor_to_bytes};
use napi::Env;
use napi::ScopedTask;
use napi::bindgen_prelude::{AsyncTask, Uint8ArraySlice};
use napi_derive::napi;

use crate::cache::Cache;
use crate::frozen::Frozen;
use crate::guard::guard;
use crate::tensor::Tensor;

/// What is to be written.
pub enum ToBytes {
    /// One tensor.
    Tensor(Box<GearTensor>),
    /// A whole cache.
    Cache(GearCache),
    /// The same, frozen.
    Frozen(FrozenCache),
}

impl<'task> ScopedTask<'task> for ToBytes {
    type Output = Vec<u8>;
    type JsValue = Uint8ArraySlice<'task>;

    fn compute(&mut self) -> napi::Result<Vec<u8>> {
        guard(|| match self {
            Self::Tensor(tensor) => Ok(tensor_to_bytes(tensor)?),
            Self::Cache(cache) => Ok(cache_to_bytes(cache)?),
            Self::Frozen(cache) => Ok(frozen_to_bytes(cache)?),
        })
    }

    fn resolve(&mut self, env: &'task Env, bytes: Vec<u8>) -> napi::Result<Uint8ArraySlice<'task>> {
        Uint8ArraySlice::copy_from(env, bytes)
    }
}

/// `Tensor.toBytes` in the background, of the tensor as it is now.
#[napi(ts_return_type = "Promise<Uint8Array>")]
pub fn to_bytes_task(tensor: &Tensor) -> napi::Result<AsyncTask<ToBytes>> {
    Ok(AsyncTask::new(ToBytes::Tensor(Box::new(tensor.held.copy()?.0))))
}

/// `Cache.toBytes` in the background, of the cache as it is now.
#[napi(ts_return_type = "Promise<Uint8Array>")]
pub fn cache_to_bytes_task(cache: &Cache) -> napi::Result<AsyncTask<ToBytes>> {
    Ok(AsyncTask::new(ToBytes::Cache(cache.held.copy()?.0)))
}

/// `Frozen.toBytes` in the background.
#[napi(ts_return_type = "Promise<Uint8Array>")]
pub fn frozen_to_bytes_task(frozen: &Frozen) -> napi::Result<AsyncTask<ToBytes>> {
    Ok(AsyncTask::new(ToBytes::Frozen(frozen.held.copy()?.0)))
}
