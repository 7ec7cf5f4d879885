//! A model of a few thousand random weights, in each architecture.

use super::Noise;
use super::gguf::{File, Meta, TensorData};

pub const LAYERS: usize = 7;
pub const WIDTH: usize = 32;
pub const HEADS: usize = 4;
pub const KV_HEADS: usize = 2;
pub const HEAD_DIM: usize = 8;
pub const FEED_FORWARD: usize = 64;
pub const CONTEXT: usize = 400;
/// 256 bytes, two merges, two special tokens.
pub const VOCABULARY: usize = 260;
pub const MERGED: u32 = 257;
pub const START: u32 = 258;
pub const END: u32 = 259;

/// What a tiny model has beside what all have.
#[derive(Clone, Copy, Default)]
pub struct Features {
    pub bias: bool,
    pub head_norms: bool,
    pub out_norms: bool,
    pub window: Option<usize>,
    pub own_output: bool,
    pub rope_factors: bool,
}

pub fn features(architecture: &str) -> Features {
    match architecture {
        "llama" => Features { rope_factors: true, own_output: true, ..Features::default() },
        "qwen2" => Features { bias: true, ..Features::default() },
        "qwen3" => Features { head_norms: true, own_output: true, ..Features::default() },
        "gemma3" => Features { head_norms: true, out_norms: true, window: Some(5), ..Features::default() },
        other => panic!("{other}"),
    }
}

/// GPT-2's name for a byte.
fn byte_name(byte: u8) -> String {
    let printable = |b: u8| matches!(b, b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF);
    if printable(byte) {
        return char::from(byte).to_string();
    }
    let before = (0..byte).filter(|&b| !printable(b)).count() as u32;
    char::from_u32(0x100 + before).unwrap().to_string()
}

fn metadata(file: &mut File, architecture: &str, features: Features) {
    let mut set = |key: &str, value: Meta| file.set(key, value);
    set("general.architecture", Meta::Text(architecture.into()));
    set("general.name", Meta::Text("tiny".into()));
    let numbers = [
        ("block_count", LAYERS),
        ("context_length", CONTEXT),
        ("embedding_length", WIDTH),
        ("feed_forward_length", FEED_FORWARD),
        ("attention.head_count", HEADS),
        ("attention.head_count_kv", KV_HEADS),
        ("attention.key_length", HEAD_DIM),
        ("attention.value_length", HEAD_DIM),
    ];
    for (key, n) in numbers {
        set(&format!("{architecture}.{key}"), Meta::U32(n as u32));
    }
    if let Some(window) = features.window {
        set(&format!("{architecture}.attention.sliding_window"), Meta::U32(window as u32));
    }
    set(&format!("{architecture}.attention.layer_norm_rms_epsilon"), Meta::F32(1e-5));
    set(&format!("{architecture}.rope.freq_base"), Meta::F32(5000.0));
    let mut tokens: Vec<String> = (0..=255).map(byte_name).collect();
    tokens.extend(["he", "hel", "<|im_start|>", "<|im_end|>"].map(String::from));
    let mut kinds = vec![1; VOCABULARY];
    kinds[START as usize] = 3;
    kinds[END as usize] = 3;
    set("tokenizer.ggml.model", Meta::Text("gpt2".into()));
    set("tokenizer.ggml.pre", Meta::Text("smollm".into()));
    set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    set("tokenizer.ggml.token_type", Meta::I32s(kinds));
    set("tokenizer.ggml.merges", Meta::Texts(["h e", "he l"].map(String::from).to_vec()));
    set("tokenizer.ggml.bos_token_id", Meta::U32(START));
    set("tokenizer.ggml.eos_token_id", Meta::U32(END));
}

/// A tiny model. With `quantized`, matrices are Q8_0.
pub fn file(architecture: &str, quantized: bool) -> File {
    let features = features(architecture);
    let mut file = File::default();
    metadata(&mut file, architecture, features);
    let mut noise = Noise::new(architecture.len() as u64 * 31 + 7);
    let matrix = |name: String, columns: usize, rows: usize, noise: &mut Noise| {
        let scale = 2.0 / (columns as f32).sqrt();
        let values: Vec<f32> = (0..columns * rows).map(|_| noise.next() * scale).collect();
        let dims = [columns, rows];
        if quantized { TensorData::q8_0(&name, &dims, &values) } else { TensorData::f32(&name, &dims, &values) }
    };
    let vector = |name: String, n: usize, middle: f32, noise: &mut Noise| {
        let values: Vec<f32> = (0..n).map(|_| middle + 0.3 * noise.next()).collect();
        TensorData::f32(&name, &[n], &values)
    };
    let mut all = vec![matrix("token_embd.weight".into(), WIDTH, VOCABULARY, &mut noise)];
    all.push(vector("output_norm.weight".into(), WIDTH, 1.0, &mut noise));
    if features.own_output {
        all.push(matrix("output.weight".into(), WIDTH, VOCABULARY, &mut noise));
    }
    if features.rope_factors {
        all.push(TensorData::f32("rope_freqs.weight", &[HEAD_DIM / 2], &[1.0, 1.5, 4.0, 8.0]));
    }
    let (queries, keys) = (HEADS * HEAD_DIM, KV_HEADS * HEAD_DIM);
    for layer in 0..LAYERS {
        let name = |rest: &str| format!("blk.{layer}.{rest}");
        all.push(vector(name("attn_norm.weight"), WIDTH, 1.0, &mut noise));
        all.push(vector(name("ffn_norm.weight"), WIDTH, 1.0, &mut noise));
        for (rest, rows) in [("attn_q", queries), ("attn_k", keys), ("attn_v", keys)] {
            all.push(matrix(name(&format!("{rest}.weight")), WIDTH, rows, &mut noise));
            if features.bias {
                all.push(vector(name(&format!("{rest}.bias")), rows, 0.0, &mut noise));
            }
        }
        if features.head_norms {
            all.push(vector(name("attn_q_norm.weight"), HEAD_DIM, 1.0, &mut noise));
            all.push(vector(name("attn_k_norm.weight"), HEAD_DIM, 1.0, &mut noise));
        }
        if features.out_norms {
            all.push(vector(name("post_attention_norm.weight"), WIDTH, 1.0, &mut noise));
            all.push(vector(name("post_ffw_norm.weight"), WIDTH, 1.0, &mut noise));
        }
        all.push(matrix(name("attn_output.weight"), queries, WIDTH, &mut noise));
        all.push(matrix(name("ffn_gate.weight"), WIDTH, FEED_FORWARD, &mut noise));
        all.push(matrix(name("ffn_up.weight"), WIDTH, FEED_FORWARD, &mut noise));
        all.push(matrix(name("ffn_down.weight"), FEED_FORWARD, WIDTH, &mut noise));
    }
    file.tensors = all;
    file
}

pub fn model(architecture: &str) -> gearkv_llm::Model {
    gearkv_llm::Model::from_bytes(file(architecture, false).bytes()).unwrap()
}

/// Tokens of a made-up text.
pub fn text(n: usize) -> Vec<u32> {
    (0..n as u32).map(|i| (i * i * 7 + i * 13 + 5) % VOCABULARY as u32).collect()
}
