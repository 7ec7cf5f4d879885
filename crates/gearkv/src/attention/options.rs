//! How queries attend.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, GearError, Result};

/// How queries attend.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct AttendOptions {
    /// Query heads; a multiple of the KV heads. Query head `h` reads KV head `h / (query_heads / kv_heads)`.
    pub query_heads: usize,
    /// Factor on the logits; `1/√head_dim` when left out.
    #[serde(default)]
    pub scale: Option<f32>,
    /// Query `i` of `n` sees tokens up to position `tokens − n + i` (default); otherwise all.
    #[serde(default = "yes")]
    pub causal: bool,
    /// See only the last `window` of the tokens that are in sight otherwise, the query's own included. Needs `causal`.
    #[serde(default)]
    pub window: Option<usize>,
    /// Logits become `softcap · tanh(logit / softcap)`.
    #[serde(default)]
    pub softcap: Option<f32>,
}

fn yes() -> bool {
    true
}

impl AttendOptions {
    /// Causal attention of this many query heads with the usual scale.
    pub fn new(query_heads: usize) -> Self {
        Self { query_heads, scale: None, causal: true, window: None, softcap: None }
    }

    /// Reads options from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` for a field that does not exist or has the wrong type.
    pub fn from_json(json: &str) -> Result<Self> {
        crate::object_from_json(json.as_bytes())
            .map_err(|e| GearError::new(ErrorCode::InvalidOption, format!("attend options: {e}")))
    }

    /// Checks them for queries to so many KV heads.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for query heads that do not fit, `INVALID_OPTION` naming the field that is out of range.
    pub fn check(&self, kv_heads: usize) -> Result<()> {
        if self.query_heads == 0 || !self.query_heads.is_multiple_of(kv_heads) {
            return Err(GearError::shape(format!(
                "queryHeads is {}; expected a multiple of the {kv_heads} KV heads",
                self.query_heads
            )));
        }
        if self.scale.is_some_and(|x| !x.is_finite()) {
            return Err(GearError::option("scale is not finite; leave it out for 1/√headDim"));
        }
        if self.softcap.is_some_and(|x| !(x.is_finite() && x > 0.0)) {
            return Err(GearError::option("softcap must be a positive, finite number; leave it out for none"));
        }
        if self.window == Some(0) {
            return Err(GearError::option("window is 0; expected at least 1, or leave it out"));
        }
        if self.window.is_some() && !self.causal {
            return Err(GearError::option(
                "window is given with causal: false; a window counts back from the query's own token",
            ));
        }
        Ok(())
    }
}
