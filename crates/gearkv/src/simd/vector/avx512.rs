//! AVX-512: `vpdpbusd` on two signed bytes of each multiplier.
//!
//! SAFETY of all blocks: AVX-512 with VNNI, VBMI and VBMI2 is there, and pointers are good for one register, as the trait asks of callers.

use std::arch::x86_64::*;

use super::Vector;

/// AVX-512 with VNNI, VBMI and VBMI2.
pub(in crate::simd) struct Avx512;

impl Vector for Avx512 {
    const BYTES: usize = 64;
    type Bytes = __m512i;
    /// Of the high and of the low bytes of multipliers.
    type Sums = (__m512i, __m512i);

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const u8) -> __m512i {
        unsafe { _mm512_broadcast_i32x4(_mm_loadu_si128(at.cast())) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> __m512i {
        unsafe { _mm512_set1_epi8(byte as i8) }
    }

    #[inline(always)]
    unsafe fn splat_four(four: u32) -> __m512i {
        unsafe { _mm512_set1_epi32(four as i32) }
    }

    #[inline(always)]
    unsafe fn and(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_and_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn or(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_or_si512(a, b) }
    }

    #[inline(always)]
    unsafe fn moved(x: __m512i, right: i32) -> __m512i {
        unsafe {
            if right > 0 {
                _mm512_srl_epi16(x, _mm_cvtsi32_si128(right))
            } else if right < 0 {
                _mm512_sll_epi16(x, _mm_cvtsi32_si128(-right))
            } else {
                x
            }
        }
    }

    #[inline(always)]
    unsafe fn look_up(table: __m512i, indices: __m512i) -> __m512i {
        unsafe { _mm512_shuffle_epi8(table, indices) }
    }

    #[inline(always)]
    unsafe fn bit(at: *const u8, field: usize, _part: usize, to: usize) -> __m512i {
        unsafe {
            let both = _mm512_broadcast_i64x4(_mm256_loadu_si256(at.cast()));
            // Turned by whole words, so that one instruction moves either way.
            let low = (field as i32 - to as i32) & 31;
            let high = (field as i32 + 4 - to as i32) & 31;
            let turns = _mm512_inserti64x4(_mm512_set1_epi32(low), _mm256_set1_epi32(high), 1);
            _mm512_and_si512(_mm512_rorv_epi32(both, turns), _mm512_set1_epi8(1 << to))
        }
    }

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { (_mm512_setzero_si512(), _mm512_setzero_si512()) }
    }

    #[inline(always)]
    unsafe fn add_products(sums: Self::Sums, bytes: __m512i, first: i32, second: i32) -> Self::Sums {
        unsafe {
            (
                _mm512_dpbusd_epi32(sums.0, bytes, _mm512_set1_epi32(first)),
                _mm512_dpbusd_epi32(sums.1, bytes, _mm512_set1_epi32(second)),
            )
        }
    }

    #[inline(always)]
    unsafe fn store(sums: Self::Sums, more: i32, out: *mut f32) {
        unsafe {
            let whole = _mm512_add_epi32(_mm512_slli_epi32(sums.0, 8), sums.1);
            _mm512_storeu_ps(out, _mm512_cvtepi32_ps(_mm512_add_epi32(whole, _mm512_set1_epi32(more))));
        }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: *const i32, first: *mut i32, second: *mut i32) {
        unsafe {
            let x = _mm512_loadu_si512(numbers.cast());
            // The low byte is signed, so the high one is rounded.
            let high = _mm512_srai_epi32(_mm512_add_epi32(x, _mm512_set1_epi32(128)), 8);
            _mm_storeu_si128(first.cast(), _mm512_cvtepi32_epi8(high));
            _mm_storeu_si128(second.cast(), _mm512_cvtepi32_epi8(x));
        }
    }

    #[inline(always)]
    unsafe fn ordered_multipliers(numbers: &[i32; 64], order: &[u8; 64], first: *mut i32, second: *mut i32) {
        unsafe {
            for sixteen in 0..4 {
                Self::multipliers(numbers.as_ptr().add(16 * sixteen), first.add(4 * sixteen), second.add(4 * sixteen));
            }
            let order = _mm512_loadu_si512(order.as_ptr().cast());
            for words in [first, second] {
                let bytes = _mm512_loadu_si512(words.cast());
                _mm512_storeu_si512(words.cast(), _mm512_permutexvar_epi8(order, bytes));
            }
        }
    }

    #[inline(always)]
    unsafe fn order(masks: [u64; 4]) -> [u8; 64] {
        const NUMBERS: [u8; 64] = {
            let mut numbers = [0; 64];
            let mut i = 0;
            while i < 64 {
                numbers[i] = i as u8;
                i += 1;
            }
            numbers
        };
        // Each store writes a whole register; the next overwrites what is too much.
        let mut room = [0u8; 128];
        let mut next = 0;
        unsafe {
            let numbers = _mm512_loadu_si512(NUMBERS.as_ptr().cast());
            for mask in masks {
                let own = _mm512_maskz_compress_epi8(mask, numbers);
                _mm512_storeu_si512(room.as_mut_ptr().add(next).cast(), own);
                next = (next + mask.count_ones() as usize).min(64);
            }
        }
        let mut order = [0; 64];
        order.copy_from_slice(&room[..64]);
        order
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T0>(at.cast()) }
    }
}
