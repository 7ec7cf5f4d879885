//! A model of a few thousand random weights, in each architecture.

use candle_core::quantized::GgmlDType;

use super::Noise;
use super::gguf::{File, Meta, TensorData};

pub const LAYERS: usize = 7;
pub const WIDTH: usize = 32;
pub const CONTEXT: usize = 400;
/// 256 bytes, two merges, two special tokens.
pub const VOCABULARY: usize = 260;
pub const MERGED: u32 = 257;
pub const START: u32 = 258;
pub const END: u32 = 259;

/// How positions beyond those of the training are told apart.
#[derive(Clone, Copy)]
pub enum Scaling {
    Linear(f32),
    /// By a factor, for so many positions in training (arXiv 2309.00071).
    Yarn(f32, usize),
}

/// Which layers have the window.
#[derive(Clone)]
pub enum Windowed {
    All,
    /// All but every so many.
    AllBut(usize),
    Listed(Vec<bool>),
}

/// All that tells one tiny model from another.
#[derive(Clone)]
pub struct Shape {
    pub architecture: &'static str,
    pub seed: u64,
    pub layers: usize,
    pub width: usize,
    pub heads: usize,
    pub kv_heads: usize,
    pub head_dim: usize,
    pub feed_forward: usize,
    pub bias: bool,
    pub head_norms: bool,
    pub out_norms: bool,
    pub window: Option<usize>,
    pub windowed: Windowed,
    pub own_output: bool,
    pub rope_factors: Option<Vec<f32>>,
    pub base: f32,
    /// Layers with a window turn by this base, and are not scaled.
    pub local_base: Option<f32>,
    pub scaling: Option<Scaling>,
    /// Of the matrices.
    pub kind: GgmlDType,
}

pub fn shape(architecture: &'static str) -> Shape {
    let shape = Shape {
        architecture,
        seed: architecture.len() as u64 * 31 + 7,
        layers: LAYERS,
        width: WIDTH,
        heads: 4,
        kv_heads: 2,
        head_dim: 8,
        feed_forward: 64,
        bias: false,
        head_norms: false,
        out_norms: false,
        window: None,
        windowed: Windowed::All,
        own_output: false,
        rope_factors: None,
        base: 5000.0,
        local_base: None,
        scaling: None,
        kind: GgmlDType::F32,
    };
    match architecture {
        "llama" => Shape { rope_factors: Some(vec![1.0, 1.5, 4.0, 8.0]), own_output: true, ..shape },
        "qwen2" => Shape { bias: true, ..shape },
        "qwen3" => Shape { head_norms: true, own_output: true, ..shape },
        "gemma3" => Shape {
            head_norms: true,
            out_norms: true,
            window: Some(5),
            windowed: Windowed::AllBut(6),
            local_base: Some(10_000.0),
            ..shape
        },
        other => panic!("{other}"),
    }
}

/// GPT-2's name for a byte.
pub fn byte_name(byte: u8) -> String {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte).to_string();
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap().to_string()
}

impl Shape {
    /// A layer's window; none for one that sees everything.
    pub fn layer_window(&self, layer: usize) -> Option<usize> {
        let has = match &self.windowed {
            Windowed::All => true,
            Windowed::AllBut(every) => !(layer + 1).is_multiple_of(*every),
            Windowed::Listed(all) => all[layer],
        };
        self.window.filter(|_| has)
    }

