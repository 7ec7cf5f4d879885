//! Counts that tasks raise and JavaScript looks at.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use napi_derive::napi;

/// How far a task has come; to be looked at now and then.
#[napi]
pub struct Progress {
    counts: Counts,
}

#[napi]
impl Progress {
    /// Nothing done yet.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript makes one")]
    pub fn new() -> Self {
        Self { counts: Counts(Arc::default()) }
    }

    /// Parts of the work that are done.
    #[napi]
    pub fn done(&self) -> u32 {
        self.counts.0.done.load(Ordering::Relaxed)
    }

    /// All parts; 0 before the first is done.
    #[napi]
    pub fn total(&self) -> u32 {
        self.counts.0.total.load(Ordering::Relaxed)
    }

    pub(crate) fn counts(&self) -> Counts {
        self.counts.clone()
    }
}

/// A task's share of the counts.
#[derive(Clone)]
pub(crate) struct Counts(Arc<Both>);

#[derive(Default)]
struct Both {
    done: AtomicU32,
    total: AtomicU32,
}

impl Counts {
    /// Told of each unit of a prompt, and goes on with the next.
    pub(crate) fn all_at_once(&self) -> impl FnMut(gearkv_llm::Progress) -> bool + Send {
        |progress| {
            self.tell(progress.done, progress.total);
            true
        }
    }

    pub(crate) fn tell(&self, done: usize, total: usize) {
        self.0.total.store(total as u32, Ordering::Relaxed);
        self.0.done.store(done as u32, Ordering::Relaxed);
    }
}
