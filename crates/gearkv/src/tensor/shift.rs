//! Tokens dropped in front of others: a context shift.

use std::ops::Range;

use crate::config::Storage;

use super::GearTensor;

impl GearTensor {
    /// Removes tokens behind the sinks, which must be there. Those behind them move up; what each of the others decompresses to stays as
    /// it is. Segments of which nothing is left are freed; one that is cut hides what was dropped.
    pub(crate) fn remove(&mut self, range: Range<usize>) {
        let mut first = self.sinks.tokens();
        debug_assert!(first <= range.start && range.end <= self.tokens());
        let mut left = Vec::with_capacity(self.segments.len() + 1);
        for view in &self.segments {
            let visible = view.visible();
            // How many of its own are before those that go, and which is the first behind.
            let before = range.start.saturating_sub(first).min(visible);
            let behind = range.end.saturating_sub(first).min(visible);
            let parts =
                if before == behind { [(0, visible), (0, 0)] } else { [(0, before), (behind, visible - behind)] };
            for (at, tokens) in parts {
                if tokens > 0 {
                    left.push(view.part(at, tokens));
                }
            }
            first += visible;
        }
        self.segments = left;
        let (start, end) = (range.start.saturating_sub(first), range.end.saturating_sub(first));
        let room = if self.config.storage == Storage::Gear { self.config.buffer_tokens as usize } else { 0 };
        self.buffer.remove(start..end, room);
    }
}
