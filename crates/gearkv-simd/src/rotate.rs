//! The Hadamard rotation of rows. Its own inverse.
//!
//! A row whose length is a power of two is turned as a whole. Any other is cut into powers of two, the largest first
//! (80 = 64 + 16, 21 = 16 + 4 + 1), each turned by itself: still orthonormal, so that errors keep their size.

use super::LANES;
use super::level::level;
use super::vector::{Vector, kernel};

/// Turns every row of `rows` (`[rows, dim]`) in place.
pub fn rotate_rows(rows: &mut [f32], dim: usize) {
    rotate_at(level(), rows, dim);
}

kernel!(pub(super) fn rotate_at(rows: &mut [f32], dim: usize) = generic);

#[inline(always)]
unsafe fn generic<V: Vector>(rows: &mut [f32], dim: usize) {
    for row in rows.chunks_exact_mut(dim) {
        let mut rest = row;
        while !rest.is_empty() {
            let length = 1usize << rest.len().ilog2();
            let (block, after) = rest.split_at_mut(length);
            // The lengths of most models, kept in registers from the first step to the last.
            // SAFETY: blocks are as long as they are said to be.
            unsafe {
                match length {
                    64 => turn_at::<V, 4>(block.as_mut_ptr()),
                    128 => turn_at::<V, 8>(block.as_mut_ptr()),
                    256 => turn_at::<V, 16>(block.as_mut_ptr()),
                    _ => rotate(block),
                }
            }
            rest = after;
        }
    }
}

#[inline(always)]
unsafe fn turn_at<V: Vector, const N: usize>(block: *mut f32) {
    // SAFETY: the caller vouches for `16 · N` values.
    unsafe {
        let mut x: [V::Floats; N] = std::array::from_fn(|i| V::floats(block.add(LANES * i)));
        turn::<V, N>(&mut x);
        for (i, x) in x.into_iter().enumerate() {
            V::put(x, block.add(LANES * i));
        }
    }
}

/// What [`rotate`] does to a block of `16 · N` values.
#[inline(always)]
pub(super) unsafe fn turn<V: Vector, const N: usize>(x: &mut [V::Floats; N]) {
    // SAFETY: nothing but registers.
    unsafe {
        for x in x.iter_mut() {
            *x = V::butterfly::<8>(V::butterfly::<4>(V::butterfly::<2>(V::butterfly::<1>(*x))));
        }
        let mut step = 1;
        while step < N {
            for first in 0..N {
                if first & step == 0 {
                    let (low, high) = (x[first], x[first + step]);
                    (x[first], x[first + step]) = (V::plus(low, high), V::minus(low, high));
                }
            }
            step *= 2;
        }
        let norm = V::every(1.0 / ((LANES * N) as f32).sqrt());
        x.iter_mut().for_each(|x| *x = V::times(*x, norm));
    }
}

/// One block, whose length is a power of two. Every output is the same tree of additions on every instruction set.
#[inline(always)]
fn rotate(block: &mut [f32]) {
    let norm = 1.0 / (block.len() as f32).sqrt();
    let (sixteens, rest) = block.as_chunks_mut::<16>();
    for lanes in sixteens {
        butterfly::<1>(lanes);
        butterfly::<2>(lanes);
        butterfly::<4>(lanes);
        butterfly::<8>(lanes);
    }
    let mut step = if rest.is_empty() { 16 } else { 1 };
    while step < block.len() {
        for pair in block.chunks_exact_mut(2 * step) {
            let (low, high) = pair.split_at_mut(step);
            for (low, high) in low.iter_mut().zip(high) {
                (*low, *high) = (*low + *high, *low - *high);
            }
        }
        step *= 2;
    }
    block.iter_mut().for_each(|x| *x *= norm);
}

/// A step within one register: a permutation, a change of signs and an addition.
#[inline(always)]
fn butterfly<const STEP: usize>(x: &mut [f32; 16]) {
    let other: [f32; 16] = std::array::from_fn(|i| x[i ^ STEP]);
    *x = std::array::from_fn(|i| if i & STEP == 0 { other[i] + x[i] } else { other[i] - x[i] });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;

    #[test]
    fn turning_twice_gives_back_the_row_and_keeps_its_length() {
        for dim in [1, 2, 3, 8, 16, 21, 64, 80, 96, 128, 192, 255, 256] {
            let exact: Vec<f32> = (0..3 * dim).map(|i| (i as f32 * 0.37 + 1.0).sin()).collect();
            let mut x = exact.clone();
            rotate_rows(&mut x, dim);
            for (turned, row) in x.chunks_exact(dim).zip(exact.chunks_exact(dim)) {
                let length = |x: &[f32]| x.iter().map(|x| x * x).sum::<f32>();
                assert!((length(turned) / length(row) - 1.0).abs() < 1e-5, "dim {dim}");
            }
            rotate_rows(&mut x, dim);
            assert!(x.iter().zip(&exact).all(|(a, b)| (a - b).abs() < 1e-5), "dim {dim}");
        }
    }

    #[test]
    fn every_instruction_set_adds_alike() {
        for dim in [16, 21, 64, 96, 128, 192, 256, 512] {
            let exact: Vec<f32> = (0..3 * dim).map(|i| (i as f32 * 0.37 + 1.0).sin()).collect();
            let mut plain = exact.clone();
            plain.chunks_exact_mut(dim).for_each(|row| {
                let mut rest = row;
                while !rest.is_empty() {
                    let block;
                    (block, rest) = rest.split_at_mut(1 << rest.len().ilog2());
                    rotate(block);
                }
            });
            for level in levels() {
                let mut x = exact.clone();
                rotate_at(level, &mut x, dim);
                assert_eq!(x, plain, "{level:?}, dim {dim}");
            }
        }
    }

    #[test]
    fn a_unit_vector_spreads_over_its_block_with_the_signs_of_sylvester() {
        let mut x = [0.0; 24];
        x[3] = 1.0;
        rotate_rows(&mut x, 24);
        for (i, x) in x.iter().enumerate() {
            let sign = if (i & 3).count_ones() % 2 == 0 { 0.25 } else { -0.25 };
            assert_eq!(*x, if i < 16 { sign } else { 0.0 });
        }
    }
}
