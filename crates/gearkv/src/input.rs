//! What a caller hands in, checked before anything is changed, and as a source of rows for a segment.

use half::f16;

use crate::config::{GearConfig, NonFinite, Storage};
use crate::error::{ErrorCode, GearError, Result};
use crate::segment::Rows;
use crate::shape::{KvShape, KvSlice};
use crate::simd;

const F16_MAX: f32 = 65504.0;

/// Checks that every value is finite and fits the storage. Under [`NonFinite::Replace`] a mended copy is returned where
/// one is needed.
///
/// # Errors
/// `NOT_FINITE` or `OUT_OF_RANGE` with the first bad position.
pub(crate) fn check_values(input: KvSlice, shape: KvShape, config: &GearConfig) -> Result<Option<Vec<f32>>> {
    let limit = if config.storage == Storage::Float32 { f32::MAX } else { F16_MAX };
    let fine = match input {
        // Also false for NaN.
        KvSlice::F32(x) => simd::largest_magnitude(x) <= limit,
        KvSlice::F16(x) => x.iter().fold(true, |fine, x| fine & x.is_finite()),
    };
    if fine {
        return Ok(None);
    }
    let value_at = |i: usize| match input {
        KvSlice::F32(x) => x[i],
        KvSlice::F16(x) => x[i].to_f32(),
    };
    if config.non_finite == NonFinite::Replace {
        let mend = |x: f32| if x.is_nan() { 0.0 } else { x.clamp(-F16_MAX, F16_MAX) };
        return Ok(Some((0..input.len()).map(|i| mend(value_at(i))).collect()));
    }
    let is_bad = |i: &usize| value_at(*i).is_nan() || value_at(*i).abs() > limit;
    let at = (0..input.len()).find(is_bad).unwrap_or(0);
    let value = value_at(at);
    let (channel, token) = (at % shape.head_dim, at / shape.head_dim % shape.tokens);
    let plane = at / shape.head_dim / shape.tokens;
    let position =
        format!("[batch {}, head {}, token {token}, channel {channel}]", plane / shape.heads, plane % shape.heads);
    Err(if value.is_finite() {
        GearError::new(
            ErrorCode::OutOfRange,
            format!(
                "the value at {position} is {value}, beyond what float16 holds (±65504); scale the input or use preset \"float32\""
            ),
        )
    } else {
        GearError::new(
            ErrorCode::NotFinite,
            format!("the value at {position} is {value}; expected finite numbers (nonFinite: \"replace\" mends them)"),
        )
    })
}

/// Tokens from `first` on of an input.
pub(crate) struct InputRows<'a> {
    pub input: KvSlice<'a>,
    pub shape: KvShape,
    pub first: usize,
}

impl Rows for InputRows<'_> {
    fn load(&self, plane: usize, first: usize, out: &mut [f32]) {
        let at = (plane * self.shape.tokens + self.first + first) * self.shape.head_dim;
        match self.input {
            KvSlice::F16(x) => simd::widen(&x[at..at + out.len()], out),
            // The buffer is float16, and what is compressed must not depend on whether it went through the buffer.
            KvSlice::F32(x) => simd::rounded_to_f16(&x[at..at + out.len()], out),
        }
    }
}

/// Float16 bits as values, without a copy.
pub fn f16_slice(bits: &[u16]) -> &[f16] {
    bytemuck::cast_slice(bits)
}
