//! Where the time goes.

use serde::Serialize;
// The standard library's, and JavaScript's `performance.now` in WebAssembly, where the standard library has none.
use web_time::Instant;

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

    /// Adds a share, 0 to 1, of work that was done together.
    pub(crate) fn add_share(&mut self, of: &Self, share: f64) {
        self.attention += of.attention * share;
        self.compression += of.compression * share;
        self.matmul += of.matmul * share;
        self.other += of.other * share;
    }
}

/// Splits time into laps.
pub(crate) struct Stopwatch {
    last: Instant,
}

impl Stopwatch {
    pub fn start() -> Self {
        Self { last: Instant::now() }
    }

    /// Adds the time since the last lap to `to`.
    pub fn lap(&mut self, to: &mut f64) {
        let now = Instant::now();
        *to += (now - self.last).as_secs_f64();
        self.last = now;
    }
}
