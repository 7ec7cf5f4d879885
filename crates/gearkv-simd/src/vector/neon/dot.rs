//! Products with `sdot`, which takes four signed bytes of each side at a time.
//!
//! SAFETY of all blocks: what [`Products`] asks of callers, and the instruction set has `dotprod`.

use std::arch::aarch64::*;
use std::arch::asm;

use super::super::{Line, Products};
use super::{Neon, products};

impl Products for Neon<true> {
    /// Of the high and of the low bytes of multipliers.
    type Sums = (int32x4_t, int32x4_t);

    const SIGNED_BYTES: bool = true;

    #[inline(always)]
    unsafe fn zero() -> Self::Sums {
        unsafe { (vdupq_n_s32(0), vdupq_n_s32(0)) }
    }

    #[inline(always)]
    unsafe fn add_products(sums: Self::Sums, bytes: uint8x16_t, first: i32, second: i32) -> Self::Sums {
        unsafe { (add_dots(sums.0, bytes, every_word(first)), add_dots(sums.1, bytes, every_word(second))) }
    }

    const SMALL_WEIGHTS: bool = true;

    #[inline(always)]
    unsafe fn add_weighted(sums: Self::Sums, levels: uint8x16_t, weights: i32) -> Self::Sums {
        unsafe { (sums.0, add_dots(sums.1, levels, every_word(weights))) }
    }

    #[inline(always)]
    unsafe fn add_small<const WHOLE: bool>(sums: Self::Sums, codes: uint8x16_t, multipliers: i32) -> Self::Sums {
        unsafe { (sums.0, add_dots(sums.1, codes, every_word(multipliers))) }
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        mut total: [int32x4_t; 4],
        numbers: [[int32x4_t; 4]; 4],
        bytes: *const u8,
        first: *mut i32,
        _: *mut i32,
    ) -> [int32x4_t; 4] {
        unsafe {
            for (i, numbers) in numbers.into_iter().enumerate() {
                let multipliers = low_bytes(numbers);
                vst1q_s8(first.cast::<i8>().add(16 * i), multipliers);
                total[i] = add_dots(total[i], Self::less_128(vld1q_u8(bytes.add(16 * i))), multipliers);
            }
            total
        }
    }

    #[inline(always)]
    unsafe fn less_128(x: uint8x16_t) -> uint8x16_t {
        unsafe { veorq_u8(x, vdupq_n_u8(128)) }
    }

    #[inline(always)]
    unsafe fn small_weights(numbers: [[int32x4_t; 4]; 4], order: Option<&[u8; 64]>, to: *mut i32) {
        unsafe { put_bytes(numbers, order, to) }
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>(sums: Self::Sums, line: Line, out: *mut f32) {
        unsafe { products::store::<ADD>(vaddq_s32(vshlq_n_s32::<8>(sums.0), sums.1), line, out) }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: [int32x4_t; 4], first: *mut i32, second: *mut i32) {
        unsafe {
            vst1q_s8(first.cast(), low_bytes(high(numbers)));
            vst1q_s8(second.cast(), low_bytes(numbers));
        }
    }

    #[inline(always)]
    unsafe fn ordered_multipliers(numbers: [[int32x4_t; 4]; 4], order: &[u8; 64], first: *mut i32, second: *mut i32) {
        unsafe {
            put_bytes(numbers.map(|numbers| high(numbers)), Some(order), first);
            put_bytes(numbers, Some(order), second);
        }
    }
}

/// Adds to each sum the products of four signed bytes.
#[inline(always)]
unsafe fn add_dots(sums: int32x4_t, a: uint8x16_t, b: int8x16_t) -> int32x4_t {
    let mut sums = sums;
    // Its intrinsic is not stable yet.
    unsafe {
        asm!(
            "sdot {sums:v}.4s, {a:v}.16b, {b:v}.16b",
            sums = inout(vreg) sums,
            a = in(vreg) a,
            b = in(vreg) b,
            options(pure, nomem, nostack, preserves_flags),
        );
    }
    sums
}

/// Four bytes, again and again.
#[inline(always)]
unsafe fn every_word(word: i32) -> int8x16_t {
    unsafe { vreinterpretq_s8_s32(vdupq_n_s32(word)) }
}

/// The high bytes of multipliers, of which the low one is signed: so this is rounded.
#[inline(always)]
unsafe fn high(numbers: [int32x4_t; 4]) -> [int32x4_t; 4] {
    unsafe { numbers.map(|x| vshrq_n_s32::<8>(vaddq_s32(x, vdupq_n_s32(128)))) }
}

/// The lowest byte of each of sixteen numbers.
#[inline(always)]
unsafe fn low_bytes(numbers: [int32x4_t; 4]) -> int8x16_t {
    unsafe {
        let (ab, cd) = products::shorts(numbers);
        vmovn_high_s16(vmovn_s16(ab), cd)
    }
}

/// The lowest bytes of 64 numbers, in the order that `order` gives, if any.
#[inline(always)]
unsafe fn put_bytes(numbers: [[int32x4_t; 4]; 4], order: Option<&[u8; 64]>, to: *mut i32) {
    unsafe {
        let [a, b, c, d] = numbers.map(|numbers| vreinterpretq_u8_s8(low_bytes(numbers)));
        let all = uint8x16x4_t(a, b, c, d);
        for (i, part) in [a, b, c, d].into_iter().enumerate() {
            let ordered = order.map_or(part, |order| vqtbl4q_u8(all, vld1q_u8(order.as_ptr().add(16 * i))));
            vst1q_u8(to.cast::<u8>().add(16 * i), ordered);
        }
    }
}
