//! What the kernels need of a register, for each instruction set.
//!
//! Kernels are written once, over this trait; a function that enables the instruction set is the only caller, and everything is inlined
//! into it. Products with codes are of integers and their sums exact, and what is done with floats is in one order, so each instruction set gives the
//! same bits.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod kernel;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod plain;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod transpose;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) use portable::Portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use simd128::Simd128 as Portable;

pub(crate) use kernel::kernel;

/// The largest magnitude of a multiplier: two signed bytes, `256 · high + low`, both within ±127.
pub(super) const LARGEST_MULTIPLIER: f32 = 32_639.0;

/// The largest weight or multiplier of one byte. A pair of products with levels, or with codes on 7 bits, still fits 16 bits.
pub(super) const LARGEST_SMALL_WEIGHT: f32 = 127.0;

/// 1.5 · 2²³: added, it leaves a whole number in a float's low bits.
const ROUNDING: f32 = 12_582_912.0;

/// What a row's sums come to.
#[derive(Clone, Copy, Default)]
pub(super) struct Line {
    /// Added to every lane's sum.
    pub more: i32,
    /// What a step of a sum is worth.
    pub step: f32,
    /// Added then.
    pub along: f32,
}

/// What codes of up to four bits are looked up in.
pub(super) struct LevelTable {
    /// As bytes, and
    pub bytes: [i8; 16],
    /// as floats.
    pub floats: [f32; 16],
}

impl LevelTable {
    /// Of the levels of one width.
    pub const fn new<const N: usize>(levels: &[i8; N]) -> Self {
        let mut table = Self { bytes: [0; 16], floats: [0.0; 16] };
        let mut i = 0;
        while i < N {
            (table.bytes[i], table.floats[i]) = (levels[i], levels[i] as f32);
            i += 1;
        }
        table
    }
}

/// −1 in the upper places of a step of a rotation, 1 elsewhere.
#[cfg(target_arch = "x86_64")]
const fn signs(step: usize) -> [f32; 16] {
    let mut signs = [1.0; 16];
    let mut i = 0;
    while i < 16 {
        if i & step != 0 {
            signs[i] = -1.0;
        }
        i += 1;
    }
    signs
}

/// One register of bytes.
///
/// # Safety
/// Every function needs the instruction set of its implementation, and pointers that are good for what it reads or writes.
pub(super) trait Vector {
    /// Bytes of a register: 16, 32 or 64.
    const BYTES: usize;
    /// How many rows are summed at a time, 4 or 2: what was measured to be faster.
    const ROWS: usize;
    /// So many bytes.
    type Bytes: Copy;
    /// A sum of products for every four bytes.
    type Sums: Copy;
    /// Sixteen floats.
    type Floats: Copy;
    /// Sixteen whole numbers.
    type Whole: Copy;

