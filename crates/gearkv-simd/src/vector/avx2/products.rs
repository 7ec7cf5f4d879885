//! Products in registers of 32 bytes.
//!
//! SAFETY of all blocks: what [`Products`] asks of callers.

use std::arch::x86_64::*;

use super::super::{Line, Products, Vector};
use super::Avx2;

impl Products for Avx2 {
    type Sums = __m256i;

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

    const SMALL_WEIGHTS: bool = true;

    #[inline(always)]
    unsafe fn add_weighted(sums: __m256i, levels: __m256i, weights: i32) -> __m256i {
        unsafe {
            let pairs = _mm256_maddubs_epi16(_mm256_set1_epi32(weights), levels);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)))
        }
    }

    const SMALL_CODES: usize = 7;

    #[inline(always)]
    unsafe fn add_small<const WHOLE: bool>(sums: __m256i, codes: __m256i, multipliers: i32) -> __m256i {
        unsafe {
            let multipliers = _mm256_set1_epi32(multipliers);
            // Pairs of products with whole bytes would not fit 16 bits; with the upper seven of their bits they do.
            let (upper, sums) = if WHOLE {
                let ones = _mm256_set1_epi8(1);
                let lowest = _mm256_maddubs_epi16(_mm256_and_si256(codes, ones), multipliers);
                let upper = _mm256_and_si256(_mm256_srli_epi16(codes, 1), _mm256_set1_epi8(127));
                (upper, _mm256_add_epi32(sums, _mm256_madd_epi16(lowest, _mm256_set1_epi16(1))))
            } else {
                (codes, sums)
            };
            let pairs = _mm256_maddubs_epi16(upper, multipliers);
            _mm256_add_epi32(sums, _mm256_madd_epi16(pairs, _mm256_set1_epi16(2)))
        }
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        mut total: [__m256i; 2],
        numbers: [[__m256i; 2]; 4],
        bytes: *const u8,
        first: *mut i32,
        _: *mut i32,
    ) -> [__m256i; 2] {
        unsafe {
            for (i, multipliers) in packed(numbers).into_iter().enumerate() {
                _mm256_storeu_si256(first.cast::<__m256i>().add(i), multipliers);
                let pairs = _mm256_maddubs_epi16(Self::load(bytes.add(32 * i)), multipliers);
                total[i] = _mm256_add_epi32(total[i], _mm256_madd_epi16(pairs, _mm256_set1_epi16(1)));
            }
            total
        }
    }

    #[inline(always)]
    unsafe fn less_128(x: __m256i) -> __m256i {
        unsafe { _mm256_xor_si256(x, _mm256_set1_epi8(-128)) }
    }

    #[inline(always)]
    unsafe fn small_weights(numbers: [[__m256i; 2]; 4], order: Option<&[u8; 64]>, to: *mut i32) {
        unsafe {
            let to = to.cast::<__m256i>();
            for (i, bytes) in packed(numbers).into_iter().enumerate() {
                _mm256_storeu_si256(to.add(i), bytes);
            }
            let Some(order) = order else { return };
            let parts: [__m256i; 4] = [0, 1, 2, 3].map(|i| Self::repeat(to.cast::<u8>().add(16 * i)));
            for i in 0..2 {
                let order = _mm256_loadu_si256(order.as_ptr().add(32 * i).cast());
                let mut bytes = _mm256_setzero_si256();
                for (part, x) in parts.into_iter().enumerate() {
                    // Places of other parts get their highest bit, for which 0 is looked up.
                    let own = _mm256_xor_si256(order, _mm256_set1_epi8(16 * part as i8));
                    let own = _mm256_adds_epu8(own, _mm256_set1_epi8(0x70));
                    bytes = _mm256_or_si256(bytes, _mm256_shuffle_epi8(x, own));
                }
                _mm256_storeu_si256(to.add(i), bytes);
            }
        }
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>(sums: __m256i, line: Line, out: *mut f32) {
        unsafe {
            let whole = _mm256_cvtepi32_ps(_mm256_add_epi32(sums, _mm256_set1_epi32(line.more)));
            let x = _mm256_add_ps(_mm256_mul_ps(whole, _mm256_set1_ps(line.step)), _mm256_set1_ps(line.along));
            _mm256_storeu_ps(out, if ADD { _mm256_add_ps(_mm256_loadu_ps(out), x) } else { x });
        }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: [__m256i; 2], first: *mut i32, second: *mut i32) {
        unsafe {
            // Numbers 0 and 2 of each four beside each other, then 1 and 3; the halves of both registers take turns.
            let [low, high] = numbers.map(|x| _mm256_shuffle_epi32(x, 0b11_01_10_00));
            let words = _mm256_castsi256_ps(_mm256_permute4x64_epi64(_mm256_packs_epi32(low, high), 0b11_01_10_00));
            let (a, b) = (_mm256_castps256_ps128(words), _mm256_extractf128_ps(words, 1));
            _mm_storeu_ps(first.cast(), _mm_shuffle_ps(a, b, 0b10_00_10_00));
            _mm_storeu_ps(second.cast(), _mm_shuffle_ps(a, b, 0b11_01_11_01));
        }
    }
}

/// One signed byte of each of 64 numbers, which fit it.
#[inline(always)]
unsafe fn packed([a, b, c, d]: [[__m256i; 2]; 4]) -> [__m256i; 2] {
    unsafe {
        // Packing goes within halves of registers; words are brought back.
        let places = _mm256_setr_epi32(0, 4, 1, 5, 2, 6, 3, 7);
        [[a, b], [c, d]].map(|[x, y]| {
            let bytes = _mm256_packs_epi16(_mm256_packs_epi32(x[0], x[1]), _mm256_packs_epi32(y[0], y[1]));
            _mm256_permutevar8x32_epi32(bytes, places)
        })
    }
}
