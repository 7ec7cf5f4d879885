//! SIMD128 of WebAssembly: bytes widened to 16 bits and `i32x4.dot_i16x8_s`.
//!
//! SAFETY of all blocks: SIMD128 is there, and pointers are good for one register, as the trait asks of callers.

use std::arch::wasm32::*;

use super::{LevelTable, Line, Products, ROUNDING, Vector};
use crate::convert::{EXPONENT_GAP, SMALLEST_NORMAL};
use crate::scales::{CODE_OF_ZERO, MANTISSA_LEFT_OUT};

/// SIMD128.
pub(crate) struct Simd128;

impl Vector for Simd128 {
    const BYTES: usize = 16;
    const ROWS: usize = 2;
    type Bytes = v128;
    type Floats = [v128; 4];
    type Whole = [v128; 4];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> v128 {
        unsafe { v128_load(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_bytes(x: v128, at: *mut u8) {
        unsafe { v128_store(at.cast(), x) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const u8) -> v128 {
        unsafe { v128_load(at.cast()) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> v128 {
        u8x16_splat(byte)
    }

    #[inline(always)]
    unsafe fn and(a: v128, b: v128) -> v128 {
        v128_and(a, b)
    }

    #[inline(always)]
    unsafe fn or(a: v128, b: v128) -> v128 {
        v128_or(a, b)
    }

    #[inline(always)]
    unsafe fn moved(x: v128, right: i32) -> v128 {
        if right >= 0 { u16x8_shr(x, right as u32) } else { i16x8_shl(x, -right as u32) }
    }

    #[inline(always)]
    unsafe fn look_up(table: v128, indices: v128) -> v128 {
        i8x16_swizzle(table, indices)
    }

    #[inline(always)]
    unsafe fn lanes(at: *const u8, _: usize) -> v128 {
        unsafe { v128_load(at.cast()) }
    }

    #[inline(always)]
    unsafe fn put_lanes(x: v128, at: *mut u8, _: usize) {
        unsafe { v128_store(at.cast(), x) }
    }

    #[inline(always)]
    unsafe fn transposed([a, b, c, d]: [v128; 4]) -> [v128; 4] {
        let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
        let (more_ab, more_cd) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
        [
            i64x2_shuffle::<0, 2>(ab, cd),
            i64x2_shuffle::<1, 3>(ab, cd),
            i64x2_shuffle::<0, 2>(more_ab, more_cd),
            i64x2_shuffle::<1, 3>(more_ab, more_cd),
        ]
    }

    #[inline(always)]
    unsafe fn floats(at: *const f32) -> [v128; 4] {
        unsafe { [0, 4, 8, 12].map(|i| v128_load(at.add(i).cast())) }
    }

    #[inline(always)]
    unsafe fn widened(at: *const u16) -> [v128; 4] {
        unsafe {
            let (low, high): (v128, v128) = (v128_load(at.cast()), v128_load(at.add(8).cast()));
            [
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ]
            .map(|bits| {
                // As `widened_by_scaling` does.
                let magnitude = u32x4_shl(v128_and(bits, u32x4_splat(0x7FFF)), 13);
                let sign = u32x4_shl(v128_and(bits, u32x4_splat(0x8000)), 16);
                v128_or(f32x4_mul(magnitude, f32x4_splat(EXPONENT_GAP)), sign)
            })
        }
    }

    #[inline(always)]
    unsafe fn shares(codes: *const u8) -> [v128; 4] {
        unsafe {
            let codes = v128_load(codes.cast());
            let (low, high) = (u16x8_extend_low_u8x16(codes), u16x8_extend_high_u8x16(codes));
            [
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ]
            .map(|code| i32x4_shl(i32x4_add(code, i32x4_splat(CODE_OF_ZERO as i32)), MANTISSA_LEFT_OUT))
        }
    }

    #[inline(always)]
    unsafe fn signed(at: *const i8) -> [v128; 4] {
        unsafe { floats_of(v128_load(at.cast())) }
    }

    #[inline(always)]
    unsafe fn numbers(codes: *const u8) -> [v128; 4] {
        unsafe {
            let x = v128_load(codes.cast());
            let (low, high) = (u16x8_extend_low_u8x16(x), u16x8_extend_high_u8x16(x));
            [
                u32x4_extend_low_u16x8(low),
                u32x4_extend_high_u16x8(low),
                u32x4_extend_low_u16x8(high),
                u32x4_extend_high_u16x8(high),
            ]
            .map(|x| f32x4_convert_i32x4(x))
        }
    }

    #[inline(always)]
    unsafe fn levels(codes: *const u8, table: &LevelTable) -> [v128; 4] {
        unsafe { floats_of(i8x16_swizzle(v128_load(table.bytes.as_ptr().cast()), v128_load(codes.cast()))) }
    }

    #[inline(always)]
    unsafe fn put(x: [v128; 4], at: *mut f32) {
        unsafe { (0..4).for_each(|i| v128_store(at.add(4 * i).cast(), x[i])) }
    }

    #[inline(always)]
    unsafe fn every(x: f32) -> [v128; 4] {
        [f32x4_splat(x); 4]
    }

    #[inline(always)]
    unsafe fn times(a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        std::array::from_fn(|i| f32x4_mul(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn plus(a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        std::array::from_fn(|i| f32x4_add(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn minus(a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        std::array::from_fn(|i| f32x4_sub(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn butterfly<const STEP: usize>(x: [v128; 4]) -> [v128; 4] {
        let [a, b, c, d] = x;
        match STEP {
            1 => x.map(|x| f32x4_add(i32x4_shuffle::<1, 0, 3, 2>(x, x), v128_xor(x, f32x4(0.0, -0.0, 0.0, -0.0)))),
            2 => x.map(|x| f32x4_add(i32x4_shuffle::<2, 3, 0, 1>(x, x), v128_xor(x, f32x4(0.0, 0.0, -0.0, -0.0)))),
            4 => [f32x4_add(a, b), f32x4_sub(a, b), f32x4_add(c, d), f32x4_sub(c, d)],
            _ => [f32x4_add(a, c), f32x4_add(b, d), f32x4_sub(a, c), f32x4_sub(b, d)],
        }
    }

    #[inline(always)]
    unsafe fn larger(x: [v128; 4], most: [v128; 4]) -> [v128; 4] {
        // Its second where that is larger than its first.
        std::array::from_fn(|i| f32x4_pmax(most[i], x[i]))
    }

    #[inline(always)]
    unsafe fn smaller(x: [v128; 4], least: [v128; 4]) -> [v128; 4] {
        // Its second where that is smaller than its first.
        std::array::from_fn(|i| f32x4_pmin(least[i], x[i]))
    }

    #[inline(always)]
    unsafe fn known(x: [v128; 4]) -> [v128; 4] {
        x.map(|x| v128_and(x, f32x4_eq(x, x)))
    }

    #[inline(always)]
    unsafe fn rounded(x: [v128; 4]) -> [v128; 4] {
        // As `near_f16` does.
        x.map(|x| {
            let magnitude = f32x4_abs(x);
            let half = f32x4_splat(0.5);
            let odd = v128_and(u32x4_shr(x, 13), u32x4_splat(1));
            let rounded = i32x4_add(i32x4_add(x, u32x4_splat(0xFFF)), odd);
            let rounded = v128_and(rounded, u32x4_splat(!0x1FFF));
            let sign = v128_and(x, u32x4_splat(1 << 31));
            let small = v128_or(f32x4_sub(f32x4_add(magnitude, half), half), sign);
            v128_bitselect(small, rounded, f32x4_lt(magnitude, f32x4_splat(SMALLEST_NORMAL)))
        })
    }

    #[inline(always)]
    unsafe fn outside(x: [v128; 4], low: [v128; 4], high: [v128; 4]) -> u32 {
        (0..4).fold(0, |bits, i| {
            let outside = v128_or(f32x4_lt(x[i], low[i]), f32x4_gt(x[i], high[i]));
            bits | u32::from(i32x4_bitmask(outside)) << (4 * i)
        })
    }

    #[inline(always)]
    unsafe fn magnitude(x: [v128; 4]) -> [v128; 4] {
        x.map(|x| f32x4_abs(x))
    }

    #[inline(always)]
    unsafe fn total([a, b, c, d]: [v128; 4]) -> f32 {
        let four = f32x4_add(f32x4_add(a, c), f32x4_add(b, d));
        let two = f32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        f32x4_extract_lane::<0>(two) + f32x4_extract_lane::<1>(two)
    }

    #[inline(always)]
    unsafe fn most([a, b, c, d]: [v128; 4]) -> f32 {
        let four = f32x4_pmax(f32x4_pmax(a, b), f32x4_pmax(c, d));
        let two = f32x4_pmax(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        f32x4_extract_lane::<0>(f32x4_pmax(two, i32x4_shuffle::<1, 0, 3, 2>(two, two)))
    }

    #[inline(always)]
    unsafe fn least([a, b, c, d]: [v128; 4]) -> f32 {
        let four = f32x4_pmin(f32x4_pmin(a, b), f32x4_pmin(c, d));
        let two = f32x4_pmin(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        f32x4_extract_lane::<0>(f32x4_pmin(two, i32x4_shuffle::<1, 0, 3, 2>(two, two)))
    }

    #[inline(always)]
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize) {
        unsafe {
            for row in [0, 4, 8, 12] {
                for lane in [0, 4, 8, 12] {
                    let [a, b, c, d] = [0, 1, 2, 3].map(|i| v128_load(from.add((row + i) * stride + lane).cast()));
                    let (ab, cd) = (i32x4_shuffle::<0, 4, 1, 5>(a, b), i32x4_shuffle::<0, 4, 1, 5>(c, d));
                    let (more_ab, more_cd) = (i32x4_shuffle::<2, 6, 3, 7>(a, b), i32x4_shuffle::<2, 6, 3, 7>(c, d));
                    let columns = [
                        i64x2_shuffle::<0, 2>(ab, cd),
                        i64x2_shuffle::<1, 3>(ab, cd),
                        i64x2_shuffle::<0, 2>(more_ab, more_cd),
                        i64x2_shuffle::<1, 3>(more_ab, more_cd),
                    ];
                    for (i, column) in columns.into_iter().enumerate() {
                        v128_store(to.add((lane + i) * apart + row).cast(), column);
                    }
                }
            }
        }
    }

    #[inline(always)]
    unsafe fn whole(x: [v128; 4]) -> [v128; 4] {
        let rounding = f32x4_splat(ROUNDING);
        x.map(|x| i32x4_sub(f32x4_add(x, rounding), rounding))
    }

    #[inline(always)]
    unsafe fn added(a: [v128; 4], b: [v128; 4]) -> [v128; 4] {
        std::array::from_fn(|i| i32x4_add(a[i], b[i]))
    }

    #[inline(always)]
    unsafe fn whole_total([a, b, c, d]: [v128; 4]) -> i32 {
        let four = i32x4_add(i32x4_add(a, b), i32x4_add(c, d));
        let two = i32x4_add(four, i32x4_shuffle::<2, 3, 0, 1>(four, four));
        i32x4_extract_lane::<0>(two).wrapping_add(i32x4_extract_lane::<1>(two))
    }

    #[inline(always)]
    unsafe fn put_whole(x: [v128; 4], at: *mut i32) {
        unsafe { (0..4).for_each(|i| v128_store(at.add(4 * i).cast(), x[i])) }
    }

    #[inline(always)]
    unsafe fn whole_at(at: *const i32) -> [v128; 4] {
        unsafe { [0, 4, 8, 12].map(|i| v128_load(at.add(i).cast())) }
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}

impl Products for Simd128 {
    type Sums = v128;

    #[inline(always)]
    unsafe fn zero() -> v128 {
        i32x4_splat(0)
    }

    #[inline(always)]
    unsafe fn add_products(sums: v128, bytes: v128, first: i32, second: i32) -> v128 {
        let even = i32x4_dot_i16x8(v128_and(bytes, u16x8_splat(0xFF)), i32x4_splat(first));
        let odd = i32x4_dot_i16x8(u16x8_shr(bytes, 8), i32x4_splat(second));
        i32x4_add(sums, i32x4_add(even, odd))
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>(sums: v128, line: Line, out: *mut f32) {
        unsafe {
            let whole = f32x4_convert_i32x4(i32x4_add(sums, i32x4_splat(line.more)));
            let x = f32x4_add(f32x4_mul(whole, f32x4_splat(line.step)), f32x4_splat(line.along));
            v128_store(out.cast(), if ADD { f32x4_add(v128_load(out.cast()), x) } else { x });
        }
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        mut total: [v128; 4],
        numbers: [[v128; 4]; 4],
        bytes: *const u8,
        first: *mut i32,
        second: *mut i32,
    ) -> [v128; 4] {
        unsafe {
            for (i, [a, b, c, d]) in numbers.into_iter().enumerate() {
                let bytes = v128_load(bytes.add(16 * i).cast());
                let low = i32x4_dot_i16x8(i16x8_narrow_i32x4(a, b), u16x8_extend_low_u8x16(bytes));
                let high = i32x4_dot_i16x8(i16x8_narrow_i32x4(c, d), u16x8_extend_high_u8x16(bytes));
                total[i] = i32x4_add(total[i], i32x4_add(low, high));
            }
            Self::more_multipliers(numbers, first, second);
            total
        }
    }

    #[inline(always)]
    unsafe fn multipliers([a, b, c, d]: [v128; 4], first: *mut i32, second: *mut i32) {
        unsafe {
            let (low, high) = (i16x8_narrow_i32x4(a, b), i16x8_narrow_i32x4(c, d));
            // Numbers 0 and 2 of each four beside each other, then 1 and 3.
            v128_store(first.cast(), i16x8_shuffle::<0, 2, 4, 6, 8, 10, 12, 14>(low, high));
            v128_store(second.cast(), i16x8_shuffle::<1, 3, 5, 7, 9, 11, 13, 15>(low, high));
        }
    }
}

/// Sixteen whole numbers of 8 bits as floats.
#[inline(always)]
fn floats_of(x: v128) -> [v128; 4] {
    let (low, high) = (i16x8_extend_low_i8x16(x), i16x8_extend_high_i8x16(x));
    [
        i32x4_extend_low_i16x8(low),
        i32x4_extend_high_i16x8(low),
        i32x4_extend_low_i16x8(high),
        i32x4_extend_high_i16x8(high),
    ]
    .map(|x| f32x4_convert_i32x4(x))
}
