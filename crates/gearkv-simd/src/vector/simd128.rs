//! SIMD128 of WebAssembly: bytes widened to 16 bits and `i32x4.dot_i16x8_s`.
//!
//! SAFETY of all blocks: SIMD128 is there, and pointers are good for one register, as the trait asks of callers.

use std::arch::wasm32::*;

use super::plain::plain_floats;
use super::{Line, ROUNDING, Vector};
use crate::convert::widened_by_scaling;
use crate::linear::sum_of_lanes;

/// SIMD128.
pub(crate) struct Simd128;

impl Vector for Simd128 {
    const BYTES: usize = 16;
    const ROWS: usize = 2;
    type Bytes = v128;
    type Sums = v128;
    type Floats = [f32; 16];
    type Whole = [i32; 16];

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

    plain_floats!();
}
