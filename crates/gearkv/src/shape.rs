//! The shape of a K or V tensor and a borrowed view of its values, `[batch, heads, tokens, head_dim]`, row-major.

use half::f16;
use serde::{Deserialize, Serialize};

use crate::error::{GearError, Result};

/// The largest number that any one of batch, heads, tokens and head_dim may be: the same on 32 and 64 bits.
pub const MAX_EXTENT: usize = i32::MAX as usize;

/// Whether a tensor holds keys or values: they are grouped along different axes (paper, section 3).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Keys: outliers sit in fixed channels, so they are taken per channel.
    Key,
    /// Values: outliers sit in tokens, so they are taken per token.
    Value,
}

impl Role {
    /// Reads `"key"` or `"value"`.
    ///
    /// # Errors
    /// `INVALID_OPTION` for anything else.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "key" => Ok(Self::Key),
            "value" => Ok(Self::Value),
            other => Err(GearError::option(format!("role is {other:?}; expected \"key\" or \"value\""))),
        }
    }
}

/// `[batch, heads, tokens, head_dim]`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct KvShape {
    /// Independent sequences.
    pub batch: usize,
    /// KV heads (not query heads).
    pub heads: usize,
    /// Positions in the sequence; may be zero.
    pub tokens: usize,
    /// Channels of one head.
    pub head_dim: usize,
}

impl KvShape {
    /// A checked shape.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when batch, heads or head_dim is zero, or the tensor could not be addressed.
    pub fn new(batch: usize, heads: usize, tokens: usize, head_dim: usize) -> Result<Self> {
        for (name, extent) in [("batch", batch), ("heads", heads), ("headDim", head_dim)] {
            if extent == 0 || extent > MAX_EXTENT {
                return Err(GearError::shape(format!(
                    "shape.{name} is {extent}; expected a whole number from 1 to {MAX_EXTENT}"
                )));
            }
        }
        // Eight bytes an element leave room for every intermediate size that is computed from a shape.
        let addressable = batch
            .checked_mul(heads)
            .and_then(|n| n.checked_mul(head_dim))
            .and_then(|n| n.checked_mul(tokens.max(1)))
            .and_then(|n| n.checked_mul(8))
            .is_some_and(|n| n <= isize::MAX as usize);
        if tokens > MAX_EXTENT || !addressable {
            return Err(GearError::shape(format!(
                "shape [{batch}, {heads}, {tokens}, {head_dim}] is larger than this machine can address"
            )));
        }
        Ok(Self { batch, heads, tokens, head_dim })
    }

    /// Number of values.
    pub fn elements(&self) -> usize {
        self.planes() * self.tokens * self.head_dim
    }

    /// `batch · heads`: the number of `[tokens, head_dim]` matrices.
    pub(crate) fn planes(&self) -> usize {
        self.batch * self.heads
    }
}

/// Blocks of `most` of so many tokens: the first token of each, and how many it has; the last one may have fewer.
pub(crate) fn blocks(tokens: usize, most: usize) -> impl Iterator<Item = (usize, usize)> {
    (0..tokens).step_by(most).map(move |first| (first, most.min(tokens - first)))
}

/// Values of a tensor, borrowed, in either precision.
#[derive(Debug, Clone, Copy)]
pub enum KvSlice<'a> {
    /// IEEE binary32.
    F32(&'a [f32]),
    /// IEEE binary16.
    F16(&'a [f16]),
}

impl KvSlice<'_> {
    /// Number of values.
    pub fn len(&self) -> usize {
        match self {
            Self::F32(x) => x.len(),
            Self::F16(x) => x.len(),
        }
    }

    /// Whether there are no values.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// # Errors
    /// `SHAPE_MISMATCH` when the slice does not hold exactly the shape's values.
    pub(crate) fn check_shape(&self, what: &str, shape: KvShape) -> Result<()> {
        if self.len() == shape.elements() {
            return Ok(());
        }
        let KvShape { batch, heads, tokens, head_dim } = shape;
        Err(GearError::shape(format!(
            "{what} holds {} values, but [batch {batch}, heads {heads}, tokens {tokens}, headDim {head_dim}] needs {}",
            self.len(),
            shape.elements()
        )))
    }
}
