//! Work in slices of time, between which JavaScript's event loop turns.

use std::time::Duration;

use gearkv_llm::Progress;
use web_time::Instant;

/// A time after which work pauses.
#[derive(Clone, Copy)]
pub(crate) struct Slice {
    end: Instant,
}

impl Slice {
    /// From now on; anything that is no length of time is none at all.
    pub fn of(milliseconds: f64) -> Self {
        let length = Duration::try_from_secs_f64(milliseconds / 1000.0).unwrap_or_default();
        let now = Instant::now();
        Self { end: now.checked_add(length).unwrap_or(now) }
    }

    /// Whether there is time left.
    pub fn lasts(self) -> bool {
        Instant::now() < self.end
    }

    /// Progress as JavaScript takes it.
    pub fn counts(self, progress: Progress) -> Vec<u32> {
        vec![progress.done as u32, progress.total as u32]
    }
}
