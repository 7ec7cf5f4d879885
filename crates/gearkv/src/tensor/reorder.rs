//! Batch items in another order, repeated or left out: beam search.

use super::{GearTensor, view};

impl GearTensor {
    /// Makes batch item `i` a copy of what item `order[i]` was, which must be there. Of what is compressed nothing moves; sinks and
    /// buffer are copied.
    pub(crate) fn reorder(&mut self, order: &[u32]) {
        self.sinks.reorder(order, self.batch);
        self.buffer.reorder(order, self.batch);
        view::reorder(&mut self.segments, order);
        self.batch = order.len();
    }
}
