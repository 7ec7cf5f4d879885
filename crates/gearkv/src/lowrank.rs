//! `L = A Bᵀ`: a low-rank approximation of what quantization left over (paper, section 3, "low-rank approximation").
//!
//! Per head and batch item, by power iteration on the residual `R`, `[tokens, head_dim]`:
//! `A = R B`, `B = Rᵀ A`, a few passes, with orthonormal columns. `R` is zero at outliers.
//!
//! Factors have one row a rank (`A: [rank, tokens]`, `B: [rank, head_dim]`). The norm of each pair is
//! shared evenly between the two, so that neither underflows nor overflows.

use rand_mt::Mt;

use crate::simd;

/// Both factors of one head.
#[derive(Default)]
pub(crate) struct Pair {
    /// `[rank, tokens]`
    pub a: Vec<f32>,
    /// `[rank, head_dim]`
    pub b: Vec<f32>,
}

impl Pair {
    /// The squared norm of each rank of what [`power_iteration`] gave: of the residual's squares, how much it takes away.
    pub fn squares(&self, dim: usize) -> Vec<f32> {
        // Both factors of a rank are equally long.
        self.b.chunks_exact(dim).map(|b| dot(b, b) * dot(b, b)).collect()
    }
}

/// The largest rank that a `[tokens, dim]` matrix can use.
pub(crate) fn usable_rank(rank: usize, tokens: usize, dim: usize) -> usize {
    rank.min(tokens).min(dim)
}

/// Where power iteration starts: uniform in [0, 1), from a Mersenne twister as in the reference implementation.
/// `[heads, rank, dim]`. Every batch item has the same start, so that none depends on its neighbours.
pub fn starts(heads: usize, dim: usize, rank: usize, seed: u32) -> Vec<f32> {
    let mut starts = vec![0.0; heads * rank * dim];
    if starts.is_empty() {
        return starts;
    }
    let mut random = Mt::new(seed);
    for start in starts.chunks_exact_mut((rank * dim).max(1)) {
        for d in 0..dim {
            for r in 0..rank {
                start[r * dim + d] = (random.next_u32() & 0xFF_FFFF) as f32 / (1u32 << 24) as f32;
            }
        }
    }
    starts
}

/// Power iteration from `start`, `[rank, dim]`.
pub(crate) fn power_iteration(residual: &[f32], dim: usize, start: &[f32], passes: usize) -> Pair {
    let tokens = residual.len() / dim;
    let rank = start.len() / dim;
    let mut b = start.to_vec();
    let mut a = vec![0.0; rank * tokens];
    for pass in 1..=passes {
        // Orthonormal columns at every pass, not only the last: the span is the same, but in float32 the columns would
        // otherwise all turn into the first singular vector.
        orthonormalize(&mut b, dim);
        simd::dot_rows(residual, dim, &b, &mut a, tokens);
        if pass == passes {
            orthonormalize(&mut a, tokens);
        } else {
            normalize_largest(&mut a, tokens);
        }
        b.fill(0.0);
        simd::weigh_rows(residual, dim, &a, tokens, &mut b);
    }
    balance(&mut a, tokens, &mut b, dim);
    Pair { a, b }
}

fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut out = [0.0];
    simd::dot_rows(a, a.len(), b, &mut out, 1);
    out[0]
}

/// Scales each vector to a largest magnitude of 1: a change of length that the span does not see, against overflow.
fn normalize_largest(vectors: &mut [f32], len: usize) {
    for vector in vectors.chunks_exact_mut(len) {
        let largest = simd::largest_magnitude(vector);
        if largest > 0.0 {
            let inverse = 1.0 / largest;
            // A subnormal's inverse is infinite; such a vector is as good as zero.
            if inverse.is_finite() {
                vector.iter_mut().for_each(|x| *x *= inverse);
            } else {
                vector.fill(0.0);
            }
        }
    }
}

/// Gram-Schmidt, each projection done twice for accuracy. A vector that depends on those before it becomes zero.
fn orthonormalize(vectors: &mut [f32], len: usize) {
    /// What is left of a dependent vector is rounding noise of about this share of its length.
    const DEPENDENT: f32 = 1e-5;
    normalize_largest(vectors, len);
    for j in 0..vectors.len() / len {
        let (done, rest) = vectors.split_at_mut(j * len);
        let vector = &mut rest[..len];
        let before = dot(vector, vector).sqrt();
        for _ in 0..2 {
            for other in done.chunks_exact(len) {
                let along = dot(vector, other);
                simd::accumulate_rows(&[-along], other, vector);
            }
        }
        let norm = dot(vector, vector).sqrt();
        if norm > DEPENDENT * before {
            vector.iter_mut().for_each(|x| *x /= norm);
        } else {
            vector.fill(0.0);
        }
    }
}

fn balance(a: &mut [f32], tokens: usize, b: &mut [f32], dim: usize) {
    for (a, b) in a.chunks_exact_mut(tokens).zip(b.chunks_exact_mut(dim)) {
        // `a` has length 1 or 0, so the pair's whole norm is in `b`.
        let root = dot(b, b).sqrt().sqrt();
        if root > 0.0 && root.is_finite() {
            a.iter_mut().for_each(|x| *x *= root);
            b.iter_mut().for_each(|x| *x /= root);
        } else {
            a.fill(0.0);
            b.fill(0.0);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rank_two(tokens: usize, dim: usize) -> Vec<f32> {
        (0..tokens * dim)
            .map(|i| {
                let (t, d) = ((i / dim) as f32, (i % dim) as f32);
                (t * 0.37).sin() * (d * 0.11).cos() + 0.25 * (t * 1.3).cos() * (d * 0.7).sin()
            })
            .collect()
    }

    fn error_after(residual: &[f32], dim: usize, rank: usize) -> f32 {
        let factors = power_iteration(residual, dim, &starts(1, dim, rank, 7), 3);
        let tokens = residual.len() / dim;
        let mut left: Vec<f32> = residual.iter().map(|x| -x).collect();
        simd::add_low_rank(&mut left, dim, &factors.a, tokens, &factors.b);
        dot(&left, &left).sqrt()
    }

    #[test]
    fn a_matrix_of_rank_two_is_recovered_by_rank_two() {
        let residual = rank_two(50, 21);
        let whole = dot(&residual, &residual).sqrt();
        assert!(error_after(&residual, 21, 2) < 2e-3 * whole);
        assert!(error_after(&residual, 21, 1) > 0.1 * whole);
        assert!(error_after(&residual, 21, 5) < 2e-3 * whole);
    }

    #[test]
    fn nothing_is_made_of_nothing_and_scale_does_not_matter() {
        let factors = power_iteration(&[0.0; 12], 3, &starts(1, 3, 2, 0), 3);
        assert!(factors.a.iter().chain(&factors.b).all(|x| *x == 0.0));
        for scale in [1e-6, 3e4] {
            let residual: Vec<f32> = rank_two(40, 16).iter().map(|x| x * scale).collect();
            let whole = dot(&residual, &residual).sqrt();
            assert!(error_after(&residual, 16, 2) < 5e-2 * whole, "scale {scale}");
        }
    }
}
