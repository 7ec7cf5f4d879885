//! The border between Rust's failures and JavaScript's.

use std::panic::{AssertUnwindSafe, catch_unwind};

use gearkv_marshal::{BindingError, Result};
use napi::Status;

/// Runs `body` and turns its error, or its panic, into a JavaScript error whose message starts with the code.
///
/// State that a panic might leave half-changed is kept in `Slot`, which drops it in that case; hence the assertion.
pub(crate) fn guard<R>(body: impl FnOnce() -> Result<R>) -> napi::Result<R> {
    let outcome = catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|payload| {
        let error = BindingError::panicked(&*payload);
        // A payload may panic when it is dropped; leaking a defect's remains is the lesser evil.
        std::mem::forget(payload);
        Err(error)
    });
    outcome.map_err(|error| napi::Error::new(Status::GenericFailure, error.to_string()))
}
