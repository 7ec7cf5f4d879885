//! Files that somebody made to do harm: an error with a code, never a panic, never long work, never memory that the file does not
//! justify.

mod common;

use common::gguf::{Meta, TensorData};
use common::{Noise, changed, config, refused, tiny, value_config, vocabularies};
use gearkv::{ErrorCode, NEVER};
use gearkv_llm::Model;

fn array(kind: u32, n: u64, rest: &[u8]) -> Meta {
    Meta::Raw(9, [&kind.to_le_bytes(), &n.to_le_bytes()[..], rest].concat())
}

#[test]
fn arrays_say_how_long_they_are_and_are_not_believed() {
    for kind in 0..=12 {
        for n in [u64::MAX, u64::MAX / 8, 1 << 40, 1 << 32] {
            let (code, message) = changed(|file| file.set("some.array", array(kind, n, &[0; 64])));
            assert_eq!(code, ErrorCode::CorruptData, "type {kind}, {n}: {message}");
        }
    }
    let (code, _) = changed(|file| file.set("some.array", array(13, 1, &[0; 8])));
    assert_eq!(code, ErrorCode::CorruptData);
    let (code, _) = changed(|file| file.set("some.text", Meta::Raw(8, (1u64 << 50).to_le_bytes().to_vec())));
    assert_eq!(code, ErrorCode::CorruptData);
}

#[test]
fn nested_arrays_do_not_exhaust_the_stack() {
    let nested: Vec<u8> = [9u32.to_le_bytes().as_slice(), &1u64.to_le_bytes()].concat().repeat(100_000);
    let (code, message) = changed(|file| file.set("some.array", Meta::Raw(9, nested)));
    assert_eq!(code, ErrorCode::CorruptData);
    assert!(message.contains("nested"), "{message}");
    // A level or two is what some files have.
    let inner = [4u32.to_le_bytes().as_slice(), &1u64.to_le_bytes(), &7u32.to_le_bytes()].concat();
    let mut file = tiny::file("llama", false);
    file.set("some.array", array(9, 2, &inner.repeat(2)));
    assert!(Model::from_bytes(file.bytes()).is_ok());
}

#[test]
fn tensors_are_there_once_and_apart() {
    let (code, message) = changed(|file| {
        let again = TensorData::f32("output_norm.weight", &[tiny::WIDTH], &[1.0; tiny::WIDTH]);
        file.tensors.push(again);
    });
    assert_eq!(code, ErrorCode::CorruptData);
    assert!(message.contains("two tensors \"output_norm.weight\""), "{message}");
    let (code, message) = changed(|file| file.metadata.push(("llama.block_count".into(), Meta::U32(7))));
    assert_eq!(code, ErrorCode::CorruptData);
    assert!(message.contains("twice"), "{message}");

    // The offset of the second tensor, which stands behind its name, rank, sizes and type.
    let file = tiny::file("llama", false);
    let bytes = file.bytes();
    let name = b"output_norm.weight";
    let at = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 4 + 8 + 4;
    for (offset, said) in [(0u64, "overlap"), (32, "overlap"), (u64::MAX - 40, "cut short"), (1 << 40, "cut short")] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&offset.to_le_bytes());
        let (code, message) = refused(bytes);
        assert_eq!(code, ErrorCode::CorruptData);
        assert!(message.contains(said), "{offset}: {message}");
    }
}

#[test]
fn shapes_that_no_tensor_has_are_refused() {
    let shapes: [Vec<u64>; 7] = [
        vec![],
        vec![0],
        vec![32, 0],
        vec![8, 4, 1, 1, 1],
        vec![u64::MAX],
        vec![1 << 33, 1 << 33],
        vec![1 << 21, 1 << 21, 1 << 21, 2],
    ];
    for dims in shapes {
        let said = format!("{dims:?}");
        let (code, _) = changed(|file| file.tensor_mut("output_norm.weight").dims = dims);
        assert_eq!(code, ErrorCode::CorruptData, "{said}");
    }
}

#[test]
fn numbers_that_no_model_has_are_refused_by_name() {
    let text = |s: &str| Meta::Text(s.into());
    let cases: [(&str, Meta, &str); 19] = [
        ("general.alignment", Meta::U32(0), "alignment"),
        ("general.alignment", Meta::U32(u32::MAX), "alignment"),
        ("llama.attention.head_count", Meta::U32(0), "head_count"),
        ("llama.attention.head_count", Meta::U32(u32::MAX), "head_count"),
        ("llama.attention.head_count", text("four"), "head_count"),
        ("llama.attention.head_count_kv", Meta::U32(0), "head_count_kv"),
        ("llama.attention.head_count_kv", Meta::U32(3), "KV heads"),
        ("llama.attention.head_count_kv", Meta::I32s(vec![2, 1]), "head_count_kv"),
        ("llama.attention.key_length", Meta::U32(7), "different lengths"),
        ("llama.rope.dimension_count", Meta::U32(5), "rope.dimension_count"),
        ("llama.rope.dimension_count", Meta::U32(64), "rope.dimension_count"),
        ("llama.rope.freq_base", Meta::F32(f32::NAN), "freq_base"),
        ("llama.rope.freq_base", Meta::F32(-1.0), "freq_base"),
        ("llama.rope.freq_base", Meta::F32(1e-30), "freq_base"),
        ("llama.rope.scaling.factor", Meta::F32(0.0), "scaling.factor"),
        ("llama.context_length", Meta::U32(0), "context_length"),
        ("llama.embedding_length", Meta::U32(1 << 30), "embedding_length"),
        ("llama.block_count", Meta::U32(100_000), "block_count"),
        ("split.count", Meta::U32(3), "one of 3 files"),
    ];
    for (key, value, said) in cases {
        let (code, message) = changed(|file| file.set(key, value));
        assert!(matches!(code, ErrorCode::CorruptData | ErrorCode::UnsupportedModel), "{key}: {message}");
        assert!(message.contains(said), "{key}: {message}");
    }
}

