//! Products of a block of rows with a few vectors: the shapes that low-rank factors and attention need.
//!
//! "Vectors" are stored one after the other (`[count, dim]`), and their coefficients one row a vector (`[count, rows]`).

use multiversion::multiversion;

use super::LANES;

#[inline(always)]
fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut lanes = [0.0f32; LANES];
    let (a_chunks, a_rest) = a.as_chunks::<LANES>();
    let (b_chunks, b_rest) = b.as_chunks::<LANES>();
    for (a, b) in a_chunks.iter().zip(b_chunks) {
        for i in 0..LANES {
            lanes[i] += a[i] * b[i];
        }
    }
    for (i, (a, b)) in a_rest.iter().zip(b_rest).enumerate() {
        lanes[i] += a * b;
    }
    // A fixed tree, so that every instruction set adds in the same order.
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            lanes[i] += lanes[i + width];
        }
        width /= 2;
    }
    lanes[0]
}

/// `out[v][row] = Σ_d vectors[v][d] · rows[row][d]`. `out` is `[count, stride]`, of which the first `rows` of each line are written.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn dot_rows(rows: &[f32], dim: usize, vectors: &[f32], out: &mut [f32], stride: usize) {
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        for (v, vector) in vectors.chunks_exact(dim).enumerate() {
            out[v * stride + t] = dot(row, vector);
        }
    }
}

/// `out` becomes `[dim, rows]`. With it, [`weigh_rows`] computes what [`dot_rows`] does, adding in another order, and several
/// times faster where there are many vectors: its sums need no reduction across lanes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn transpose(rows: &[f32], dim: usize, out: &mut [f32]) {
    /// Tiles of a cache line each way.
    const TILE: usize = 16;
    let count = rows.len() / dim;
    for first in (0..count).step_by(TILE) {
        for start in (0..dim).step_by(TILE) {
            for t in first..count.min(first + TILE) {
                let end = dim.min(start + TILE);
                for (d, &x) in (start..end).zip(&rows[t * dim + start..t * dim + end]) {
                    out[d * count + t] = x;
                }
            }
        }
    }
}

/// `out[v][d] += Σ_row weights[v][row] · rows[row][d]`. `weights` is `[count, stride]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn weigh_rows(rows: &[f32], dim: usize, weights: &[f32], stride: usize, out: &mut [f32]) {
    for (v, out) in out.chunks_exact_mut(dim).enumerate() {
        let weights = &weights[v * stride..];
        // Four rows at a time: the sum is loaded and stored once for all of them.
        let mut fours = rows.chunks_exact(4 * dim);
        let mut t = 0;
        for four in &mut fours {
            let [w0, w1, w2, w3] = [weights[t], weights[t + 1], weights[t + 2], weights[t + 3]];
            let (r0, rest) = four.split_at(dim);
            let (r1, rest) = rest.split_at(dim);
            let (r2, r3) = rest.split_at(dim);
            for d in 0..dim {
                out[d] = (((out[d] + w0 * r0[d]) + w1 * r1[d]) + w2 * r2[d]) + w3 * r3[d];
            }
            t += 4;
        }
        for row in fours.remainder().chunks_exact(dim) {
            for d in 0..dim {
                out[d] += weights[t] * row[d];
            }
            t += 1;
        }
    }
}

/// `rows[row][d] += Σ_v weights[v][row] · vectors[v][d]`: adds `A Bᵀ` to a block of rows.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn add_low_rank(rows: &mut [f32], dim: usize, weights: &[f32], stride: usize, vectors: &[f32]) {
    for (t, row) in rows.chunks_exact_mut(dim).enumerate() {
        for (v, vector) in vectors.chunks_exact(dim).enumerate() {
            let weight = weights[v * stride + t];
            for d in 0..dim {
                row[d] += weight * vector[d];
            }
        }
    }
}

/// `out[d] += Σ_v weights[v] · vectors[v][d]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn accumulate_rows(weights: &[f32], vectors: &[f32], out: &mut [f32]) {
    let dim = out.len();
    for (vector, &weight) in vectors.chunks_exact(dim).zip(weights) {
        for d in 0..dim {
            out[d] += weight * vector[d];
        }
    }
}
