//! A loaded model.

use std::path::PathBuf;
use std::sync::Arc;

use gearkv_llm::{Batch as LiveBatch, GenerateOptions, Message, Model as LoadedModel};
use gearkv_marshal::{info, options};
use napi::bindgen_prelude::{AsyncTask, ObjectFinalize, Uint32ArraySlice};
use napi::{Env, Task};
use napi_derive::napi;

use crate::batch::Batch;
use crate::guard::guard;
use crate::held::Held;
use crate::saved;
use crate::session::Session;

/// A loaded model.
#[napi(custom_finalize)]
pub struct Model {
    pub(crate) held: Arc<Held<LoadedModel>>,
}

/// A model on its way from a file.
pub struct Load(Source);

enum Source {
    Path(PathBuf),
    Bytes(Vec<u8>),
}

impl Task for Load {
    type Output = LoadedModel;
    type JsValue = Model;

    fn compute(&mut self) -> napi::Result<LoadedModel> {
        guard(|| {
            Ok(match &mut self.0 {
                Source::Path(path) => LoadedModel::load(path)?,
                Source::Bytes(bytes) => LoadedModel::from_bytes(std::mem::take(bytes))?,
            })
        })
    }

    fn resolve(&mut self, env: Env, model: LoadedModel) -> napi::Result<Model> {
        Ok(Model { held: Held::new(&env, model) })
    }
}

#[napi]
impl Model {
    /// Loads a GGUF file in the background.
    #[napi(ts_return_type = "Promise<Model>")]
    pub fn load_task(path: String) -> AsyncTask<Load> {
        AsyncTask::new(Load(Source::Path(path.into())))
    }

    /// Loads a GGUF file's bytes, which are copied, in the background.
    #[napi(ts_return_type = "Promise<Model>")]
    pub fn from_bytes_task(bytes: &[u8]) -> AsyncTask<Load> {
        AsyncTask::new(Load(Source::Bytes(bytes.to_vec())))
    }

    /// What it is, as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(|model| info::to_json(model.info()))
    }

    /// A text's tokens.
    #[napi]
    pub fn tokenize<'env>(&self, env: &'env Env, text: String, add_bos: bool) -> napi::Result<Uint32ArraySlice<'env>> {
        let ids = self.held.read(|model| Ok(model.tokenizer().encode(&text, add_bos)?))?;
        Uint32ArraySlice::copy_from(env, ids)
    }

    /// The text of tokens.
    #[napi]
    pub fn detokenize(&self, ids: &[u32]) -> napi::Result<String> {
        self.held.read(|model| Ok(model.tokenizer().decode(ids)))
    }

    /// A conversation in the model's own form.
    #[napi]
    pub fn render_chat(&self, messages_json: String, add_generation_prompt: bool) -> napi::Result<String> {
        self.held.read(|model| {
            let messages = options::read::<Vec<Message>>("messages", &messages_json)?;
            Ok(model.tokenizer().render_chat(&messages, add_generation_prompt)?)
        })
    }

    /// A conversation without tokens, on a cache of these options.
    #[napi]
    pub fn session(&self, env: &Env, key_options_json: String, value_options_json: String) -> napi::Result<Session> {
        let session = self.held.read(|model| {
            let (key, value) = options::pair(&key_options_json, &value_options_json)?;
            Ok(model.session(key, value)?)
        })?;
        Ok(Session { held: Held::new(env, session) })
    }

    /// Answers behind several prompts, JSON of lists of tokens, each on a cache of these options.
    #[napi]
    pub fn batch(
        &self,
        env: &Env,
        prompts_json: String,
        key_options_json: String,
        value_options_json: String,
        options_json: String,
    ) -> napi::Result<Batch> {
        let batch = self.held.read(|model| {
            let prompts: Vec<Vec<u32>> = options::read("prompts", &prompts_json)?;
            let (key, value) = options::pair(&key_options_json, &value_options_json)?;
            Ok(LiveBatch::new(model, &key, &value, prompts, &GenerateOptions::from_json(&options_json)?)?)
        })?;
        Ok(Batch { held: Held::new(env, batch) })
    }

    /// The conversation that `Session.toBytes` wrote.
    #[napi]
    pub fn restore(&self, env: &Env, bytes: &[u8]) -> napi::Result<Session> {
        let session = self.held.read(|model| saved::from_bytes(model, bytes))?;
        Ok(Session { held: Held::new(env, session) })
    }

    /// Frees the memory as soon as no session uses it. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) -> napi::Result<()> {
        self.held.release(env)
    }
}

impl ObjectFinalize for Model {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}
