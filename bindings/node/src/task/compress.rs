//! Compressing in the background.

use gearkv::{GearConfig, GearTensor, KvShape, Role};
use gearkv_marshal::{extents, options};
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::arrays::Values;
use crate::guard::guard;
use crate::task::cancel::{Cancel, Flag};
use crate::tensor::Tensor;

/// A tensor on its way to being compressed.
pub struct Compress {
    input: Values,
    shape: KvShape,
    role: Role,
    config: GearConfig,
    cancel: Flag,
}

impl Task for Compress {
    type Output = GearTensor;
    type JsValue = Tensor;

    fn compute(&mut self) -> napi::Result<GearTensor> {
        guard(|| {
            let config = self.config.clone();
            Ok(GearTensor::compress(self.input.slice(), self.shape, self.role, config, &|| self.cancel.raised())?)
        })
    }

    fn resolve(&mut self, env: Env, tensor: GearTensor) -> napi::Result<Tensor> {
        Ok(Tensor::new(&env, tensor))
    }
}

/// The arguments but for the values, which are copied last: only when everything else is in order.
struct Arguments {
    shape: KvShape,
    role: Role,
    config: GearConfig,
    cancel: Flag,
}

impl Arguments {
    fn check(extents_given: [f64; 4], role: &str, options_json: &str, cancel: &Cancel) -> napi::Result<Self> {
        guard(|| {
            let [batch, heads, tokens, head_dim] = extents_given;
            let shape = extents(batch, heads, tokens, head_dim)?;
            let role = Role::parse(role)?;
            let config = options::config(options_json, role)?;
            Ok(Self { shape, role, config, cancel: cancel.flag() })
        })
    }

    fn with(self, input: Values) -> AsyncTask<Compress> {
        let Self { shape, role, config, cancel } = self;
        AsyncTask::new(Compress { input, shape, role, config, cancel })
    }
}

/// `Tensor.compressF32` in the background.
#[napi(js_name = "compressTaskF32", ts_return_type = "Promise<Tensor>")]
#[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
pub fn compress_task_f32(
    input: &[f32],
    batch: f64,
    heads: f64,
    tokens: f64,
    head_dim: f64,
    role: String,
    options_json: String,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Compress>> {
    let arguments = Arguments::check([batch, heads, tokens, head_dim], &role, &options_json, cancel)?;
    Ok(arguments.with(Values::copy_f32(input)?))
}

/// `Tensor.compressF16` in the background.
#[napi(js_name = "compressTaskF16", ts_return_type = "Promise<Tensor>")]
#[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
pub fn compress_task_f16(
    input: &[u16],
    batch: f64,
    heads: f64,
    tokens: f64,
    head_dim: f64,
    role: String,
    options_json: String,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Compress>> {
    let arguments = Arguments::check([batch, heads, tokens, head_dim], &role, &options_json, cancel)?;
    Ok(arguments.with(Values::copy_f16(input)?))
}
