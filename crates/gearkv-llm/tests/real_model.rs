//! SmolLM2-135M against a reference in float32. Skipped where the model is not here.

mod common;

use common::{config, real_model, value_config};
use gearkv::NEVER;
use gearkv_llm::{Candidate, GenerateOptions, Message, Reason, Windows, eval_windows, generate};
use serde_json::Value;

fn reference() -> Value {
    serde_json::from_str(include_str!("reference.json")).unwrap()
}

fn ids(value: &Value) -> Vec<u32> {
    serde_json::from_value(value.clone()).unwrap()
}

#[test]
fn greedy_text_is_that_of_the_reference_token_for_token() {
    const LOGIT_TOLERANCE: f64 = 1e-2;
    let Some(model) = real_model() else { return };
    for case in reference()["greedy"].as_array().unwrap() {
        let mut session = model.session(config("float16"), value_config("float16")).unwrap();
        session.prefill(&ids(&case["prompt"]), NEVER).unwrap();
        for pair in case["firstTop"].as_array().unwrap() {
            let (token, expected) = (pair[0].as_u64().unwrap(), pair[1].as_f64().unwrap());
            let got = f64::from(session.logits()[token as usize]);
            assert!((got - expected).abs() < LOGIT_TOLERANCE, "token {token}: {got}, expected {expected}");
        }
        let options = GenerateOptions { max_tokens: 128, ignore_end: true, ..Default::default() };
        let all = generate(&mut session, &[], &options, NEVER, &mut |_| {}).unwrap();
        assert_eq!(all.tokens, ids(&case["tokens"]));
    }
}

#[test]
fn losses_are_those_of_the_reference_for_every_kind_of_cache() {
    let Some(model) = real_model() else { return };
    let reference = reference();
    let windows = Windows::from_json(&reference["window"].to_string()).unwrap();
    let presets = ["kivi-4", "kivi-2", "paper-gear-4", "paper-gear-2", "uniform-8"];
    let candidates = presets.map(|name| Candidate::preset(name).unwrap());
    let found = eval_windows(&model, &windows, &candidates, NEVER, &mut |_, _| {}).unwrap();
    let expected = |name: &str| reference["losses"][name].as_f64().unwrap();
    let float16 = found.float16_perplexity.ln();
    assert!((float16 - expected("float16")).abs() < 1e-3, "{float16}");
    for (row, (bits, tolerance)) in
        found.rows.iter().zip([(4.5, 0.02), (2.5, 0.12), (6.125, 0.02), (4.125, 0.06), (8.5, 0.01)])
    {
        println!("{row:?}, loss {}", row.perplexity.ln());
        assert!((row.bits_per_element - bits).abs() < 1e-9, "{row:?}");
        let off = row.perplexity.ln() - expected(&row.preset);
        assert!(off.abs() < tolerance, "{}: off by {off}", row.preset);
    }
    let kl = |name: &str| found.rows.iter().find(|row| row.preset == name).unwrap().kl;
    assert!(kl("uniform-8") < kl("paper-gear-4") && kl("paper-gear-4") < kl("kivi-4"));
    assert!(kl("kivi-4") < kl("paper-gear-2") && kl("paper-gear-2") < kl("kivi-2"));
}

#[test]
fn text_becomes_the_tokens_that_llama_cpp_makes_of_it() {
    let Some(model) = real_model() else { return };
    let text = "Hello world 123 it's  a\n\n test: é 🦀 <|im_end|>";
    let expected = [19556, 905, 216, 33, 34, 35, 357, 506, 216, 253, 1116, 1028, 42, 26411, 15107, 116, 218, 216, 2];
    let tokenizer = model.tokenizer();
    let tokens = tokenizer.encode(text, false).unwrap();
    assert_eq!(tokens, expected);
    // Control tokens are no text.
    assert_eq!(tokenizer.decode(&tokens), text.trim_end_matches("<|im_end|>"));
}

#[test]
fn a_conversation_is_answered_on_a_compressed_cache() {
    let Some(model) = real_model() else { return };
    let message = |content: &str| Message { role: "user".into(), content: content.into() };
    let prompt = model.tokenizer().render_chat(&[message("What is the capital of France?")], true).unwrap();
    assert!(prompt.ends_with("<|im_start|>assistant\n") && prompt.contains("France?<|im_end|>"), "{prompt:?}");
    let mut session = model.session(config("gear-4"), value_config("gear-4")).unwrap();
    let tokens = model.tokenizer().encode(&prompt, true).unwrap();
    let answer = generate(&mut session, &tokens, &GenerateOptions::default(), NEVER, &mut |_| {}).unwrap();
    assert!(answer.text.contains("Paris"), "{}", answer.text);
    assert_eq!(answer.reason, Reason::Stop);
}
