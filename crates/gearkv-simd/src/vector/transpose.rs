//! Squares of floats, turned over their diagonal.
//!
//! SAFETY of all blocks: the instruction set is there, and pointers are good for as many rows and columns, as callers vouch for.

use std::arch::x86_64::*;

/// Eight rows become eight columns, which begin `apart` floats after each other.
#[inline(always)]
pub(super) unsafe fn eight(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
    unsafe {
        // Halves of rows 0 to 3 beside those of rows 4 to 7, so that no step goes across them.
        let halves = |row: usize, lane: usize| {
            let [low, high] = [row, row + 4].map(|row| _mm_loadu_ps(from.add(row * stride + lane)));
            _mm256_insertf128_ps(_mm256_castps128_ps256(low), high, 1)
        };
        for lane in [0, 4] {
            let [a, b, c, d] = [0, 1, 2, 3].map(|row| halves(row, lane));
            let (low_ab, low_cd) = (_mm256_unpacklo_ps(a, b), _mm256_unpacklo_ps(c, d));
            let (high_ab, high_cd) = (_mm256_unpackhi_ps(a, b), _mm256_unpackhi_ps(c, d));
            let columns = [
                _mm256_shuffle_ps(low_ab, low_cd, 0b01_00_01_00),
                _mm256_shuffle_ps(low_ab, low_cd, 0b11_10_11_10),
                _mm256_shuffle_ps(high_ab, high_cd, 0b01_00_01_00),
                _mm256_shuffle_ps(high_ab, high_cd, 0b11_10_11_10),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm256_storeu_ps(to.add((lane + i) * apart), column);
            }
        }
    }
}

/// Sixteen rows become sixteen columns, which begin `apart` floats after each other.
#[inline(always)]
pub(super) unsafe fn sixteen(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
    unsafe {
        // Quarters of rows that are four apart beside each other, so that no step goes across them.
        let quarters = |row: usize, lane: usize| {
            let quarter = |row: usize| _mm_loadu_ps(from.add(row * stride + lane));
            let x = _mm512_castps128_ps512(quarter(row));
            let x = _mm512_insertf32x4(x, quarter(row + 4), 1);
            _mm512_insertf32x4(_mm512_insertf32x4(x, quarter(row + 8), 2), quarter(row + 12), 3)
        };
        for lane in [0, 4, 8, 12] {
            let [a, b, c, d] = [0, 1, 2, 3].map(|row| quarters(row, lane));
            let (low_ab, low_cd) = (_mm512_unpacklo_ps(a, b), _mm512_unpacklo_ps(c, d));
            let (high_ab, high_cd) = (_mm512_unpackhi_ps(a, b), _mm512_unpackhi_ps(c, d));
            let columns = [
                _mm512_shuffle_ps(low_ab, low_cd, 0b01_00_01_00),
                _mm512_shuffle_ps(low_ab, low_cd, 0b11_10_11_10),
                _mm512_shuffle_ps(high_ab, high_cd, 0b01_00_01_00),
                _mm512_shuffle_ps(high_ab, high_cd, 0b11_10_11_10),
            ];
            for (i, column) in columns.into_iter().enumerate() {
                _mm512_storeu_ps(to.add((lane + i) * apart), column);
            }
        }
    }
}
