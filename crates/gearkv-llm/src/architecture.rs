//! What a model is, read from a GGUF's metadata and checked.

use gearkv::{ErrorCode, GearError, Result};

use crate::gguf::{Gguf, Value, corrupt};
use crate::rope::{Pairing, RopeConfig};

/// The gate of the feed-forward layers.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Gate {
    Silu,
    Gelu,
}

/// Everything about a model but its weights.
#[derive(Debug, Clone)]
pub(crate) struct Architecture {
    pub name: String,
    pub layers: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub width: usize,
    pub feed_forward: usize,
    pub vocabulary: usize,
    pub context: usize,
    pub epsilon: f32,
    pub rope: RopeConfig,
    /// Gemma 3: layers with a window turn by another base.
    pub local_rope: Option<RopeConfig>,
    pub window: Option<usize>,
    /// Every so many layers one has no window; 0 for none.
    pub global_every: usize,
    pub attention_scale: f32,
    pub embedding_scale: f32,
    pub gate: Gate,
}

/// Bounds on what a made-up file can ask for.
const MAX_LAYERS: i64 = 1024;
const MAX_EXTENT: i64 = 1 << 20;
const MAX_CONTEXT: i64 = 1 << 26;

pub(crate) fn unsupported(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::UnsupportedModel, message)
}

struct Metadata<'a> {
    gguf: &'a Gguf,
    prefix: String,
}

impl Metadata<'_> {
    fn value(&self, key: &str) -> Option<&Value> {
        self.gguf.value(&format!("{}.{key}", self.prefix))
    }

    fn optional_extent(&self, key: &str, most: i64) -> Result<Option<usize>> {
        match self.value(key) {
            None => Ok(None),
            // Some files give one number a layer.
            Some(Value::Integers(all)) if all.iter().all(|x| Some(x) == all.first()) && !all.is_empty() => {
                self.check_extent(key, all[0], most).map(Some)
            }
            Some(value) => match value.integer() {
                Some(x) => self.check_extent(key, x, most).map(Some),
                None => Err(unsupported(format!("{}.{key} differs between layers or is not a number", self.prefix))),
            },
        }
    }

    fn check_extent(&self, key: &str, x: i64, most: i64) -> Result<usize> {
        if (1..=most).contains(&x) {
            Ok(x as usize)
        } else {
            Err(corrupt(format!("{}.{key} is {x}; expected 1 to {most}", self.prefix)))
        }
    }

    fn extent(&self, key: &str, most: i64) -> Result<usize> {
        self.optional_extent(key, most)?
            .ok_or_else(|| corrupt(format!("the metadata has no {}.{key}, which the model needs", self.prefix)))
    }

    fn number(&self, key: &str) -> Result<Option<f64>> {
        match self.value(key) {
            None => Ok(None),
            Some(value) => match value.number() {
                Some(x) if x.is_finite() && x > 0.0 => Ok(Some(x)),
                _ => Err(corrupt(format!("{}.{key} is {value:?}; expected a positive number", self.prefix))),
            },
        }
    }
}

impl Architecture {
    pub fn read(gguf: &Gguf) -> Result<Self> {
        let name = gguf
            .value("general.architecture")
            .and_then(Value::text)
            .ok_or_else(|| corrupt("the metadata has no general.architecture"))?
            .to_owned();
        let (pairing, gemma) = match name.as_str() {
            "llama" => (Pairing::Neighbours, false),
            "qwen2" | "qwen3" => (Pairing::Halves, false),
            "gemma3" => (Pairing::Halves, true),
            other => {
                return Err(unsupported(format!(
                    "the model's architecture is {other:?}; this build knows llama (Llama 2 and 3, Mistral, SmolLM2), \
                     qwen2, qwen3 and gemma3"
                )));
            }
        };
        let metadata = Metadata { gguf, prefix: name.clone() };
        if metadata.value("expert_count").and_then(Value::integer).is_some_and(|n| n > 0) {
            return Err(unsupported("a mixture of experts is not supported"));
        }
        let layers = metadata.extent("block_count", MAX_LAYERS)?;
        let width = metadata.extent("embedding_length", MAX_EXTENT)?;
        let heads = metadata.extent("attention.head_count", MAX_EXTENT)?;
        let kv_heads = metadata.optional_extent("attention.head_count_kv", MAX_EXTENT)?.unwrap_or(heads);
        let head_dim = match metadata.optional_extent("attention.key_length", MAX_EXTENT)? {
            Some(n) => n,
            None if width.is_multiple_of(heads) => width / heads,
            None => return Err(corrupt(format!("{heads} heads do not divide a width of {width}"))),
        };
        if metadata.optional_extent("attention.value_length", MAX_EXTENT)?.is_some_and(|n| n != head_dim) {
            return Err(unsupported("keys and values of different lengths are not supported"));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(corrupt(format!("{heads} heads are no multiple of {kv_heads} KV heads")));
        }
        let rope = rope(&metadata, pairing, head_dim)?;
        let local_rope = gemma.then(|| RopeConfig { base: 10_000.0, linear: 1.0, ..rope.clone() });
        let vocabulary = gguf
            .value("tokenizer.ggml.tokens")
            .and_then(Value::texts)
            .map(<[String]>::len)
            .ok_or_else(|| corrupt("the metadata has no tokenizer.ggml.tokens"))?;
        Ok(Self {
            layers,
            heads,
            kv_heads,
            head_dim,
            width,
            feed_forward: metadata.extent("feed_forward_length", 1 << 24)?,
            vocabulary,
            context: metadata.extent("context_length", MAX_CONTEXT)?,
            epsilon: metadata.number("attention.layer_norm_rms_epsilon")?.unwrap_or(1e-5) as f32,
            rope,
            local_rope,
            window: metadata.optional_extent("attention.sliding_window", MAX_CONTEXT)?,
            global_every: if gemma { 6 } else { 0 },
            attention_scale: 1.0 / (head_dim as f32).sqrt(),
            embedding_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
            gate: if gemma { Gate::Gelu } else { Gate::Silu },
            name,
        })
    }

    /// The window of one layer.
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        let global = self.global_every > 0 && (layer + 1).is_multiple_of(self.global_every);
        if global { None } else { self.window }
    }
}

fn rope(metadata: &Metadata, pairing: Pairing, head_dim: usize) -> Result<RopeConfig> {
    let dim = metadata.optional_extent("rope.dimension_count", MAX_EXTENT)?.unwrap_or(head_dim);
    if dim > head_dim || !dim.is_multiple_of(2) {
        return Err(corrupt(format!("rope.dimension_count is {dim}; expected an even number up to {head_dim}")));
    }
    let linear = match metadata.value("rope.scaling.type").and_then(Value::text) {
        None | Some("none") => metadata.number("rope.scale_linear")?.unwrap_or(1.0),
        Some("linear") => metadata.number("rope.scaling.factor")?.unwrap_or(1.0),
        Some(other) => return Err(unsupported(format!("RoPE scaling {other:?} is not supported"))),
    };
    Ok(RopeConfig { pairing, dim, base: metadata.number("rope.freq_base")?.unwrap_or(10_000.0), linear, factors: None })
}
