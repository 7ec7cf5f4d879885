//! Errors as they reach JavaScript: `[gearkv:CODE] message`.

use std::any::Any;
use std::fmt;

use gearkv::{ErrorCode, GearError};

/// An error on its way to JavaScript.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct BindingError {
    code: &'static str,
    message: String,
}

/// A result whose error is a [`BindingError`].
pub type Result<T> = std::result::Result<T, BindingError>;

impl BindingError {
    /// A handle was used after `release()`.
    pub fn disposed(what: &str) -> Self {
        Self { code: "DISPOSED", message: format!("this {what} was disposed of and can no longer be used") }
    }

    /// A handle was changed while a background task was at work on a copy of it.
    pub fn busy(what: &str) -> Self {
        let message = format!(
            "the {what} was changed while an append was running, so the append was dropped; \
             await one change before making the next, then append again"
        );
        Self { code: "BUSY", message }
    }

    /// A handle was used while a background task was at work on it.
    pub fn at_work(what: &str) -> Self {
        let message = format!("the {what} is at work; await what it is doing before asking it for anything else");
        Self { code: "BUSY", message }
    }

    /// Something that was saved with one model was given to another.
    pub fn model_mismatch(message: impl fmt::Display) -> Self {
        Self { code: "MODEL_MISMATCH", message: message.to_string() }
    }

    /// A defect in gear-kv itself.
    pub fn internal(message: impl fmt::Display) -> Self {
        Self {
            code: ErrorCode::Internal.as_str(),
            message: format!("{message}; this is a defect in gear-kv, please report it with this message"),
        }
    }

    /// A panic that was caught before it could unwind into the JavaScript engine.
    pub fn panicked(payload: &(dyn Any + Send)) -> Self {
        let message = payload
            .downcast_ref::<String>()
            .map(String::as_str)
            .or_else(|| payload.downcast_ref::<&str>().copied())
            .unwrap_or("a panic without a message");
        Self::internal(message)
    }

    /// The stable code.
    pub fn code(&self) -> &'static str {
        self.code
    }
}

impl From<GearError> for BindingError {
    fn from(error: GearError) -> Self {
        Self { code: error.code().as_str(), message: error.to_string() }
    }
}

impl fmt::Display for BindingError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "[gearkv:{}] {}", self.code, self.message)
    }
}

impl std::error::Error for BindingError {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_starts_with_the_code() {
        let error = BindingError::from(GearError::new(ErrorCode::ShapeMismatch, "7 values; expected 8"));
        assert_eq!(error.to_string(), "[gearkv:SHAPE_MISMATCH] 7 values; expected 8");
        assert!(BindingError::disposed("cache").to_string().starts_with("[gearkv:DISPOSED] this cache"));
        assert!(BindingError::at_work("session").to_string().starts_with("[gearkv:BUSY] the session"));
    }

    #[test]
    fn panic_messages_are_kept() {
        let formatted = std::panic::catch_unwind(|| panic!("index {}", 3)).unwrap_err();
        let literal = std::panic::catch_unwind(|| panic!("literal")).unwrap_err();
        assert!(BindingError::panicked(&*formatted).to_string().starts_with("[gearkv:INTERNAL] index 3;"));
        assert!(BindingError::panicked(&*literal).to_string().starts_with("[gearkv:INTERNAL] literal;"));
    }
}
