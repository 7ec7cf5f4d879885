//! What a model is, read from a GGUF's metadata and checked.

use gearkv::{AttendOptions, CacheShape, ErrorCode, GearCache, GearError, Result};

use crate::gguf::{Gguf, Value, corrupt};
use crate::rope::{Pairing, RopeConfig, Yarn};

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
    /// Which layers have the window.
    pub windowed: Vec<bool>,
    pub attention_scale: f32,
    pub embedding_scale: f32,
    pub gate: Gate,
}

/// Bounds on what a made-up file can ask for.
const MAX_LAYERS: i64 = 1024;
const MAX_EXTENT: i64 = 1 << 20;
const MAX_CONTEXT: i64 = 1 << 26;
/// Far beyond the largest in use (10⁹), and far from what turns into infinity.
const MAX_BASE: f64 = 1e15;

pub(crate) fn unsupported(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::UnsupportedModel, message)
}

fn out_of_range(message: String) -> GearError {
    GearError::new(ErrorCode::OutOfRange, message)
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

    /// Fails where the file asks for something that is not computed here.
    fn refuse(&self, keys: &[&str]) -> Result<()> {
        let asked = |key: &&&str| self.value(key).and_then(Value::number).is_some_and(|x| x != 0.0);
        match keys.iter().find(asked) {
            None => Ok(()),
            Some(key) => {
                Err(unsupported(format!("the model has {}.{key}, which this build does not compute", self.prefix)))
            }
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
        metadata.refuse(&["attn_logit_softcapping", "final_logit_softcapping", "attention.scale", "logit_scale"])?;
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
        if heads.checked_mul(head_dim).is_none_or(|n| n > MAX_EXTENT as usize * 16) {
            return Err(corrupt(format!("{heads} heads of {head_dim} channels are more than any model has")));
        }
        if !heads.is_multiple_of(kv_heads) {
            return Err(corrupt(format!("{heads} heads are no multiple of {kv_heads} KV heads")));
        }
        let rope = rope(&metadata, pairing, head_dim)?;
        let local_base = metadata.number("rope.freq_base_swa")?.unwrap_or(10_000.0);
        let local_rope =
            gemma.then(|| RopeConfig { base: local_base, linear: 1.0, yarn: None, stretch: 1.0, ..rope.clone() });
        let window = window(&metadata)?;
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
            windowed: windowed(&metadata, layers, window.is_some())?,
            window,
            attention_scale: 1.0 / (query_scalar(&name, layers, width, heads, head_dim) as f32).sqrt(),
            embedding_scale: if gemma { (width as f32).sqrt() } else { 1.0 },
            gate: if gemma { Gate::Gelu } else { Gate::Silu },
            name,
        })
    }

    /// The shape of a cache for one sequence.
    pub fn cache_shape(&self) -> CacheShape {
        CacheShape { layers: self.layers, batch: 1, kv_heads: self.kv_heads, head_dim: self.head_dim }
    }

    /// Fails where a cache is not of this model, or holds others than these tokens.
    pub fn check_cache(&self, cache: &GearCache, tokens: &[u32]) -> Result<()> {
        let expected = self.cache_shape();
        if cache.shape() != expected || cache.tokens() != tokens.len() {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!(
                    "the cache is {:?} with {} tokens; the model and its text need {expected:?} with {}",
                    cache.shape(),
                    cache.tokens(),
                    tokens.len()
                ),
            ));
        }
        self.check_tokens(tokens)
    }

    /// Fails where one of the tokens is none of the model's.
    pub fn check_tokens(&self, tokens: &[u32]) -> Result<()> {
        match tokens.iter().position(|&token| token as usize >= self.vocabulary) {
            None => Ok(()),
            Some(at) => {
                Err(out_of_range(format!("token {at} is {}; the model knows 0 to {}", tokens[at], self.vocabulary - 1)))
            }
        }
    }

    /// Fails where a sequence of so many tokens is longer than the model's context.
    pub fn check_context(&self, tokens: usize) -> Result<()> {
        if tokens <= self.context {
            return Ok(());
        }
        Err(out_of_range(format!(
            "{tokens} tokens are more than the model's context of {}; shorten the text or truncate the session",
            self.context
        )))
    }

    /// How one layer attends.
    pub fn attend_options(&self, layer: usize) -> AttendOptions {
        AttendOptions {
            scale: Some(self.attention_scale),
            window: self.layer_window(layer),
            ..AttendOptions::new(self.heads)
        }
    }

    /// The window of one layer.
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        self.window.filter(|_| self.windowed[layer])
    }
}

