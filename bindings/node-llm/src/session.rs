//! A conversation's tokens and cache.

use std::sync::Arc;

use gearkv::GearConfig;
use gearkv_llm::{Session as LiveSession, Timings};
use gearkv_marshal::{info, options, whole};
use napi::bindgen_prelude::{AsyncTask, ObjectFinalize, Uint8ArraySlice, Uint32ArraySlice};
use napi::{Env, Task};
use napi_derive::napi;
use serde::Serialize;

use crate::cancel::{Cancel, Flag};
use crate::guard::guard;
use crate::held::Held;
use crate::saved;

/// A conversation's tokens and cache.
#[napi(custom_finalize)]
pub struct Session {
    pub(crate) held: Arc<Held<LiveSession>>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct SessionInfo {
    tokens: usize,
    byte_length: usize,
    float16_byte_length: usize,
    timings: Timings,
}

#[napi]
impl Session {
    /// Sizes of the cache, and where the time went, as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(|session| {
            info::to_json(&SessionInfo {
                tokens: session.tokens().len(),
                byte_length: session.cache().byte_length(),
                float16_byte_length: session.cache().float16_byte_length(),
                timings: session.timings(),
            })
        })
    }

    /// All tokens so far.
    #[napi]
    pub fn tokens<'env>(&self, env: &'env Env) -> napi::Result<Uint32ArraySlice<'env>> {
        let tokens = self.held.read(|session| Ok(session.tokens().to_vec()))?;
        Uint32ArraySlice::copy_from(env, tokens)
    }

    /// A second session with the same content; compressed segments are shared.
    #[napi]
    pub fn fork(&self, env: &Env) -> napi::Result<Session> {
        let copy = self.held.read(|session| Ok(session.fork()))?;
        Ok(Session { held: Held::new(env, copy) })
    }

    /// Keeps the first `tokens` tokens.
    #[napi]
    pub fn truncate(&self, env: &Env, tokens: f64) -> napi::Result<()> {
        self.held.change(|session| Ok(session.truncate(whole("tokens", tokens)?)?))?;
        self.held.weigh(env);
        Ok(())
    }

    /// Removes all tokens.
    #[napi]
    pub fn clear(&self, env: &Env) -> napi::Result<()> {
        self.held.change(|session| {
            session.clear();
            Ok(())
        })?;
        self.held.weigh(env);
        Ok(())
    }

    /// The conversation as a `.gear` container.
    #[napi]
    pub fn to_bytes<'env>(&self, env: &'env Env) -> napi::Result<Uint8ArraySlice<'env>> {
        let bytes = self.held.read(saved::to_bytes)?;
        Uint8ArraySlice::copy_from(env, bytes)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) -> napi::Result<()> {
        self.held.release(env)
    }
}

impl ObjectFinalize for Session {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}

/// A conversation on its way to another cache.
pub struct Recompress {
    held: Arc<Held<LiveSession>>,
    key: GearConfig,
    value: GearConfig,
    cancel: Flag,
}

impl Task for Recompress {
    type Output = LiveSession;
    type JsValue = Session;

    fn compute(&mut self) -> napi::Result<LiveSession> {
        let Self { held, key, value, cancel } = self;
        held.read(|session| Ok(session.recompress(key.clone(), value.clone(), &|| cancel.raised())?))
    }

    fn resolve(&mut self, env: Env, session: LiveSession) -> napi::Result<Session> {
        Ok(Session { held: Held::new(&env, session) })
    }
}

/// The same tokens on a cache of these options, in the background.
#[napi(ts_return_type = "Promise<Session>")]
pub fn recompress_task(
    session: &Session,
    key_options_json: String,
    value_options_json: String,
    cancel: &Cancel,
) -> napi::Result<AsyncTask<Recompress>> {
    let (key, value) = guard(|| options::pair(&key_options_json, &value_options_json))?;
    Ok(AsyncTask::new(Recompress { held: session.held.clone(), key, value, cancel: cancel.flag() }))
}
