//! Every architecture computes what its formulas say.

mod common;

use candle_core::quantized::GgmlDType;
use common::gguf::KINDS;
use common::tiny::{Scaling, Shape, Windowed};
use common::{config, naive, tiny, value_config};
use gearkv::NEVER;
use gearkv_llm::Model;

const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

fn all_logits(model: &Model, preset: &str, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut session = model.session(config(preset), value_config(preset)).unwrap();
    let mut out = Vec::new();
    session
        .force(tokens, NEVER, |i, logits| {
            assert_eq!(i, out.len());
            out.push(logits.to_vec());
        })
        .unwrap();
    out
}

fn furthest(got: &[Vec<f32>], expected: &[Vec<f64>]) -> f64 {
    assert_eq!(got.len(), expected.len());
    let pairs = got.iter().flatten().zip(expected.iter().flatten());
    pairs.map(|(a, b)| (f64::from(*a) - b).abs()).fold(0.0, f64::max)
}

/// How far a shape's logits are from the formulas'.
fn off(shape: &Shape, preset: &str, tokens: &[u32]) -> f64 {
    let file = shape.file();
    let model = Model::from_bytes(file.bytes()).unwrap();
    furthest(&all_logits(&model, preset, tokens), &naive::logits(shape, &file, tokens))
}

#[test]
fn logits_are_those_of_the_formulas() {
    let tokens = tiny::text(40);
    for architecture in ARCHITECTURES {
        for kind in [GgmlDType::F32, GgmlDType::Q8_0] {
            let shape = Shape { kind, ..tiny::shape(architecture) };
            let off_by = off(&shape, "float32", &tokens);
            assert!(off_by < 2e-4, "{architecture}, {kind:?}: off by {off_by}");
            let off_by = off(&shape, "float16", &tokens);
            assert!(off_by < 2e-2, "{architecture}, {kind:?}, float16: off by {off_by}");
        }
    }
}

#[test]
fn logits_are_those_of_the_formulas_for_every_type_of_weights() {
    let tokens = tiny::text(20);
    for (kind, _) in KINDS {
        let shape = Shape { kind, layers: 2, width: 256, head_dim: 64, feed_forward: 256, ..tiny::shape("qwen3") };
        let off_by = off(&shape, "float32", &tokens);
        let tolerance = match kind {
            // Six-bit scales times float16 become float16.
            GgmlDType::Q4K | GgmlDType::Q5K => 2e-2,
            // Quantized once more, to eight bits.
            GgmlDType::Q2K | GgmlDType::Q3K | GgmlDType::Q6K => 0.1,
            _ => 2e-4,
        };
        println!("{kind:?}: off by {off_by}");
        assert!(off_by < tolerance, "{kind:?}: off by {off_by}");
    }
}

#[test]
fn windows_and_stretched_positions_are_those_of_the_formulas() {
    let (llama, gemma) = (tiny::shape("llama"), tiny::shape("gemma3"));
    let shapes: [(&str, Shape); 10] = [
        // As in Mistral: every layer, far shorter than the text.
        ("window", Shape { window: Some(7), rope_factors: None, ..llama.clone() }),
        ("window and factors", Shape { window: Some(16), ..llama.clone() }),
        ("every second layer", Shape { window: Some(7), windowed: Windowed::AllBut(2), ..llama.clone() }),
        ("linear", Shape { scaling: Some(Scaling::Linear(4.0)), ..llama.clone() }),
        ("yarn", Shape { scaling: Some(Scaling::Yarn(4.0, 100)), rope_factors: None, ..llama }),
        ("yarn, halves", Shape { scaling: Some(Scaling::Yarn(2.5, 64)), head_dim: 16, ..tiny::shape("qwen2") }),
        ("scaled, but not where the window is", Shape { scaling: Some(Scaling::Linear(8.0)), ..gemma.clone() }),
        ("another base", Shape { local_base: Some(700.0), ..gemma.clone() }),
        ("every third layer", Shape { windowed: Windowed::AllBut(3), ..gemma.clone() }),
        ("listed layers", Shape { windowed: Windowed::Listed((0..7).map(|i| i % 3 == 1).collect()), ..gemma }),
    ];
    let tokens = tiny::text(60);
    for (name, shape) in shapes {
        let off_by = off(&shape, "float32", &tokens);
        assert!(off_by < 2e-4, "{} with {name}: off by {off_by}", shape.architecture);
    }
}

