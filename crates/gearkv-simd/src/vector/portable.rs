//! Plain loops over 16 bytes, which a compiler turns into what the target has.
//!
//! SAFETY of all blocks: pointers are good for what is read and written, as the trait asks of callers.

use super::plain::plain_floats;
use super::{LevelTable, Line, Products, ROUNDING, Vector};
use crate::convert::{near_f16, widened_by_scaling};
use crate::linear::sum_of_lanes;
use crate::scales::share_of_code;

/// No instruction set in particular.
pub(crate) struct Portable;

impl Vector for Portable {
    const BYTES: usize = 16;
    const ROWS: usize = 4;
    type Bytes = [u8; 16];
    type Floats = [f32; 16];
    type Whole = [i32; 16];

    #[inline(always)]
    unsafe fn load(at: *const u8) -> [u8; 16] {
        unsafe { at.cast::<[u8; 16]>().read_unaligned() }
    }

    #[inline(always)]
    unsafe fn put_bytes(x: [u8; 16], at: *mut u8) {
        unsafe { at.cast::<[u8; 16]>().write_unaligned(x) }
    }

    #[inline(always)]
    unsafe fn repeat(at: *const u8) -> [u8; 16] {
        unsafe { Self::load(at) }
    }

    #[inline(always)]
    unsafe fn splat(byte: u8) -> [u8; 16] {
        [byte; 16]
    }

    #[inline(always)]
    unsafe fn and(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        std::array::from_fn(|i| a[i] & b[i])
    }

    #[inline(always)]
    unsafe fn or(a: [u8; 16], b: [u8; 16]) -> [u8; 16] {
        std::array::from_fn(|i| a[i] | b[i])
    }

    #[inline(always)]
    unsafe fn moved(x: [u8; 16], right: i32) -> [u8; 16] {
        // Bits that leave a byte are lost: callers mask what a pair would have kept.
        if right >= 0 { x.map(|byte| byte >> right) } else { x.map(|byte| byte << -right) }
    }

    #[inline(always)]
    unsafe fn look_up(table: [u8; 16], indices: [u8; 16]) -> [u8; 16] {
        indices.map(|index| table[usize::from(index & 15)])
    }

    #[inline(always)]
    unsafe fn pick(x: [u8; 16], places: [u8; 16]) -> [u8; 16] {
        places.map(|place| if place < 128 { x[usize::from(place & 15)] } else { 0 })
    }

    #[inline(always)]
    unsafe fn lanes(at: *const u8, _: usize) -> [u8; 16] {
        unsafe { Self::load(at) }
    }

    #[inline(always)]
    unsafe fn put_lanes(x: [u8; 16], at: *mut u8, _: usize) {
        unsafe { Self::put_bytes(x, at) }
    }

    #[inline(always)]
    unsafe fn transposed(x: [[u8; 16]; 4]) -> [[u8; 16]; 4] {
        std::array::from_fn(|j| std::array::from_fn(|byte| x[byte / 4][4 * j + byte % 4]))
    }
    plain_floats!();
}

impl Products for Portable {
    type Sums = [i32; 4];

    #[inline(always)]
    unsafe fn zero() -> [i32; 4] {
        [0; 4]
    }

    #[inline(always)]
    unsafe fn add_products(sums: [i32; 4], bytes: [u8; 16], first: i32, second: i32) -> [i32; 4] {
        let multipliers = [first as i16, second as i16, (first >> 16) as i16, (second >> 16) as i16].map(i32::from);
        std::array::from_fn(|i| {
            let product = |j: usize| i32::from(bytes[4 * i + j]) * multipliers[j];
            sums[i].wrapping_add((product(0) + product(2)) + (product(1) + product(3)))
        })
    }

    const SMALL_WEIGHTS: bool = true;

    #[inline(always)]
    unsafe fn add_weighted(sums: [i32; 4], levels: [u8; 16], weights: i32) -> [i32; 4] {
        let weights = weights.to_le_bytes().map(i32::from);
        std::array::from_fn(|i| {
            let product = |j: usize| i32::from(levels[4 * i + j] as i8) * weights[j];
            sums[i].wrapping_add((product(0) + product(2)) + (product(1) + product(3)))
        })
    }

    #[inline(always)]
    unsafe fn add_small<const WHOLE: bool>(sums: [i32; 4], codes: [u8; 16], multipliers: i32) -> [i32; 4] {
        let multipliers = multipliers.to_le_bytes().map(|byte| i32::from(byte as i8));
        std::array::from_fn(|i| {
            let product = |j: usize| i32::from(codes[4 * i + j]) * multipliers[j];
            sums[i].wrapping_add((product(0) + product(2)) + (product(1) + product(3)))
        })
    }

    #[inline(always)]
    unsafe fn small_multipliers(
        total: [i32; 16],
        numbers: [[i32; 16]; 4],
        bytes: *const u8,
        first: *mut i32,
        _: *mut i32,
    ) -> [i32; 16] {
        unsafe {
            Self::small_weights(numbers, None, first);
            let bytes = bytes.cast::<[u8; 64]>().read_unaligned();
            std::array::from_fn(|i| {
                let product = |j: usize| numbers[j][i].wrapping_mul(i32::from(bytes[16 * j + i]));
                total[i].wrapping_add((product(0) + product(2)) + (product(1) + product(3)))
            })
        }
    }

    #[inline(always)]
    unsafe fn less_128(x: [u8; 16]) -> [u8; 16] {
        x.map(|byte| byte ^ 128)
    }

    #[inline(always)]
    unsafe fn small_weights(numbers: [[i32; 16]; 4], order: Option<&[u8; 64]>, to: *mut i32) {
        let all: [u8; 64] = std::array::from_fn(|i| numbers[i / 16][i % 16] as u8);
        let ordered = order.map_or(all, |order| order.map(|from| all[usize::from(from & 63)]));
        unsafe { to.cast::<[u8; 64]>().write_unaligned(ordered) };
    }

    #[inline(always)]
    unsafe fn store<const ADD: bool>(sums: [i32; 4], line: Line, out: *mut f32) {
        unsafe {
            let out = out.cast::<[f32; 4]>();
            let before = if ADD { out.read_unaligned() } else { [0.0; 4] };
            let x: [f32; 4] = sums.map(|sum| sum.wrapping_add(line.more) as f32 * line.step + line.along);
            out.write_unaligned(if ADD { std::array::from_fn(|i| before[i] + x[i]) } else { x });
        }
    }

    #[inline(always)]
    unsafe fn multipliers(numbers: [i32; 16], first: *mut i32, second: *mut i32) {
        let pair = |low: i32, high: i32| (low & 0xFFFF) | (high << 16);
        for (i, &[a, b, c, d]) in numbers.as_chunks::<4>().0.iter().enumerate() {
            unsafe {
                first.add(i).write(pair(a, c));
                second.add(i).write(pair(b, d));
            }
        }
    }
}
