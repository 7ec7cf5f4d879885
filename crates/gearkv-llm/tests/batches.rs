//! Several texts at once are what each would be alone.

mod common;

use common::{config, real_model, tiny, value_config};
use gearkv::{ErrorCode, NEVER};
use gearkv_llm::{
    Batch, BatchStep, GenerateOptions, Generated, Generation, Message, Model, Progress, Reason, generate,
};

fn batch(model: &Model, preset: &str, prompts: &[Vec<u32>], options: &GenerateOptions) -> Batch {
    Batch::new(model, &config(preset), &value_config(preset), prompts.to_vec(), options).unwrap()
}

fn alone(model: &Model, preset: &str, prompt: &[u32], options: &GenerateOptions) -> Generated {
    let mut session = model.session(config(preset), value_config(preset)).unwrap();
    generate(&mut session, prompt, options, NEVER, &mut |_| {}).unwrap()
}

/// Steps until all have ended; no text gets a step behind its last.
fn all(batch: &mut Batch, sequences: usize) -> Vec<Generated> {
    let mut texts: Vec<(Generated, bool)> = Vec::new();
    texts.resize(sequences, (Generated { tokens: Vec::new(), text: String::new(), reason: Reason::Stop }, false));
    loop {
        let steps = batch.next(NEVER).unwrap();
        if steps.is_empty() {
            break;
        }
        for BatchStep { index, step } in steps {
            let (text, ended) = &mut texts[index];
            assert!(!*ended, "sequence {index} has ended");
            text.tokens.extend(step.token);
            text.text += &step.text;
            if let Some(reason) = step.reason {
                (text.reason, *ended) = (reason, true);
            }
        }
    }
    assert!(texts.iter().all(|(_, ended)| *ended));
    texts.into_iter().map(|(text, _)| text).collect()
}

#[test]
fn each_text_of_a_ragged_batch_is_what_it_is_alone() {
    let prompts: Vec<Vec<u32>> =
        [3, 260, 1, 90, 300, 12].iter().enumerate().map(|(i, &n)| tiny::text(n + i)[i..].to_vec()).collect();
    for architecture in ["llama", "gemma3"] {
        let model = tiny::model(architecture);
        for preset in ["float16", "gear-4"] {
            for options in [
                GenerateOptions { max_tokens: 150, ..Default::default() },
                GenerateOptions { max_tokens: 40, temperature: 2.0, seed: 5, ignore_end: true, ..Default::default() },
            ] {
                let mut together = batch(&model, preset, &prompts, &options);
                for (index, (got, prompt)) in all(&mut together, prompts.len()).iter().zip(&prompts).enumerate() {
                    let seed = options.seed + index as u32;
                    let expected = alone(&model, preset, prompt, &GenerateOptions { seed, ..options.clone() });
                    assert_eq!(*got, expected, "{architecture} {preset} {index}");
                }
            }
        }
    }
}

#[test]
fn texts_end_at_their_own_time_and_the_context_ends_one_alone() {
    let model = tiny::model("llama");
    let options = GenerateOptions { max_tokens: 30, ignore_end: true, ..Default::default() };
    let context = tiny::CONTEXT;
    let prompts = [tiny::text(context - 5), tiny::text(context + 1), tiny::text(context), tiny::text(7)];
    let mut together = batch(&model, "gear-4", &prompts, &options);
    let texts = all(&mut together, prompts.len());
    let ends: Vec<_> = texts.iter().map(|text| (text.tokens.len(), text.reason)).collect();
    assert_eq!(ends, [(6, Reason::Length), (0, Reason::Length), (1, Reason::Length), (30, Reason::Length)]);
    let stats = together.stats();
    assert_eq!((stats.sequences, stats.active), (4, 0));
    assert_eq!(stats.tokens, context + context + 36);
    assert_eq!(stats.float16_byte_length, stats.tokens * model.info().float16_bytes_per_token);
    assert!(stats.byte_length < stats.float16_byte_length && stats.timings.total() > 0.0);
    assert!(together.next(NEVER).unwrap().is_empty());
}

#[test]
fn prompts_are_read_unit_by_unit_and_what_is_cancelled_can_be_read_again() {
    let model = tiny::model("qwen3");
    let prompts = [tiny::text(100), tiny::text(300), tiny::text(130)];
    let options = GenerateOptions { max_tokens: 20, ..Default::default() };
    let mut once = batch(&model, "gear-2", &prompts, &options);
    let mut slowly = batch(&model, "gear-2", &prompts, &options);
    assert_eq!(slowly.read(&|| true, &mut |_| true).unwrap_err().code(), ErrorCode::Aborted);
    let mut before = Progress { done: 0, total: 530 };
    let mut units = 0;
    while !before.finished() {
        let progress = slowly.read(NEVER, &mut |_| false).unwrap();
        assert!(progress.total == 530 && progress.done >= before.done, "{before:?} {progress:?}");
        before = progress;
        units += 1;
        if units == 5 {
            // What is under way begins anew.
            assert_eq!(slowly.read(&|| true, &mut |_| false).unwrap_err().code(), ErrorCode::Aborted);
            slowly.read(NEVER, &mut |_| false).unwrap();
            assert!(slowly.reading());
            slowly.abandon();
            assert!(!slowly.reading() && slowly.stats().tokens == 0);
            before.done = 0;
        }
    }
    // A layer's chunks and its compression: of 300 tokens two chunks, of 130 and of 100 one.
    assert_eq!(units, 5 + tiny::LAYERS * (3 + 2 + 2));
    assert_eq!(all(&mut once, 3), all(&mut slowly, 3));
}

#[test]
fn a_batch_without_prompts_or_with_an_empty_one_is_refused() {
    let model = tiny::model("llama");
    let new = |prompts: &[Vec<u32>]| {
        let options = GenerateOptions::default();
        Batch::new(&model, &config("gear-4"), &value_config("gear-4"), prompts.to_vec(), &options).err().unwrap()
    };
    assert_eq!(new(&[]).code(), ErrorCode::ShapeMismatch);
    let error = new(&[vec![1], vec![]]);
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
    assert!(error.to_string().contains("prompt 1"), "{error}");
    assert_eq!(new(&[vec![tiny::VOCABULARY as u32]]).code(), ErrorCode::OutOfRange);
    let mut generation = Generation::new(GenerateOptions::default()).unwrap();
    let error = Generation::next_all(&mut [&mut generation], &mut [], NEVER).unwrap_err();
    assert_eq!(error.code(), ErrorCode::ShapeMismatch);
}

#[test]
fn the_real_model_answers_several_questions_at_once_as_it_answers_each() {
    let Some(model) = real_model() else { return };
    let questions = [
        "What is the capital of France?",
        "Tell me about the sea, its storms and the ships that cross it.",
        "Name three colours.",
        "Hi!",
    ];
    let prompts: Vec<Vec<u32>> = questions
        .iter()
        .map(|question| {
            let message = Message { role: "user".into(), content: (*question).into() };
            let prompt = model.tokenizer().render_chat(&[message], true).unwrap();
            model.tokenizer().encode(&prompt, true).unwrap()
        })
        .collect();
    let options = GenerateOptions { max_tokens: 48, ..Default::default() };
    for preset in ["float16", "gear-4"] {
        let mut together = batch(&model, preset, &prompts, &options);
        for (got, prompt) in all(&mut together, prompts.len()).iter().zip(&prompts) {
            assert_eq!(*got, alone(&model, preset, prompt, &options), "{preset}");
        }
    }
}
