//! Tokenizers of every scheme, from what a GGUF says about them.

mod common;

use common::gguf::{File, Meta};
use common::tiny;
use gearkv::ErrorCode;
use gearkv_llm::{Message, Model};

const TEXTS: [&str; 6] =
    ["hello, hello!", "  two  spaces\n\n\tand 1234567 digits", "it's  é — 🦀", "", "\n", "he said: 'hel' <b>"];

fn texts(all: &[&str]) -> Meta {
    Meta::Texts(all.iter().map(ToString::to_string).collect())
}

#[test]
fn text_comes_back_as_it_was_under_every_scheme() {
    for scheme in ["default", "gpt-2", "smollm", "llama-bpe", "qwen2"] {
        let mut file = tiny::file("llama", false);
        file.set("tokenizer.ggml.pre", Meta::Text(scheme.into()));
        let model = Model::from_bytes(file.bytes()).unwrap();
        let tokenizer = model.tokenizer();
        for text in TEXTS {
            let tokens = tokenizer.encode(text, true).unwrap();
            assert_eq!(tokenizer.decode(&tokens), text, "{scheme}");
        }
        assert_eq!(tokenizer.encode("hello", false).unwrap()[0], tiny::MERGED, "{scheme}");
        let special = tokenizer.encode("<|im_start|>he<|im_end|>", false).unwrap();
        assert_eq!(special, [tiny::START, 256, tiny::END], "{scheme}");
        assert_eq!(tokenizer.decode(&special), "he");
        assert!(tokenizer.is_end(tiny::END) && !tokenizer.is_end(tiny::START));
    }
    let mut file = tiny::file("llama", false);
    file.set("tokenizer.ggml.pre", Meta::Text("of-my-own".into()));
    let error = Model::from_bytes(file.bytes()).err().unwrap();
    assert_eq!(error.code(), ErrorCode::UnsupportedModel);
    assert!(error.to_string().contains("of-my-own"), "{error}");
}

#[test]
fn schemes_differ_in_how_digits_go_together() {
    let digits_in_one = |scheme: &str| {
        let mut file = tiny::file("llama", false);
        file.set("tokenizer.ggml.pre", Meta::Text(scheme.into()));
        // Instead of "he" and "hel".
        let Some((_, Meta::Texts(tokens))) = file.metadata.iter_mut().find(|(key, _)| key.ends_with("ggml.tokens"))
        else {
            panic!()
        };
        tokens[256] = "12".into();
        tokens[257] = "123".into();
        file.set("tokenizer.ggml.merges", texts(&["1 2", "12 3"]));
        Model::from_bytes(file.bytes()).unwrap().tokenizer().encode("123", false).unwrap().len()
    };
    assert_eq!(digits_in_one("gpt-2"), 1);
    assert_eq!(digits_in_one("llama-bpe"), 1);
    assert_eq!(digits_in_one("qwen2"), 3);
    assert_eq!(digits_in_one("smollm"), 3);
}

/// A SentencePiece vocabulary: unknown, begin, end, the bytes, pieces.
fn sentence_piece(prefix: bool) -> File {
    let pieces = ["▁", "h", "e", "l", "o", "he", "ll", "llo", "hello", "▁hello", "▁he"];
    let mut tokens = vec!["<unk>".to_string(), "<s>".into(), "</s>".into()];
    tokens.extend((0..=255u8).map(|byte| format!("<0x{byte:02X}>")));
    let mut kinds = vec![2, 3, 3];
    kinds.resize(tokens.len(), 6);
    let mut scores = vec![0.0; tokens.len()];
    for (i, piece) in pieces.iter().enumerate() {
        tokens.push((*piece).into());
        kinds.push(1);
        scores.push(-(i as f32));
    }
    let mut file = tiny::file("llama", false);
    for name in ["token_embd.weight", "output.weight"] {
        let tensor = file.tensor_mut(name);
        tensor.dims[1] = tokens.len() as u64;
        tensor.bytes.resize(tiny::WIDTH * tokens.len() * 4, 0);
    }
    file.set("tokenizer.ggml.model", Meta::Text("llama".into()));
    file.set("tokenizer.ggml.tokens", Meta::Texts(tokens));
    file.set("tokenizer.ggml.token_type", Meta::I32s(kinds));
    file.set("tokenizer.ggml.scores", Meta::F32s(scores));
    file.set("tokenizer.ggml.add_space_prefix", Meta::Bool(prefix));
    file.set("tokenizer.ggml.bos_token_id", Meta::U32(1));
    file.set("tokenizer.ggml.eos_token_id", Meta::U32(2));
    file
}

#[test]
fn sentence_piece_merges_by_score_and_falls_back_to_bytes() {
    const PIECES: u32 = 259;
    let model = Model::from_bytes(sentence_piece(true).bytes()).unwrap();
    let tokenizer = model.tokenizer();
    // "he" comes before "ll" and both before what they make together.
    assert_eq!(tokenizer.encode("hello", true).unwrap(), [1, PIECES + 9]);
    assert_eq!(tokenizer.encode("hello hello", false).unwrap(), [PIECES + 9, PIECES + 9]);
    let crab = tokenizer.encode("🦀", false).unwrap();
    assert_eq!(crab, [PIECES, 3 + 0xF0, 3 + 0x9F, 3 + 0xA6, 3 + 0x80]);
    for text in TEXTS {
        assert_eq!(tokenizer.decode(&tokenizer.encode(text, true).unwrap()), text);
    }
    let model = Model::from_bytes(sentence_piece(false).bytes()).unwrap();
    assert_eq!(model.tokenizer().encode("hello", false).unwrap(), [PIECES + 8]);
    let mut file = sentence_piece(true);
    file.set("tokenizer.ggml.scores", Meta::F32s(vec![1.0]));
    assert_eq!(Model::from_bytes(file.bytes()).err().unwrap().code(), ErrorCode::CorruptData);
}

#[test]
fn conversations_are_written_by_the_files_template_or_as_chat_ml() {
    let messages = [Message { role: "user".into(), content: "Hi".into() }];
    let model = tiny::model("llama");
    let text = model.tokenizer().render_chat(&messages, true).unwrap();
    assert_eq!(text, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n");
    let mut file = tiny::file("llama", false);
    let template = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{{ eos_token }}{% endfor %}";
    file.set("tokenizer.chat_template", Meta::Text(template.into()));
    let model = Model::from_bytes(file.bytes()).unwrap();
    assert_eq!(model.tokenizer().render_chat(&messages, true).unwrap(), "[user] Hi<|im_end|>");
    assert!(model.info().has_chat_template);
    // No template, and no tokens of ChatML.
    let model = Model::from_bytes(sentence_piece(true).bytes()).unwrap();
    assert_eq!(model.tokenizer().render_chat(&messages, true).unwrap_err().code(), ErrorCode::UnsupportedModel);
}
