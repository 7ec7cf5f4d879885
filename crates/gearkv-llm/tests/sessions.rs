//! Sessions: forks, truncation, cancellation, limits, generation.

mod common;

use std::sync::atomic::{AtomicUsize, Ordering};

use common::{config, tiny, value_config};
use gearkv::{ErrorCode, NEVER};
use gearkv_llm::{
    Candidate, EvalRun, GenerateOptions, Model, PerplexityRun, Progress, Reason, Recompression, Session, Windows,
    eval_windows, generate, perplexity,
};

fn session(model: &Model, preset: &str, tokens: &[u32]) -> Session {
    let mut session = model.session(config(preset), value_config(preset)).unwrap();
    session.prefill(tokens, NEVER).unwrap();
    session
}

#[test]
fn a_prompt_is_seen_exactly_and_compressed_once() {
    let model = tiny::model("llama");
    let text = tiny::text(200);
    let gear = session(&model, "gear-2", &text);
    let float16 = session(&model, "float16", &text);
    // The last token's logits come from the exact prefill, whatever the cache becomes.
    let off = gear.logits().iter().zip(float16.logits()).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
    assert!(off < 1e-3, "off by {off}");
    assert!(gear.cache().byte_length() < float16.cache().byte_length());
    let mut chunked = model.session(config("gear-2"), value_config("gear-2")).unwrap();
    chunked.set_exact_prefill(false);
    chunked.prefill(&text, NEVER).unwrap();
    chunked.step(1).unwrap();
    assert_eq!(chunked.tokens().len(), 201);
    // Another cache made from the exact one is the same as one that was made at once.
    let mut again = float16.recompress(config("kivi-2"), value_config("kivi-2"), NEVER).unwrap();
    assert_eq!(again.step(7).unwrap(), session(&model, "kivi-2", &text).step(7).unwrap());
}

#[test]
fn forks_and_truncated_sessions_go_their_own_way() {
    let model = tiny::model("qwen2");
    let text = tiny::text(100);
    let mut one = session(&model, "gear-4", &text);
    let mut other = one.fork();
    let a = one.step(5).unwrap().to_vec();
    let b = other.step(9).unwrap().to_vec();
    assert_ne!(a, b);
    other.truncate(100).unwrap();
    assert!(other.logits().is_empty());
    assert_eq!(other.step(5).unwrap(), a);
    assert_eq!(other.tokens(), one.tokens());
    assert_eq!(other.truncate(500).unwrap_err().code(), ErrorCode::ShapeMismatch);
    other.clear();
    assert_eq!((other.tokens().len(), other.cache().tokens()), (0, 0));
    let restored = Session::restore(&model, one.cache().clone(), one.tokens().to_vec()).unwrap();
    assert_eq!(restored.fork().step(3).unwrap(), one.step(3).unwrap());
    let error = Session::restore(&model, one.cache().clone(), vec![1]).err().unwrap();
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
}

#[test]
fn what_is_cancelled_leaves_the_session_as_it_was() {
    let model = tiny::model("llama");
    let text = tiny::text(300);
    for stop_after in [0, 1, 2, 5, 20, 60] {
        let mut session = session(&model, "gear-4", &text[..30]);
        let asked = AtomicUsize::new(0);
        let cancel = || asked.fetch_add(1, Ordering::Relaxed) >= stop_after;
        let error = session.prefill(&text[30..], &cancel).unwrap_err();
        assert_eq!(error.code(), ErrorCode::Aborted);
        assert_eq!((session.tokens().len(), session.cache().tokens()), (30, 30), "after {stop_after}");
        session.step(5).unwrap();
        assert_eq!(session.cache().tokens(), 31);
    }
}

#[test]
fn a_prompt_read_unit_by_unit_is_the_same_as_one_read_at_once() {
    let model = tiny::model("gemma3");
    let text = tiny::text(300);
    let mut whole = session(&model, "gear-4", &text[..30]);
    let mut parts = whole.fork();
    whole.prefill(&text[30..], NEVER).unwrap();
    parts.begin(&text[30..]).unwrap();
    let mut seen = Vec::new();
    loop {
        let before = parts.reading().unwrap();
        let progress = parts.read(NEVER, &mut |_| false).unwrap();
        assert!(progress.done >= before.done && progress.total == 270, "{before:?} {progress:?}");
        seen.push(progress);
        if progress.finished() {
            break;
        }
        assert_eq!(parts.tokens().len(), 30);
    }
    // Two chunks and the compression of each layer.
    assert_eq!(seen.len(), tiny::LAYERS * 3);
    assert_eq!(seen.iter().filter(|progress| progress.finished()).count(), 1);
    assert_eq!((parts.reading(), parts.tokens()), (None, whole.tokens()));
    assert_eq!(parts.logits(), whole.logits());
    assert_eq!(parts.step(7).unwrap(), whole.step(7).unwrap());
    // Nothing is left to do.
    assert_eq!(parts.read(NEVER, &mut |_| false).unwrap(), Progress { done: 0, total: 0 });
}