    unsafe fn load(at: *const u8) -> Self::Bytes;
    unsafe fn put_bytes(x: Self::Bytes, at: *mut u8);
    /// Sixteen bytes, again and again.
    unsafe fn repeat(at: *const u8) -> Self::Bytes;
    /// One byte in every place.
    unsafe fn splat(byte: u8) -> Self::Bytes;
    unsafe fn and(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    unsafe fn or(a: Self::Bytes, b: Self::Bytes) -> Self::Bytes;
    /// Each pair of bytes moved towards its low end by `right` bits, or the other way where that is negative.
    unsafe fn moved(x: Self::Bytes, right: i32) -> Self::Bytes;
    /// `table[index]` for indices below 16.
    unsafe fn look_up(table: Self::Bytes, indices: Self::Bytes) -> Self::Bytes;
    /// `table[index mod 16]` for indices of any size.
    #[inline(always)]
    unsafe fn look_up_low(table: Self::Bytes, indices: Self::Bytes) -> Self::Bytes {
        // SAFETY: what the caller vouches for.
        unsafe { Self::look_up(table, Self::and(indices, Self::splat(15))) }
    }
    /// Of each sixteen bytes those whose places are given; 0 for a place of 128.
    #[inline(always)]
    unsafe fn pick(x: Self::Bytes, places: Self::Bytes) -> Self::Bytes {
        // SAFETY: what the caller vouches for.
        unsafe { Self::look_up(x, places) }
    }
    /// Sixteen bytes at a time, so many bytes apart.
    unsafe fn lanes(at: *const u8, apart: usize) -> Self::Bytes;
    /// The same, written.
    unsafe fn put_lanes(x: Self::Bytes, at: *mut u8, apart: usize);
    /// In every sixteen bytes word *j* of register *i* becomes word *i* of register *j*.
    unsafe fn transposed(x: [Self::Bytes; 4]) -> [Self::Bytes; 4];

    /// Whether [`Self::permute`] takes fewer instructions than bytes.
    const PERMUTES: bool = false;

    /// Puts a row of at most 256 bytes into the order that `from` gives: each byte comes from there.
    #[inline(always)]
    unsafe fn permute(row: &mut [u8], from: &[u8; 256]) {
        let mut before = [0; 256];
        before[..row.len()].copy_from_slice(row);
        row.iter_mut().zip(from).for_each(|(byte, &from)| *byte = before[usize::from(from)]);
    }

    /// Bit `field` of the 32 bytes at `at` for the first half of a unit's lanes and bit `field + 4` for the second, for the `part`-th
    /// register of them; as bit `to` of each byte, the others 0.
    #[inline(always)]
    unsafe fn bit(at: *const u8, field: usize, part: usize, to: usize) -> Self::Bytes {
        let byte = part * Self::BYTES;
        // SAFETY: within the 32 bytes that the caller vouches for.
        unsafe {
            let x = Self::load(at.add(byte % 32));
            let from = field + 4 * (byte / 32);
            Self::and(Self::moved(x, from as i32 - to as i32), Self::splat(1 << to))
        }
    }

    unsafe fn zero() -> Self::Sums;
    /// Adds the products of four bytes with four multipliers, which [`Self::multipliers`] made.
    unsafe fn add_products(sums: Self::Sums, bytes: Self::Bytes, first: i32, second: i32) -> Self::Sums;
    /// Whether products with weights of one byte take less than those with two.
    const SMALL_WEIGHTS: bool = false;
    /// Adds the products of four signed bytes with four weights, which [`Self::small_weights`] made. Only where there are [`Self::SMALL_WEIGHTS`].
    #[inline(always)]
    unsafe fn add_weighted(_: Self::Sums, _: Self::Bytes, _: i32) -> Self::Sums {
        unreachable!("weights have two bytes")
    }
    /// Bytes less 128, as signed ones.
    #[inline(always)]
    unsafe fn less_128(x: Self::Bytes) -> Self::Bytes {
        let _ = x;
        unreachable!("weights have two bytes")
    }
    /// On how many bits [`Self::add_small`] takes codes that have fewer: 8 or 7.
    const SMALL_CODES: usize = 8;
    /// Adds the products of four codes with four multipliers, which [`Self::small_multipliers`] made. Codes are `WHOLE` bytes, or of fewer bits, times
    /// 2^([`Self::SMALL_CODES`] − these), which counts as if it were 2^(8 − these). Only where there are [`Self::SMALL_WEIGHTS`].
    #[inline(always)]
    unsafe fn add_small<const WHOLE: bool>(_: Self::Sums, _: Self::Bytes, _: i32) -> Self::Sums {
        unreachable!("multipliers have two bytes")
    }
    /// Brings 64 whole numbers from 0 to [`LARGEST_SMALL_WEIGHT`] into the form that [`Self::add_weighted`] takes: a word for every four, in the order
    /// that `order` gives, if any.
    #[inline(always)]
    unsafe fn small_weights(_: [Self::Whole; 4], _: Option<&[u8; 64]>, _: *mut i32) {
        unreachable!("weights have two bytes")
    }
    /// `(sum + more) · step + along` as floats, `BYTES / 4` of them: written to `out`, or added to what is there.
    unsafe fn store<const ADD: bool>(sums: Self::Sums, line: Line, out: *mut f32);

    unsafe fn floats(at: *const f32) -> Self::Floats;
    /// Sixteen float16.
    unsafe fn widened(at: *const u16) -> Self::Floats;
    /// What sixteen small scales are of their super-scale: `scales::share_of_code` of each.
    unsafe fn shares(codes: *const u8) -> Self::Floats;
    /// Sixteen whole numbers of 8 bits.
    unsafe fn signed(at: *const i8) -> Self::Floats;
    /// Sixteen codes of one byte each, as numbers.
    unsafe fn numbers(codes: *const u8) -> Self::Floats;
    /// What sixteen codes below 16, of one byte each, are looked up as.
    unsafe fn levels(codes: *const u8, table: &LevelTable) -> Self::Floats;
    unsafe fn put(x: Self::Floats, at: *mut f32);
    /// One number in every place.
    unsafe fn every(x: f32) -> Self::Floats;
    unsafe fn times(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn plus(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    unsafe fn minus(a: Self::Floats, b: Self::Floats) -> Self::Floats;
    /// A step of a Hadamard rotation between places that are `STEP` (1, 2, 4 or 8) apart: sums in the lower ones, differences in the upper ones.
    unsafe fn butterfly<const STEP: usize>(x: Self::Floats) -> Self::Floats;
    /// `x` where it is larger than `most`, `most` elsewhere.
    unsafe fn larger(x: Self::Floats, most: Self::Floats) -> Self::Floats;
    /// `x` where it is smaller than `least`, `least` elsewhere.
    unsafe fn smaller(x: Self::Floats, least: Self::Floats) -> Self::Floats;
    /// A bit for each place where `x` is below `low` or above `high`.
    unsafe fn outside(x: Self::Floats, low: Self::Floats, high: Self::Floats) -> u32;
    unsafe fn magnitude(x: Self::Floats) -> Self::Floats;
    /// `x` where it is a number, 0 where it is none.
    unsafe fn known(x: Self::Floats) -> Self::Floats;
    /// The nearest float16, halves to even, of numbers within ±65504.
    unsafe fn rounded(x: Self::Floats) -> Self::Floats;
    /// The sum, added up as `linear::sum_of_lanes` does.
    unsafe fn total(x: Self::Floats) -> f32;
    /// The largest; of zeros any.
    unsafe fn most(x: Self::Floats) -> f32;
    /// The smallest; of zeros any.
    unsafe fn least(x: Self::Floats) -> f32;
    /// Sixteen rows of sixteen floats, which begin `stride` floats after each other, become sixteen columns, which begin `apart` after each other.
    unsafe fn transpose(from: *const f32, stride: usize, to: *mut f32, apart: usize);

    /// The nearest whole numbers, halves to even, of magnitudes below 2²².
    unsafe fn whole(x: Self::Floats) -> Self::Whole;
    /// Sums, which wrap around.
    unsafe fn added(a: Self::Whole, b: Self::Whole) -> Self::Whole;
    /// The sum of all sixteen, which wraps around.
    unsafe fn whole_total(numbers: Self::Whole) -> i32;
    unsafe fn put_whole(x: Self::Whole, at: *mut i32);
    /// Brings 16 whole numbers within ±[`LARGEST_MULTIPLIER`] into the form that [`Self::add_products`] takes: two words for every four.
    unsafe fn multipliers(numbers: Self::Whole, first: *mut i32, second: *mut i32);

    /// [`Self::multipliers`] of 64 numbers.
    #[inline(always)]
    unsafe fn more_multipliers(numbers: [Self::Whole; 4], first: *mut i32, second: *mut i32) {
        for (i, numbers) in numbers.into_iter().enumerate() {
            // SAFETY: the caller vouches for 16 words each.
            unsafe { Self::multipliers(numbers, first.add(4 * i), second.add(4 * i)) };
        }
    }

    /// The same, in the order that `order` gives.
    #[inline(always)]
    unsafe fn ordered_multipliers(numbers: [Self::Whole; 4], order: &[u8; 64], first: *mut i32, second: *mut i32) {
        let mut all = [0i32; 64];
        // SAFETY: 64 numbers have room, and the caller vouches for 16 words each.
        unsafe {
            for (i, numbers) in numbers.into_iter().enumerate() {
                Self::put_whole(numbers, all.as_mut_ptr().add(16 * i));
            }
            let ordered: [i32; 64] = std::array::from_fn(|i| all[usize::from(order[i] & 63)]);
            for i in 0..4 {
                let numbers = Self::whole_at(ordered.as_ptr().add(16 * i));
                Self::multipliers(numbers, first.add(4 * i), second.add(4 * i));
            }
        }
    }

    /// [`Self::multipliers`] of 64 numbers within ±[`LARGEST_SMALL_WEIGHT`], of which the first words are 0; where there are [`Self::SMALL_WEIGHTS`],
    /// in the form that [`Self::add_small`] takes, and no others. Adds their products with as many bytes, of 128 at most, to the sixteen places of `total`.
    #[inline(always)]
    unsafe fn small_multipliers(
        total: Self::Whole,
        numbers: [Self::Whole; 4],
        bytes: *const u8,
        first: *mut i32,
        second: *mut i32,
    ) -> Self::Whole {
        let (mut all, mut sums) = ([0i32; 64], [0i32; 16]);
        // SAFETY: 64 numbers have room, and the caller vouches for 64 bytes and 16 words each.
        unsafe {
            for (i, &numbers) in numbers.iter().enumerate() {
                Self::put_whole(numbers, all.as_mut_ptr().add(16 * i));
            }
            for (i, number) in all.into_iter().enumerate() {
                sums[i % 16] += number * i32::from(*bytes.add(i));
            }
            Self::more_multipliers(numbers, first, second);
            Self::added(total, Self::whole_at(sums.as_ptr()))
        }
    }

    /// What [`Self::put_whole`] put.
    unsafe fn whole_at(at: *const i32) -> Self::Whole;

    /// The numbers of the set bits of each mask, mask after mask; together the masks have 64 bits.
    #[inline(always)]
    unsafe fn order(masks: [u64; 4]) -> [u8; 64] {
        let mut order = [0; 64];
        let mut next = 0;
        for mut mask in masks {
            while mask != 0 && next < 64 {
                order[next] = mask.trailing_zeros() as u8;
                next += 1;
                mask &= mask - 1;
            }
        }
        order
    }

    /// Asks for the cache line at an address, which need not be one, to be brought into the second-level cache: a block ahead is more than
    /// what the first has places to wait in.
    unsafe fn prefetch(at: *const u8);
}