    fn metadata(&self, file: &mut File) {
        let architecture = self.architecture;
        let mut set = |key: &str, value: Meta| file.set(key, value);
        set("general.architecture", Meta::Text(architecture.into()));
        set("general.name", Meta::Text("tiny".into()));
        let numbers = [
            ("block_count", self.layers),
            ("context_length", CONTEXT),
            ("embedding_length", self.width),
            ("feed_forward_length", self.feed_forward),
            ("attention.head_count", self.heads),
            ("attention.head_count_kv", self.kv_heads),
            ("attention.key_length", self.head_dim),
            ("attention.value_length", self.head_dim),
            ("rope.dimension_count", self.head_dim),
        ];
        for (key, n) in numbers {
            set(&format!("{architecture}.{key}"), Meta::U32(n as u32));
        }
        if let Some(window) = self.window {
            set(&format!("{architecture}.attention.sliding_window"), Meta::U32(window as u32));
        }
        let pattern = format!("{architecture}.attention.sliding_window_pattern");
        match &self.windowed {
            // What Gemma 3 has without being told.
            Windowed::All | Windowed::AllBut(6) => {}
            Windowed::AllBut(every) => set(&pattern, Meta::U32(*every as u32)),
            Windowed::Listed(all) => set(&pattern, Meta::Bools(all.clone())),
        }
        set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Meta::F32(1e-5));
        set(&format!("{architecture}.rope.freq_base"), Meta::F32(self.base));
        if let Some(base) = self.local_base.filter(|&base| base != 10_000.0) {
            set(&format!("{architecture}.rope.freq_base_swa"), Meta::F32(base));
        }
        let scaling = |rest: &str| format!("{architecture}.rope.scaling.{rest}");
        match self.scaling {
            None => {}
            Some(Scaling::Linear(factor)) => {
                set(&scaling("type"), Meta::Text("linear".into()));
                set(&scaling("factor"), Meta::F32(factor));
            }
            Some(Scaling::Yarn(factor, positions)) => {
                set(&scaling("type"), Meta::Text("yarn".into()));
                set(&scaling("factor"), Meta::F32(factor));
                set(&scaling("original_context_length"), Meta::U32(positions as u32));
            }
        }
        vocabulary(file);
    }

    /// The model.
    pub fn file(&self) -> File {
        let mut file = File::default();
        self.metadata(&mut file);
        let mut noise = Noise::new(self.seed);
        let matrix = |name: String, columns: usize, rows: usize, noise: &mut Noise| {
            let scale = 2.0 / (columns as f32).sqrt();
            let values: Vec<f32> = (0..columns * rows).map(|_| noise.next() * scale).collect();
            TensorData::quantized(&name, &[columns, rows], &values, self.kind)
        };
        let vector = |name: String, n: usize, middle: f32, noise: &mut Noise| {
            let values: Vec<f32> = (0..n).map(|_| middle + 0.3 * noise.next()).collect();
            TensorData::f32(&name, &[n], &values)
        };
        let mut all = vec![matrix("token_embd.weight".into(), self.width, VOCABULARY, &mut noise)];
        all.push(vector("output_norm.weight".into(), self.width, 1.0, &mut noise));
        if self.own_output {
            all.push(matrix("output.weight".into(), self.width, VOCABULARY, &mut noise));
        }
        if let Some(factors) = &self.rope_factors {
            all.push(TensorData::f32("rope_freqs.weight", &[self.head_dim / 2], factors));
        }
        let (queries, keys) = (self.heads * self.head_dim, self.kv_heads * self.head_dim);
        for layer in 0..self.layers {
            let name = |rest: &str| format!("blk.{layer}.{rest}");
            all.push(vector(name("attn_norm.weight"), self.width, 1.0, &mut noise));
            all.push(vector(name("ffn_norm.weight"), self.width, 1.0, &mut noise));
            for (rest, rows) in [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)] {
                all.push(matrix(name(&format!("{rest}.weight")), self.width, rows, &mut noise));
                if self.bias {
                    all.push(vector(name(&format!("{rest}.bias")), rows, 0.0, &mut noise));
                }
            }
            if self.head_norms {
                all.push(vector(name("attn_q_norm.weight"), self.head_dim, 1.0, &mut noise));
                all.push(vector(name("attn_k_norm.weight"), self.head_dim, 1.0, &mut noise));
            }
            if self.out_norms {
                all.push(vector(name("post_attention_norm.weight"), self.width, 1.0, &mut noise));
                all.push(vector(name("post_ffw_norm.weight"), self.width, 1.0, &mut noise));
            }
            all.push(matrix(name("attn_output.weight"), queries, self.width, &mut noise));
            all.push(matrix(name("ffn_gate.weight"), self.width, self.feed_forward, &mut noise));
            all.push(matrix(name("ffn_up.weight"), self.width, self.feed_forward, &mut noise));
            all.push(matrix(name("ffn_down.weight"), self.feed_forward, self.width, &mut noise));
        }
        file.tensors = all;
        file
    }
}

fn vocabulary(file: &mut File) {
    let mut tokens: Vec<String> = (0..=255).map(byte_name).collect();
    tokens.extend(["he", "hel", "<|im_start|>", "<|im_end|>"].map(String::from));
    let mut kinds = vec![1; VOCABULARY];
    kinds[START as usize] = 3;
    kinds[END as usize] = 3;
    file.set("tokenizer.ggml.model", Meta::Text("gpt2".into()));
    file.set("tokenizer.ggml.pre", Meta::Text("smollm".into()));
    file.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Meta::I32s(kinds));
    file.set("tokenizer.ggml.merges", Meta::Texts(["h e", "he l"].map(String::from).to_vec()));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(START));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(END));
}

/// A tiny model. With `quantized`, matrices are Q8_0.
pub fn file(architecture: &'static str, quantized: bool) -> File {
    Shape { kind: if quantized { GgmlDType::Q8_0 } else { GgmlDType::F32 }, ..shape(architecture) }.file()
}

pub fn model(architecture: &'static str) -> gearkv_llm::Model {
    gearkv_llm::Model::from_bytes(file(architecture, false).bytes()).unwrap()
}

/// Tokens of a made-up text.
pub fn text(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 13 + 5) % VOCABULARY as u32).collect()
}
