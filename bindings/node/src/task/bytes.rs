//! Writing containers in the background.

use std::sync::Arc;

use gearkv::GearTensor;
use gearkv_format::tensor_to_bytes;
use napi::bindgen_prelude::{AsyncTask, Uint8ArraySlice};
use napi::{Env, ScopedTask, Task};
use napi_derive::napi;

use crate::cache_file::{CacheWriter, SharedWriter};
use crate::guard::guard;
use crate::tensor::Tensor;

/// A tensor that is to be written.
pub struct ToBytes(Box<GearTensor>);

impl<'task> ScopedTask<'task> for ToBytes {
    type Output = Vec<u8>;
    type JsValue = Uint8ArraySlice<'task>;

    fn compute(&mut self) -> napi::Result<Vec<u8>> {
        guard(|| Ok(tensor_to_bytes(&self.0)?))
    }

    fn resolve(&mut self, env: &'task Env, bytes: Vec<u8>) -> napi::Result<Uint8ArraySlice<'task>> {
        Uint8ArraySlice::copy_from(env, bytes)
    }
}

/// `Tensor.toBytes` in the background, of the tensor as it is now.
#[napi(ts_return_type = "Promise<Uint8Array>")]
pub fn to_bytes_task(tensor: &Tensor) -> napi::Result<AsyncTask<ToBytes>> {
    Ok(AsyncTask::new(ToBytes(Box::new(tensor.held.copy()?.0))))
}

/// The work that a writer's next bytes take.
pub struct Prepare(Arc<SharedWriter>);

impl Task for Prepare {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        self.0.prepare()
    }

    fn resolve(&mut self, _: Env, (): ()) -> napi::Result<()> {
        Ok(())
    }
}

/// What `CacheWriter.nextInto` would do beside copying, in the background.
#[napi(ts_return_type = "Promise<void>")]
pub fn writer_prepare_task(writer: &CacheWriter) -> AsyncTask<Prepare> {
    AsyncTask::new(Prepare(writer.shared.clone()))
}
