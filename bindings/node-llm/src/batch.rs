//! Several answers at once.

use std::sync::Arc;

use gearkv_llm::Batch as LiveBatch;
use gearkv_marshal::info;
use napi::bindgen_prelude::{AsyncTask, ObjectFinalize};
use napi::{Env, Task};
use napi_derive::napi;

use crate::cancel::{Cancel, Flag};
use crate::held::Held;
use crate::progress::{Counts, Progress};

/// Answers in the making, each with its cache.
#[napi(custom_finalize)]
pub struct Batch {
    pub(crate) held: Arc<Held<LiveBatch>>,
}

#[napi]
impl Batch {
    /// Sizes of all caches, and where the time went, as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(|batch| info::to_json(&batch.stats()))
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) -> napi::Result<()> {
        self.held.release(env)
    }
}

impl ObjectFinalize for Batch {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}

/// Prompts on their way in.
pub struct ReadBatch {
    held: Arc<Held<LiveBatch>>,
    cancel: Flag,
    counts: Counts,
}

impl Task for ReadBatch {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        self.held.change(|batch| {
            batch.read(&|| self.cancel.raised(), &mut self.counts.all_at_once())?;
            Ok(())
        })
    }

    fn resolve(&mut self, env: Env, (): ()) -> napi::Result<()> {
        self.held.weigh(&env);
        Ok(())
    }
}

/// Takes the prompts in, in the background; `progress` counts their tokens.
#[napi(ts_return_type = "Promise<void>")]
pub fn read_batch_task(batch: &Batch, cancel: &Cancel, progress: &Progress) -> AsyncTask<ReadBatch> {
    AsyncTask::new(ReadBatch { held: batch.held.clone(), cancel: cancel.flag(), counts: progress.counts() })
}

/// The next tokens of all answers.
pub struct NextBatch {
    held: Arc<Held<LiveBatch>>,
    cancel: Flag,
}

impl Task for NextBatch {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        self.held.change(|batch| info::to_json(&batch.next(&|| self.cancel.raised())?))
    }

    fn resolve(&mut self, env: Env, steps: String) -> napi::Result<String> {
        self.held.weigh(&env);
        Ok(steps)
    }
}

/// The next token of each answer that has not ended, in the background: JSON of `[{index, token, text, reason}, …]`.
#[napi(ts_return_type = "Promise<string>")]
pub fn next_batch_task(batch: &Batch, cancel: &Cancel) -> AsyncTask<NextBatch> {
    AsyncTask::new(NextBatch { held: batch.held.clone(), cancel: cancel.flag() })
}
