//! Products of a block of rows with a few vectors: the shapes that low-rank factors and attention need.
//!
//! "Vectors" are stored one after the other (`[count, dim]`), and their coefficients one row a vector (`[count, rows]`).

use multiversion::multiversion;

use super::LANES;

/// Sum over all lanes by a fixed tree, so that every instruction set adds in the same order.
#[inline(always)]
pub(super) fn sum_of_lanes(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; LANES / 2] = std::array::from_fn(|i| lanes[i] + lanes[i + LANES / 2]);
    let four: [f32; LANES / 4] = std::array::from_fn(|i| eight[i] + eight[i + LANES / 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// [`dot_rows`] of `N` vectors: each piece of a row is loaded once for all of them, and their sums wait for nothing but themselves.
#[inline(always)]
fn dot_rows_of<const N: usize>(rows: &[f32], dim: usize, vectors: &[f32], out: &mut [f32], stride: usize) {
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        let mut lanes = [[0.0f32; LANES]; N];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for (c, chunk) in chunks.iter().enumerate() {
            for v in 0..N {
                let vector = &vectors[v * dim + c * LANES..][..LANES];
                for i in 0..LANES {
                    lanes[v][i] += chunk[i] * vector[i];
                }
            }
        }
        for (i, x) in rest.iter().enumerate() {
            for v in 0..N {
                lanes[v][i] += x * vectors[v * dim + chunks.len() * LANES + i];
            }
        }
        for v in 0..N {
            out[v * stride + t] = sum_of_lanes(lanes[v]);
        }
    }
}

/// `out[v][row] = Σ_d vectors[v][d] · rows[row][d]`. `out` is `[count, stride]`, of which the first `rows` of each line are written.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn dot_rows(rows: &[f32], dim: usize, vectors: &[f32], out: &mut [f32], stride: usize) {
    /// Vectors whose sums fit the registers of AVX2.
    const MOST: usize = 4;
    for (vectors, out) in vectors.chunks(MOST * dim).zip(out.chunks_mut(MOST * stride)) {
        match vectors.len() / dim {
            4 => dot_rows_of::<4>(rows, dim, vectors, out, stride),
            3 => dot_rows_of::<3>(rows, dim, vectors, out, stride),
            2 => dot_rows_of::<2>(rows, dim, vectors, out, stride),
            1 => dot_rows_of::<1>(rows, dim, vectors, out, stride),
            _ => {}
        }
    }
}

/// `out` becomes `[dim, rows]`. With it, [`weigh_rows`] computes what [`dot_rows`] does, adding in another order, and several
/// times faster where there are many vectors: its sums need no reduction across lanes.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn transpose(rows: &[f32], dim: usize, out: &mut [f32]) {
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

/// `out` becomes `[width, rows]`; for a width of two, or little more.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn columns(rows: &[f32], width: usize, out: &mut [f32]) {
    if width != 2 {
        return transpose(rows, width, out);
    }
    let (first, second) = out.split_at_mut(rows.len() / 2);
    for (pair, (first, second)) in rows.as_chunks::<2>().0.iter().zip(first.iter_mut().zip(second)) {
        (*first, *second) = (pair[0], pair[1]);
    }
}

/// `out[v][d] += Σ_row weights[v][row] · rows[row][d]`. `weights` is `[count, stride]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn weigh_rows(rows: &[f32], dim: usize, weights: &[f32], stride: usize, out: &mut [f32]) {
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
pub fn add_low_rank(rows: &mut [f32], dim: usize, weights: &[f32], stride: usize, vectors: &[f32]) {
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
pub fn accumulate_rows(weights: &[f32], vectors: &[f32], out: &mut [f32]) {
    let dim = out.len();
    for (vector, &weight) in vectors.chunks_exact(dim).zip(weights) {
        for d in 0..dim {
            out[d] += weight * vector[d];
        }
    }
}