#[test]
fn a_prompt_that_is_abandoned_leaves_the_session_as_it_was() {
    let model = tiny::model("llama");
    let text = tiny::text(300);
    let before = session(&model, "float16", &text[..30]);
    type Use = fn(&mut Session);
    let uses: [(&str, Use); 4] = [
        ("abandoned", Session::abandon),
        ("another prompt", |session| session.begin(&[]).unwrap()),
        ("truncated", |session| session.truncate(30).unwrap()),
        ("recompressed", |session| {
            *session = session.recompress(config("float16"), value_config("float16"), NEVER).unwrap()
        }),
    ];
    for (name, give_up) in uses {
        for units in [0, 1, 4, 20] {
            let mut session = before.fork();
            session.begin(&text[30..]).unwrap();
            for _ in 0..units {
                session.read(NEVER, &mut |_| false).unwrap();
            }
            give_up(&mut session);
            assert_eq!(session.reading(), None, "{name}");
            assert_eq!((session.tokens(), session.cache().tokens()), (before.tokens(), 30), "{name}");
            assert_eq!(session.logits(), before.logits(), "{name}");
            assert_eq!(session.step(7).unwrap(), before.fork().step(7).unwrap(), "{name} after {units}");
        }
    }
    // A step in the middle of a prompt is taken where the session was.
    let mut session = before.fork();
    session.begin(&text[30..]).unwrap();
    session.read(NEVER, &mut |_| false).unwrap();
    assert_eq!(session.step(7).unwrap(), before.fork().step(7).unwrap());
    // Another prompt of the same session begins anew.
    session.begin(&text[30..]).unwrap();
    session.clear();
    assert_eq!((session.reading(), session.cache().tokens()), (None, 0));
}

#[test]
fn tokens_and_contexts_beyond_the_model_are_refused() {
    let model = tiny::model("llama");
    let mut session = session(&model, "float16", &tiny::text(10));
    let error = session.prefill(&[1, tiny::VOCABULARY as u32], NEVER).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfRange);
    let error = session.prefill(&tiny::text(tiny::CONTEXT), NEVER).unwrap_err();
    assert_eq!(error.code(), ErrorCode::OutOfRange);
    assert!(error.to_string().contains("400"), "{error}");
    assert_eq!(session.tokens().len(), 10);
    // Generation ends where the context does.
    let options = GenerateOptions { max_tokens: 1000, ignore_end: true, ..Default::default() };
    let all = generate(&mut session, &tiny::text(380), &options, NEVER, &mut |_| {}).unwrap();
    assert_eq!((all.reason, all.tokens.len()), (Reason::Length, 11));
    assert_eq!(session.tokens().len(), tiny::CONTEXT);
}

#[test]
fn generation_stops_and_streams_what_it_returns() {
    let model = tiny::model("llama");
    let prompt = model.tokenizer().encode("hello there", false).unwrap();
    assert_eq!(prompt[0], tiny::MERGED);
    let run = |options: GenerateOptions| {
        let mut session = model.session(config("gear-4"), value_config("gear-4")).unwrap();
        let mut streamed = String::new();
        let all = generate(&mut session, &prompt, &options, NEVER, &mut |piece| streamed += piece).unwrap();
        assert_eq!(streamed, all.text);
        all
    };
    let options = GenerateOptions { max_tokens: 60, ignore_end: true, temperature: 3.0, seed: 3, ..Default::default() };
    let all = run(options.clone());
    assert_eq!((all.tokens.len(), all.reason), (60, Reason::Length));
    assert_eq!(all.text, model.tokenizer().decode(&all.tokens));
    assert_eq!(all, run(options.clone()));
    assert_ne!(all.tokens, run(GenerateOptions { seed: 4, ..options.clone() }).tokens);
    let middle = all.text.chars().skip(20).take(3).collect::<String>();
    let stopped = run(GenerateOptions { stop: vec![middle.clone()], ..options });
    assert_eq!(stopped.reason, Reason::Stop);
    assert_eq!(stopped.text, all.text[..all.text.find(&middle).unwrap()]);
    let none = run(GenerateOptions { max_tokens: 0, ..Default::default() });
    assert_eq!((none.tokens.len(), none.reason), (0, Reason::Length));
    let mut empty = model.session(config("gear-4"), value_config("gear-4")).unwrap();
    let error = generate(&mut empty, &[], &GenerateOptions::default(), NEVER, &mut |_| {}).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
    assert_eq!(GenerateOptions::from_json("{\"tempature\": 1}").unwrap_err().code(), ErrorCode::InvalidOption);
}

