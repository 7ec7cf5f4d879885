//! Opening a GPU in the background: its driver compiles the kernels the first time.

use gearkv_marshal::info;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::guard::guard;
use crate::placed::Placed;

/// A GPU that is to be opened.
pub struct Open {
    or_main: bool,
}

impl Task for Open {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| info::to_json(&Placed::open(self.or_main)?))
    }

    fn resolve(&mut self, _: Env, device: String) -> napi::Result<String> {
        Ok(device)
    }
}

/// Opens the GPU for all caches that come, and says what it is, as JSON; where there is none, fails or says why.
#[napi(ts_return_type = "Promise<string>")]
pub fn open_device_task(or_main: bool) -> AsyncTask<Open> {
    AsyncTask::new(Open { or_main })
}
