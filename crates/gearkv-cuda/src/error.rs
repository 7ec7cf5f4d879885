//! What goes wrong on a device, as the core's errors.

use cudarc::driver::DriverError;
use gearkv::{ErrorCode, GearError};

/// The driver refused something: memory that is not there, a device that fell over.
pub(crate) fn driver(what: &str) -> impl FnOnce(DriverError) -> GearError + '_ {
    move |error| GearError::new(ErrorCode::BackendUnavailable, format!("the GPU could not {what}: {error:?}"))
}

pub(crate) fn unavailable(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::BackendUnavailable, message)
}

pub(crate) fn option(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::InvalidOption, message)
}

pub(crate) fn shape(message: impl Into<String>) -> GearError {
    GearError::new(ErrorCode::ShapeMismatch, message)
}
