//! AVX-512: `vpdpbusd` on two signed bytes of each multiplier.
//!
//! SAFETY of all blocks: AVX-512 with VNNI, VBMI and VBMI2 is there, and pointers are good for one register, as the trait asks of callers.

mod products;

use std::arch::x86_64::*;

use super::avx2::{Avx2, least_of_eight, total_of_eight};
use super::{LevelTable, Vector, signs, transpose};
use crate::scales::{CODE_OF_ZERO, MANTISSA_LEFT_OUT};

/// AVX-512 with VNNI, VBMI and VBMI2.
pub(crate) struct Avx512;

impl Vector for Avx512 {
    const BYTES: usize = 64;
    const ROWS: usize = 4;
    type Bytes = __m512i;
    type Floats = __m512;
    type Whole = __m512i;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m512i {
        unsafe { _mm512_loadu_si512(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_bytes(x: __m512i, at: *mut u8) {
        unsafe { _mm512_storeu_si512(at.cast(), x) }
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
    unsafe fn look_up_low(table: __m512i, indices: __m512i) -> __m512i {
        // The table's sixteen bytes are there four times, and bits above the sixth are ignored.
        unsafe { _mm512_permutexvar_epi8(indices, table) }
    }

    #[inline(always)]
    unsafe fn lanes(at: *const u8, apart: usize) -> __m512i {
        unsafe {
            let low = Avx2::lanes(at, apart);
            _mm512_inserti64x4(_mm512_castsi256_si512(low), Avx2::lanes(at.add(2 * apart), apart), 1)
        }
    }

    #[inline(always)]
    unsafe fn put_lanes(x: __m512i, at: *mut u8, apart: usize) {
        unsafe {
            Avx2::put_lanes(_mm512_castsi512_si256(x), at, apart);
            Avx2::put_lanes(_mm512_extracti64x4_epi64(x, 1), at.add(2 * apart), apart);
        }
    }

    #[inline(always)]
    unsafe fn transposed([a, b, c, d]: [__m512i; 4]) -> [__m512i; 4] {
        unsafe {
            let (ab, cd) = (_mm512_unpacklo_epi32(a, b), _mm512_unpacklo_epi32(c, d));
            let (more_ab, more_cd) = (_mm512_unpackhi_epi32(a, b), _mm512_unpackhi_epi32(c, d));
            [
                _mm512_unpacklo_epi64(ab, cd),
                _mm512_unpackhi_epi64(ab, cd),
                _mm512_unpacklo_epi64(more_ab, more_cd),
                _mm512_unpackhi_epi64(more_ab, more_cd),
            ]
        }
    }

    const PERMUTES: bool = true;

    #[inline(always)]
    unsafe fn permute(row: &mut [u8], from: &[u8; 256]) {
        let length = row.len();
        // Of a register that a row ends in, no more than it has.
        let own = |i: usize| u64::MAX >> (64 - length.saturating_sub(64 * i).clamp(1, 64));
        let at = row.as_mut_ptr();
        unsafe {
            let piece = |i: usize| {
                if 64 * i < length {
                    _mm512_maskz_loadu_epi8(own(i), at.add(64 * i).cast())
                } else {
                    _mm512_setzero_si512()
                }
            };
            let (a, b, c, d) = (piece(0), piece(1), piece(2), piece(3));
            for i in 0..length.div_ceil(64) {
                let from = _mm512_loadu_si512(from.as_ptr().add(64 * i).cast());
                let x = if length <= 64 {
                    _mm512_permutexvar_epi8(from, a)
                } else {
                    let low = _mm512_permutex2var_epi8(a, from, b);
                    if length <= 128 {
                        low
                    } else {
                        let high = _mm512_permutex2var_epi8(c, from, d);
                        _mm512_mask_blend_epi8(_mm512_movepi8_mask(from), low, high)
                    }
                };
                _mm512_mask_storeu_epi8(at.add(64 * i).cast(), own(i), x);
            }
        }
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
    unsafe fn floats(at: *const f32) -> __m512 {
        unsafe { _mm512_loadu_ps(at) }
    }

    #[inline(always)]
    unsafe fn widened(at: *const u16) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm256_loadu_si256(at.cast())) }
    }

    #[inline(always)]
    unsafe fn shares(codes: *const u8) -> __m512 {
        unsafe {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.cast()));
            let bits = _mm512_add_epi32(codes, _mm512_set1_epi32(CODE_OF_ZERO as i32));
            _mm512_castsi512_ps(_mm512_slli_epi32(bits, MANTISSA_LEFT_OUT))
        }
    }

