//! The Rust side of a JavaScript handle, which may be released before the handle is collected.

use crate::{BindingError, Result};

/// Holds a value until it is released.
///
/// The revision counts changes, so that work on a copy can tell whether the original is still what it was copied from.
#[derive(Debug)]
pub struct Slot<T> {
    what: &'static str,
    state: State<T>,
    revision: u64,
}

#[derive(Debug)]
enum State<T> {
    Live(T),
    Released,
    /// A panic interrupted a change, so that the value may be inconsistent; it was dropped.
    Broken,
}

impl<T> Slot<T> {
    /// A live value. `what` names it in messages.
    pub fn new(what: &'static str, value: T) -> Self {
        Self { what, state: State::Live(value), revision: 0 }
    }

    /// The value.
    ///
    /// # Errors
    /// `DISPOSED` after [`Slot::release`], `INTERNAL` after a panic in [`Slot::change`].
    pub fn get(&self) -> Result<&T> {
        match &self.state {
            State::Live(value) => Ok(value),
            State::Released => Err(BindingError::disposed(self.what)),
            State::Broken => Err(broken(self.what)),
        }
    }

    /// Takes the value out.
    ///
    /// # Errors
    /// As [`Slot::get`].
    pub fn into_value(self) -> Result<T> {
        match self.state {
            State::Live(value) => Ok(value),
            State::Released => Err(BindingError::disposed(self.what)),
            State::Broken => Err(broken(self.what)),
        }
    }

    /// Changes the value. `change` must leave it as it was when it fails.
    ///
    /// # Errors
    /// As [`Slot::get`], and whatever `change` returns.
    pub fn change<R>(&mut self, change: impl FnOnce(&mut T) -> Result<R>) -> Result<R> {
        self.get()?;
        // Taken out for the time of the change, so that a panic leaves nothing half-changed behind.
        let State::Live(mut value) = std::mem::replace(&mut self.state, State::Broken) else {
            return Err(broken(self.what));
        };
        let result = change(&mut value);
        self.state = State::Live(value);
        self.revision += u64::from(result.is_ok());
        result
    }

    /// The number of changes so far.
    pub fn revision(&self) -> u64 {
        self.revision
    }

    /// Puts the outcome of work on a copy in place of the value, if that has not changed since `revision`.
    ///
    /// # Errors
    /// As [`Slot::get`], and `BUSY` when the value was changed meanwhile: the outcome is dropped.
    pub fn replace(&mut self, revision: u64, value: T) -> Result<()> {
        self.get()?;
        if revision != self.revision {
            return Err(BindingError::busy(self.what));
        }
        self.state = State::Live(value);
        self.revision += 1;
        Ok(())
    }

    /// Drops the value. Doing it again does nothing.
    pub fn release(&mut self) {
        self.state = State::Released;
    }
}

fn broken(what: &str) -> BindingError {
    BindingError::internal(format_args!("an earlier defect left this {what} unusable"))
}

#[cfg(test)]
mod tests {
    use std::panic::{AssertUnwindSafe, catch_unwind};

    use super::*;

    #[test]
    fn a_released_value_is_disposed_of() {
        let mut slot = Slot::new("tensor", 1);
        slot.release();
        slot.release();
        assert_eq!(slot.get().unwrap_err().code(), "DISPOSED");
        assert_eq!(slot.change(|_| Ok(())).unwrap_err().code(), "DISPOSED");
        assert_eq!(slot.replace(0, 2).unwrap_err().code(), "DISPOSED");
    }

    #[test]
    fn an_outcome_replaces_only_what_it_was_made_from() {
        let mut slot = Slot::new("tensor", 1);
        let revision = slot.revision();
        slot.change(|value| {
            *value += 1;
            Ok(())
        })
        .unwrap();
        assert_eq!(slot.replace(revision, 7).unwrap_err().code(), "BUSY");
        assert_eq!(slot.get(), Ok(&2));
        slot.replace(slot.revision(), 7).unwrap();
        assert_eq!(slot.get(), Ok(&7));
        assert_eq!(slot.replace(revision + 1, 8).unwrap_err().code(), "BUSY");
    }

    #[test]
    fn a_failed_change_is_no_change() {
        let mut slot = Slot::new("tensor", 1);
        slot.change::<()>(|_| Err(BindingError::disposed("other"))).unwrap_err();
        assert_eq!((slot.get(), slot.revision()), (Ok(&1), 0));
    }

    #[test]
    fn a_panic_in_a_change_breaks_the_value_for_good() {
        let mut slot = Slot::new("tensor", vec![1]);
        catch_unwind(AssertUnwindSafe(|| slot.change::<()>(|_| panic!("defect")))).unwrap_err();
        assert_eq!(slot.get().unwrap_err().code(), "INTERNAL");
        assert_eq!(slot.change(|_| Ok(())).unwrap_err().code(), "INTERNAL");
        assert_eq!(slot.into_value().unwrap_err().code(), "INTERNAL");
        assert_eq!(Slot::new("tensor", 3).into_value(), Ok(3));
    }
}
