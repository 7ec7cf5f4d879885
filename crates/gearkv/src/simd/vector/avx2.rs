//! AVX2: bytes widened to 16 bits and `vpmaddwd`, which costs what two rounds of `vpmaddubsw` do and cannot overflow.
//!
//! SAFETY of all blocks: AVX2 is there, and pointers are good for one register, as the trait asks of callers.

use std::arch::x86_64::*;

use super::Vector;

/// AVX2.
pub(in crate::simd) struct Avx2;

impl Vector for Avx2 {
    const BYTES: usize = 32;
    type Bytes = __m256i;
    type Sums = __m256i;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const u8) -> __m256i {
        unsafe { _mm256_broadcastsi128_si256(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> __m256i {
        unsafe { _mm256_set1_epi8(byte as i8) }
    }

    #[inline(always)]
    unsafe fn splat_four(four: u32) -> __m256i {
        unsafe { _mm256_set1_epi32(four as i32) }
    }

    #[inline(always)]
    unsafe fn and(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_and_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn or(a: __m256i, b: __m256i) -> __m256i {
        unsafe { _mm256_or_si256(a, b) }
    }

    #[inline(always)]
    unsafe fn moved(x: __m256i, right: i32) -> __m256i {
        unsafe {
            if right > 0 {
                _mm256_srl_epi16(x, _mm_cvtsi32_si128(right))
            } else if right < 0 {
                _mm256_sll_epi16(x, _mm_cvtsi32_si128(-right))
            } else {
                x
            }
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: __m256i, indices: __m256i) -> __m256i {
        unsafe { _mm256_shuffle_epi8(table, indices) }
    }

    #[inline(always)]
    unsafe fn zero() -> __m256i {
        unsafe { _mm256_setzero_si256() }
    }

    #[inline(always)]
    unsafe fn add_products(sums: __m256i, bytes: __m256i, first: i32, second: i32) -> __m256i {
        unsafe {
            // Bytes 0 and 2 of each four, and bytes 1 and 3.
            let even = _mm256_and_si256(bytes, _mm256_set1_epi16(0xFF));
            let odd = _mm256_srli_epi16(bytes, 8);
            let even = _mm256_madd_epi16(even, _mm256_set1_epi32(first));
            let odd = _mm256_madd_epi16(odd, _mm256_set1_epi32(second));
            _mm256_add_epi32(sums, _mm256_add_epi32(even, odd))
        }
    }

    #[inline(always)]
    unsafe fn store(sums: __m256i, more: i32, out: *mut f32) {
        unsafe {
            _mm256_storeu_ps(out, _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(more))));
        }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: *const i32, first: *mut i32, second: *mut i32) {
        unsafe {
            // Numbers 0 and 2 of each four beside each other, then 1 and 3.
            let four = |i: usize| _mm_shuffle_epi32(_mm_loadu_si128(numbers.add(4 * i).cast()), 0b11_01_10_00);
            let low = _mm_castsi128_ps(_mm_packs_epi32(four(0), four(1)));
            let high = _mm_castsi128_ps(_mm_packs_epi32(four(2), four(3)));
            _mm_storeu_ps(first.cast(), _mm_shuffle_ps(low, high, 0b10_00_10_00));
            _mm_storeu_ps(second.cast(), _mm_shuffle_ps(low, high, 0b11_01_11_01));
        }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
