//! Smallest and largest value of a row or of each column, and what lies outside given bounds. NaN marks a value that is left out of the range.

use multiversion::multiversion;

use super::LANES;

/// Smallest and largest value of each column of `x` (`[rows, min.len()]`), ignoring NaN.
/// A column without values gives `(∞, −∞)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn column_range(x: &[f32], min: &mut [f32], max: &mut [f32]) {
    min.fill(f32::INFINITY);
    max.fill(f32::NEG_INFINITY);
    for row in x.chunks_exact(min.len()) {
        for ((&x, lo), hi) in row.iter().zip(min.iter_mut()).zip(max.iter_mut()) {
            // A comparison with NaN is false, which is what leaves outliers out.
            *lo = if x < *lo { x } else { *lo };
            *hi = if x > *hi { x } else { *hi };
        }
    }
}

/// Smallest and largest value of `x`, ignoring NaN; `(∞, −∞)` when there is none.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn row_range(x: &[f32]) -> (f32, f32) {
    let mut lo = [f32::INFINITY; LANES];
    let mut hi = [f32::NEG_INFINITY; LANES];
    let (chunks, rest) = x.as_chunks::<LANES>();
    for chunk in chunks {
        for i in 0..LANES {
            lo[i] = if chunk[i] < lo[i] { chunk[i] } else { lo[i] };
            hi[i] = if chunk[i] > hi[i] { chunk[i] } else { hi[i] };
        }
    }
    for (i, &x) in rest.iter().enumerate() {
        lo[i] = if x < lo[i] { x } else { lo[i] };
        hi[i] = if x > hi[i] { x } else { hi[i] };
    }
    let (mut least, mut most) = (lo[0], hi[0]);
    for i in 1..LANES {
        least = if lo[i] < least { lo[i] } else { least };
        most = if hi[i] > most { hi[i] } else { most };
    }
    (least, most)
}

/// Finds where in `row` a value is below its channel's `below` or above its `above`: pushes the start of each such run of
/// [`LANES`] values (the last may be shorter).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn chunks_outside(row: &[f32], below: &[f32], above: &[f32], passing: &mut Vec<usize>) {
    let bounds = below.chunks(LANES).zip(above.chunks(LANES));
    for (i, (chunk, (below, above))) in row.chunks(LANES).zip(bounds).enumerate() {
        let mut outside = false;
        for ((x, below), above) in chunk.iter().zip(below).zip(above) {
            outside |= (x < below) | (x > above);
        }
        if outside {
            passing.push(i * LANES);
        }
    }
}

/// As [`chunks_outside`], with the same bounds for all values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn chunks_beyond(row: &[f32], below: f32, above: f32, passing: &mut Vec<usize>) {
    for (i, chunk) in row.chunks(LANES).enumerate() {
        let mut outside = false;
        for &x in chunk {
            outside |= (x < below) | (x > above);
        }
        if outside {
            passing.push(i * LANES);
        }
    }
}
