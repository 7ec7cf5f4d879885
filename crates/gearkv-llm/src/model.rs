//! A loaded model.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use gearkv::{CacheShape, GearConfig, Result};
#[cfg(feature = "rayon")]
use gearkv::{ErrorCode, GearError};
use serde::Serialize;

use crate::architecture::Architecture;
use crate::gguf::{Gguf, Source, Value, corrupt, io_failed};
use crate::layer::{self, Layer};
use crate::session::Session;
use crate::tokenizer::Tokenizer;
use crate::weights::{Matrix, MatrixBuilder, Workers};

/// How a model is loaded.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Threads to work on: 0 for one a physical core ([`gearkv::default_threads`]), 1 for the calling thread.
    pub threads: u32,
}

/// What a model is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ModelInfo {
    /// The name that the file gives.
    pub name: Option<String>,
    /// `llama`, `qwen2`, `qwen3` or `gemma3`.
    pub architecture: String,
    /// Transformer layers.
    pub layers: usize,
    /// Query heads.
    pub heads: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// Channels of a token's state.
    pub embedding_length: usize,
    /// Channels inside the feed-forward layers.
    pub feed_forward_length: usize,
    /// Tokens that the model knows.
    pub vocabulary: usize,
    /// The longest context that the model was made for.
    pub context_length: usize,
    /// Where attention sees only the last so many tokens.
    pub sliding_window: Option<usize>,
    /// Weights in the file.
    pub parameters: u64,
    /// Bytes of the file.
    pub file_bytes: u64,
    /// Bytes that the weights take in memory.
    pub weight_bytes: usize,
    /// The file's types of weights, and how many weights are of each.
    pub weight_types: BTreeMap<String, u64>,
    /// Whether the file has a chat template.
    pub has_chat_template: bool,
    /// Bytes of one token's keys and values in float16, all layers.
    pub float16_bytes_per_token: usize,
}

/// A language model. Cloning is cheap and shares the weights.
#[derive(Clone)]
pub struct Model(pub(crate) Arc<Weights>);

pub(crate) struct Weights {
    pub architecture: Architecture,
    pub tokenizer: Tokenizer,
    pub info: ModelInfo,
    pub embedding: Matrix,
    pub layers: Vec<Layer>,
    pub norm: Vec<f32>,
    /// `None` where the embedding is used again.
    pub output: Option<Matrix>,
    pub workers: Workers,
    #[cfg(feature = "rayon")]
    pool: Option<rayon::ThreadPool>,
}

impl Model {
    /// Loads a GGUF file.
    ///
    /// # Errors
    /// `IO_FAILED`, `CORRUPT_DATA`, `UNSUPPORTED_VERSION`, `UNSUPPORTED_MODEL`.
    pub fn load(path: &Path) -> Result<Self> {
        Self::load_with(path, LoadOptions::default())
    }

    /// As [`Self::load`].
    ///
    /// # Errors
    /// As [`Self::load`]; `INVALID_OPTION`.
    pub fn load_with(path: &Path, options: LoadOptions) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_failed(&format!("opening {}", path.display()), &e))?;
        Self::read(Box::new(file), options)
    }

    /// A model from a GGUF file's bytes.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_bytes(bytes: Vec<u8>) -> Result<Self> {
        Self::from_bytes_with(bytes, LoadOptions::default())
    }

    /// As [`Self::from_bytes`].
    ///
    /// # Errors
    /// As [`Self::load_with`].
    pub fn from_bytes_with(bytes: Vec<u8>, options: LoadOptions) -> Result<Self> {
        Self::read(Box::new(Cursor::new(bytes)), options)
    }

    fn read(source: Box<dyn Source>, options: LoadOptions) -> Result<Self> {
        let Opened { mut gguf, architecture, tokenizer } = Opened::read(source)?;
        let a = &architecture;
        let embedding = matrix_of_tokens(&mut gguf, a, EMBEDDING)?;
        let output = if gguf.has(OUTPUT) { Some(matrix_of_tokens(&mut gguf, a, OUTPUT)?) } else { None };
        let norm = gguf.vector("output_norm.weight", a.width)?;
        let layers = (0..a.layers).map(|layer| Layer::read(&mut gguf, a, layer)).collect::<Result<Vec<_>>>()?;
        let weight_bytes = embedding.byte_length()
            + output.as_ref().map_or(0, Matrix::byte_length)
            + layers.iter().map(Layer::byte_length).sum::<usize>();
        let info = info(&gguf, a, weight_bytes);
        let threads = if options.threads == 0 { gearkv::default_threads() as u32 } else { options.threads };
        #[cfg(feature = "rayon")]
        let pool = pool(threads)?;
        let workers = Workers { parallel: cfg!(feature = "rayon") && threads != 1 };
        Ok(Self(Arc::new(Weights {
            architecture,
            tokenizer,
            info,
            embedding,
            layers,
            norm,
            output,
            workers,
            #[cfg(feature = "rayon")]
            pool,
        })))
    }

    /// What it is.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Its tokenizer and chat template.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The shape of a cache for it.
    pub fn cache_shape(&self) -> CacheShape {
        self.0.architecture.cache_shape()
    }

    /// A session without tokens on a cache of these configurations.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn session(&self, key: GearConfig, value: GearConfig) -> Result<Session> {
        Session::new(self.clone(), key, value)
    }

    pub(crate) fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        self.0.architecture.check_tokens(tokens)
    }

    /// Runs `f` where the model's threads are: an allocator keeps what a thread has freed for that thread, and callers come on
    /// many.
    pub(crate) fn on_threads<R: Send>(&self, f: impl FnOnce() -> R + Send) -> R {
        #[cfg(feature = "rayon")]
        match &self.0.pool {
            Some(pool) => return pool.install(f),
            None if self.0.workers.parallel => return rayon::scope(|_| f()),
            None => {}
        }
        f()
    }
}

