//! SIMD128 of WebAssembly: bytes widened to 16 bits and `i32x4.dot_i16x8_s`.
//!
//! SAFETY of all blocks: SIMD128 is there, and pointers are good for one register, as the trait asks of callers.

use std::arch::wasm32::*;

use super::Vector;

/// SIMD128.
pub(in crate::simd) struct Simd128;

impl Vector for Simd128 {
    const BYTES: usize = 16;
    type Bytes = v128;
    type Sums = v128;

    #[inline(always)]
    unsafe fn load(at: *const u8) -> v128 {
        unsafe { v128_load(at.cast()) }
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
    unsafe fn splat_four(four: u32) -> v128 {
        u32x4_splat(four)
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
    unsafe fn store(sums: v128, more: i32, out: *mut f32) {
        unsafe { v128_store(out.cast(), f32x4_convert_i32x4(i32x4_add(sums, i32x4_splat(more)))) }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: *const i32, first: *mut i32, second: *mut i32) {
        let pair = |low: i32, high: i32| (low & 0xFFFF) | (high << 16);
        for four in 0..4 {
            unsafe {
                let [a, b, c, d] = numbers.add(4 * four).cast::<[i32; 4]>().read_unaligned();
                first.add(four).write(pair(a, c));
                second.add(four).write(pair(b, d));
            }
        }
    }

    #[inline(always)]
    unsafe fn prefetch(_at: *const u8) {}
}
