//! One error type with a stable code, so that a caller in any language can branch on the code and show the message.

/// What went wrong, as a stable name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorCode {
    /// A shape, length, layer or head count does not fit the tensor it is used with.
    ShapeMismatch,
    /// An option is unknown, out of its range, or contradicts another.
    InvalidOption,
    /// The input holds NaN or an infinity.
    NotFinite,
    /// A value cannot be held in the chosen storage (float16 reaches ±65504).
    OutOfRange,
    /// Bytes that are not a compressed tensor, or no longer are.
    CorruptData,
    /// Bytes written by a format version that this build does not read.
    UnsupportedVersion,
    /// A model whose architecture, tokenizer or weights this build does not know.
    UnsupportedModel,
    /// A file could not be read or written.
    IoFailed,
    /// A device or its driver is not there, or failed.
    BackendUnavailable,
    /// The caller asked to stop.
    Aborted,
    /// A defect in gear-kv itself.
    Internal,
}

impl ErrorCode {
    /// The code as it crosses every language boundary, for example `SHAPE_MISMATCH`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::ShapeMismatch => "SHAPE_MISMATCH",
            Self::InvalidOption => "INVALID_OPTION",
            Self::NotFinite => "NOT_FINITE",
            Self::OutOfRange => "OUT_OF_RANGE",
            Self::CorruptData => "CORRUPT_DATA",
            Self::UnsupportedVersion => "UNSUPPORTED_VERSION",
            Self::UnsupportedModel => "UNSUPPORTED_MODEL",
            Self::IoFailed => "IO_FAILED",
            Self::BackendUnavailable => "BACKEND_UNAVAILABLE",
            Self::Aborted => "ABORTED",
            Self::Internal => "INTERNAL",
        }
    }
}

/// An [`ErrorCode`] with a message that says what was given, what was expected and what to do.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct GearError {
    code: ErrorCode,
    message: String,
}

impl GearError {
    /// An error with this code and message.
    pub fn new(code: ErrorCode, message: impl Into<String>) -> Self {
        Self { code, message: message.into() }
    }

    /// The stable code.
    pub fn code(&self) -> ErrorCode {
        self.code
    }

    pub(crate) fn shape(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::ShapeMismatch, message)
    }

    pub(crate) fn option(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::InvalidOption, message)
    }

    pub(crate) fn corrupt(message: impl Into<String>) -> Self {
        Self::new(ErrorCode::CorruptData, message)
    }

    pub(crate) fn aborted() -> Self {
        Self::new(ErrorCode::Aborted, "stopped at the caller's request; nothing was changed")
    }
}

/// A result whose error is a [`GearError`].
pub type Result<T> = std::result::Result<T, GearError>;

/// Asked now and then during long work; `true` means stop. Work that is stopped leaves its tensor as it was.
pub type Cancel<'a> = &'a (dyn Fn() -> bool + Sync);

/// The [`Cancel`] of work that nobody stops.
pub const NEVER: Cancel<'static> = &|| false;

pub(crate) fn check(cancel: Cancel) -> Result<()> {
    if cancel() { Err(GearError::aborted()) } else { Ok(()) }
}