#[test]
fn vocabularies_that_make_no_sense_are_refused() {
    let texts = |all: &[&str]| Meta::Texts(all.iter().map(ToString::to_string).collect());
    let cases: [(&str, Meta); 7] = [
        ("tokenizer.ggml.tokens", texts(&[])),
        ("tokenizer.ggml.tokens", Meta::I32s(vec![1; tiny::VOCABULARY])),
        ("tokenizer.ggml.tokens", texts(&["a", "b"])),
        ("tokenizer.ggml.token_type", Meta::I32s(vec![1; 3])),
        ("tokenizer.ggml.merges", texts(&["no such"])),
        ("tokenizer.ggml.eos_token_id", Meta::U32(u32::MAX)),
        ("tokenizer.ggml.pre", Meta::Text("\u{0}".repeat(100) + "x")),
    ];
    for (key, value) in cases {
        let (code, message) = changed(|file| file.set(key, value));
        assert!(matches!(code, ErrorCode::CorruptData | ErrorCode::UnsupportedModel), "{key}: {message}");
    }
    // A piece of a million characters: not split in a million ways.
    let mut file = vocabularies::sentence_piece(true);
    let Some((_, Meta::Texts(tokens))) = file.metadata.iter_mut().find(|(key, _)| key.ends_with("ggml.tokens")) else {
        panic!()
    };
    *tokens.last_mut().unwrap() = "a".repeat(1_000_000);
    let model = Model::from_bytes(file.bytes()).unwrap();
    assert_eq!(model.tokenizer().decode(&model.tokenizer().encode("aaaa", false).unwrap()), "aaaa");
}

/// Changes a file somewhere in its first `header` bytes, in one to three places.
fn mutate(bytes: &mut Vec<u8>, header: usize, noise: &mut Noise) {
    let mut below = |n: usize| ((f64::from(noise.next()) + 1.0) / 2.0 * n as f64) as usize;
    for _ in 0..=below(3) {
        let at = below(header.min(bytes.len() - 8));
        match below(6) {
            0 => bytes[at] ^= 1 << below(8),
            1 => bytes[at] = below(256) as u8,
            2 => bytes[at..at + 4].copy_from_slice(&[0, 1, 0x7FFF_FFFF, u32::MAX][below(4)].to_le_bytes()),
            3 => bytes[at..at + 8].copy_from_slice(&[0, 1 << 33, u64::MAX / 2, u64::MAX][below(4)].to_le_bytes()),
            4 => {
                bytes.drain(at..at + 1 + below(8));
            }
            _ => {
                let copied = bytes[at..at + 1 + below(8)].to_vec();
                bytes.splice(at..at, copied);
            }
        }
    }
}

#[test]
fn files_with_random_changes_are_refused_or_run() {
    let files = [
        tiny::file("llama", false),
        tiny::file("qwen2", true),
        tiny::file("gemma3", true),
        vocabularies::sentence_piece(true),
    ];
    let (mut accepted, mut refused) = (0, 0);
    for (seed, file) in files.into_iter().enumerate() {
        let bytes = file.bytes();
        let name = b"blk.6.ffn_down.weight";
        let header = bytes.windows(name.len()).position(|window| window == name).unwrap() + name.len() + 40;
        let mut noise = Noise::new(seed as u64 + 1);
        for _ in 0..1000 {
            let mut bytes = bytes.clone();
            mutate(&mut bytes, header, &mut noise);
            match Model::from_bytes(bytes) {
                Ok(model) => {
                    accepted += 1;
                    let mut session = model.session(config("gear-4"), value_config("gear-4")).unwrap();
                    let tokens = model.tokenizer().encode("hello 123", true).unwrap();
                    // Whatever it now is, it runs or says why not.
                    let _ = session.prefill(&tokens, NEVER);
                    let _ = model.tokenizer().decode(&tokens);
                }
                Err(error) => {
                    assert!(error.code() != ErrorCode::Internal, "{error}");
                    refused += 1;
                }
            }
        }
    }
    // Neither is the rare case, or else the test would not show much.
    assert!(accepted > 100 && refused > 100, "{accepted} accepted, {refused} refused");
}
