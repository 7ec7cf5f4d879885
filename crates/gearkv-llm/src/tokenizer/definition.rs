//! A GGUF's tokenizer as a definition in the format of Hugging Face's `tokenizer.json`.

use std::collections::HashMap;

use gearkv::Result;
use serde_json::{Map, Value, json};

use crate::architecture::unsupported;
use crate::gguf::corrupt;

use super::TokenKind;

/// How Llama 3 splits text; `{digits}` is how many go together.
fn llama3(digits: &str) -> String {
    format!(
        r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{{L}}\p{{N}}]?\p{{L}}+|{digits}| ?[^\s\p{{L}}\p{{N}}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
    )
}

/// How Mistral's newer models do (Nemo, Small 3): words end where lower case does.
const TEKKEN: &str = r"[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]*[\p{Ll}\p{Lm}\p{Lo}\p{M}]+|[^\r\n\p{L}\p{N}]?[\p{Lu}\p{Lt}\p{Lm}\p{Lo}\p{M}]+[\p{Ll}\p{Lm}\p{Lo}\p{M}]*|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n/]*|\s*[\r\n]+|\s+(?!\S)|\s+";

const GPT2: &str = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+";

/// How text is split before pieces are joined.
struct Scheme {
    /// Each splits what those before have left.
    patterns: Vec<String>,
    /// Compose characters first (NFC).
    composes: bool,
    /// A word that is a token is taken whole, whatever the merges say.
    ignores_merges: bool,
    /// Whether a text begins with the token for that, where the file does not say.
    adds_bos: bool,
}

impl Scheme {
    /// By `tokenizer.ggml.pre`.
    fn named(name: &str) -> Result<Self> {
        let scheme = |patterns: &[&str]| Self {
            patterns: patterns.iter().map(|&pattern| pattern.to_owned()).collect(),
            composes: false,
            ignores_merges: false,
            adds_bos: false,
        };
        Ok(match name {
            // Files from before there were names; nobody knows what the model had, so this is what llama.cpp does.
            "default" => scheme(&[r"[\p{P}$+<=>^~|]+", GPT2, r"\p{N}+", r"[0-9][0-9][0-9]"]),
            "gpt-2" | "gpt2" | "mpt" | "olmo" | "phi-2" => scheme(&[GPT2]),
            "smollm" | "starcoder" | "refact" | "command-r" | "codeshell" => scheme(&[r"\p{N}", GPT2]),
            "llama-bpe" | "llama3" | "llama-v3" | "falcon3" | "pixtral" => {
                Self { ignores_merges: true, adds_bos: true, ..scheme(&[&llama3(r"\p{N}{1,3}")]) }
            }
            "smaug-bpe" | "dbrx" => scheme(&[&llama3(r"\p{N}{1,3}")]),
            "qwen2" | "deepseek-r1-qwen" => Self { composes: true, ..scheme(&[&llama3(r"\p{N}")]) },
            "tekken" => Self { ignores_merges: true, adds_bos: true, ..scheme(&[TEKKEN]) },
            other => {
                return Err(unsupported(format!(
                    "the tokenizer splits text by the scheme {other:?}, which this build does not know"
                )));
            }
        })
    }

    fn pre_tokenizer(&self) -> Value {
        let split = |pattern: &String| json!({"type": "Split", "pattern": {"Regex": pattern}, "behavior": "Isolated", "invert": false});
        let byte_level =
            json!({"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": false});
        let steps: Vec<Value> = self.patterns.iter().map(split).chain([byte_level]).collect();
        json!({"type": "Sequence", "pretokenizers": steps})
    }
}

/// Whether a scheme's texts begin with a token for that, where the file does not say.
pub(super) fn adds_bos(scheme: &str) -> bool {
    Scheme::named(scheme).is_ok_and(|scheme| scheme.adds_bos)
}

/// BPE over bytes; `scheme` is `tokenizer.ggml.pre`.
pub(super) fn byte_level(tokens: &[String], kinds: &[TokenKind], merges: &[String], scheme: &str) -> Result<Value> {
    let scheme = Scheme::named(scheme)?;
    let pairs: Vec<Value> =
        merges.iter().filter_map(|merge| merge.split_once(' ')).map(|(a, b)| json!([a, b])).collect();
    Ok(json!({
        "version": "1.0",
        "added_tokens": added_tokens(tokens, kinds),
        "normalizer": if scheme.composes { json!({"type": "NFC"}) } else { Value::Null },
        "pre_tokenizer": scheme.pre_tokenizer(),
        "post_processor": null,
        "decoder": null,
        "model": {"type": "BPE", "dropout": null, "unk_token": null, "continuing_subword_prefix": null,
            "end_of_word_suffix": null, "fuse_unk": false, "byte_fallback": false, "ignore_merges": scheme.ignores_merges,
            "vocab": vocabulary(tokens), "merges": pairs},
    }))
}

/// Bytes of the longest piece that is ever made by joining others; splitting it in all ways takes time by the square of this.
const LONGEST_PIECE: usize = 256;
/// Ways to make a token of two, on average; real vocabularies have two or three.
const MERGES_PER_TOKEN: usize = 32;

/// SentencePiece's BPE: merges are not listed, but follow from the scores of what they make.
pub(super) fn sentence_piece(tokens: &[String], kinds: &[TokenKind], scores: &[f32], prefix: bool) -> Result<Value> {
    let ids: HashMap<&str, usize> = tokens.iter().enumerate().map(|(id, token)| (token.as_str(), id)).collect();
    let mut merges: Vec<(usize, &str, &str)> = Vec::new();
    let most_merges = MERGES_PER_TOKEN * tokens.len() + MERGES_PER_TOKEN * LONGEST_PIECE;
    for (id, token) in tokens.iter().enumerate() {
        if kinds[id] != TokenKind::Normal || token.len() > LONGEST_PIECE {
            continue;
        }
        if merges.len() > most_merges {
            return Err(corrupt("the vocabulary's pieces can be joined in more ways than any real one's"));
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
        .filter(|(_, (token, kind))| {
            matches!(kind, TokenKind::Control | TokenKind::UserDefined | TokenKind::Unknown) && !token.is_empty()
        })
        .map(|(id, (token, kind))| {
            json!({"id": id, "content": token, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": *kind != TokenKind::UserDefined})
        })
        .collect()
}
