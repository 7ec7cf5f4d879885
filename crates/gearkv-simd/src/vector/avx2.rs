//! AVX2: bytes widened to 16 bits and `vpmaddwd`, which costs what two rounds of `vpmaddubsw` do and cannot overflow.
//!
//! SAFETY of all blocks: AVX2 is there, and pointers are good for one register, as the trait asks of callers.

mod products;

use std::arch::x86_64::*;

use super::{LevelTable, Vector, signs, transpose};
use crate::scales::{CODE_OF_ZERO, MANTISSA_LEFT_OUT};

/// AVX2.
pub(crate) struct Avx2;

impl Vector for Avx2 {
    const BYTES: usize = 32;
    const ROWS: usize = 4;
    type Bytes = __m256i;
    type Floats = [__m256; 2];
    type Whole = [__m256i; 2];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> __m256i {
        unsafe { _mm256_loadu_si256(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_bytes(x: __m256i, at: *mut u8) {
        unsafe { _mm256_storeu_si256(at.cast(), x) }
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
    unsafe fn lanes(at: *const u8, apart: usize) -> __m256i {
        unsafe {
            let low = _mm256_castsi128_si256(_mm_loadu_si128(at.cast()));
            _mm256_inserti128_si256(low, _mm_loadu_si128(at.add(apart).cast()), 1)
        }
    }

    #[inline(always)]
    unsafe fn put_lanes(x: __m256i, at: *mut u8, apart: usize) {
        unsafe {
            _mm_storeu_si128(at.cast(), _mm256_castsi256_si128(x));
            _mm_storeu_si128(at.add(apart).cast(), _mm256_extracti128_si256(x, 1));
        }
    }

    #[inline(always)]
    unsafe fn transposed([a, b, c, d]: [__m256i; 4]) -> [__m256i; 4] {
        unsafe {
            let (ab, cd) = (_mm256_unpacklo_epi32(a, b), _mm256_unpacklo_epi32(c, d));
            let (more_ab, more_cd) = (_mm256_unpackhi_epi32(a, b), _mm256_unpackhi_epi32(c, d));
            [
                _mm256_unpacklo_epi64(ab, cd),
                _mm256_unpackhi_epi64(ab, cd),
                _mm256_unpacklo_epi64(more_ab, more_cd),
                _mm256_unpackhi_epi64(more_ab, more_cd),
            ]
        }
    }

    #[inline(always)]
    unsafe fn floats(at: *const f32) -> [__m256; 2] {
        unsafe { [_mm256_loadu_ps(at), _mm256_loadu_ps(at.add(8))] }
    }

    #[inline(always)]
    unsafe fn widened(at: *const u16) -> [__m256; 2] {
        unsafe { [0, 8].map(|i| _mm256_cvtph_ps(_mm_loadu_si128(at.add(i).cast()))) }
    }

    #[inline(always)]
    unsafe fn shares(codes: *const u8) -> [__m256; 2] {
        unsafe {
            [0, 8].map(|i| {
                let codes = _mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.add(i).cast()));
                let bits = _mm256_add_epi32(codes, _mm256_set1_epi32(CODE_OF_ZERO as i32));
                _mm256_castsi256_ps(_mm256_slli_epi32(bits, MANTISSA_LEFT_OUT as i32))
            })
        }
    }

    #[inline(always)]
    unsafe fn signed(at: *const i8) -> [__m256; 2] {
        unsafe { [0, 8].map(|i| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(at.add(i).cast())))) }
    }

    #[inline(always)]
    unsafe fn numbers(codes: *const u8) -> [__m256; 2] {
        unsafe { [0, 8].map(|i| _mm256_cvtepi32_ps(_mm256_cvtepu8_epi32(_mm_loadl_epi64(codes.add(i).cast())))) }
    }

