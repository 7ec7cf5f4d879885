//! Taking tokens in, and generating them one by one.
//!
//! JavaScript asks for each step, so that nothing is computed that nobody waits for.

use std::sync::{Arc, Mutex, PoisonError};

use gearkv_llm::{GenerateOptions, Generation, Session as LiveSession};
use gearkv_marshal::info;
use napi::bindgen_prelude::AsyncTask;
use napi::{Env, Task};
use napi_derive::napi;

use crate::cancel::{Cancel, Flag};
use crate::guard::guard;
use crate::held::Held;
use crate::progress::{Counts, Progress};
use crate::session::Session;

/// An answer in the making.
#[napi]
pub struct Answer {
    generation: Arc<Mutex<Generation>>,
}

#[napi]
impl Answer {
    /// Begins behind what a session holds; see [`next_task`].
    #[napi(constructor)]
    pub fn new(options_json: String) -> napi::Result<Self> {
        let generation = guard(|| Ok(Generation::new(GenerateOptions::from_json(&options_json)?)?))?;
        Ok(Self { generation: Arc::new(Mutex::new(generation)) })
    }
}

/// Tokens on their way into a session.
pub struct Prefill {
    held: Arc<Held<LiveSession>>,
    ids: Vec<u32>,
    cancel: Flag,
    counts: Counts,
}

impl Task for Prefill {
    type Output = ();
    type JsValue = ();

    fn compute(&mut self) -> napi::Result<()> {
        self.held.change(|session| {
            session.begin(&self.ids)?;
            session.read(&|| self.cancel.raised(), &mut self.counts.all_at_once())?;
            Ok(())
        })
    }

    fn resolve(&mut self, env: Env, (): ()) -> napi::Result<()> {
        self.held.weigh(&env);
        Ok(())
    }
}

/// Appends tokens to a session in the background; `progress` counts them. When it fails or is cancelled, the session is what
/// it was.
#[napi(ts_return_type = "Promise<void>")]
pub fn prefill_task(session: &Session, ids: &[u32], cancel: &Cancel, progress: &Progress) -> AsyncTask<Prefill> {
    let (held, cancel, counts) = (session.held.clone(), cancel.flag(), progress.counts());
    AsyncTask::new(Prefill { held, ids: ids.to_vec(), cancel, counts })
}

/// The next token of an answer.
pub struct Next {
    held: Arc<Held<LiveSession>>,
    generation: Arc<Mutex<Generation>>,
    cancel: Flag,
}

impl Task for Next {
    type Output = String;
    type JsValue = String;

    fn compute(&mut self) -> napi::Result<String> {
        self.held.change(|session| {
            // A panic in an earlier step has broken the session as well, which says so.
            let mut generation = self.generation.lock().unwrap_or_else(PoisonError::into_inner);
            info::to_json(&generation.next(session, &|| self.cancel.raised())?)
        })
    }

    fn resolve(&mut self, env: Env, step: String) -> napi::Result<String> {
        self.held.weigh(&env);
        Ok(step)
    }
}

/// The answer's next token in the background: JSON of `{token, text, reason}`.
#[napi(ts_return_type = "Promise<string>")]
pub fn next_task(session: &Session, answer: &Answer, cancel: &Cancel) -> AsyncTask<Next> {
    let (held, generation) = (session.held.clone(), answer.generation.clone());
    AsyncTask::new(Next { held, generation, cancel: cancel.flag() })
}
