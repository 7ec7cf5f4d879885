//! Tiny models of every kind say what llama.cpp makes them say. `llama-cpp.mjs` asks it and writes `llama-cpp.json`; the models are
//! made again here, from their seeds.

mod common;

use candle_core::quantized::GgmlDType;
use common::gguf::KINDS;
use common::tiny::{Scaling, Shape, Windowed};
use common::{config, tiny, value_config, vocabularies};
use gearkv::NEVER;
use gearkv_llm::Model;
use serde_json::{Value, json};

/// Tokens of the prompt: far more than the windows.
const PROMPT: usize = 60;

/// Models with float32 weights, where both engines compute the same but for rounding.
fn shapes() -> Vec<(String, Shape)> {
    let of = |architecture, seed| Shape { width: 64, heads: 4, head_dim: 32, seed, ..tiny::shape(architecture) };
    let qwen2 = |seed| Shape { head_dim: 16, base: 1e6, layers: 4, ..of("qwen2", seed) };
    let llama = || Shape { rope_factors: None, head_dim: 16, base: 10_000.0, layers: 4, ..of("llama", 1) };
    let factors = (0..8).map(|i| if i < 3 { 1.0 } else { 8.0_f32.min(i as f32) }).collect();
    let gemma = || Shape { window: Some(8), base: 1e6, own_output: true, ..of("gemma3", 2) };
    let named: [(&str, Shape); 16] = [
        ("llama 2: as many KV heads, an output of its own", Shape { kv_heads: 4, ..llama() }),
        ("llama 3: grouped heads, factors", Shape { rope_factors: Some(factors), base: 5e5, ..llama() }),
        ("llama 3.2: the embedding is the output", Shape { own_output: false, base: 5e5, seed: 23, ..llama() }),
        ("llama with one KV head and wide heads", Shape { kv_heads: 1, head_dim: 64, ..llama() }),
        ("llama, linear", Shape { scaling: Some(Scaling::Linear(4.0)), ..llama() }),
        ("llama, yarn", Shape { scaling: Some(Scaling::Yarn(8.0, 64)), seed: 24, ..llama() }),
        ("qwen2: biases", qwen2(4)),
        ("qwen2: biases, an output of its own", Shape { own_output: true, ..qwen2(5) }),
        ("qwen2, a window that it does not use", Shape { window: Some(8), ..qwen2(6) }),
        ("qwen2, yarn", Shape { scaling: Some(Scaling::Yarn(4.0, 100)), ..qwen2(37) }),
        ("qwen3: norms of heads", Shape { base: 1e6, layers: 4, ..of("qwen3", 28) }),
        ("qwen3: the embedding is the output", Shape { own_output: false, base: 1e6, layers: 4, ..of("qwen3", 9) }),
        ("gemma3: windows", Shape { own_output: false, ..gemma() }),
        ("gemma3, linear where there is no window", Shape { scaling: Some(Scaling::Linear(8.0)), seed: 30, ..gemma() }),
        ("gemma3, another pattern and base", {
            Shape { windowed: Windowed::AllBut(3), local_base: Some(500.0), seed: 42, ..gemma() }
        }),
        ("gemma3 27b: 62 layers", Shape { layers: 62, feed_forward: 32, heads: 2, kv_heads: 1, seed: 31, ..gemma() }),
    ];
    named.into_iter().map(|(name, shape)| (name.to_owned(), shape)).collect()
}

/// One model for each type of weights.
fn quantized() -> Vec<(String, Shape)> {
    let qwen2 =
        Shape { layers: 2, width: 256, head_dim: 64, feed_forward: 256, own_output: true, ..tiny::shape("qwen2") };
    let of = |kind| Shape { kind, ..qwen2.clone() };
    KINDS.iter().map(|&(kind, _)| (format!("{kind:?}"), of(kind))).collect()
}

fn reference() -> Value {
    serde_json::from_str(include_str!("llama-cpp.json")).unwrap()
}

fn log_probabilities(logits: &[f32]) -> Vec<f64> {
    let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
    let sum: f64 = logits.iter().map(|&x| f64::from(x - most).exp()).sum();
    logits.iter().map(|&x| f64::from(x - most) - sum.ln()).collect()
}

