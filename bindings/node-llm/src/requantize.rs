//! A model's file with weights of another type.

use std::path::PathBuf;

use gearkv_llm::requantize;
use gearkv_marshal::info;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::cancel::{Cancel, Flag};
use crate::guard::guard;
use crate::progress::{Counts, Progress};

/// A file to be written.
pub struct Requantize {
    from: PathBuf,
    to: PathBuf,
    weights: String,
    counts: Counts,
    cancel: Flag,
}

impl Task for Requantize {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        guard(|| {
            let Self { from, to, weights, counts, cancel } = self;
            let mut progress = |done, total| counts.tell(done, total);
            info::to_json(&requantize(from, to, weights, &|| cancel.raised(), &mut progress)?)
        })
    }

    fn resolve(&mut self, _env: Env, found: String) -> napi::Result<String> {
        Ok(found)
    }
}

/// Writes a GGUF with weights of another type in the background: JSON of `{from, to, fileBytes}`.
#[napi(ts_return_type = "Promise<string>")]
pub fn requantize_task(
    from: String,
    to: String,
    weights: String,
    cancel: &Cancel,
    progress: &Progress,
) -> AsyncTask<Requantize> {
    let (counts, cancel) = (progress.counts(), cancel.flag());
    AsyncTask::new(Requantize { from: from.into(), to: to.into(), weights, counts, cancel })
}
