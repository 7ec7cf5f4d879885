//! Smallest and largest value of a row or of each column, and what lies outside given bounds. NaN marks a value that is left out of the range.

use multiversion::multiversion;

use super::LANES;
use super::level::level;
use super::vector::{Vector, kernel};

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
pub fn group_ranges(x: &[f32], dim: usize, channels: usize, low: &mut [f32], high: &mut [f32]) {
    group_ranges_at(level(), x, (dim, channels), low, high);
}

kernel!(fn group_ranges_at(x: &[f32], shape: (usize, usize), low: &mut [f32], high: &mut [f32]) = ranges);

#[inline(always)]
unsafe fn ranges<V: Vector>(x: &[f32], (dim, channels): (usize, usize), low: &mut [f32], high: &mut [f32]) {
    let groups = x.chunks_exact(dim).flat_map(|row| row.chunks(channels));
    for ((group, low), high) in groups.zip(low).zip(high) {
        // SAFETY: as the caller vouches for.
        (*low, *high) = unsafe { range::<V>(group) };
    }
}

#[inline(always)]
unsafe fn range<V: Vector>(x: &[f32]) -> (f32, f32) {
    let (chunks, rest) = x.as_chunks::<LANES>();
    // What is missing is left out.
    let mut last = [f32::NAN; LANES];
    last[..rest.len()].copy_from_slice(rest);
    // SAFETY: pieces are as long as a register.
    unsafe {
        let (mut low, mut high) = (V::every(f32::INFINITY), V::every(f32::NEG_INFINITY));
        for chunk in chunks.iter().chain((!rest.is_empty()).then_some(&last)) {
            let x = V::floats(chunk.as_ptr());
            (low, high) = (V::smaller(x, low), V::larger(x, high));
        }
        let (least, most) = (V::least(low), V::most(high));
        if least != 0.0 && most != 0.0 {
            return (least, most);
        }
        // Of zeros that differ in their signs, the first lane's.
        let (mut lows, mut highs) = ([0.0; LANES], [0.0; LANES]);
        V::put(low, lows.as_mut_ptr());
        V::put(high, highs.as_mut_ptr());
        let least = lows.into_iter().reduce(|least, x| if x < least { x } else { least });
        let most = highs.into_iter().reduce(|most, x| if x > most { x } else { most });
        (least.unwrap_or(f32::INFINITY), most.unwrap_or(f32::NEG_INFINITY))
    }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;

    #[test]
    fn ranges_of_groups_leave_out_what_is_no_number_and_keep_the_first_zero() {
        let mut x: Vec<f32> = (0..4 * 150).map(|i| (i as f32 * 0.7).sin()).collect();
        x[150..300].fill(f32::NAN);
        // Zeros of both signs, the least and the most of their groups.
        x[300..450].iter_mut().enumerate().for_each(|(i, x)| *x = if i % 3 == 0 { 0.0 } else { -0.0 });
        x[450..].iter_mut().enumerate().for_each(|(i, x)| *x = if i % 5 == 2 { f32::NAN } else { -x.abs() - 0.1 });
        for channels in [1, 5, 16, 64, 75, 150] {
            let groups = 4 * 150usize.div_ceil(channels);
            let expected = x.chunks(150).flat_map(|row| row.chunks(channels)).map(|group| {
                // A lane each, and then the first of equal lanes.
                let lane = |i: usize| group.iter().skip(i).step_by(LANES).filter(|x| !x.is_nan());
                let least = |a: f32, b: f32| if b < a { b } else { a };
                let most = |a: f32, b: f32| if b > a { b } else { a };
                let low = (0..LANES).map(|i| lane(i).fold(f32::INFINITY, |a, &b| least(a, b))).reduce(least);
                let high = (0..LANES).map(|i| lane(i).fold(f32::NEG_INFINITY, |a, &b| most(a, b))).reduce(most);
                (low.unwrap_or_default().to_bits(), high.unwrap_or_default().to_bits())
            });
            let expected: Vec<_> = expected.collect();
            for level in levels() {
                let (mut low, mut high) = (vec![1.0; groups], vec![1.0; groups]);
                group_ranges_at(level, &x, (150, channels), &mut low, &mut high);
                let found: Vec<_> = low.iter().zip(&high).map(|(low, high)| (low.to_bits(), high.to_bits())).collect();
                assert_eq!(found, expected, "{level:?}, {channels} channels");
            }
        }
    }
}
