//! Online softmax: weights relative to the largest logit so far.

use std::f32::consts::LN_2;
use std::ops::Range;

use crate::simd::{self, SoftmaxRow};

use super::values::Weights;

/// Where no weight of a stretch is more than this part of a row's sum so far, a byte each will do. What is rounded off in 256 tokens, in steps of a 127th
/// of their largest weight *w*, is about √(256/12) · *w*/127 of a value's size; these largest weights add up to no more than the row's sum, so that all of a row
/// is off by √(256/12 · `COARSE`)/127 = 2.3·10⁻³ of a value's size at most, and by 10⁻⁵ where 32 768 tokens weigh alike.
const COARSE: f32 = 1.0 / (1u32 << COARSE_BITS) as f32;
const COARSE_BITS: u32 = 8;

/// Products with keys are rounded to bytes, too, where no weight of the stretch before was more than this part of the sum: a fourth of what turns out
/// to matter, so that few logits are made twice. What is rounded off is a sixth of what quantizing to 4 bits did to a logit, or less, independently for
/// each token; and of tokens that weigh no more than [`COARSE`], √[`COARSE`] of that at most reaches what all of them make together.
const ROUGH: f32 = COARSE / 4.0;

/// Running state of one KV head: `m` and `l` of the online softmax, one entry a query row.
#[derive(Default)]
pub(super) struct Softmax {
    largest: Vec<f32>,
    sum: Vec<f32>,
    /// Whether products with keys are rounded to bytes until it turns out that they matter.
    rough: Vec<bool>,
    /// Of the present block: the sum of each row's weights, and whether none of them is more than [`COARSE`] of the sum so far.
    own_sum: Vec<f32>,
    coarse: Vec<bool>,
}

impl Softmax {
    pub fn begin(&mut self, rows: usize) {
        self.largest.clear();
        self.largest.resize(rows, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(rows, 0.0);
        self.rough.clear();
        self.rough.resize(rows, false);
        self.own_sum.clear();
        self.own_sum.resize(rows, 0.0);
        self.coarse.clear();
        self.coarse.resize(rows, false);
    }

    /// Rows whose logits need not be exact, as long as they are small.
    pub fn rough(&self) -> &[bool] {
        &self.rough
    }

    /// The next rows, from `first` on, that lie side by side and matter after all: whose rough logits are so large that a weight may be more than
    /// [`COARSE`] of the sum so far. Empty where there are none.
    pub fn that_matter(&self, first: usize, logits: &[f32], tokens: usize) -> Range<usize> {
        let matters = |row: usize| {
            // A power of two that the sum reaches, which is 1 at least, as the largest logit's weight is.
            let power = (self.sum[row].to_bits() >> 23) as f32 - 127.0;
            let limit = (power - COARSE_BITS as f32) * LN_2;
            self.rough[row] && simd::largest(&logits[row * tokens..(row + 1) * tokens]) - self.largest[row] > limit
        };
        let rows = self.rough.len();
        let start = (first..rows).find(|&row| matters(row)).unwrap_or(rows);
        let end = (start + 1..rows).find(|&row| !matters(row)).unwrap_or(rows);
        start..end
    }

    /// Turns a block's logits into weights relative to the largest logit so far. Where that has grown, `shrink` is called with the row and
    /// the factor for what was gathered before.
    pub fn take_block(&mut self, logits: &mut [f32], tokens: usize, mut shrink: impl FnMut(usize, f32)) {
        for (row, logits) in logits.chunks_exact_mut(tokens).enumerate() {
            let before = self.largest[row];
            let SoftmaxRow { most: now, sum, largest } = simd::softmax_row(logits, before);
            if now > before {
                // exp(−∞) = 0 at the first block.
                let factor = (before - now).exp();
                self.sum[row] *= factor;
                shrink(row, factor);
                self.largest[row] = now;
            }
            self.sum[row] += sum;
            self.own_sum[row] = sum;
            self.coarse[row] = largest <= COARSE * self.sum[row];
            self.rough[row] = largest <= ROUGH * self.sum[row];
        }
    }

    /// A block's weights, which were its logits.
    pub fn weights<'a>(&'a self, rows: &'a [f32]) -> Weights<'a> {
        Weights { rows, sums: &self.own_sum, coarse: &self.coarse }
    }

    /// The sum of each row's weights.
    pub fn sums(&self) -> &[f32] {
        &self.sum
    }
}