#[test]
fn perplexity_is_the_exponential_of_the_mean_loss() {
    let model = tiny::model("qwen3");
    let text = tiny::text(150);
    let mut session = model.session(config("float16"), value_config("float16")).unwrap();
    let mut loss = 0.0;
    for (given, next) in text.iter().zip(&text[1..]) {
        let logits = session.step(*given).unwrap();
        let sum: f64 = logits.iter().map(|x| f64::from(*x).exp()).sum();
        loss += sum.ln() - f64::from(logits[*next as usize]);
    }
    let expected = (loss / 149.0).exp();
    let got = perplexity(&model, &text, config("float16"), value_config("float16"), NEVER).unwrap();
    assert!((got.perplexity / expected - 1.0).abs() < 1e-4, "{} {expected}", got.perplexity);
    assert_eq!(got.tokens, 149);
    let gear = perplexity(&model, &text, config("gear-2"), value_config("gear-2"), NEVER).unwrap();
    assert!(gear.perplexity != got.perplexity && gear.cache_bytes < got.cache_bytes);
    let error = perplexity(&model, &text[..1], config("gear-2"), value_config("gear-2"), NEVER).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
}

#[test]
fn evaluation_finds_nothing_where_there_is_nothing_and_more_with_fewer_bits() {
    let model = tiny::model("llama");
    let windows = Windows {
        prompt_tokens: 100,
        continuation_tokens: 90,
        names: Vec::new(),
        token_ids: vec![tiny::text(191), tiny::text(300)[109..].to_vec()],
    };
    let candidates = ["float16", "kivi-4", "kivi-2"].map(|name| Candidate::preset(name).unwrap());
    let mut seen = Vec::new();
    let found = eval_windows(&model, &windows, &candidates, NEVER, &mut |done, all| seen.push((done, all))).unwrap();
    assert_eq!(seen, (1..=8).map(|done| (done, 8)).collect::<Vec<_>>());
    let [float16, four, two] = &found.rows[..] else { panic!() };
    assert!(float16.kl.abs() < 1e-6 && float16.top1 == 1.0 && float16.bits_per_element == 16.0);
    assert!((float16.perplexity / found.float16_perplexity - 1.0).abs() < 1e-6);
    assert!(float16.decode_bits_per_element.is_none());
    assert!(four.kl > 1e-7 && two.kl > 2.0 * four.kl, "{} {}", four.kl, two.kl);
    assert!(two.bits_per_element < four.bits_per_element && two.top1 <= 1.0);
    let short = Windows { continuation_tokens: 91, ..windows };
    let error = eval_windows(&model, &short, &candidates, NEVER, &mut |_, _| {}).unwrap_err();
    assert_eq!(error.code(), ErrorCode::InvalidOption);
    assert_eq!(Windows::from_json("{}").unwrap_err().code(), ErrorCode::InvalidOption);
}

#[test]
fn measurements_in_units_find_the_same_and_count_up() {
    let model = tiny::model("llama");
    let text = tiny::text(150);
    let whole = perplexity(&model, &text, config("gear-4"), value_config("gear-4"), NEVER).unwrap();
    let mut run = PerplexityRun::new(&model, &text, config("gear-4"), value_config("gear-4")).unwrap();
    let mut before = Progress { done: 0, total: 149 };
    while !before.finished() {
        let progress = run.advance(NEVER, &mut |_| false).unwrap();
        assert!(progress.done >= before.done && progress.total == 149);
        before = progress;
    }
    assert_eq!(run.found(), whole);
    assert_eq!(run.advance(&|| true, &mut |_| true).unwrap(), before);
    let mut run = PerplexityRun::new(&model, &text, config("gear-4"), value_config("gear-4")).unwrap();
    assert_eq!(run.advance(&|| true, &mut |_| true).unwrap_err().code(), ErrorCode::Aborted);

    let token_ids = vec![tiny::text(150), tiny::text(190)[40..].to_vec()];
    let windows = Windows { prompt_tokens: 80, continuation_tokens: 69, names: Vec::new(), token_ids };
    let candidates = ["gear-4", "kivi-2"].map(|name| Candidate::preset(name).unwrap());
    let whole = eval_windows(&model, &windows, &candidates, NEVER, &mut |_, _| {}).unwrap();
    let mut run = EvalRun::new(&model, windows, candidates.to_vec()).unwrap();
    let mut units = 0;
    while !run.advance(NEVER, &mut |_| false).unwrap().finished() {
        units += 1;
    }
    // The prompts alone need two a layer.
    assert!(units > 2 * 2 * tiny::LAYERS, "{units}");
    assert_eq!(run.found(), whole);
    let mut session = session(&model, "float16", &text);
    session.begin(&[1, 2]).unwrap();
    let mut recompression = Recompression::new(&session, config("gear-2"), value_config("gear-2")).unwrap();
    let mut layers = 0;
    while !recompression.advance(NEVER, &mut |_| false).unwrap().finished() {
        layers += 1;
        assert_eq!(recompression.progress(), Progress { done: layers, total: tiny::LAYERS });
        assert_eq!(recompression.advance(&|| true, &mut |_| true).unwrap_err().code(), ErrorCode::Aborted);
    }
    let mut other = recompression.finish();
    assert_eq!((other.tokens(), other.reading()), (session.tokens(), None));
    let mut expected = session.recompress(config("gear-2"), value_config("gear-2"), NEVER).unwrap();
    assert_eq!(other.step(9).unwrap(), expected.step(9).unwrap());
}