/// The matrix that tokens become states by.
pub(crate) const EMBEDDING: &str = "token_embd.weight";
/// The matrix that states become logits by. Where a file has none, it is the other one.
pub(crate) const OUTPUT: &str = "output.weight";

/// A file of which all but the weights has been read and found sound.
pub(crate) struct Opened {
    pub gguf: Gguf,
    pub architecture: Architecture,
    pub tokenizer: Tokenizer,
}

impl Opened {
    pub fn read(source: Box<dyn Source>) -> Result<Self> {
        let mut gguf = Gguf::read(source)?;
        let mut architecture = Architecture::read(&gguf)?;
        let tokenizer = Tokenizer::read(&gguf)?;
        layer::refuse_unknown(&gguf, architecture.layers)?;
        architecture.rope.factors = gguf.optional_vector("rope_freqs.weight", architecture.rope.dim / 2)?;
        if architecture.rope.factors.iter().flatten().any(|&x| x <= 0.0) {
            return Err(corrupt("tensor \"rope_freqs.weight\" holds a factor that is not positive"));
        }
        Ok(Self { gguf, architecture, tokenizer })
    }
}

/// One of [`EMBEDDING`] and [`OUTPUT`].
pub(crate) fn matrix_of_tokens(gguf: &mut Gguf, a: &Architecture, name: &str) -> Result<Matrix> {
    let tensor = gguf.tensor(name, &[a.width, a.vocabulary])?;
    MatrixBuilder::new(a.width).stack(tensor).build()
}

#[cfg(feature = "rayon")]
fn pool(threads: u32) -> Result<Option<rayon::ThreadPool>> {
    const MAX_THREADS: u32 = 256;
    if threads > MAX_THREADS {
        return Err(GearError::new(
            ErrorCode::InvalidOption,
            format!("threads is {threads}; expected 0 to {MAX_THREADS}"),
        ));
    }
    if threads < 2 {
        return Ok(None);
    }
    // Where the machine refuses the threads, the shared pool does the work instead.
    Ok(rayon::ThreadPoolBuilder::new().num_threads(threads as usize).build().ok())
}

pub(crate) fn info(gguf: &Gguf, a: &Architecture, weight_bytes: usize) -> ModelInfo {
    let mut weight_types = BTreeMap::new();
    let mut parameters = 0;
    for (_, entry) in gguf.tensors() {
        let n = entry.elements() as u64;
        parameters += n;
        *weight_types.entry(format!("{:?}", entry.kind)).or_insert(0) += n;
    }
    ModelInfo {
        name: gguf.value("general.name").and_then(Value::text).map(str::to_owned),
        architecture: a.name.clone(),
        layers: a.layers,
        heads: a.heads,
        kv_heads: a.kv_heads,
        head_dim: a.head_dim,
        embedding_length: a.width,
        feed_forward_length: a.feed_forward,
        vocabulary: a.vocabulary,
        context_length: a.context,
        sliding_window: a.window,
        parameters,
        file_bytes: gguf.byte_length(),
        weight_bytes,
        weight_types,
        has_chat_template: gguf.value("tokenizer.chat_template").and_then(Value::text).is_some(),
        float16_bytes_per_token: 4 * a.layers * a.kv_heads * a.head_dim,
    }
}

impl Weights {
    /// What a token is to the first layer. The token must be one that [`Model::check_tokens`] lets pass.
    pub fn embed(&self, token: u32, out: &mut [f32]) {
        self.embedding.row(token as usize, out);
        let scale = self.architecture.embedding_scale;
        if scale != 1.0 {
            out.iter_mut().for_each(|x| *x *= scale);
        }
    }
}
