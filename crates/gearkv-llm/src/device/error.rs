//! What candle finds wrong, as the core's errors.

use gearkv::{ErrorCode, GearError};

/// Shapes are checked before, so that what is left is the device: its memory does not suffice, or it fell over.
pub(super) fn device(error: candle_core::Error) -> GearError {
    GearError::new(ErrorCode::BackendUnavailable, format!("the device failed: {error}"))
}