/// The largest distance of log-probabilities: those behind the prompt, and those behind the last of the tokens that llama.cpp
/// chose, which must be the likeliest here, too, but for `slack` of their logits.
fn furthest(name: &str, shape: &Shape, expected: &Value, slack: f32) -> f64 {
    let model = Model::from_bytes(shape.file().bytes()).unwrap();
    let mut session = model.session(config("float32"), value_config("float32")).unwrap();
    session.prefill(&tiny::text(PROMPT), NEVER).unwrap();
    let off = |logits: &[f32], expected: &Value| {
        let expected: Vec<f64> = serde_json::from_value(expected.clone()).unwrap();
        let got = log_probabilities(logits);
        assert!(expected.len() > 50);
        // Every fifth token's.
        got.iter().step_by(5).zip(&expected).map(|(a, b)| (a - b).abs()).fold(0.0, f64::max)
    };
    let mut most = off(session.logits(), &expected["first"]);
    let tokens: Vec<u32> = serde_json::from_value(expected["tokens"].clone()).unwrap();
    for (step, &token) in tokens.iter().enumerate() {
        let logits = session.logits();
        let most = logits.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        let chosen = logits[token as usize];
        assert!(chosen >= most - slack, "{name}, step {step}: token {token} has {chosen}, another one {most}");
        session.step(token).unwrap();
    }
    most = most.max(off(session.logits(), &expected["last"]));
    most
}

#[test]
fn greedy_tokens_and_probabilities_are_those_of_llama_cpp() {
    let reference = reference();
    for (name, shape) in shapes() {
        // llama.cpp's gelu is a table of float16.
        let tolerance = if shape.architecture == "gemma3" { 1e-2 } else { 1e-4 };
        let expected = &reference["models"][&name];
        assert_eq!(expected["tokens"].as_array().unwrap().len(), 128);
        let off = furthest(&name, &shape, expected, 0.0);
        println!("{name}: off by {off}");
        assert!(off < tolerance, "{name}: off by {off}");
    }
}

#[test]
fn every_type_of_weights_means_what_it_means_to_llama_cpp() {
    let reference = reference();
    for (name, shape) in quantized() {
        let expected = &reference["models"][&name];
        // llama.cpp rounds what goes into a product, too: to eight bits in blocks, or to the weights' float16.
        let tolerance = match shape.kind {
            GgmlDType::F32 => 1e-4,
            GgmlDType::F16 => 1e-2,
            _ => 0.2,
        };
        let off = furthest(&name, &shape, expected, tolerance as f32);
        println!("{name}: off by {off}");
        assert!(off < tolerance, "{name}: off by {off}");
    }
}

#[test]
fn text_becomes_the_tokens_of_llama_cpp() {
    let reference = reference();
    let mut wrong = Vec::new();
    for (name, file) in vocabularies::all() {
        let model = Model::from_bytes(file.bytes()).unwrap();
        let tokenizer = model.tokenizer();
        let expected = &reference["tokenizers"][&name];
        assert_eq!(expected["tokens"].as_array().unwrap().len(), vocabularies::TEXTS.len());
        for (text, expected) in vocabularies::TEXTS.iter().zip(expected["tokens"].as_array().unwrap()) {
            // There llama.cpp's pattern only approaches the model's, which takes combining marks for parts of words.
            if name == "tekken" && text.contains(['\u{94d}', '\u{301}']) {
                continue;
            }
            let got = json!(tokenizer.encode(text, false).unwrap());
            if got != *expected {
                wrong.push(format!("{name}: {text:?} is {got}, expected {expected}"));
            }
        }
        let begins = tokenizer.encode("x", true).unwrap()[0] == tokenizer.bos().unwrap();
        if json!(begins) != expected["addsBos"] {
            wrong.push(format!("{name}: adds BOS: {begins}"));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Writes the models for `llama-cpp.mjs`.
#[test]
#[ignore = "writes files for llama-cpp.mjs"]
fn write_files() {
    let folder = std::path::PathBuf::from(std::env::var_os("GEARKV_PARITY_FILES").unwrap());
    let mut models = Vec::new();
    for (i, (name, shape)) in shapes().into_iter().chain(quantized()).enumerate() {
        let file = format!("model-{i}.gguf");
        std::fs::write(folder.join(&file), shape.file().bytes()).unwrap();
        models.push(json!({"name": name, "file": file, "prompt": tiny::text(PROMPT), "exact": i < shapes().len()}));
    }
    let mut tokenizers = Vec::new();
    for (i, (name, file)) in vocabularies::all().into_iter().enumerate() {
        let path = format!("tokenizer-{i}.gguf");
        std::fs::write(folder.join(&path), file.bytes()).unwrap();
        tokenizers.push(json!({"name": name, "file": path}));
    }
    let index = json!({"models": models, "tokenizers": tokenizers, "texts": vocabularies::TEXTS.as_slice()});
    std::fs::write(folder.join("index.json"), index.to_string()).unwrap();
}
