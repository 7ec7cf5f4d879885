//! Models as candle's tensors compute what the engine computes, on the CPU and, with feature `cuda`, on a GPU.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use candle_core::Device;
use candle_core::quantized::GgmlDType;
use common::tiny::{Scaling, Shape, Windowed};
use common::{config, naive, tiny, value_config};
use gearkv::{ErrorCode, NEVER};
use gearkv_llm::{DeviceModel, DeviceSession, GenerateOptions, Model, generate};

/// A device, the preset that changes least there, and how far logits of the tiny models may be from the formulas' with it.
struct There {
    name: &'static str,
    device: Device,
    preset: &'static str,
    tolerance: f64,
}

fn devices() -> Vec<There> {
    let cpu = There { name: "CPU", device: Device::Cpu, preset: "float32", tolerance: 2e-4 };
    #[cfg(feature = "cuda")]
    match Device::new_cuda(0) {
        Ok(device) => return vec![cpu, There { name: "GPU", device, preset: "float16", tolerance: 3e-2 }],
        Err(error) => {
            assert!(std::env::var_os("GEARKV_CUDA_REQUIRED").is_none(), "there is no GPU: {error}");
            println!("skipped: there is no GPU: {error}");
        }
    }
    vec![cpu]
}

fn session(file: &common::gguf::File, device: &Device, preset: &str) -> DeviceSession {
    let model = DeviceModel::from_bytes(file.bytes(), device).unwrap();
    model.session(config(preset), value_config(preset)).unwrap()
}

