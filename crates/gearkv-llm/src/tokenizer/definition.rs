//! A GGUF's tokenizer as a definition in the format of Hugging Face's `tokenizer.json`.

use std::collections::HashMap;

use gearkv::Result;
use serde_json::{Map, Value, json};

use crate::architecture::unsupported;

use super::TokenKind;

/// How Llama 3 splits text; `{digits}` is how many go together.
fn split_pattern(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

fn split(pattern: &str) -> Value {
    json!({"type": "Sequence", "pretokenizers": [
        {"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false},
        {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false},
    ]})
}

fn gpt2(digits: bool) -> Value {
    let byte_level = json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true});
    if digits {
        json!({"type": "Sequence", "pretokenizers": [{"type": "Digits", "individual_digits": true}, byte_level]})
    } else {
        byte_level
    }
}

/// BPE over bytes; `scheme` is `tokenizer.ggml.pre`.
pub(super) fn byte_level(tokens: &[String], kinds: &[TokenKind], merges: &[String], scheme: &str) -> Result<Value> {
    let (pre_tokenizer, normalizer, ignore_merges) = match scheme {
        "default" | "gpt-2" | "gpt2" | "mpt" | "olmo" => (gpt2(false), Value::Null, false),
        "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => (gpt2(true), Value::Null, false),
        "llama-bpe" | "llama3" | "llama-v3" | "smaug-bpe" => (split(&split_pattern(r"\p{N}{1,3}")), Value::Null, true),
        "qwen2" => (split(&split_pattern(r"\p{N}")), json!({"type": "NFC"}), false),
        other => {
            return Err(unsupported(format!(
                "the tokenizer splits text by the scheme {other:?}, which this build does not know"
            )));
        }
    };
    let pairs: Vec<Value> =
        merges.iter().filter_map(|merge| merge.split_once(' ')).map(|(a, b)| json!([a, b])).collect();
    Ok(json!({
        "version": "1.0",
        "added_tokens": added_tokens(tokens, kinds),
        "normalizer": normalizer,
        "pre_tokenizer": pre_tokenizer,
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": ignore_merges,
            "vocab": vocabulary(tokens), "merges": pairs},
    }))
}

/// SentencePiece's BPE: merges are not listed, but follow from the scores of what they make.
pub(super) fn sentence_piece(tokens: &[String], kinds: &[TokenKind], scores: &[f32], prefix: bool) -> Result<Value> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges: Vec<(usize, &str, &str)> = Vec::new();
    for (id, token) in tokens.iter().enumerate() {
        if kinds[id] != TokenKind::Normal {
            continue;
        }
        for (at, _) in token.char_indices().skip(1) {
            let (a, b) = token.split_at(at);
            if ids.contains_key(a) && ids.contains_key(b) {
                merges.push((id, a, b));
            }
        }
    }
    merges.sort_by(|x, y| scores[y.0].total_cmp(&scores[x.0]).then(x.0.cmp(&y.0)));
    let pairs: Vec<Value> = merges.iter().map(|(_, a, b)| json!([a, b])).collect();
    let unknown = kinds.iter().position(|kind| *kind == TokenKind::Unknown).map(|id| tokens[id].as_str());
    let replace = json!({"type": "Replace", "pattern": {"String": " "}, "content": "▁"});
    let normalizer = if prefix {
        json!({"type": "Sequence", "normalizers": [{"type": "Prepend", "prepend": "▁"}, replace]})
    } else {
        replace
    };
    Ok(json!({
        "version": "1.0",
        "added_tokens": added_tokens(tokens, kinds),
        "normalizer": normalizer,
        "pre_tokenizer": null,
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": unknown, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": true, "byte_fallback": true, "ignore_merges": false,
            "vocab": vocabulary(tokens), "merges": pairs},
    }))
}

fn vocabulary(tokens: &[String]) -> Map<String, Value> {
    tokens.iter().enumerate().map(|(id, token)| (token.clone(), json!(id))).collect()
}

fn added_tokens(tokens: &[String], kinds: &[TokenKind]) -> Vec<Value> {
    let added = tokens.iter().zip(kinds).enumerate();
    added
        .filter(|(_, (token, kind))| matches!(kind, TokenKind::Control | TokenKind::UserDefined) && !token.is_empty())
        .map(|(id, (token, kind))| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind == TokenKind::Control})
        })
        .collect()
}
