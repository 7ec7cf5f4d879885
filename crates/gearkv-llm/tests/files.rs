//! Files that are not what they should be: an error with a code, never a panic and never a huge allocation.

mod common;

use common::gguf::Meta;
use common::{changed, refused, tiny};
use gearkv::ErrorCode;
use gearkv_llm::Model;

#[test]
fn a_file_cut_short_anywhere_is_refused() {
    let bytes = tiny::file("llama", false).bytes();
    let header = bytes.len() - bytes.len() / 8;
    for end in (0..bytes.len()).filter(|end| *end < 12_000 || end % 1009 == 0 || *end > header && end % 499 == 0) {
        let (code, message) = refused(bytes[..end].to_vec());
        assert_eq!(code, ErrorCode::CorruptData, "{end}: {message}");
    }
}

#[test]
fn a_flipped_bit_in_the_header_never_panics() {
    let bytes = tiny::file("llama", true).bytes();
    let header = bytes.windows(17).position(|w| w == b"blk.6.ffn_down.we").unwrap() + 100;
    for at in (0..header).filter(|at| *at < 700 || at % 7 == 0) {
        for bit in [0, 3, 7] {
            let mut bytes = bytes.clone();
            bytes[at] ^= 1 << bit;
            if let Ok(model) = Model::from_bytes(bytes) {
                let config = common::config("float16");
                let mut session = model.session(config.clone(), config).unwrap();
                // Whatever it now is, it runs or says why not.
                let _ = session.prefill(&[1, 2, 3], gearkv::NEVER);
            }
        }
    }
}

#[test]
fn sizes_that_the_file_cannot_hold_are_refused() {
    let bytes = tiny::file("llama", false).bytes();
    for at in [8, 16, 24] {
        let mut bytes = bytes.clone();
        bytes[at..at + 8].copy_from_slice(&(u64::MAX / 2).to_le_bytes());
        assert_eq!(refused(bytes).0, ErrorCode::CorruptData);
    }
    let (code, message) = changed(|file| file.tensor_mut("output_norm.weight").dims = vec![1 << 40, 1 << 30]);
    assert_eq!(code, ErrorCode::CorruptData, "{message}");
}

#[test]
fn what_is_missing_or_wrong_is_named() {
    let cases: Vec<(&str, ErrorCode, (ErrorCode, String))> = vec![
        ("GGUF", ErrorCode::CorruptData, refused(b"PK\x03\x04 not a model".to_vec())),
        ("\"mamba\"", ErrorCode::UnsupportedModel, {
            changed(|file| file.set("general.architecture", Meta::Text("mamba".into())))
        }),
        ("blk.3.attn_v.weight", ErrorCode::CorruptData, {
            changed(|file| file.tensors.retain(|tensor| tensor.name != "blk.3.attn_v.weight"))
        }),
        ("head_count", ErrorCode::CorruptData, {
            changed(|file| file.metadata.retain(|(key, _)| !key.contains("attention.head_count")))
        }),
        ("ffn_up", ErrorCode::CorruptData, changed(|file| file.tensor_mut("blk.0.ffn_up.weight").dims = vec![64, 32])),
        ("type 99", ErrorCode::UnsupportedModel, changed(|file| file.tensor_mut("blk.0.ffn_up.weight").kind = 99)),
        ("NaN", ErrorCode::CorruptData, {
            changed(|file| file.tensor_mut("blk.2.attn_k.weight").bytes[..4].copy_from_slice(&f32::NAN.to_le_bytes()))
        }),
        ("blk.1.attn_sinks", ErrorCode::UnsupportedModel, {
            changed(|file| {
                let mut tensor = common::gguf::TensorData::f32("blk.1.attn_sinks", &[4], &[0.0; 4]);
                tensor.kind = 0;
                file.tensors.push(tensor);
            })
        }),
        ("longrope", ErrorCode::UnsupportedModel, {
            changed(|file| file.set("llama.rope.scaling.type", Meta::Text("longrope".into())))
        }),
        ("softcapping", ErrorCode::UnsupportedModel, {
            changed(|file| file.set("llama.final_logit_softcapping", Meta::F32(30.0)))
        }),
        ("output.bias", ErrorCode::UnsupportedModel, {
            changed(|file| {
                let bias = common::gguf::TensorData::f32("output.bias", &[4], &[0.0; 4]);
                file.tensors.push(bias);
            })
        }),
        ("blk.7.attn_norm.weight", ErrorCode::UnsupportedModel, {
            changed(|file| file.tensor_mut("blk.6.attn_norm.weight").name = "blk.7.attn_norm.weight".into())
        }),
        ("expert", ErrorCode::UnsupportedModel, changed(|file| file.set("llama.expert_count", Meta::U32(8)))),
        ("block_count", ErrorCode::CorruptData, changed(|file| file.set("llama.block_count", Meta::U32(0)))),
        ("KV heads", ErrorCode::CorruptData, changed(|file| file.set("llama.attention.head_count_kv", Meta::U32(3)))),
        ("wordpiece", ErrorCode::UnsupportedModel, {
            changed(|file| file.set("tokenizer.ggml.model", Meta::Text("wordpiece".into())))
        }),
        ("token types", ErrorCode::CorruptData, {
            changed(|file| file.set("tokenizer.ggml.token_type", Meta::I32s(vec![1, 2])))
        }),
        ("version 7", ErrorCode::UnsupportedVersion, {
            let mut bytes = tiny::file("llama", false).bytes();
            bytes[4] = 7;
            refused(bytes)
        }),
    ];
    for (named, expected, (code, message)) in cases {
        assert_eq!(code, expected, "{message}");
        assert!(message.to_lowercase().contains(&named.to_lowercase()), "{named} is not in: {message}");
    }
}

#[test]
fn a_type_of_weights_that_nobody_reads_is_named() {
    let types =
        [(9, "Q8_1"), (15, "Q8_K"), (16, "IQ2_XXS"), (20, "IQ4_NL"), (23, "IQ4_XS"), (34, "TQ1_0"), (39, "MXFP4")];
    for (number, name) in types {
        let (code, message) = changed(|file| file.tensor_mut("blk.0.ffn_up.weight").kind = number);
        assert_eq!(code, ErrorCode::UnsupportedModel);
        assert!(message.contains(&format!("({name})")) && message.contains("blk.0.ffn_up.weight"), "{message}");
    }
}

#[test]
fn a_scale_that_is_no_number_is_refused() {
    let mut file = tiny::file("llama", true);
    file.tensor_mut("blk.2.ffn_up.weight").bytes[..2].copy_from_slice(&half::f16::INFINITY.to_le_bytes());
    let (code, message) = refused(file.bytes());
    assert_eq!(code, ErrorCode::CorruptData);
    assert!(message.contains("blk.2.ffn_up.weight"), "{message}");
}

#[test]
fn a_file_that_is_not_there_is_an_io_error() {
    let error = Model::load(std::path::Path::new("no/such/model.gguf")).err().unwrap();
    assert_eq!(error.code(), ErrorCode::IoFailed);
    assert!(error.to_string().contains("no/such/model.gguf"));
}