    #[inline(always)]
    unsafe fn signed(at: *const i8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(at.cast()))) }
    }

    #[inline(always)]
    unsafe fn numbers(codes: *const u8) -> __m512 {
        unsafe { _mm512_cvtepi32_ps(_mm512_cvtepu8_epi32(_mm_loadu_si128(codes.cast()))) }
    }

    #[inline(always)]
    unsafe fn levels(codes: *const u8, table: &LevelTable) -> __m512 {
        unsafe {
            let codes = _mm512_cvtepu8_epi32(_mm_loadu_si128(codes.cast()));
            _mm512_permutexvar_ps(codes, _mm512_loadu_ps(table.floats.as_ptr()))
        }
    }

    #[inline(always)]
    unsafe fn put(x: __m512, at: *mut f32) {
        unsafe { _mm512_storeu_ps(at, x) }
    }

    #[inline(always)]
    unsafe fn every(x: f32) -> __m512 {
        unsafe { _mm512_set1_ps(x) }
    }

    #[inline(always)]
    unsafe fn times(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_mul_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn plus(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_add_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn minus(a: __m512, b: __m512) -> __m512 {
        unsafe { _mm512_sub_ps(a, b) }
    }

    #[inline(always)]
    unsafe fn butterfly<const STEP: usize>(x: __m512) -> __m512 {
        unsafe {
            let other = match STEP {
                1 => _mm512_permute_ps::<0b10_11_00_01>(x),
                2 => _mm512_permute_ps::<0b01_00_11_10>(x),
                4 => _mm512_shuffle_f32x4::<0b10_11_00_01>(x, x),
                _ => _mm512_shuffle_f32x4::<0b01_00_11_10>(x, x),
            };
            // The product is exact, so that this rounds as a sum does.
            _mm512_fmadd_ps(x, _mm512_loadu_ps(const { &signs(STEP) }.as_ptr()), other)
        }
    }

    #[inline(always)]
    unsafe fn larger(x: __m512, most: __m512) -> __m512 {
        // Where either is no number, the second.
        unsafe { _mm512_max_ps(x, most) }
    }

    #[inline(always)]
    unsafe fn smaller(x: __m512, least: __m512) -> __m512 {
        unsafe { _mm512_min_ps(x, least) }
    }

    #[inline(always)]
    unsafe fn known(x: __m512) -> __m512 {
        unsafe { _mm512_maskz_mov_ps(_mm512_cmp_ps_mask::<_CMP_ORD_Q>(x, x), x) }
    }

    #[inline(always)]
    unsafe fn rounded(x: __m512) -> __m512 {
        unsafe { _mm512_cvtph_ps(_mm512_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x)) }
    }

    #[inline(always)]
    unsafe fn outside(x: __m512, low: __m512, high: __m512) -> u32 {
        unsafe {
            let outside = _mm512_cmp_ps_mask::<_CMP_LT_OQ>(x, low) | _mm512_cmp_ps_mask::<_CMP_GT_OQ>(x, high);
            u32::from(outside)
        }
    }

    #[inline(always)]
    unsafe fn magnitude(x: __m512) -> __m512 {
        unsafe { _mm512_abs_ps(x) }
    }

    #[inline(always)]
    unsafe fn total(x: __m512) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn most(x: __m512) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1));
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn least(x: __m512) -> f32 {
        unsafe { least_of_eight(_mm256_min_ps(_mm512_castps512_ps256(x), _mm512_extractf32x8_ps(x, 1))) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
        unsafe { transpose::sixteen(from, stride, to, apart) }
    }

    #[inline(always)]
    unsafe fn whole(x: __m512) -> __m512i {
        unsafe { _mm512_cvtps_epi32(x) }
    }

    #[inline(always)]
    unsafe fn added(a: __m512i, b: __m512i) -> __m512i {
        unsafe { _mm512_add_epi32(a, b) }
    }

    #[inline(always)]
    unsafe fn whole_total(sixteen: __m512i) -> i32 {
        unsafe {
            let eight = _mm256_add_epi32(_mm512_castsi512_si256(sixteen), _mm512_extracti64x4_epi64(sixteen, 1));
            total_of_eight(eight)
        }
    }

    #[inline(always)]
    unsafe fn put_whole(x: __m512i, at: *mut i32) {
        unsafe { _mm512_storeu_si512(at.cast(), x) }
    }

    #[inline(always)]
    unsafe fn whole_at(at: *const i32) -> __m512i {
        unsafe { _mm512_loadu_si512(at.cast()) }
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
        let mut order = [0; 64];
        unsafe {
            let numbers = _mm512_loadu_si512(NUMBERS.as_ptr().cast());
            // Those of the next mask go to the places from which on none has been taken.
            let (mut all, mut free) = (_mm512_setzero_si512(), u64::MAX);
            for mask in masks {
                let own = _mm512_maskz_compress_epi8(mask, numbers);
                all = _mm512_mask_expand_epi8(all, free, own);
                free = free.checked_shl(mask.count_ones()).unwrap_or(0);
            }
            _mm512_storeu_si512(order.as_mut_ptr().cast(), all);
        }
        order
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}
