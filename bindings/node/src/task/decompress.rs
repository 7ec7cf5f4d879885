//! Decompressing in the background.

use gearkv::GearTensor;
use gearkv_marshal::BindingError;
use napi::bindgen_prelude::{AsyncTask, Float32Array};
use napi::{Env, Task};
use napi_derive::napi;

use crate::arrays::new_f32;
use crate::guard::guard;
use crate::task::cancel::{Cancel, Flag};
use crate::tensor::Tensor;

/// A tensor on its way to being decompressed.
pub struct Decompress {
    tensor: GearTensor,
    /// Made on JavaScript's thread and kept from it until the promise settles, so that the values need no copy.
    out: Option<Float32Array>,
    cancel: Flag,
}

impl Task for Decompress {
    type Output = ();
    type JsValue = Float32Array;

    fn compute(&mut self) -> napi::Result<()> {
        guard(|| {
            let out = self.out.as_mut().ok_or_else(|| BindingError::internal("the output is missing"))?;
            // SAFETY: JavaScript has no reference to the array yet, and its memory is the engine's own and pinned.
            let out = unsafe { out.as_mut() };
            Ok(self.tensor.decompress_into(out, &|| self.cancel.raised())?)
        })
    }

    fn resolve(&mut self, _env: Env, (): ()) -> napi::Result<Float32Array> {
        guard(|| self.out.take().ok_or_else(|| BindingError::internal("the output is missing")))
    }
}

/// All values of the tensor as it is now, decompressed in the background.
#[napi(ts_return_type = "Promise<Float32Array>")]
pub fn decompress_task(env: &Env, tensor: &Tensor, cancel: &Cancel) -> napi::Result<AsyncTask<Decompress>> {
    let (tensor, _) = tensor.held.copy()?;
    let out = new_f32(env, tensor.shape().elements())?.into_typed_array(env)?;
    Ok(AsyncTask::new(Decompress { tensor, out: Some(out), cancel: cancel.flag() }))
}
