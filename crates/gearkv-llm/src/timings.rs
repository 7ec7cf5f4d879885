//! Where the time goes.

use std::time::Instant;

use serde::Serialize;

/// Seconds of a session's work so far, by kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Timings {
    /// Attention over the cache.
    pub attention: f64,
    /// Putting tokens into the cache, compressing them included.
    pub compression: f64,
    /// Products with weights.
    pub matmul: f64,
    /// Norms, rotations, activations, embeddings.
    pub other: f64,
}

impl Timings {
    /// All of it.
    pub fn total(&self) -> f64 {
        self.attention + self.compression + self.matmul + self.other
    }

    /// Adds one of `shares` equal shares of work that was done together.
    pub(crate) fn add_share(&mut self, of: &Self, shares: usize) {
        let share = 1.0 / shares as f64;
        self.attention += of.attention * share;
        self.compression += of.compression * share;
        self.matmul += of.matmul * share;
        self.other += of.other * share;
    }
}

/// Splits time into laps.
pub(crate) struct Stopwatch {
    last: Option<Instant>,
}

impl Stopwatch {
    pub fn start() -> Self {
        // wasm32-unknown-unknown has no clock, and asking for the time traps.
        Self { last: if cfg!(target_arch = "wasm32") { None } else { Some(Instant::now()) } }
    }

    /// Adds the time since the last lap to `to`.
    pub fn lap(&mut self, to: &mut f64) {
        if let Some(last) = self.last {
            let now = Instant::now();
            *to += (now - last).as_secs_f64();
            self.last = Some(now);
        }
    }
}
