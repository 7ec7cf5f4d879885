//! Batch items in another order, repeated or left out: beam search.

use crate::error::{GearError, Result};
use crate::shape::KvShape;

use super::{GearTensor, view};

/// Checks an order of batch items.
///
/// # Errors
/// `SHAPE_MISMATCH` for no items at all and for items that are not there.
pub(crate) fn check_order(order: &[usize], batch: usize) -> Result<()> {
    if order.is_empty() {
        return Err(GearError::shape("the order of batch items is empty; name at least one item"));
    }
    match order.iter().enumerate().find(|(_, item)| **item >= batch) {
        Some((i, item)) => Err(GearError::shape(format!(
            "the order of batch items has {item} at {i}; there are items 0 to {}",
            batch - 1
        ))),
        None => Ok(()),
    }
}

impl GearTensor {
    /// Makes batch item `i` a copy of what item `order[i]` was. Items may be repeated and left out, so that the batch becomes as large
    /// as `order` is long. Of what is compressed nothing moves; sinks and buffer are copied.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for no items at all and for items that are not there, and when the tensor could not be addressed.
    /// Nothing is changed then.
    pub fn reorder(&mut self, order: &[usize]) -> Result<()> {
        check_order(order, self.batch)?;
        KvShape::new(order.len(), self.heads, self.tokens(), self.dim)?;
        if order.len() == self.batch && order.iter().enumerate().all(|(i, item)| i == *item) {
            return Ok(());
        }
        let item = self.heads * self.dim;
        self.sinks.reorder(order, item);
        self.buffer.reorder(order, item);
        let order: Vec<u32> = order.iter().map(|&item| item as u32).collect();
        view::reorder(&mut self.segments, &order);
        self.batch = order.len();
        Ok(())
    }
}
