//! Appending in the background, on a copy that takes the tensor's place at the end.

use std::sync::Arc;

use gearkv::GearTensor;
use gearkv_marshal::whole;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::arrays::Values;
use crate::guard::guard;
use crate::held::Held;
use crate::task::cancel::{Cancel, Flag};
use crate::tensor::Tensor;

/// Tokens on their way into a tensor.
pub struct Append {
    held: Arc<Held<GearTensor>>,
    copy: Option<GearTensor>,
    revision: u64,
    input: Values,
    tokens: usize,
    cancel: Flag,
}

impl Append {
    fn start(tensor: &Tensor, tokens: f64, cancel: &Cancel, input: Values) -> napi::Result<AsyncTask<Self>> {
        let tokens = guard(|| whole("tokens", tokens))?;
        let (copy, revision) = tensor.held.copy()?;
        let (held, cancel) = (tensor.held.clone(), cancel.flag());
        Ok(AsyncTask::new(Self { held, copy: Some(copy), revision, input, tokens, cancel }))
    }
}

impl Task for Append {
    type Output = Option<GearTensor>;
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<Option<GearTensor>> {
        guard(|| {
            let mut copy = self.copy.take();
            if let Some(tensor) = &mut copy {
                tensor.append(self.input.slice(), self.tokens, &|| self.cancel.raised())?;
            }
            Ok(copy)
        })
    }

    fn resolve(&mut self, env: Env, appended: Option<GearTensor>) -> napi::Result<()> {
        match appended {
            Some(tensor) => self.held.replace(&env, self.revision, tensor),
            None => Ok(()),
        }
    }
}

/// `Tensor.appendF32` in the background. Rejects when the tensor is changed or released meanwhile.
#[napi(js_name = "appendTaskF32", ts_return_type = "Promise<void>")]
pub fn append_task_f32(
    tensor: &Tensor,
    input: &[f32],
    tokens: f64,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Append>> {
    Append::start(tensor, tokens, cancel, Values::copy_f32(input)?)
}

/// `Tensor.appendF16` in the background. Rejects when the tensor is changed or released meanwhile.
#[napi(js_name = "appendTaskF16", ts_return_type = "Promise<void>")]
pub fn append_task_f16(
    tensor: &Tensor,
    input: &[u16],
    tokens: f64,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Append>> {
    Append::start(tensor, tokens, cancel, Values::copy_f16(input)?)
}
