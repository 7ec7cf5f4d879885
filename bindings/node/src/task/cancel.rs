//! A flag that JavaScript raises and tasks look at.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use napi_derive::napi;

/// Stops the tasks that were started with it: they reject with `ABORTED` soon after, and change nothing.
#[napi]
pub struct Cancel {
    flag: Flag,
}

#[napi]
impl Cancel {
    /// A flag that is not raised.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript makes one")]
    pub fn new() -> Self {
        Self { flag: Flag(Arc::new(AtomicBool::new(false))) }
    }

    /// Raises the flag, for good.
    #[napi]
    pub fn cancel(&self) {
        self.flag.0.store(true, Ordering::Relaxed);
    }

    pub(crate) fn flag(&self) -> Flag {
        self.flag.clone()
    }
}

/// A task's share of the flag.
#[derive(Clone)]
pub(crate) struct Flag(Arc<AtomicBool>);

impl Flag {
    pub(crate) fn raised(&self) -> bool {
        self.0.load(Ordering::Relaxed)
    }
}
