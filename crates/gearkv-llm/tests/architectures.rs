//! Every architecture computes what its formulas say.

mod common;

use common::{config, naive, tiny};
use gearkv::NEVER;
use gearkv_llm::Model;

const ARCHITECTURES: [&str; 4] = ["llama", "qwen2", "qwen3", "gemma3"];

fn all_logits(model: &Model, preset: &str, tokens: &[u32]) -> Vec<Vec<f32>> {
    let mut session = model.session(config(preset), config(preset)).unwrap();
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

#[test]
fn logits_are_those_of_the_formulas() {
    let tokens = tiny::text(40);
    for architecture in ARCHITECTURES {
        for quantized in [false, true] {
            let file = tiny::file(architecture, quantized);
            let model = Model::from_bytes(file.bytes()).unwrap();
            let expected = naive::logits(architecture, &file, &tokens);
            let off = furthest(&all_logits(&model, "float32", &tokens), &expected);
            assert!(off < 2e-4, "{architecture}, quantized {quantized}: off by {off}");
            let off = furthest(&all_logits(&model, "float16", &tokens), &expected);
            assert!(off < 2e-2, "{architecture}, quantized {quantized}, float16: off by {off}");
        }
    }
}

#[test]
fn a_prompt_at_once_and_token_by_token_are_the_same() {
    // Longer than a chunk.
    let tokens = tiny::text(300);
    for architecture in ARCHITECTURES {
        let model = tiny::model(architecture);
        let at_once = all_logits(&model, "float32", &tokens);
        let mut session = model.session(config("float32"), config("float32")).unwrap();
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
            let mut session = model.session(config(preset), config(preset)).unwrap();
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
