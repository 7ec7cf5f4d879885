//! NEON of 64-bit ARM: with or without the dot products of bytes (`sdot`) that machines since ARMv8.2 have.
//!
//! SAFETY of all blocks: every machine of this target has NEON, and pointers are good for one register, as the trait asks of callers.

mod dot;
mod products;

use std::arch::aarch64::*;
use std::arch::asm;

use super::{LevelTable, Vector};
use crate::convert::{EXPONENT_GAP, SMALLEST_NORMAL};
use crate::scales::{CODE_OF_ZERO, MANTISSA_LEFT_OUT};

/// NEON; with `DOT`, products are `sdot`s, and functions need the target feature `dotprod`.
pub(crate) struct Neon<const DOT: bool>;

impl<const DOT: bool> Vector for Neon<DOT> {
    const BYTES: usize = 16;
    const ROWS: usize = 4;
    type Bytes = uint8x16_t;
    type Floats = [float32x4_t; 4];
    type Whole = [int32x4_t; 4];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> uint8x16_t {
        unsafe { vld1q_u8(at) }
    }

    #[inline(always)]
    unsafe fn put_bytes(x: uint8x16_t, at: *mut u8) {
        unsafe { vst1q_u8(at, x) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const u8) -> uint8x16_t {
        unsafe { vld1q_u8(at) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> uint8x16_t {
        unsafe { vdupq_n_u8(byte) }
    }

    #[inline(always)]
    unsafe fn and(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        unsafe { vandq_u8(a, b) }
    }

    #[inline(always)]
    unsafe fn or(a: uint8x16_t, b: uint8x16_t) -> uint8x16_t {
        unsafe { vorrq_u8(a, b) }
    }

    #[inline(always)]
    unsafe fn moved(x: uint8x16_t, right: i32) -> uint8x16_t {
        // Bits that leave a byte are lost: callers mask what a pair would have kept.
        unsafe { vshlq_u8(x, vdupq_n_s8(-right as i8)) }
    }

    #[inline(always)]
    unsafe fn look_up(table: uint8x16_t, indices: uint8x16_t) -> uint8x16_t {
        unsafe { vqtbl1q_u8(table, indices) }
    }

    #[inline(always)]
    unsafe fn lanes(at: *const u8, _: usize) -> uint8x16_t {
        unsafe { vld1q_u8(at) }
    }

    #[inline(always)]
    unsafe fn put_lanes(x: uint8x16_t, at: *mut u8, _: usize) {
        unsafe { vst1q_u8(at, x) }
    }

    #[inline(always)]
    unsafe fn transposed(x: [uint8x16_t; 4]) -> [uint8x16_t; 4] {
        unsafe { square(x.map(|x| vreinterpretq_f32_u8(x))).map(|x| vreinterpretq_u8_f32(x)) }
    }

    #[inline(always)]
    unsafe fn floats(at: *const f32) -> [float32x4_t; 4] {
        unsafe { [0, 4, 8, 12].map(|i| vld1q_f32(at.add(i))) }
    }

    #[inline(always)]
    unsafe fn widened(at: *const u16) -> [float32x4_t; 4] {
        unsafe {
            let (low, high) = (vld1q_u16(at), vld1q_u16(at.add(8)));
            words_of(low, high).map(|bits| {
                // As `widened_by_scaling` does.
                let magnitude = vshlq_n_u32::<13>(vandq_u32(bits, vdupq_n_u32(0x7FFF)));
                let sign = vshlq_n_u32::<16>(vandq_u32(bits, vdupq_n_u32(0x8000)));
                let scaled = vmulq_n_f32(vreinterpretq_f32_u32(magnitude), EXPONENT_GAP);
                vreinterpretq_f32_u32(vorrq_u32(vreinterpretq_u32_f32(scaled), sign))
            })
        }
    }

    #[inline(always)]
    unsafe fn shares(codes: *const u8) -> [float32x4_t; 4] {
        unsafe {
            words_of_bytes(codes).map(|code| {
                let bits = vaddq_u32(code, vdupq_n_u32(CODE_OF_ZERO));
                vreinterpretq_f32_u32(vshlq_n_u32::<{ MANTISSA_LEFT_OUT as i32 }>(bits))
            })
        }
    }

    #[inline(always)]
    unsafe fn signed(at: *const i8) -> [float32x4_t; 4] {
        unsafe { floats_of(vld1q_s8(at)) }
    }

    #[inline(always)]
    unsafe fn numbers(codes: *const u8) -> [float32x4_t; 4] {
        unsafe { words_of_bytes(codes).map(|x| vcvtq_f32_u32(x)) }
    }

    #[inline(always)]
    unsafe fn levels(codes: *const u8, table: &LevelTable) -> [float32x4_t; 4] {
        unsafe { floats_of(vqtbl1q_s8(vld1q_s8(table.bytes.as_ptr()), vld1q_u8(codes))) }
    }

    #[inline(always)]
    unsafe fn put(x: [float32x4_t; 4], at: *mut f32) {
        unsafe { (0..4).for_each(|i| vst1q_f32(at.add(4 * i), x[i])) }
    }

    #[inline(always)]
    unsafe fn every(x: f32) -> [float32x4_t; 4] {
        unsafe { [vdupq_n_f32(x); 4] }
    }

    #[inline(always)]
    unsafe fn times(a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vmulq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn plus(a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vaddq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn minus(a: [float32x4_t; 4], b: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vsubq_f32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn butterfly<const STEP: usize>(x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        /// The sign of the upper one of two, and of the upper two of four.
        const UPPER: [[u32; 4]; 2] = [[0, 1 << 31, 0, 1 << 31], [0, 0, 1 << 31, 1 << 31]];
        unsafe {
            let [a, b, c, d] = x;
            match STEP {
                1 | 2 => x.map(|x| {
                    let signs = vld1q_u32(UPPER[STEP - 1].as_ptr());
                    let other = if STEP == 1 { vrev64q_f32(x) } else { vextq_f32::<2>(x, x) };
                    vaddq_f32(other, vreinterpretq_f32_u32(veorq_u32(vreinterpretq_u32_f32(x), signs)))
                }),
                4 => [vaddq_f32(a, b), vsubq_f32(a, b), vaddq_f32(c, d), vsubq_f32(c, d)],
                _ => [vaddq_f32(a, c), vaddq_f32(b, d), vsubq_f32(a, c), vsubq_f32(b, d)],
            }
        }
    }

    #[inline(always)]
    unsafe fn larger(x: [float32x4_t; 4], most: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vbslq_f32(vcgtq_f32(x[i], most[i]), x[i], most[i])) }
    }

    #[inline(always)]
    unsafe fn smaller(x: [float32x4_t; 4], least: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vbslq_f32(vcltq_f32(x[i], least[i]), x[i], least[i])) }
    }

    #[inline(always)]
    unsafe fn known(x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { x.map(|x| vreinterpretq_f32_u32(vandq_u32(vreinterpretq_u32_f32(x), vceqq_f32(x, x)))) }
    }

    #[inline(always)]
    unsafe fn rounded(x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        // As `near_f16` does.
        unsafe {
            x.map(|x| {
                let (bits, magnitude, half) = (vreinterpretq_u32_f32(x), vabsq_f32(x), vdupq_n_f32(0.5));
                let odd = vandq_u32(vshrq_n_u32::<13>(bits), vdupq_n_u32(1));
                let rounded = vaddq_u32(vaddq_u32(bits, vdupq_n_u32(0xFFF)), odd);
                let rounded = vandq_u32(rounded, vdupq_n_u32(!0x1FFF));
                let sign = vandq_u32(bits, vdupq_n_u32(1 << 31));
                let small = vreinterpretq_u32_f32(vsubq_f32(vaddq_f32(magnitude, half), half));
                let is_small = vcltq_f32(magnitude, vdupq_n_f32(SMALLEST_NORMAL));
                vreinterpretq_f32_u32(vbslq_u32(is_small, vorrq_u32(small, sign), rounded))
            })
        }
    }

    #[inline(always)]
    unsafe fn outside(x: [float32x4_t; 4], low: [float32x4_t; 4], high: [float32x4_t; 4]) -> u32 {
        /// A bit for each place of a register.
        const BITS: [u32; 4] = [1, 2, 4, 8];
        unsafe {
            let bits = (0..4).fold(vdupq_n_u32(0), |bits, i| {
                let outside = vorrq_u32(vcltq_f32(x[i], low[i]), vcgtq_f32(x[i], high[i]));
                let own = vshlq_u32(vld1q_u32(BITS.as_ptr()), vdupq_n_s32(4 * i as i32));
                vorrq_u32(bits, vandq_u32(outside, own))
            });
            vaddvq_u32(bits)
        }
    }

    #[inline(always)]
    unsafe fn magnitude(x: [float32x4_t; 4]) -> [float32x4_t; 4] {
        unsafe { x.map(|x| vabsq_f32(x)) }
    }

    #[inline(always)]
    unsafe fn total([a, b, c, d]: [float32x4_t; 4]) -> f32 {
        unsafe {
            let four = vaddq_f32(vaddq_f32(a, c), vaddq_f32(b, d));
            vaddv_f32(vadd_f32(vget_low_f32(four), vget_high_f32(four)))
        }
    }

    #[inline(always)]
    unsafe fn most([a, b, c, d]: [float32x4_t; 4]) -> f32 {
        unsafe { vmaxvq_f32(vmaxq_f32(vmaxq_f32(a, b), vmaxq_f32(c, d))) }
    }

    #[inline(always)]
    unsafe fn least([a, b, c, d]: [float32x4_t; 4]) -> f32 {
        unsafe { vminvq_f32(vminq_f32(vminq_f32(a, b), vminq_f32(c, d))) }
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
        unsafe {
            for row in [0, 4, 8, 12] {
                for lane in [0, 4, 8, 12] {
                    let columns = square([0, 1, 2, 3].map(|i| vld1q_f32(from.add((row + i) * stride + lane))));
                    for (i, column) in columns.into_iter().enumerate() {
                        vst1q_f32(to.add((lane + i) * apart + row), column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn whole(x: [float32x4_t; 4]) -> [int32x4_t; 4] {
        unsafe { x.map(|x| vcvtnq_s32_f32(x)) }
    }

    #[inline(always)]
    unsafe fn added(a: [int32x4_t; 4], b: [int32x4_t; 4]) -> [int32x4_t; 4] {
        unsafe { std::array::from_fn(|i| vaddq_s32(a[i], b[i])) }
    }

    #[inline(always)]
    unsafe fn whole_total([a, b, c, d]: [int32x4_t; 4]) -> i32 {
        unsafe { vaddvq_s32(vaddq_s32(vaddq_s32(a, b), vaddq_s32(c, d))) }
    }

    #[inline(always)]
    unsafe fn put_whole(x: [int32x4_t; 4], at: *mut i32) {
        unsafe { (0..4).for_each(|i| vst1q_s32(at.add(4 * i), x[i])) }
    }

    #[inline(always)]
    unsafe fn whole_at(at: *const i32) -> [int32x4_t; 4] {
        unsafe { [0, 4, 8, 12].map(|i| vld1q_s32(at.add(i))) }
    }

    #[inline(always)]
    unsafe fn prefetch(at: *const u8) {
        // An address that is none is not fetched from, and nothing else happens.
        unsafe { asm!("prfm pldl2keep, [{at}]", at = in(reg) at, options(nostack, preserves_flags, readonly)) }
    }
}

/// Four rows of four become columns.
#[inline(always)]
unsafe fn square([a, b, c, d]: [float32x4_t; 4]) -> [float32x4_t; 4] {
    unsafe {
        // Even places of rows 0 and 1 beside each other, then odd ones; likewise of rows 2 and 3.
        let (even, odd) = (vtrn1q_f32(a, b), vtrn2q_f32(a, b));
        let (lower_even, lower_odd) = (vtrn1q_f32(c, d), vtrn2q_f32(c, d));
        let low = |x, y| vreinterpretq_f32_f64(vzip1q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
        let high = |x, y| vreinterpretq_f32_f64(vzip2q_f64(vreinterpretq_f64_f32(x), vreinterpretq_f64_f32(y)));
        [low(even, lower_even), low(odd, lower_odd), high(even, lower_even), high(odd, lower_odd)]
    }
}

/// Sixteen numbers of 16 bits, on 32.
#[inline(always)]
unsafe fn words_of(low: uint16x8_t, high: uint16x8_t) -> [uint32x4_t; 4] {
    unsafe { [vmovl_u16(vget_low_u16(low)), vmovl_high_u16(low), vmovl_u16(vget_low_u16(high)), vmovl_high_u16(high)] }
}

/// Sixteen bytes, on 32 bits.
#[inline(always)]
unsafe fn words_of_bytes(at: *const u8) -> [uint32x4_t; 4] {
    unsafe {
        let bytes = vld1q_u8(at);
        words_of(vmovl_u8(vget_low_u8(bytes)), vmovl_high_u8(bytes))
    }
}

/// Sixteen whole numbers of 8 bits as floats.
#[inline(always)]
unsafe fn floats_of(x: int8x16_t) -> [float32x4_t; 4] {
    unsafe {
        let (low, high) = (vmovl_s8(vget_low_s8(x)), vmovl_high_s8(x));
        [vmovl_s16(vget_low_s16(low)), vmovl_high_s16(low), vmovl_s16(vget_low_s16(high)), vmovl_high_s16(high)]
            .map(|x| vcvtq_f32_s32(x))
    }
}
