//! Smallest and largest value of a row or of each column, and what lies outside given bounds. NaN marks a value that is left out of the range.

use multiversion::multiversion;

use super::LANES;
use super::level::level;
use super::stripes::Stripe;
use super::vector::{Vector, kernel};

/// Smallest and largest value of each column of `x` (`[rows, min.len()]`), ignoring NaN.
/// A column without values gives `(∞, −∞)`.
pub fn column_range(x: &[f32], min: &mut [f32], max: &mut [f32]) {
    assert!(!min.is_empty() && min.len() == max.len() && x.len().is_multiple_of(min.len()));
    column_range_at(level(), x, min, max);
}

kernel!(fn column_range_at(x: &[f32], min: &mut [f32], max: &mut [f32]) = column_ranges);

#[inline(always)]
unsafe fn column_ranges<V: Vector>(x: &[f32], min: &mut [f32], max: &mut [f32]) {
    let dim = min.len();
    let whole = dim - dim % LANES;
    for start in (0..whole).step_by(LANES) {
        // SAFETY: as many columns are left, in every row.
        unsafe {
            let (mut low, mut high) = (V::every(f32::INFINITY), V::every(f32::NEG_INFINITY));
            for row in x.chunks_exact(dim) {
                let x = V::floats(row.as_ptr().add(start));
                // A comparison with NaN is false, which is what leaves outliers out.
                (low, high) = (V::smaller(x, low), V::larger(x, high));
            }
            V::put(low, min.as_mut_ptr().add(start));
            V::put(high, max.as_mut_ptr().add(start));
        }
    }
    let (min, max) = (&mut min[whole..], &mut max[whole..]);
    min.fill(f32::INFINITY);
    max.fill(f32::NEG_INFINITY);
    for row in x.chunks_exact(dim) {
        for ((&x, lo), hi) in row[whole..].iter().zip(min.iter_mut()).zip(max.iter_mut()) {
            *lo = if x < *lo { x } else { *lo };
            *hi = if x > *hi { x } else { *hi };
        }
    }
}

/// Adds the values of each column of `x` (`[rows, sums.len()]`) to its sum, and how many there are to its count, ignoring NaN. Values are finite.
pub fn add_columns(x: &[f32], sums: &mut [f32], counts: &mut [f32]) {
    assert!(!sums.is_empty() && sums.len() == counts.len() && x.len().is_multiple_of(sums.len()));
    add_columns_at(level(), x, sums, counts);
}

kernel!(fn add_columns_at(x: &[f32], sums: &mut [f32], counts: &mut [f32]) = add_up);

#[inline(always)]
unsafe fn add_up<V: Vector>(x: &[f32], sums: &mut [f32], counts: &mut [f32]) {
    let dim = sums.len();
    let whole = dim - dim % LANES;
    for start in (0..whole).step_by(LANES) {
        // SAFETY: as many columns are left, in every row.
        unsafe {
            let (sums, counts) = (sums.as_mut_ptr().add(start), counts.as_mut_ptr().add(start));
            let (mut sum, mut count) = (V::floats(sums), V::floats(counts));
            for row in x.chunks_exact(dim) {
                let x = V::floats(row.as_ptr().add(start));
                sum = V::plus(sum, V::known(x));
                count = V::plus(count, one_where_known::<V>(x));
            }
            V::put(sum, sums);
            V::put(count, counts);
        }
    }
    for row in x.chunks_exact(dim) {
        for ((&x, sum), count) in row.iter().zip(sums.iter_mut()).zip(counts.iter_mut()).skip(whole) {
            *sum += if x.is_nan() { 0.0 } else { x };
            *count += if x.is_nan() { 0.0 } else { 1.0 };
        }
    }
}

