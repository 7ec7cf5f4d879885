//! Triangular matrices in float64, row by row: factors of symmetric ones, and inverses. Every entry is a sum in the order of its definition.

use multiversion::multiversion;

/// The lower triangle `L` of `L Lᵀ`, in place; the upper one is left as it is.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn factorize(matrix: &mut [f64], dim: usize) {
    let mut column = vec![0.0; dim];
    for k in 0..dim {
        let (above, below) = matrix.split_at_mut((k + 1) * dim);
        // What is known to be positive is so but for rounding.
        let pivot = above[k * dim + k].max(f64::MIN_POSITIVE).sqrt();
        above[k * dim + k] = pivot;
        for (row, x) in below.chunks_exact_mut(dim).zip(&mut column) {
            row[k] /= pivot;
            *x = row[k];
        }
        for (i, row) in below.chunks_exact_mut(dim).enumerate() {
            let along = row[k];
            for (x, &other) in row[k + 1..].iter_mut().zip(&column[..=i]) {
                *x -= along * other;
            }
        }
    }
}

/// `L⁻¹` of a lower triangle.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn invert_lower(lower: &[f64], dim: usize) -> Vec<f64> {
    let mut inverse = vec![0.0; dim * dim];
    for (i, row) in lower.chunks_exact(dim).enumerate() {
        let (done, own) = inverse.split_at_mut(i * dim);
        for (k, (&along, done)) in row.iter().zip(done.chunks_exact(dim)).enumerate() {
            for (sum, &x) in own.iter_mut().zip(&done[..=k]) {
                *sum += along * x;
            }
        }
        own[..i].iter_mut().for_each(|sum| *sum = -*sum / row[i]);
        own[i] = 1.0 / row[i];
    }
    inverse
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_factor_and_its_inverse_undo_each_other() {
        let dim = 9;
        let square: Vec<f64> = (0..dim * dim).map(|i| ((i * 7) as f64 * 0.9).sin()).collect();
        let row = |x: &'_ [f64], i: usize| x[i * dim..(i + 1) * dim].to_vec();
        let dot = |a: &[f64], b: &[f64]| a.iter().zip(b).map(|(a, b)| a * b).sum::<f64>();
        let mut matrix: Vec<f64> = (0..dim * dim)
            .map(|at| dot(&row(&square, at / dim), &row(&square, at % dim)) + f64::from(u8::from(at / dim == at % dim)))
            .collect();
        let exact = matrix.clone();
        factorize(&mut matrix, dim);
        for i in 0..dim {
            for j in 0..=i {
                let product = dot(&row(&matrix, i)[..=j], &row(&matrix, j)[..=j]);
                assert!((product - exact[i * dim + j]).abs() < 1e-12);
            }
        }
        let inverse = invert_lower(&matrix, dim);
        for i in 0..dim {
            for j in 0..=i {
                let product: f64 = (j..=i).map(|k| matrix[i * dim + k] * inverse[k * dim + j]).sum();
                assert!((product - f64::from(u8::from(i == j))).abs() < 1e-12);
            }
        }
    }
}