/// What attention's logits are divided by the root of. It is the head's length but in Gemma 3 27B, whose files do not say so:
/// everyone tells that model by its layers.
fn query_scalar(name: &str, layers: usize, width: usize, heads: usize, head_dim: usize) -> usize {
    const LAYERS_OF_GEMMA_27B: usize = 62;
    let is_27b = name == "gemma3" && layers == LAYERS_OF_GEMMA_27B && width >= heads;
    if is_27b { width / heads } else { head_dim }
}

fn window(metadata: &Metadata) -> Result<Option<usize>> {
    // Qwen's configurations name a window, which no published model uses (`use_sliding_window` is false).
    let is_qwen = metadata.prefix.starts_with("qwen");
    let key = "attention.sliding_window";
    if is_qwen || metadata.value(key).and_then(Value::integer) == Some(0) {
        return Ok(None);
    }
    metadata.optional_extent(key, MAX_CONTEXT)
}

/// Which layers have the window: one flag each, or a number n for all but every n-th (0 for all). Without either, Gemma 3 has 6.
fn windowed(metadata: &Metadata, layers: usize, any: bool) -> Result<Vec<bool>> {
    let key = "attention.sliding_window_pattern";
    let every = match metadata.value(key).filter(|_| any) {
        None if metadata.prefix == "gemma3" => 6,
        None => 0,
        Some(Value::Bools(flags)) if flags.len() == layers => return Ok(flags.clone()),
        Some(Value::Integer(every)) if (0..=MAX_LAYERS).contains(every) => *every as usize,
        Some(_) => {
            return Err(corrupt(format!("{}.{key} is neither {layers} flags nor a number of layers", metadata.prefix)));
        }
    };
    Ok((1..=layers).map(|layer| every == 0 || !layer.is_multiple_of(every)).collect())
}

fn rope(metadata: &Metadata, pairing: Pairing, head_dim: usize) -> Result<RopeConfig> {
    let dim = metadata.optional_extent("rope.dimension_count", MAX_EXTENT)?.unwrap_or(head_dim);
    if dim > head_dim || !dim.is_multiple_of(2) {
        return Err(corrupt(format!("rope.dimension_count is {dim}; expected an even number up to {head_dim}")));
    }
    let base = metadata.number("rope.freq_base")?.unwrap_or(10_000.0);
    if !(1.0..=MAX_BASE).contains(&base) {
        return Err(corrupt(format!("rope.freq_base is {base}; expected 1 to {MAX_BASE:e}")));
    }
    let plain = RopeConfig { pairing, dim, base, linear: 1.0, yarn: None, stretch: 1.0, factors: None };
    let factor = match metadata.number("rope.scaling.factor")? {
        Some(factor) => factor,
        None => metadata.number("rope.scale_linear")?.unwrap_or(1.0),
    };
    let stretch = metadata.number("rope.scaling.attn_factor")?.unwrap_or(1.0);
    match metadata.value("rope.scaling.type").and_then(Value::text) {
        Some("none") => Ok(plain),
        // A file that does not say how means this.
        None | Some("linear") => Ok(RopeConfig { linear: factor, stretch, ..plain }),
        Some("yarn") => {
            metadata.refuse(&["rope.scaling.yarn_log_multiplier"])?;
            yarn(metadata, factor, RopeConfig { linear: factor, stretch, ..plain })
        }
        Some(other) => Err(unsupported(format!(
            "RoPE scaling {other:?} is not supported; this build knows \"none\", \"linear\", \"yarn\" and Llama 3's factors"
        ))),
    }
}

fn yarn(metadata: &Metadata, factor: f64, plain: RopeConfig) -> Result<RopeConfig> {
    let number = |key: &str, default: f64| Ok(metadata.number(&format!("rope.scaling.{key}"))?.unwrap_or(default));
    let trained = match metadata.optional_extent("rope.scaling.original_context_length", MAX_CONTEXT)? {
        Some(positions) => positions,
        None => metadata.extent("context_length", MAX_CONTEXT)?,
    };
    if plain.base == 1.0 {
        return Err(corrupt(format!("rope.freq_base is {}; YaRN needs more than 1", plain.base)));
    }
    let yarn = Yarn {
        trained: trained as f64,
        fast: number("yarn_beta_fast", 32.0)?,
        slow: number("yarn_beta_slow", 1.0)?,
        share: number("yarn_ext_factor", 1.0)?.min(1.0),
    };
    // The paper's t: attention gets sharper as there is more to attend to.
    let stretch = plain.stretch * number("yarn_attn_factor", 1.0)? * (1.0 + 0.1 * factor.max(1.0).ln());
    Ok(RopeConfig { yarn: Some(yarn), stretch, ..plain })
}