    #[inline(always)]
    unsafe fn levels(codes: *const u8, table: &LevelTable) -> [__m256; 2] {
        unsafe {
            let table = _mm_loadu_si128(table.bytes.as_ptr().cast());
            let levels = _mm_shuffle_epi8(table, _mm_loadu_si128(codes.cast()));
            [levels, _mm_unpackhi_epi64(levels, levels)].map(|x| _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(x)))
        }
    }

    #[inline(always)]
    unsafe fn put([low, high]: [__m256; 2], at: *mut f32) {
        unsafe {
            _mm256_storeu_ps(at, low);
            _mm256_storeu_ps(at.add(8), high);
        }
    }

    #[inline(always)]
    unsafe fn every(x: f32) -> [__m256; 2] {
        unsafe { [_mm256_set1_ps(x); 2] }
    }

    #[inline(always)]
    unsafe fn times(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_mul_ps(a[0], b[0]), _mm256_mul_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn plus(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_add_ps(a[0], b[0]), _mm256_add_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn minus(a: [__m256; 2], b: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_sub_ps(a[0], b[0]), _mm256_sub_ps(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn butterfly<const STEP: usize>(x: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            if STEP == 8 {
                return [_mm256_add_ps(x[0], x[1]), _mm256_sub_ps(x[0], x[1])];
            }
            let signs = _mm256_loadu_ps(const { &signs(STEP) }.as_ptr());
            x.map(|x| {
                let other = match STEP {
                    1 => _mm256_permute_ps::<0b10_11_00_01>(x),
                    2 => _mm256_permute_ps::<0b01_00_11_10>(x),
                    _ => _mm256_permute2f128_ps::<1>(x, x),
                };
                // The product is exact, so that this rounds as a sum does.
                _mm256_fmadd_ps(x, signs, other)
            })
        }
    }

    #[inline(always)]
    unsafe fn larger(x: [__m256; 2], most: [__m256; 2]) -> [__m256; 2] {
        // Where either is no number, the second.
        unsafe { [_mm256_max_ps(x[0], most[0]), _mm256_max_ps(x[1], most[1])] }
    }

    #[inline(always)]
    unsafe fn smaller(x: [__m256; 2], least: [__m256; 2]) -> [__m256; 2] {
        unsafe { [_mm256_min_ps(x[0], least[0]), _mm256_min_ps(x[1], least[1])] }
    }

    #[inline(always)]
    unsafe fn known(x: [__m256; 2]) -> [__m256; 2] {
        unsafe { x.map(|x| _mm256_and_ps(x, _mm256_cmp_ps::<_CMP_ORD_Q>(x, x))) }
    }

    #[inline(always)]
    unsafe fn rounded(x: [__m256; 2]) -> [__m256; 2] {
        unsafe { x.map(|x| _mm256_cvtph_ps(_mm256_cvtps_ph::<_MM_FROUND_TO_NEAREST_INT>(x))) }
    }

    #[inline(always)]
    unsafe fn outside(x: [__m256; 2], low: [__m256; 2], high: [__m256; 2]) -> u32 {
        unsafe {
            let of = |i: usize| {
                let outside =
                    _mm256_or_ps(_mm256_cmp_ps::<_CMP_LT_OQ>(x[i], low[i]), _mm256_cmp_ps::<_CMP_GT_OQ>(x[i], high[i]));
                _mm256_movemask_ps(outside) as u32
            };
            of(0) | of(1) << 8
        }
    }

    #[inline(always)]
    unsafe fn magnitude(x: [__m256; 2]) -> [__m256; 2] {
        unsafe {
            let sign = _mm256_set1_ps(-0.0);
            [_mm256_andnot_ps(sign, x[0]), _mm256_andnot_ps(sign, x[1])]
        }
    }

    #[inline(always)]
    unsafe fn total(x: [__m256; 2]) -> f32 {
        unsafe {
            let eight = _mm256_add_ps(x[0], x[1]);
            let four = _mm_add_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn most(x: [__m256; 2]) -> f32 {
        unsafe {
            let eight = _mm256_max_ps(x[0], x[1]);
            let four = _mm_max_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_movehdup_ps(two)))
        }
    }

    #[inline(always)]
    unsafe fn least(x: [__m256; 2]) -> f32 {
        unsafe { least_of_eight(_mm256_min_ps(x[0], x[1])) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
        unsafe {
            for (row, lane) in [(0, 0), (0, 8), (8, 0), (8, 8)] {
                transpose::eight(from.add(row * stride + lane), stride, to.add(lane * apart + row), apart);
            }
        }
    }

    #[inline(always)]
    unsafe fn whole(x: [__m256; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_cvtps_epi32(x[0]), _mm256_cvtps_epi32(x[1])] }
    }

    #[inline(always)]
    unsafe fn added(a: [__m256i; 2], b: [__m256i; 2]) -> [__m256i; 2] {
        unsafe { [_mm256_add_epi32(a[0], b[0]), _mm256_add_epi32(a[1], b[1])] }
    }

    #[inline(always)]
    unsafe fn whole_total([low, high]: [__m256i; 2]) -> i32 {
        unsafe { total_of_eight(_mm256_add_epi32(low, high)) }
    }

    #[inline(always)]
    unsafe fn put_whole([low, high]: [__m256i; 2], at: *mut i32) {
        unsafe {
            _mm256_storeu_si256(at.cast(), low);
            _mm256_storeu_si256(at.add(8).cast(), high);
        }
    }

    #[inline(always)]
    unsafe fn whole_at(at: *const i32) -> [__m256i; 2] {
        unsafe { [_mm256_loadu_si256(at.cast()), _mm256_loadu_si256(at.add(8).cast())] }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        unsafe { _mm_prefetch::<_MM_HINT_T1>(at.cast()) }
    }
}

/// The smallest of eight.
#[inline(always)]
pub(super) unsafe fn least_of_eight(eight: __m256) -> f32 {
    unsafe {
        let four = _mm_min_ps(_mm256_castps256_ps128(eight), _mm256_extractf128_ps(eight, 1));
        let two = _mm_min_ps(four, _mm_movehl_ps(four, four));
        _mm_cvtss_f32(_mm_min_ss(two, _mm_movehdup_ps(two)))
    }
}

/// The sum of eight whole numbers.
#[inline(always)]
pub(super) unsafe fn total_of_eight(eight: __m256i) -> i32 {
    unsafe {
        let four = _mm_add_epi32(_mm256_castsi256_si128(eight), _mm256_extracti128_si256(eight, 1));
        let two = _mm_add_epi32(four, _mm_shuffle_epi32(four, 0b01_00_11_10));
        _mm_cvtsi128_si32(_mm_add_epi32(two, _mm_shuffle_epi32(two, 0b10_11_00_01)))
    }
}