/// 1 where there is a finite number, 0 where there is none.
#[inline(always)]
pub(super) unsafe fn one_where_known<V: Vector>(x: V::Floats) -> V::Floats {
    // SAFETY: nothing but registers.
    unsafe { V::known(V::plus(V::times(x, V::every(0.0)), V::every(1.0))) }
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
pub fn row_variances(x: &[f32], mean: &[f32], out: &mut [f32]) {
    row_variances_at(level(), x, mean, out);
}

kernel!(fn row_variances_at(x: &[f32], mean: &[f32], out: &mut [f32]) = variances);

#[inline(always)]
unsafe fn variances<V: Vector>(x: &[f32], mean: &[f32], out: &mut [f32]) {
    let dim = mean.len();
    for (rows, out) in x.chunks(LANES * dim).zip(out.chunks_mut(LANES)) {
        let mut sums = [0.0f32; LANES];
        // Squares of whole registers, then columns, all added from the first channel to the last.
        let whole = if rows.len() == LANES * dim { dim - dim % LANES } else { 0 };
        // SAFETY: sixteen rows have as many channels.
        unsafe {
            let mut total = V::every(0.0);
            let mut square = [[0.0f32; LANES]; LANES];
            for start in (0..whole).step_by(LANES) {
                V::transpose(rows.as_ptr().add(start), dim, square.as_mut_ptr().cast(), LANES);
                for (x, &mean) in square.iter().zip(&mean[start..]) {
                    let off = V::known(V::minus(V::floats(x.as_ptr()), V::every(mean)));
                    total = V::plus(total, V::times(off, off));
                }
            }
            V::put(total, sums.as_mut_ptr());
        }
        for (d, &mean) in mean.iter().enumerate().skip(whole) {
            for (sum, row) in sums.iter_mut().zip(rows.chunks_exact(dim)) {
                let off = row[d] - mean;
                *sum += if off.is_nan() { 0.0 } else { off * off };
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

/// Of rows that begin `stride` values after each other in `x`, from the `first` on, the first with a value below its lane's `below` or above its
/// `above`, and a bit for each of these. Only the first [`LANES`] values of a row count; a row that has fewer is none.
pub fn next_outside(x: &[f32], stride: usize, first: usize, below: &Stripe, above: &Stripe) -> Option<(usize, u32)> {
    next_outside_at(level(), x, (stride, first), below, above)
}

kernel!(
    fn next_outside_at(x: &[f32], rows: (usize, usize), below: &Stripe, above: &Stripe) -> Option<(usize, u32)> = outside
);

#[inline(always)]
unsafe fn outside<V: Vector>(
    x: &[f32],
    (stride, first): (usize, usize),
    below: &Stripe,
    above: &Stripe,
) -> Option<(usize, u32)> {
    // SAFETY: registers are as long as stripes, and rows are looked at as far as there are whole ones.
    unsafe {
        let (low, high) = (V::floats(below.as_ptr()), V::floats(above.as_ptr()));
        let rows = if x.len() < LANES { 0 } else { (x.len() - LANES) / stride + 1 };
        for row in first..rows {
            let lanes = V::outside(V::floats(x.as_ptr().add(row * stride)), low, high);
            if lanes != 0 {
                return Some((row, lanes));
            }
        }
    }
    None
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

    #[test]
    fn variances_add_up_from_the_first_channel_to_the_last() {
        for (rows, dim) in [(64, 128), (16, 16), (20, 80), (5, 21), (33, 17)] {
            let mut x: Vec<f32> = (0..rows * dim).map(|i| (i as f32 * 0.7).sin()).collect();
            x[dim / 2] = f32::NAN;
            let mean: Vec<f32> = (0..dim).map(|d| (d as f32 * 0.3).cos() * 0.1).collect();
            let square = |(x, mean): (&f32, &f32)| if x.is_nan() { 0.0 } else { (x - mean) * (x - mean) };
            let of = |row: &[f32]| row.iter().zip(&mean).map(square).fold(0.0, |sum, square| sum + square);
            let expected: Vec<f32> = x.chunks_exact(dim).map(of).collect();
            for level in levels() {
                let mut out = vec![1.0; rows];
                row_variances_at(level, &x, &mean, &mut out);
                assert_eq!(out, expected, "{level:?}, {rows} rows of {dim}");
            }
        }
    }

    #[test]
    fn what_lies_outside_is_found_row_by_row() {
        let (below, above) = ([-1.0; LANES], std::array::from_fn(|lane| 1.0 + lane as f32));
        for stride in [16, 17, 48] {
            let mut x = vec![0.5; 9 * stride + 20];
            x[2 * stride + 3] = -1.5;
            x[2 * stride + 15] = 15.5;
            x[5 * stride] = f32::NAN;
            x[7 * stride + 5] = 6.5;
            x[7 * stride + 6] = -1.0;
            for level in levels() {
                let next = |first| next_outside_at(level, &x, (stride, first), &below, &above);
                assert_eq!(next(0), Some((2, 1 << 3)));
                assert_eq!(next(3), Some((7, 1 << 5)));
                assert_eq!(next(8), None);
                assert_eq!(next_outside_at(level, &x[..2 * stride + 15], (stride, 0), &below, &above), None);
                assert_eq!(next_outside_at(level, &x[..9], (stride, 0), &below, &above), None);
            }
        }
    }

    #[test]
    fn columns_have_ranges_sums_and_counts_of_what_is_not_left_out() {
        for (rows, dim) in [(64, 128), (3, 16), (20, 80), (5, 21), (1, 7)] {
            let mut x: Vec<f32> = (0..rows * dim).map(|i| (i as f32 * 0.7).sin()).collect();
            x.iter_mut().skip(4).step_by(5).for_each(|x| *x = f32::NAN);
            x.iter_mut().skip(dim - 1).step_by(dim).for_each(|x| *x = f32::NAN);
            let column = |d: usize| x.iter().copied().skip(d).step_by(dim).filter(|x| !x.is_nan());
            let range: Vec<_> = (0..dim)
                .map(|d| (column(d).fold(f32::INFINITY, f32::min), column(d).fold(f32::NEG_INFINITY, f32::max)))
                .collect();
            let sum: Vec<_> =
                (0..dim).map(|d| (column(d).fold(2.0, |a, b| a + b), 3.0 + column(d).count() as f32)).collect();
            for level in levels() {
                let (mut min, mut max, mut sums, mut counts) =
                    (vec![1.0; dim], vec![1.0; dim], vec![2.0; dim], vec![3.0; dim]);
                column_range_at(level, &x, &mut min, &mut max);
                add_columns_at(level, &x, &mut sums, &mut counts);
                assert!(min.into_iter().zip(max).eq(range.iter().copied()), "{level:?}, {rows} rows of {dim}");
                assert!(sums.into_iter().zip(counts).eq(sum.iter().copied()), "{level:?}, {rows} rows of {dim}");
            }
        }
    }
}
