//! Which channels can make good what others got wrong, where queries' moments are known.
//!
//! An error `e` of a key costs `eᵀ M e` of a logit, `M = E[q qᵀ]`. Channels are quantized one after the other; the error of one is
//! taken to the later ones by the least-squares solution, row `i` of the inverse of `M` among the channels from `i` on: the rounding
//! that GPTQ (arXiv 2210.17323) applies to weights, here to keys, whose codes and format stay what they are.

use crate::simd;

/// Added to the diagonal, as a share of its mean: queries of 64 positions leave directions without any weight.
const DAMPING: f64 = 0.1;

/// Beyond this many channels the matrix takes longer than what it gains.
const MOST_CHANNELS: usize = 1024;

/// A symmetric matrix with its channels in `order` and a damped diagonal; `None` where it has no weight at all.
fn damped(moments: &[f32], order: &[u16]) -> Option<Vec<f64>> {
    let dim = order.len();
    let trace: f64 = (0..dim).map(|i| f64::from(moments[i * dim + i])).sum();
    if dim > MOST_CHANNELS || !(trace > 0.0 && trace.is_finite()) {
        return None;
    }
    let mut matrix = vec![0.0; dim * dim];
    for (row, &i) in matrix.chunks_exact_mut(dim).zip(order) {
        for (x, &j) in row.iter_mut().zip(order) {
            *x = f64::from(moments[usize::from(i) * dim + usize::from(j)]);
        }
    }
    for i in 0..dim {
        matrix[i * dim + i] += DAMPING * trace / dim as f64;
    }
    Some(matrix)
}

/// How much of the error of channel `j` (in `order`) is taken from channel `i`: `[i][j]`, of which only `j < i` means anything.
pub(crate) fn coupling(moments: &[f32], order: &[u16]) -> Option<Vec<f32>> {
    let dim = order.len();
    // With the channels turned round, `M = L Lᵀ` eliminates the later ones first: what is left of them in row `i` of `L⁻¹` is, up
    // to the diagonal, the least-squares solution that is wanted.
    let reversed: Vec<u16> = order.iter().rev().copied().collect();
    let mut matrix = damped(moments, &reversed)?;
    simd::factorize(&mut matrix, dim);
    let inverse = simd::invert_lower(&matrix, dim);
    let mut coupling = vec![0.0; dim * dim];
    for i in 0..dim {
        let row = dim - 1 - i;
        for j in i + 1..dim {
            coupling[j * dim + i] = (inverse[row * dim + (dim - 1 - j)] / inverse[row * dim + row]) as f32;
        }
    }
    Some(coupling)
}

/// `x L` for each row of `x` (`[tokens, dim]`), where `L Lᵀ` is the damped matrix of moments, and the inverse of `Lᵀ` to bring
/// directions back; `None` as for [`coupling`].
pub(crate) struct Metric {
    dim: usize,
    lower: Vec<f64>,
}

impl Metric {
    pub fn new(moments: &[f32], dim: usize) -> Option<Self> {
        let natural: Vec<u16> = (0..dim).map(|channel| channel as u16).collect();
        let mut lower = damped(moments, &natural)?;
        simd::factorize(&mut lower, dim);
        Some(Self { dim, lower })
    }

    /// Rows as the queries see them.
    pub fn apply(&self, x: &[f32]) -> Vec<f32> {
        let dim = self.dim;
        let mut out = vec![0.0; x.len()];
        for (x, out) in x.chunks_exact(dim).zip(out.chunks_exact_mut(dim)) {
            for (i, &x) in x.iter().enumerate() {
                let along: &[f64] = &self.lower[i * dim..=i * dim + i];
                out.iter_mut().zip(along).for_each(|(out, &l)| *out += x * l as f32);
            }
        }
        out
    }

    /// Directions (`[rank, dim]`) of what [`Self::apply`] gave, back to those of its input: `L⁻ᵀ b`.
    pub fn restore(&self, directions: &mut [f32]) {
        let dim = self.dim;
        for b in directions.chunks_exact_mut(dim) {
            for i in (0..dim).rev() {
                let later: f64 = (i + 1..dim).map(|j| self.lower[j * dim + i] * f64::from(b[j])).sum();
                b[i] = ((f64::from(b[i]) - later) / self.lower[i * dim + i]) as f32;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn moments(dim: usize) -> Vec<f32> {
        // A sum of squares, so that it is positive.
        let rows: Vec<Vec<f32>> = (0..2 * dim)
            .map(|r| (0..dim).map(|d| ((r * 7 + d * 3) as f32 * 0.9).sin() + (d == 1) as u8 as f32).collect())
            .collect();
        let mut m = vec![0.0; dim * dim];
        for row in &rows {
            for i in 0..dim {
                for j in 0..dim {
                    m[i * dim + j] += row[i] * row[j];
                }
            }
        }
        m
    }

    fn cost(m: &[f64], e: &[f64]) -> f64 {
        let dim = e.len();
        (0..dim).flat_map(|i| (0..dim).map(move |j| (i, j))).map(|(i, j)| e[i] * m[i * dim + j] * e[j]).sum()
    }

    #[test]
    fn what_is_taken_from_the_later_channels_is_the_best_answer_to_an_error() {
        let dim = 6;
        let order = [3, 1, 5, 0, 2, 4];
        let m = moments(dim);
        let (matrix, coupling) = (damped(&m, &order).unwrap(), coupling(&m, &order).unwrap());
        for i in 0..dim {
            let mut e = vec![0.0; dim];
            e[i] = 1.0;
            // The later channel is moved by −c, and its own error is what it was moved by.
            for j in i + 1..dim {
                e[j] = f64::from(coupling[j * dim + i]);
            }
            let best = cost(&matrix, &e);
            for j in i + 1..dim {
                for step in [-1e-2, 1e-2] {
                    let mut other = e.clone();
                    other[j] += step;
                    assert!(cost(&matrix, &other) > best, "channel {i} over {j}");
                }
            }
        }
    }

    #[test]
    fn a_metric_measures_what_queries_see_and_directions_come_back() {
        let dim = 5;
        let metric = Metric::new(&moments(dim), dim).unwrap();
        let x = [0.3f32, -1.0, 0.5, 2.0, 0.1];
        let seen: f64 = metric.apply(&x).iter().map(|x| f64::from(*x).powi(2)).sum();
        let natural: Vec<u16> = (0..dim as u16).collect();
        let expected = cost(&damped(&moments(dim), &natural).unwrap(), &x.map(f64::from));
        assert!((seen / expected - 1.0).abs() < 1e-5);
        // (x L)·b = x·(L b), and restoring undoes Lᵀ: apply(y)·b = y·restored when b = Lᵀ-image.
        let b = [1.0f32, 0.5, -0.25, 0.125, 2.0];
        let mut restored = b;
        metric.restore(&mut restored);
        for (i, b) in b.into_iter().enumerate() {
            let back: f64 = (i..dim).map(|j| metric.lower[j * dim + i] * f64::from(restored[j])).sum();
            assert!((back - f64::from(b)).abs() < 1e-4);
        }
    }

    #[test]
    fn without_weight_there_is_nothing_to_couple() {
        assert!(coupling(&[0.0; 9], &[0, 1, 2]).is_none());
        assert!(Metric::new(&[f32::NAN; 4], 2).is_none());
    }
}
