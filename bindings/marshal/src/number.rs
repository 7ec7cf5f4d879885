//! JavaScript numbers that stand for counts.

use gearkv::{ErrorCode, GearCache, GearError, KvShape};

use crate::Result;

const MOST: f64 = u32::MAX as f64;

/// A count such as `tokens` or `layer`.
///
/// # Errors
/// `SHAPE_MISMATCH` unless it is a whole number from 0 to 2³² − 1.
pub fn whole(name: &str, value: f64) -> Result<usize> {
    // NaN fails the range, too.
    if (0.0..=MOST).contains(&value) && value.fract() == 0.0 {
        // In range and without a fraction: nothing is lost, on 32-bit targets neither.
        return Ok(value as usize);
    }
    let message = format!("{name} is {value}; expected a whole number from 0 to {}", u32::MAX);
    Err(GearError::new(ErrorCode::ShapeMismatch, message).into())
}

/// `[batch, heads, tokens, headDim]` as a checked shape.
///
/// # Errors
/// `SHAPE_MISMATCH` unless each is a whole number in range and their product can be addressed.
pub fn extents(batch: f64, heads: f64, tokens: f64, head_dim: f64) -> Result<KvShape> {
    let batch = whole("shape.batch", batch)?;
    let heads = whole("shape.heads", heads)?;
    let tokens = whole("shape.tokens", tokens)?;
    let head_dim = whole("shape.headDim", head_dim)?;
    Ok(KvShape::new(batch, heads, tokens, head_dim)?)
}

/// Drops tokens behind the first `keep`: behind the sinks, where that is left out.
///
/// # Errors
/// `SHAPE_MISMATCH` unless both are whole numbers and the cache has as many tokens.
pub fn shift(cache: &mut GearCache, drop: f64, keep: Option<f64>) -> Result<()> {
    let keep = match keep {
        Some(keep) => Some(whole("keep", keep)?),
        None => None,
    };
    Ok(cache.shift(keep, whole("drop", drop)?)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_numbers_pass() {
        for (given, expected) in [(0.0, 0), (-0.0, 0), (1.0, 1), (4_294_967_295.0, u32::MAX as usize)] {
            assert_eq!(whole("tokens", given), Ok(expected));
        }
    }

    #[test]
    fn everything_else_names_the_argument_and_the_value() {
        for given in [-1.0, 0.5, 4_294_967_296.0, f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e300] {
            let error = whole("tokens", given).unwrap_err();
            assert_eq!(error.code(), "SHAPE_MISMATCH");
            assert!(error.to_string().contains(&format!("tokens is {given}")), "{error}");
        }
    }

    #[test]
    fn extents_are_checked_one_by_one_and_together() {
        assert_eq!(extents(1.0, 2.0, 0.0, 64.0).unwrap().head_dim, 64);
        assert!(extents(1.0, 2.0, 3.5, 64.0).unwrap_err().to_string().contains("shape.tokens is 3.5"));
        assert_eq!(extents(0.0, 2.0, 3.0, 64.0).unwrap_err().code(), "SHAPE_MISMATCH");
        let most = f64::from(u32::MAX);
        assert_eq!(extents(most, most, most, most).unwrap_err().code(), "SHAPE_MISMATCH");
    }
}
