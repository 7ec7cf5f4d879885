//! Texts that a model is measured on, each a prompt with what comes behind it.

use gearkv::{ErrorCode, GearError, Result};
use serde::{Deserialize, Serialize};

/// Texts of equal lengths, as token ids.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Windows {
    /// Tokens of each text that are the prompt.
    pub prompt_tokens: usize,
    /// Tokens behind the prompt that are predicted.
    pub continuation_tokens: usize,
    /// Names of the texts.
    #[serde(default)]
    pub names: Vec<String>,
    /// The texts; each has at least one token more than prompt and continuation together.
    pub token_ids: Vec<Vec<u32>>,
}

impl Windows {
    /// Reads windows from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` when something is missing or a window is too short.
    pub fn from_json(json: &str) -> Result<Self> {
        let windows: Self = serde_json::from_str(json).map_err(|e| invalid(format!("windows: {e}")))?;
        windows.check()?;
        Ok(windows)
    }

    fn check(&self) -> Result<()> {
        if self.prompt_tokens == 0 || self.continuation_tokens == 0 || self.token_ids.is_empty() {
            return Err(invalid("windows: expected promptTokens, continuationTokens and tokenIds, none of them empty"));
        }
        let needed = self.needed();
        match self.token_ids.iter().position(|ids| ids.len() < needed) {
            None => Ok(()),
            Some(at) => Err(invalid(format!(
                "window {at} has {} tokens; {} of prompt and {} of continuation need {needed}",
                self.token_ids[at].len(),
                self.prompt_tokens,
                self.continuation_tokens
            ))),
        }
    }

    /// Tokens that a window needs: the last of the continuation is followed by one that it has to predict.
    fn needed(&self) -> usize {
        self.prompt_tokens.saturating_add(self.continuation_tokens).saturating_add(1)
    }
}

/// A text whose prompt is as long as it is.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Text {
    /// The prompt and what comes behind it, of which the first token is given and all others are predicted.
    pub token_ids: Vec<u32>,
    /// Tokens of the prompt.
    pub prompt_tokens: usize,
}

/// Texts whose lengths may differ, and how much is to be told of each.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct Texts {
    /// The texts.
    pub items: Vec<Text>,
    /// Whether rows of each text are told, too, with every position's divergence.
    #[serde(default)]
    pub per_window: bool,
    /// Whether the errors of each layer's keys, values and attention are told.
    #[serde(default)]
    pub layer_errors: bool,
}

impl Texts {
    /// Reads either `{items: [{tokenIds, promptTokens}, …]}` or [`Windows`], and `perWindow` and `layerErrors` beside them.
    ///
    /// # Errors
    /// `INVALID_OPTION` when something is missing or a text is too short.
    pub fn from_json(json: &str) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Kind {
            items: Option<serde_json::Value>,
            #[serde(default)]
            per_window: bool,
            #[serde(default)]
            layer_errors: bool,
        }
        let read = |e: serde_json::Error| invalid(format!("windows: {e}"));
        let Kind { items, per_window, layer_errors } = serde_json::from_str(json).map_err(read)?;
        let texts = match items {
            None => Self { per_window, layer_errors, ..Windows::from_json(json)?.try_into()? },
            Some(_) => serde_json::from_str(json).map_err(read)?,
        };
        texts.check()?;
        Ok(texts)
    }

    pub(crate) fn check(&self) -> Result<()> {
        if self.items.is_empty() {
            return Err(invalid("windows: expected items, at least one"));
        }
        let short =
            |text: &Text| text.prompt_tokens == 0 || text.token_ids.len() < text.prompt_tokens.saturating_add(2);
        match self.items.iter().position(short) {
            None => Ok(()),
            Some(at) => Err(invalid(format!(
                "item {at} has {} tokens, of which {} are the prompt; expected a prompt of at least one and two tokens behind it",
                self.items[at].token_ids.len(),
                self.items[at].prompt_tokens
            ))),
        }
    }
}

impl TryFrom<Windows> for Texts {
    type Error = GearError;

    fn try_from(windows: Windows) -> Result<Self> {
        windows.check()?;
        let (needed, prompt_tokens) = (windows.needed(), windows.prompt_tokens);
        let text = |mut token_ids: Vec<u32>| {
            token_ids.truncate(needed);
            Text { token_ids, prompt_tokens }
        };
        Ok(Self { items: windows.token_ids.into_iter().map(text).collect(), ..Self::default() })
    }
}

fn invalid(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::InvalidOption, message)
}
