//! Text to tokens and back, from what a GGUF says about its tokenizer.

mod chat;
mod definition;
mod pieces;
mod python;
mod stream;

use gearkv::{ErrorCode, GearError, Result};

use crate::architecture::unsupported;
use crate::gguf::{Gguf, Value, corrupt};

use chat::ChatTemplate;
pub use chat::Message;
pub use stream::StreamDecoder;

/// A model's tokenizer and chat template.
pub struct Tokenizer {
    encoder: tokenizers::Tokenizer,
    /// Each token's bytes; none for control tokens.
    pieces: Vec<Vec<u8>>,
    bos: Option<u32>,
    adds_bos: bool,
    strips_space: bool,
    ends: Vec<u32>,
    template: Option<ChatTemplate>,
}

/// What a GGUF says about a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TokenKind {
    Normal,
    Unknown,
    Control,
    UserDefined,
    Byte,
}

/// Names of tokens that end an answer; files often name only one of them.
const END_NAMES: &[&str] =
    &["<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end_of_text|>", "<|endoftext|>", "<end_of_turn>", "</s>", "<|end|>"];

impl Tokenizer {
    pub(crate) fn read(gguf: &Gguf) -> Result<Self> {
        let metadata = |key: &str| gguf.value(&format!("tokenizer.ggml.{key}"));
        let tokens = metadata("tokens")
            .and_then(Value::texts)
            .filter(|tokens| !tokens.is_empty())
            .ok_or_else(|| corrupt("the metadata has no tokenizer.ggml.tokens"))?;
        let kinds = kinds(metadata("token_type"), tokens.len())?;
        let model = metadata("model").and_then(Value::text).unwrap_or("gpt2");
        let id = |key: &str| -> Result<Option<u32>> {
            match metadata(key).and_then(Value::integer) {
                None => Ok(None),
                Some(id) if (0..tokens.len() as i64).contains(&id) => Ok(Some(id as u32)),
                // Some files say 2³² − 1 for "none".
                Some(_) if key == "bos_token_id" => Ok(None),
                Some(id) => Err(corrupt(format!("tokenizer.ggml.{key} is {id}; there are {} tokens", tokens.len()))),
            }
        };
        let flag = |key: &str| metadata(key).and_then(Value::boolean);
        let scheme = metadata("pre").and_then(Value::text).unwrap_or("default");
        let (definition, pieces, byte_level) = match model {
            "gpt2" => {
                let merges = metadata("merges").and_then(Value::texts).unwrap_or(&[]);
                (definition::byte_level(tokens, &kinds, merges, scheme)?, pieces::byte_level(tokens, &kinds), true)
            }
            "llama" => {
                let scores = metadata("scores").and_then(Value::floats).unwrap_or(&[]);
                if scores.len() != tokens.len() {
                    return Err(corrupt(format!("{} scores for {} tokens", scores.len(), tokens.len())));
                }
                let prefix = flag("add_space_prefix").unwrap_or(true);
                (
                    definition::sentence_piece(tokens, &kinds, scores, prefix)?,
                    pieces::sentence_piece(tokens, &kinds),
                    false,
                )
            }
            other => {
                return Err(unsupported(format!(
                    "the tokenizer is {other:?}; this build knows gpt2 (BPE) and llama (SPM)"
                )));
            }
        };
        let encoder = tokenizers::Tokenizer::from_bytes(definition.to_string())
            .map_err(|e| corrupt(format!("the tokenizer's vocabulary is not consistent: {e}")))?;
        let bos = id("bos_token_id")?;
        let mut ends: Vec<u32> = [id("eos_token_id")?, id("eot_token_id")?].into_iter().flatten().collect();
        for (token, name) in tokens.iter().enumerate() {
            if kinds[token] == TokenKind::Control
                && END_NAMES.contains(&name.as_str())
                && !ends.contains(&(token as u32))
            {
                ends.push(token as u32);
            }
        }
        let name_of = |id: Option<u32>| id.map_or("", |id| tokens[id as usize].as_str());
        let template = match gguf.value("tokenizer.chat_template").and_then(Value::text) {
            Some(source) => Some(ChatTemplate::new(source, name_of(bos), name_of(ends.first().copied()))),
            None if tokens.iter().any(|token| token == "<|im_start|>") => Some(ChatTemplate::chat_ml()),
            None => None,
        };
        Ok(Self {
            encoder,
            pieces,
            bos,
            adds_bos: flag("add_bos_token").unwrap_or(!byte_level || definition::adds_bos(scheme)),
            strips_space: !byte_level && flag("add_space_prefix").unwrap_or(true),
            ends,
            template,
        })
    }

    /// Tokens of a text. Names of special tokens in it become these tokens. With `add_bos` the token that begins a text comes
    /// first, for models that want it.
    ///
    /// # Errors
    /// `INTERNAL` when the tokenizer fails.
    pub fn encode(&self, text: &str, add_bos: bool) -> Result<Vec<u32>> {
        let encoding = self
            .encoder
            .encode_fast(text, false)
            .map_err(|e| GearError::new(ErrorCode::Internal, format!("the tokenizer failed: {e}")))?;
        let bos = self.bos.filter(|_| add_bos && self.adds_bos);
        Ok(bos.into_iter().chain(encoding.get_ids().iter().copied()).collect())
    }

    /// The text of tokens, without control tokens. Bytes that are not UTF-8 become U+FFFD; unknown tokens are left out.
    pub fn decode(&self, tokens: &[u32]) -> String {
        let mut stream = StreamDecoder::default();
        let mut text: String = tokens.iter().map(|&token| stream.push(self, token)).collect();
        text += &stream.finish();
        // What encoding put in front.
        if self.strips_space && text.starts_with(' ') {
            text.remove(0);
        }
        text
    }

    pub(crate) fn piece(&self, token: u32) -> &[u8] {
        self.pieces.get(token as usize).map_or(&[], Vec::as_slice)
    }

    /// Whether a token ends an answer.
    pub fn is_end(&self, token: u32) -> bool {
        self.ends.contains(&token)
    }

    /// Tokens that end an answer.
    pub fn end_tokens(&self) -> &[u32] {
        &self.ends
    }

    /// The token that begins a text.
    pub fn bos(&self) -> Option<u32> {
        self.bos
    }

    /// Number of tokens.
    pub fn vocabulary(&self) -> usize {
        self.pieces.len()
    }

    /// A conversation as the model's own chat template writes it; encode it without `add_bos`, since templates write that token
    /// themselves.
    ///
    /// # Errors
    /// `UNSUPPORTED_MODEL` when there is no template or it cannot be rendered, `INVALID_OPTION` when it refuses the messages.
    pub fn render_chat(&self, messages: &[Message], add_generation_prompt: bool) -> Result<String> {
        let template = self.template.as_ref().ok_or_else(|| {
            unsupported("the model has no chat template; give it the whole prompt as text instead of messages")
        })?;
        template.render(messages, add_generation_prompt)
    }
}

fn kinds(types: Option<&Value>, tokens: usize) -> Result<Vec<TokenKind>> {
    let Some(types) = types.and_then(Value::integers) else { return Ok(vec![TokenKind::Normal; tokens]) };
    if types.len() != tokens {
        return Err(corrupt(format!("{} token types for {tokens} tokens", types.len())));
    }
    let kind = |x: &i64| match x {
        2 => TokenKind::Unknown,
        3 => TokenKind::Control,
        4 => TokenKind::UserDefined,
        6 => TokenKind::Byte,
        _ => TokenKind::Normal,
    };
    Ok(types.iter().map(kind).collect())
}
