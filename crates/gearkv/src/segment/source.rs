//! The rows of one head on their way into a segment: block after block, or all of them at once where what codes leave of them is needed.

use crate::shape::blocks;

use super::encode::Rows;

/// Where a head's values come from.
pub(super) struct Source<'a> {
    rows: &'a dyn Rows,
    plane: usize,
    tokens: usize,
    dim: usize,
    /// All rows, or room for a block of them.
    values: Vec<f32>,
    whole: bool,
}

impl<'a> Source<'a> {
    /// Loads all rows at once if they are to stay in memory (`whole`).
    pub fn new(rows: &'a dyn Rows, plane: usize, tokens: usize, dim: usize, whole: bool) -> Self {
        let mut values = Vec::new();
        if whole {
            values.resize(tokens * dim, 0.0);
            rows.load(plane, 0, &mut values);
        }
        Self { rows, plane, tokens, dim, values, whole }
    }

    /// Whether blocks are parts of what stays in memory.
    pub fn is_whole(&self) -> bool {
        self.whole
    }

    /// `count` tokens from `first` on: `[count, dim]`.
    pub fn block(&mut self, first: usize, count: usize) -> &mut [f32] {
        let length = count * self.dim;
        if self.whole {
            return &mut self.values[first * self.dim..][..length];
        }
        if self.values.len() < length {
            self.values.resize(length, 0.0);
        }
        let block = &mut self.values[..length];
        self.rows.load(self.plane, first, block);
        block
    }

    /// Blocks of `most` of its tokens.
    pub fn blocks(&self, most: usize) -> impl Iterator<Item = (usize, usize)> + use<> {
        blocks(self.tokens, most)
    }

    /// All rows, where they stay in memory.
    pub fn all(&mut self) -> &mut [f32] {
        debug_assert!(self.whole);
        &mut self.values
    }

    /// Takes the values at `positions` (`token · dim + channel`) out of the ranges, and gives back what stood there.
    pub fn leave_out(&mut self, positions: &[u32]) -> Vec<f32> {
        debug_assert!(self.whole || positions.is_empty());
        positions.iter().map(|&p| std::mem::replace(&mut self.values[p as usize], f32::NAN)).collect()
    }

    /// Puts back what [`Self::leave_out`] took.
    pub fn restore(&mut self, positions: &[u32], values: &[f32]) {
        for (&p, &value) in positions.iter().zip(values) {
            self.values[p as usize] = value;
        }
    }
}
