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
#[cfg(target_arch = "aarch64")]
mod neon;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod plain;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
mod portable;
mod products;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod simd128;
#[cfg(target_arch = "x86_64")]
mod transpose;

#[cfg(target_arch = "x86_64")]
pub(super) use avx2::Avx2;
#[cfg(target_arch = "x86_64")]
pub(super) use avx512::Avx512;
#[cfg(target_arch = "aarch64")]
pub(super) use neon::Neon;
#[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
pub(super) use portable::Portable;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
pub(super) use simd128::Simd128 as Portable;

pub(crate) use kernel::kernel;
pub(super) use products::{LARGEST_MULTIPLIER, LARGEST_SMALL_WEIGHT, Line, Products};

/// 1.5 · 2²³: added, it leaves a whole number in a float's low bits.
const ROUNDING: f32 = 12_582_912.0;

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
    /// `total` and four others, which wrap around.
    #[inline(always)]
    unsafe fn added_up(total: Self::Whole, [a, b, c, d]: [Self::Whole; 4]) -> Self::Whole {
        // SAFETY: what the caller vouches for.
        unsafe { Self::added(total, Self::added(Self::added(a, b), Self::added(c, d))) }
    }
    /// The sum of all sixteen, which wraps around.
    unsafe fn whole_total(numbers: Self::Whole) -> i32;
    unsafe fn put_whole(x: Self::Whole, at: *mut i32);

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
