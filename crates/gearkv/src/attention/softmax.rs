//! Online softmax: weights relative to the largest logit so far.

use crate::simd;

/// Running state of one KV head: `m` and `l` of the online softmax, one entry a query row.
#[derive(Default)]
pub(super) struct Softmax {
    largest: Vec<f32>,
    sum: Vec<f32>,
}

impl Softmax {
    pub fn begin(&mut self, rows: usize) {
        self.largest.clear();
        self.largest.resize(rows, f32::NEG_INFINITY);
        self.sum.clear();
        self.sum.resize(rows, 0.0);
    }

    /// Turns a block's logits into weights relative to the largest logit so far. Where that has grown, `shrink` is called with the row and
    /// the factor for what was gathered before.
    pub fn take_block(&mut self, logits: &mut [f32], tokens: usize, mut shrink: impl FnMut(usize, f32)) {
        for (row, logits) in logits.chunks_exact_mut(tokens).enumerate() {
            let before = self.largest[row];
            let (now, sum) = simd::softmax_row(logits, before);
            if now > before {
                // exp(−∞) = 0 at the first block.
                let factor = (before - now).exp();
                self.sum[row] *= factor;
                shrink(row, factor);
                self.largest[row] = now;
            }
            self.sum[row] += sum;
        }
    }

    /// The sum of each row's weights.
    pub fn sums(&self) -> &[f32] {
        &self.sum
    }
}
