//! Smallest and largest value of a row or of each column, and what lies outside given bounds. NaN marks a value that is left out of the range.

use multiversion::multiversion;

use super::LANES;

/// Smallest and largest value of each column of `x` (`[rows, min.len()]`), ignoring NaN.
/// A column without values gives `(∞, −∞)`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn column_range(x: &[f32], min: &mut [f32], max: &mut [f32]) {
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

/// Adds the values of each column of `x` (`[rows, sums.len()]`) to its sum, and how many there are to its count, ignoring NaN.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn add_columns(x: &[f32], sums: &mut [f32], counts: &mut [f32]) {
    let counts = &mut counts[..sums.len()];
    for row in x.chunks_exact(sums.len()) {
        for ((&x, sum), count) in row.iter().zip(sums.iter_mut()).zip(counts.iter_mut()) {
            *sum += if x.is_nan() { 0.0 } else { x };
            *count += if x.is_nan() { 0.0 } else { 1.0 };
        }
    }
}

/// Adds the squares of the values of each column of `x` (`[rows, sums.len()]`) to its sum, ignoring NaN.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn add_column_squares(x: &[f32], sums: &mut [f64]) {
    for row in x.chunks_exact(sums.len()) {
        for (&x, sum) in row.iter().zip(sums.iter_mut()) {
            *sum += if x.is_nan() { 0.0 } else { f64::from(x) * f64::from(x) };
        }
    }
}

/// Of each row of `x` (`[rows, mean.len()]`) the sum of its squared distances from `mean`, ignoring NaN, added up from the first to the last.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn row_variances(x: &[f32], mean: &[f32], out: &mut [f32]) {
    let dim = mean.len();
    for (rows, out) in x.chunks(LANES * dim).zip(out.chunks_mut(LANES)) {
        let mut sums = [0.0f32; LANES];
        let mut column = [f32::NAN; LANES];
        for (d, &mean) in mean.iter().enumerate() {
            for (lane, row) in column.iter_mut().zip(rows.chunks_exact(dim)) {
                *lane = row[d];
            }
            for i in 0..LANES {
                let off = column[i] - mean;
                sums[i] += if column[i].is_nan() { 0.0 } else { off * off };
            }
        }
        out.copy_from_slice(&sums[..out.len()]);
    }
}

/// Smallest and largest value of each group of `channels` neighbours in each row of `x` (`[rows, dim]`), ignoring NaN; `(∞, −∞)` where there is
/// none.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn group_ranges(x: &[f32], dim: usize, channels: usize, low: &mut [f32], high: &mut [f32]) {
    let groups = x.chunks_exact(dim).flat_map(|row| row.chunks(channels));
    for ((group, low), high) in groups.zip(low).zip(high) {
        (*low, *high) = range(group);
    }
}

#[inline(always)]
fn range(x: &[f32]) -> (f32, f32) {
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
    // Halves against halves: a chain of all lanes would wait for each.
    let (mut least, mut most) = (lo, hi);
    let mut half = LANES / 2;
    while half > 0 {
        for i in 0..half {
            least[i] = if least[i + half] < least[i] { least[i + half] } else { least[i] };
            most[i] = if most[i + half] > most[i] { most[i + half] } else { most[i] };
        }
        half /= 2;
    }
    let (mut least, mut most) = (least[0], most[0]);
    // Of zeros that differ in their signs, the first lane's.
    if least == 0.0 || most == 0.0 {
        (least, most) = (lo[0], hi[0]);
        for i in 1..LANES {
            least = if lo[i] < least { lo[i] } else { least };
            most = if hi[i] > most { hi[i] } else { most };
        }
    }
    (least, most)
}

/// Finds where in `row` a value is below its channel's `below` or above its `above`: pushes the start of each such run of
/// [`LANES`] values (the last may be shorter).
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn chunks_outside(row: &[f32], below: &[f32], above: &[f32], passing: &mut Vec<usize>) {
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
pub fn chunks_beyond(row: &[f32], below: f32, above: f32, passing: &mut Vec<usize>) {
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