#[test]
fn a_factor_without_a_type_is_linear() {
    let shape = Shape { scaling: Some(Scaling::Linear(4.0)), ..tiny::shape("qwen3") };
    let mut file = shape.file();
    file.metadata.retain(|(key, _)| key != "qwen3.rope.scaling.type");
    let tokens = tiny::text(30);
    let model = Model::from_bytes(file.bytes()).unwrap();
    let off_by = furthest(&all_logits(&model, "float32", &tokens), &naive::logits(&shape, &file, &tokens));
    assert!(off_by < 2e-4, "off by {off_by}");
}

#[test]
fn a_window_changes_what_is_said() {
    // Or else the test above could pass with a window that nobody reads.
    let tokens = tiny::text(60);
    let plain = tiny::shape("llama");
    let expected = naive::logits(&plain, &plain.file(), &tokens);
    let windowed = Shape { window: Some(7), ..plain };
    let model = Model::from_bytes(windowed.file().bytes()).unwrap();
    let got = all_logits(&model, "float32", &tokens);
    assert!(furthest(&got[..7], &expected[..7]) < 2e-4);
    assert!(furthest(&got, &expected) > 0.1);
    assert_eq!(model.info().sliding_window, Some(7));
    // Qwen's files name a window that the models do not use.
    let qwen = Shape { window: Some(7), ..tiny::shape("qwen2") };
    let model = Model::from_bytes(qwen.file().bytes()).unwrap();
    assert_eq!(model.info().sliding_window, None);
}

#[test]
fn gemma_27b_divides_by_another_root() {
    // 62 layers are how everyone knows it; narrow ones, since only the attention's scale differs.
    let shape = Shape { layers: 62, heads: 2, kv_heads: 1, feed_forward: 32, ..tiny::shape("gemma3") };
    let tokens = tiny::text(12);
    let off_by = off(&shape, "float32", &tokens);
    assert!(off_by < 1e-3, "off by {off_by}");
}

#[test]
fn a_prompt_at_once_and_token_by_token_are_the_same() {
    // Longer than a chunk.
    let tokens = tiny::text(300);
    for architecture in ARCHITECTURES {
        let model = tiny::model(architecture);
        let at_once = all_logits(&model, "float32", &tokens);
        let mut session = model.session(config("float32"), value_config("float32")).unwrap();
        for (t, &token) in tokens.iter().enumerate() {
            let logits = session.step(token).unwrap();
            let off = logits.iter().zip(&at_once[t]).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
            assert!(off < 1e-3, "{architecture} token {t}: off by {off}");
        }
    }
}

#[test]
fn several_sessions_step_together_as_they_would_alone() {
    let model = tiny::model("llama");
    let text = tiny::text(200);
    for preset in ["float16", "gear-4"] {
        let mut together = Vec::new();
        for n in [3usize, 150, 70] {
            let mut session = model.session(config(preset), value_config(preset)).unwrap();
            session.prefill(&text[..n], NEVER).unwrap();
            together.push(session);
        }
        let mut alone = together.clone();
        for step in 0..70 {
            let next = [text[step], text[step + 1], text[step + 2]];
            gearkv_llm::Session::step_all(&mut together, &next, NEVER).unwrap();
            for ((session, one), token) in together.iter().zip(&mut alone).zip(next) {
                let logits = one.step(token).unwrap();
                let off = logits.iter().zip(session.logits()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
                assert!(off < 1e-2, "{preset} step {step}: off by {off}");
            }
        }
        assert_eq!(together[1].tokens(), alone[1].tokens());
        assert_eq!(together[1].cache().byte_length(), alone[1].cache().byte_length());
    }
}

#[test]
fn info_says_what_the_model_is() {
    let model = tiny::model("gemma3");
    let info = model.info();
    assert_eq!((info.layers, info.heads, info.kv_heads, info.head_dim), (7, 4, 2, 8));
    assert_eq!((info.sliding_window, info.context_length, info.vocabulary), (Some(5), 400, 260));
    assert_eq!(info.float16_bytes_per_token, 2 * 2 * 7 * 2 * 8);
    assert_eq!(info.weight_types.len(), 1);
    assert!(info.weight_types["F32"] == info.parameters && info.parameters > 10_000);
}
