//! Products with what every 64-bit ARM has: bytes widened to 16 bits and `smlal`.
//!
//! SAFETY of all blocks: what [`Products`] asks of callers.

use std::arch::aarch64::*;

use super::super::{Line, Products};
use super::Neon;

impl Products for Neon<false> {
    /// Of the first two lanes and of the others, each in two parts: bytes 0 and 1 of every four, and bytes 2 and 3.
    type Sums = [int32x4_t; 2];

    #[inline(always)]
    unsafe fn zero() -> [int32x4_t; 2] {
        unsafe { [vdupq_n_s32(0); 2] }
    }

    #[inline(always)]
    unsafe fn add_products([low, high]: [int32x4_t; 2], bytes: uint8x16_t, first: i32, second: i32) -> [int32x4_t; 2] {
        unsafe {
            let pairs = vreinterpretq_u16_u8(bytes);
            let even = vreinterpretq_s16_u16(vandq_u16(pairs, vdupq_n_u16(0xFF)));
            let odd = vreinterpretq_s16_u16(vshrq_n_u16::<8>(pairs));
            let (first, second) =
                (vreinterpretq_s16_s32(vdupq_n_s32(first)), vreinterpretq_s16_s32(vdupq_n_s32(second)));
            let low = vmlal_s16(low, vget_low_s16(even), vget_low_s16(first));
            let high = vmlal_high_s16(high, even, first);
            [vmlal_s16(low, vget_low_s16(odd), vget_low_s16(second)), vmlal_high_s16(high, odd, second)]
        }
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        mut total: [int32x4_t; 4],
        numbers: [[int32x4_t; 4]; 4],
        bytes: *const u8,
        first: *mut i32,
        second: *mut i32,
    ) -> [int32x4_t; 4] {
        unsafe {
            for (i, numbers) in numbers.into_iter().enumerate() {
                let bytes = vld1q_u8(bytes.add(16 * i));
                let low = vreinterpretq_s16_u16(vmovl_u8(vget_low_u8(bytes)));
                let high = vreinterpretq_s16_u16(vmovl_high_u8(bytes));
                let (ab, cd) = shorts(numbers);
                total[i] = vmlal_s16(total[i], vget_low_s16(low), vget_low_s16(ab));
                total[i] = vmlal_high_s16(total[i], low, ab);
                total[i] = vmlal_s16(total[i], vget_low_s16(high), vget_low_s16(cd));
                total[i] = vmlal_high_s16(total[i], high, cd);
            }
            Self::more_multipliers(numbers, first, second);
            total
        }
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>([low, high]: [int32x4_t; 2], line: Line, out: *mut f32) {
        unsafe { store::<ADD>(vpaddq_s32(low, high), line, out) }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: [int32x4_t; 4], first: *mut i32, second: *mut i32) {
        unsafe {
            // Numbers 0 and 2 of each four beside each other, then 1 and 3.
            let (low, high) = shorts(numbers);
            vst1q_s16(first.cast(), vuzp1q_s16(low, high));
            vst1q_s16(second.cast(), vuzp2q_s16(low, high));
        }
    }
}

/// The lower 16 bits of each of sixteen numbers.
#[inline(always)]
pub(super) unsafe fn shorts([a, b, c, d]: [int32x4_t; 4]) -> (int16x8_t, int16x8_t) {
    unsafe { (vmovn_high_s32(vmovn_s32(a), b), vmovn_high_s32(vmovn_s32(c), d)) }
}

/// [`Products::store`] of sums that are whole.
#[inline(always)]
pub(super) unsafe fn store<const ADD: bool>(sums: int32x4_t, line: Line, out: *mut f32) {
    unsafe {
        let whole = vcvtq_f32_s32(vaddq_s32(sums, vdupq_n_s32(line.more)));
        let x = vaddq_f32(vmulq_n_f32(whole, line.step), vdupq_n_f32(line.along));
        vst1q_f32(out, if ADD { vaddq_f32(vld1q_f32(out), x) } else { x });
    }
}
