//! Products of a block of rows with a few vectors: the shapes that low-rank factors and attention need.
//!
//! "Vectors" are stored one after the other (`[count, dim]`), and their coefficients one row a vector (`[count, rows]`).

use multiversion::multiversion;

use super::LANES;
use super::level::level;
use super::vector::{Vector, kernel};

/// Sum over all lanes by a fixed tree, so that every instruction set adds in the same order.
#[inline(always)]
pub(super) fn sum_of_lanes(lanes: [f32; LANES]) -> f32 {
    let eight: [f32; LANES / 2] = std::array::from_fn(|i| lanes[i] + lanes[i + LANES / 2]);
    let four: [f32; LANES / 4] = std::array::from_fn(|i| eight[i] + eight[i + LANES / 4]);
    (four[0] + four[2]) + (four[1] + four[3])
}

/// `out[v][row] = Σ_d vectors[v][d] · rows[row][d]`. `out` is `[count, stride]`, of which the first `rows` of each line are written.
pub fn dot_rows(rows: &[f32], dim: usize, vectors: &[f32], out: &mut [f32], stride: usize) {
    assert!(dim > 0 && vectors.len().is_multiple_of(dim));
    dot_rows_at(level(), rows, (dim, stride), vectors, out);
}

kernel!(fn dot_rows_at(rows: &[f32], shape: (usize, usize), vectors: &[f32], out: &mut [f32]) = dot_rows_by);

#[inline(always)]
unsafe fn dot_rows_by<V: Vector>(rows: &[f32], (dim, stride): (usize, usize), vectors: &[f32], out: &mut [f32]) {
    /// Vectors whose sums fit the registers of AVX2.
    const MOST: usize = 4;
    for (vectors, out) in vectors.chunks(MOST * dim).zip(out.chunks_mut(MOST * stride)) {
        // SAFETY: as the caller vouches for, and there are as many vectors.
        unsafe {
            match vectors.len() / dim {
                4 => dot_rows_of::<V, 4>(rows, dim, vectors, out, stride),
                3 => dot_rows_of::<V, 3>(rows, dim, vectors, out, stride),
                2 => dot_rows_of::<V, 2>(rows, dim, vectors, out, stride),
                _ => dot_rows_of::<V, 1>(rows, dim, vectors, out, stride),
            }
        }
    }
}

/// [`dot_rows`] of `N` vectors: each piece of a row is loaded once for all of them, and their sums wait for nothing but themselves.
#[inline(always)]
unsafe fn dot_rows_of<V: Vector, const N: usize>(
    rows: &[f32],
    dim: usize,
    vectors: &[f32],
    out: &mut [f32],
    stride: usize,
) {
    let whole = dim - dim % LANES;
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        // SAFETY: rows and vectors have `dim` values each, and the caller vouches for `N` vectors.
        unsafe {
            let mut sums = [V::every(0.0); N];
            for start in (0..whole).step_by(LANES) {
                let x = V::floats(row.as_ptr().add(start));
                for (v, sum) in sums.iter_mut().enumerate() {
                    *sum = V::plus(*sum, V::times(x, V::floats(vectors.as_ptr().add(v * dim + start))));
                }
            }
            for (v, sum) in sums.into_iter().enumerate() {
                out[v * stride + t] = if whole == dim {
                    V::total(sum)
                } else {
                    let mut lanes = [0.0; LANES];
                    V::put(sum, lanes.as_mut_ptr());
                    let rest = row[whole..].iter().zip(&vectors[v * dim + whole..]);
                    lanes.iter_mut().zip(rest).for_each(|(lane, (x, y))| *lane += x * y);
                    sum_of_lanes(lanes)
                };
            }
        }
    }
}

/// `out` becomes `[dim, rows]`. With it, [`weigh_rows`] computes what [`dot_rows`] does, adding in another order, and several
/// times faster where there are many vectors: its sums need no reduction across lanes.
pub fn transpose(rows: &[f32], dim: usize, out: &mut [f32]) {
    assert!(dim > 0 && rows.len().is_multiple_of(dim) && out.len() >= rows.len());
    transpose_at(level(), rows, dim, out);
}

kernel!(fn transpose_at(rows: &[f32], dim: usize, out: &mut [f32]) = transpose_by);

#[inline(always)]
unsafe fn transpose_by<V: Vector>(rows: &[f32], dim: usize, out: &mut [f32]) {
    let count = rows.len() / dim;
    let (whole, whole_rows) = (dim - dim % LANES, count - count % LANES);
    for first in (0..whole_rows).step_by(LANES) {
        for start in (0..whole).step_by(LANES) {
            // SAFETY: `transpose` has checked lengths, and squares are within the rows and columns that there are.
            unsafe {
                let (from, to) = (rows.as_ptr().add(first * dim + start), out.as_mut_ptr().add(start * count + first));
                V::transpose(from, dim, to, count);
            }
        }
    }
    for (t, row) in rows.chunks_exact(dim).enumerate() {
        let done = if t < whole_rows { whole } else { 0 };
        for (d, &x) in row.iter().enumerate().skip(done) {
            out[d * count + t] = x;
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;

    #[test]
    fn columns_are_where_rows_were() {
        for (count, dim) in [(1, 1), (16, 16), (64, 128), (33, 80), (5, 32), (48, 21), (17, 17)] {
            let rows: Vec<f32> = (0..count * dim).map(|i| i as f32).collect();
            for level in levels() {
                let mut out = vec![-1.0; rows.len() + 1];
                transpose_at(level, &rows, dim, &mut out);
                let right = |(i, &x): (usize, &f32)| out[i % dim * count + i / dim] == x;
                assert!(rows.iter().enumerate().all(right), "{level:?}, {count} rows of {dim}");
                assert_eq!(out[rows.len()], -1.0);
            }
        }
    }

    #[test]
    fn every_instruction_set_adds_products_alike() {
        for (count, dim) in [(3, 1), (4, 16), (5, 21), (7, 64), (2, 80), (1, 300)] {
            let rows: Vec<f32> = (0..count * dim).map(|i| (i as f32 * 0.7).sin()).collect();
            for number in 1..=6 {
                let vectors: Vec<f32> = (0..number * dim).map(|i| (i as f32 * 1.3).cos()).collect();
                let mut expected = vec![9.0; number * (count + 1)];
                for (v, vector) in vectors.chunks_exact(dim).enumerate() {
                    for (t, row) in rows.chunks_exact(dim).enumerate() {
                        let mut lanes = [0.0; LANES];
                        row.iter().zip(vector).enumerate().for_each(|(i, (x, y))| lanes[i % LANES] += x * y);
                        expected[v * (count + 1) + t] = sum_of_lanes(lanes);
                    }
                }
                for level in levels() {
                    let mut out = vec![9.0; expected.len()];
                    dot_rows_at(level, &rows, (dim, count + 1), &vectors, &mut out);
                    assert_eq!(out, expected, "{level:?}, {count} rows of {dim}, {number} vectors");
                }
            }
        }
    }
}
