//! Products in registers of 64 bytes.
//!
//! SAFETY of all blocks: what [`Products`] asks of callers.

use std::arch::x86_64::*;

use super::super::{Line, Products};
use super::Avx512;

impl Products for Avx512 {
    /// Of the high and of the low bytes of multipliers.
    type Sums = (__m512i, __m512i);

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

    const SMALL_WEIGHTS: bool = true;

    #[inline(always)]
    unsafe fn add_weighted(sums: Self::Sums, levels: __m512i, weights: i32) -> Self::Sums {
        unsafe { (sums.0, _mm512_dpbusd_epi32(sums.1, _mm512_set1_epi32(weights), levels)) }
    }

    #[inline(always)]
    unsafe fn add_small<const WHOLE: bool>(sums: Self::Sums, codes: __m512i, multipliers: i32) -> Self::Sums {
        unsafe { (sums.0, _mm512_dpbusd_epi32(sums.1, codes, _mm512_set1_epi32(multipliers))) }
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        total: __m512i,
        numbers: [__m512i; 4],
        bytes: *const u8,
        first: *mut i32,
        _: *mut i32,
    ) -> __m512i {
        unsafe {
            let multipliers = packed(numbers, &LOW);
            _mm512_storeu_si512(first.cast(), multipliers);
            _mm512_dpbusd_epi32(total, _mm512_loadu_si512(bytes.cast()), multipliers)
        }
    }

    #[inline(always)]
    unsafe fn less_128(x: __m512i) -> __m512i {
        unsafe { _mm512_xor_si512(x, _mm512_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn small_weights(numbers: [__m512i; 4], order: Option<&[u8; 64]>, to: *mut i32) {
        unsafe {
            let mut bytes = packed(numbers, &LOW);
            if let Some(order) = order {
                bytes = _mm512_permutexvar_epi8(_mm512_loadu_si512(order.as_ptr().cast()), bytes);
            }
            _mm512_storeu_si512(to.cast(), bytes);
        }
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>(sums: Self::Sums, line: Line, out: *mut f32) {
        unsafe {
            let whole = _mm512_add_epi32(_mm512_slli_epi32(sums.0, 8), sums.1);
            let whole = _mm512_cvtepi32_ps(_mm512_add_epi32(whole, _mm512_set1_epi32(line.more)));
            let x = _mm512_add_ps(_mm512_mul_ps(whole, _mm512_set1_ps(line.step)), _mm512_set1_ps(line.along));
            _mm512_storeu_ps(out, if ADD { _mm512_add_ps(_mm512_loadu_ps(out), x) } else { x });
        }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: __m512i, first: *mut i32, second: *mut i32) {
        unsafe {
            let (high, low) = two_bytes(numbers);
            _mm_storeu_si128(first.cast(), high);
            _mm_storeu_si128(second.cast(), low);
        }
    }

    #[inline(always)]
    unsafe fn more_multipliers(numbers: [__m512i; 4], first: *mut i32, second: *mut i32) {
        unsafe {
            let (high, low) = bytes_of_64(numbers);
            _mm512_storeu_si512(first.cast(), high);
            _mm512_storeu_si512(second.cast(), low);
        }
    }

    #[inline(always)]
    unsafe fn ordered_multipliers(numbers: [__m512i; 4], order: &[u8; 64], first: *mut i32, second: *mut i32) {
        unsafe {
            let order = _mm512_loadu_si512(order.as_ptr().cast());
            let (high, low) = bytes_of_64(numbers);
            _mm512_storeu_si512(first.cast(), _mm512_permutexvar_epi8(order, high));
            _mm512_storeu_si512(second.cast(), _mm512_permutexvar_epi8(order, low));
        }
    }
}

/// High and low signed bytes of each number.
#[inline(always)]
unsafe fn two_bytes(numbers: __m512i) -> (__m128i, __m128i) {
    unsafe {
        // The low byte is signed, so the high one is rounded.
        let high = _mm512_srai_epi32(_mm512_add_epi32(numbers, _mm512_set1_epi32(128)), 8);
        (_mm512_cvtepi32_epi8(high), _mm512_cvtepi32_epi8(numbers))
    }
}

/// Every fourth byte of two registers, from this one on.
const fn every_fourth(first: u8) -> [u8; 64] {
    let mut places = [0; 64];
    let mut i = 0;
    while i < 32 {
        places[i] = 4 * (i as u8 % 16) + first + if i < 16 { 0 } else { 64 };
        i += 1;
    }
    places
}

const LOW: [u8; 64] = every_fourth(0);
const HIGH: [u8; 64] = every_fourth(1);

/// One byte of each of 64 numbers, packed by permutations: a store that packs would not be forwarded to the loads that follow.
#[inline(always)]
unsafe fn packed(x: [__m512i; 4], places: &[u8; 64]) -> __m512i {
    unsafe {
        let places = _mm512_loadu_si512(places.as_ptr().cast());
        let low = _mm512_permutex2var_epi8(x[0], places, x[1]);
        let high = _mm512_permutex2var_epi8(x[2], places, x[3]);
        _mm512_inserti64x4(low, _mm512_castsi512_si256(high), 1)
    }
}

/// [`two_bytes`] of 64 numbers.
#[inline(always)]
unsafe fn bytes_of_64(numbers: [__m512i; 4]) -> (__m512i, __m512i) {
    unsafe {
        // The low byte is signed, so the high one is rounded.
        let rounded = numbers.map(|x| _mm512_add_epi32(x, _mm512_set1_epi32(128)));
        (packed(rounded, &HIGH), packed(numbers, &LOW))
    }
}