fn furthest(got: &[f32], expected: impl IntoIterator<Item = f64>) -> f64 {
    got.iter().zip(expected).map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// A prompt, then the rest token by token; how far logits are from the formulas'.
fn off(shape: &Shape, there: &There, prompt: usize, tokens: &[u32]) -> f64 {
    let file = shape.file();
    let expected = naive::logits(shape, &file, tokens);
    let mut session = session(&file, &there.device, there.preset);
    session.prefill(&tokens[..prompt], NEVER).unwrap();
    let mut off = furthest(session.logits(), expected[prompt - 1].iter().copied());
    for (i, &token) in tokens.iter().enumerate().skip(prompt) {
        off = off.max(furthest(session.step(token).unwrap(), expected[i].iter().copied()));
    }
    assert_eq!(session.tokens(), tokens);
    off
}

#[test]
fn logits_are_those_of_the_formulas() {
    let tokens = tiny::text(60);
    for there in devices() {
        for architecture in ["llama", "qwen2", "qwen3", "gemma3"] {
            let off = off(&tiny::shape(architecture), &there, 40, &tokens);
            assert!(off < there.tolerance, "{architecture} on the {}: off by {off}", there.name);
        }
    }
}

#[test]
fn windows_positions_and_long_prompts_are_those_of_the_formulas() {
    let (llama, gemma) = (tiny::shape("llama"), tiny::shape("gemma3"));
    let shapes: [(&str, Shape, usize); 5] = [
        ("a window", Shape { window: Some(7), rope_factors: None, ..llama.clone() }, 50),
        ("every second layer", Shape { window: Some(7), windowed: Windowed::AllBut(2), ..llama.clone() }, 50),
        ("yarn", Shape { scaling: Some(Scaling::Yarn(4.0, 100)), rope_factors: None, ..llama.clone() }, 50),
        ("scaled, but not where the window is", Shape { scaling: Some(Scaling::Linear(8.0)), ..gemma }, 50),
        // More than one chunk.
        ("a long prompt", llama, 300),
    ];
    for there in devices() {
        for (name, shape, prompt) in &shapes {
            let off = off(shape, &there, *prompt, &tiny::text(prompt + 10));
            assert!(off < there.tolerance, "{name} on the {}: off by {off}", there.name);
        }
    }
}

#[test]
fn channels_that_do_not_turn_stay() {
    let tokens = tiny::text(30);
    for there in devices() {
        for architecture in ["llama", "qwen3"] {
            let mut file = Shape { rope_factors: None, ..tiny::shape(architecture) }.file();
            file.set(&format!("{architecture}.rope.dimension_count"), common::gguf::Meta::U32(4));
            let model = Model::from_bytes(file.bytes()).unwrap();
            let mut expected = model.session(config(there.preset), value_config(there.preset)).unwrap();
            expected.prefill(&tokens, NEVER).unwrap();
            let mut got = session(&file, &there.device, there.preset);
            got.prefill(&tokens, NEVER).unwrap();
            let off = furthest(got.logits(), expected.logits().iter().copied().map(f64::from));
            assert!(off < there.tolerance, "{architecture} on the {}: off by {off}", there.name);
        }
    }
}

/// candle quantizes activations to eight bits before it multiplies with codes.
#[test]
fn quantized_weights_are_the_files() {
    let tokens = tiny::text(20);
    for there in devices() {
        for kind in [GgmlDType::Q4_0, GgmlDType::Q8_0, GgmlDType::Q4K, GgmlDType::Q6K, GgmlDType::F16] {
            let shape = Shape { kind, layers: 2, width: 256, head_dim: 64, feed_forward: 256, ..tiny::shape("qwen3") };
            let off = off(&shape, &there, 15, &tokens);
            println!("{kind:?} on the {}: off by {off}", there.name);
            assert!(off < 0.15, "{kind:?} on the {}: off by {off}", there.name);
        }
    }
}

/// A prompt that is compressed, what waits behind it, and more segments while decoding: as the engine has them.
#[test]
fn compressed_caches_are_those_of_the_engine() {
    let tokens = tiny::text(330);
    let shape = Shape { layers: 2, head_dim: 64, ..tiny::shape("llama") };
    let file = Shape { rope_factors: None, ..shape }.file();
    let model = Model::from_bytes(file.bytes()).unwrap();
    for there in devices() {
        for preset in ["gear-4", "gear-2", "kivi-4", "paper-gear-4", "float16"] {
            let mut expected = model.session(config(preset), value_config(preset)).unwrap();
            let mut got = session(&file, &there.device, preset);
            expected.prefill(&tokens[..150], NEVER).unwrap();
            got.prefill(&tokens[..150], NEVER).unwrap();
            let mut off = furthest(got.logits(), expected.logits().iter().copied().map(f64::from));
            for &token in &tokens[150..] {
                expected.step(token).unwrap();
                let logits = expected.logits().iter().copied().map(f64::from);
                off = off.max(furthest(got.step(token).unwrap(), logits));
            }
            println!("{preset} on the {}: off by {off}", there.name);
            // Codes may differ where a number lies between two of them: products add in another order.
            assert!(off < 0.1, "{preset} on the {}: off by {off}", there.name);
            let size = got.cache_byte_length();
            assert!(size > 0 && expected.cache().byte_length() > 0);
        }
    }
}

#[test]
fn a_session_goes_on_from_a_cache_of_the_engine() {
    let tokens = tiny::text(120);
    let file = Shape { head_dim: 64, ..Shape { rope_factors: None, ..tiny::shape("llama") } }.file();
    let model = Model::from_bytes(file.bytes()).unwrap();
    for there in devices() {
        let mut engine = model.session(config("gear-4"), value_config("gear-4")).unwrap();
        engine.prefill(&tokens[..110], NEVER).unwrap();
        let on_device = DeviceModel::from_bytes(file.bytes(), &there.device).unwrap();
        let mut session = DeviceSession::restore(&on_device, engine.cache(), tokens[..110].to_vec()).unwrap();
        for &token in &tokens[110..] {
            let expected: Vec<f64> = engine.step(token).unwrap().iter().copied().map(f64::from).collect();
            let off = furthest(session.step(token).unwrap(), expected);
            assert!(off < 3e-2, "on the {}: off by {off}", there.name);
        }
        let short = DeviceSession::restore(&on_device, engine.cache(), tokens[..3].to_vec());
        assert_eq!(short.err().map(|error| error.code()), Some(ErrorCode::ShapeMismatch));
    }
}

#[test]
fn an_interrupted_prompt_leaves_what_was_there() {
    let tokens = tiny::text(200);
    for there in devices() {
        for held in [0, 20] {
            let file = Shape { head_dim: 64, layers: 3, ..Shape { rope_factors: None, ..tiny::shape("llama") } }.file();
            let mut session = session(&file, &there.device, "gear-4");
            session.prefill(&tokens[..held], NEVER).unwrap();
            let asked = AtomicUsize::new(0);
            let cancel = || asked.fetch_add(1, Ordering::Relaxed) > 1;
            let error = session.prefill(&tokens[held..], &cancel).unwrap_err();
            assert_eq!((error.code(), session.tokens().len()), (ErrorCode::Aborted, held));
            session.prefill(&tokens[held..], NEVER).unwrap();
            let mut fresh = self::session(&file, &there.device, "gear-4");
            fresh.prefill(&tokens[..held], NEVER).unwrap();
            fresh.prefill(&tokens[held..], NEVER).unwrap();
            assert_eq!(session.logits(), fresh.logits(), "{held} tokens held, on the {}", there.name);
        }
    }
}

#[test]
fn forks_go_their_own_ways() {
    let tokens = tiny::text(180);
    for there in devices() {
        for preset in ["gear-4", "paper-gear-4"] {
            let file = Shape { head_dim: 64, ..Shape { rope_factors: None, ..tiny::shape("llama") } }.file();
            let mut first = session(&file, &there.device, preset);
            first.prefill(&tokens[..100], NEVER).unwrap();
            let mut second = first.fork().unwrap();
            assert_eq!((second.logits(), second.tokens()), (first.logits(), first.tokens()));
            // The first fills its buffer with other tokens; what the second sees is none of them.
            for &token in tokens[100..180].iter().rev() {
                first.step(token).unwrap();
            }
            let mut alone = session(&file, &there.device, preset);
            alone.prefill(&tokens[..100], NEVER).unwrap();
            for &token in &tokens[100..] {
                let expected = alone.step(token).unwrap().to_vec();
                assert_eq!(second.step(token).unwrap(), expected, "{preset} on the {}", there.name);
            }
            assert_ne!(first.logits(), second.logits());
        }
    }
}

#[test]
fn tokens_are_taken_back() {
    let tokens = tiny::text(100);
    for there in devices() {
        let file = Shape { head_dim: 64, ..Shape { rope_factors: None, ..tiny::shape("llama") } }.file();
        let mut session = session(&file, &there.device, "gear-4");
        session.prefill(&tokens[..90], NEVER).unwrap();
        let first = session.step(tokens[90]).unwrap().to_vec();
        session.step(tokens[91]).unwrap();
        session.truncate(90).unwrap();
        assert!(session.logits().is_empty() && session.tokens().len() == 90);
        assert_eq!(session.step(tokens[90]).unwrap(), first, "on the {}", there.name);
        assert_eq!(session.truncate(500).unwrap_err().code(), ErrorCode::OutOfRange);
        if there.name == "GPU" {
            assert_eq!(session.truncate(3).unwrap_err().code(), ErrorCode::OutOfRange);
            assert_eq!(session.tokens().len(), 91);
        }
        session.clear().unwrap();
        assert!(session.tokens().is_empty());
        session.prefill(&tokens[..90], NEVER).unwrap();
        assert_eq!(session.step(tokens[90]).unwrap(), first, "cleared, on the {}", there.name);
    }
}

#[test]
fn texts_are_those_of_the_engine() {
    let file = tiny::file("qwen3", false);
    let options = GenerateOptions { max_tokens: 30, temperature: 0.0, ignore_end: true, ..Default::default() };
    let model = Model::from_bytes(file.bytes()).unwrap();
    let mut engine = model.session(config("float16"), value_config("float16")).unwrap();
    let expected = generate(&mut engine, &tiny::text(12), &options, NEVER, &mut |_| {}).unwrap();
    for there in devices() {
        let mut session = session(&file, &there.device, "float16");
        let mut streamed = String::new();
        let got = generate(&mut session, &tiny::text(12), &options, NEVER, &mut |text| streamed += text).unwrap();
        assert_eq!((&got.tokens, &got.text), (&expected.tokens, &streamed), "on the {}", there.name);
    }
}

#[test]
fn what_cannot_be_is_refused() {
    for there in devices() {
        let file = tiny::file("llama", false);
        let mut session = session(&file, &there.device, "float16");
        assert_eq!(session.prefill(&[9_999], NEVER).unwrap_err().code(), ErrorCode::OutOfRange);
        let long = vec![1; tiny::CONTEXT + 1];
        assert_eq!(session.prefill(&long, NEVER).unwrap_err().code(), ErrorCode::OutOfRange);
        session.prefill(&[], NEVER).unwrap();
        assert!(session.tokens().is_empty() && session.logits().is_empty());
        let cut = &file.bytes()[..600];
        let error = DeviceModel::from_bytes(cut.to_vec(), &there.device).err().map(|error| error.code());
        assert_eq!(error, Some(ErrorCode::CorruptData));
        if there.name == "GPU" {
            let model = session.model();
            let refused = model.session(config("float32"), value_config("float32")).err().map(|error| error.code());
            assert_eq!(refused, Some(ErrorCode::InvalidOption));
        }
    }
}
