//! Writing containers in the background.

use std::sync::Arc;

use gearkv::GearTensor;
use gearkv_format::tensor_to_bytes;
use gearkv_marshal::whole;
use napi::bindgen_prelude::{AsyncTask, Uint8ArraySlice};
use napi::{Env, ScopedTask};
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

/// The next bytes of a writer.
pub struct Next {
    writer: Arc<SharedWriter>,
    most: usize,
}

impl<'task> ScopedTask<'task> for Next {
    type Output = Vec<u8>;
    type JsValue = Uint8ArraySlice<'task>;

    fn compute(&mut self) -> napi::Result<Vec<u8>> {
        self.writer.next(self.most)
    }

    fn resolve(&mut self, env: &'task Env, bytes: Vec<u8>) -> napi::Result<Uint8ArraySlice<'task>> {
        Uint8ArraySlice::copy_from(env, bytes)
    }
}

/// `CacheWriter.next` in the background.
#[napi(ts_return_type = "Promise<Uint8Array>")]
pub fn writer_next_task(writer: &CacheWriter, most: f64) -> napi::Result<AsyncTask<Next>> {
    let most = guard(|| whole("most", most))?;
    Ok(AsyncTask::new(Next { writer: writer.shared.clone(), most }))
}
