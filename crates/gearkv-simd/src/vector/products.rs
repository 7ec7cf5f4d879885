//! What sums of products with codes need of a register.

use super::Vector;

/// The largest magnitude of a multiplier: two signed bytes, `256 · high + low`, both within ±127.
pub(crate) const LARGEST_MULTIPLIER: f32 = 32_639.0;

/// The largest weight or multiplier of one byte. A pair of products with levels, or with codes on 7 bits, still fits 16 bits.
pub(crate) const LARGEST_SMALL_WEIGHT: f32 = 127.0;

/// What a row's sums come to.
#[derive(Clone, Copy, Default)]
pub(crate) struct Line {
    /// Added to every lane's sum.
    pub more: i32,
    /// What a step of a sum is worth.
    pub step: f32,
    /// Added then.
    pub along: f32,
}

/// Products of bytes with whole numbers, and their sums.
///
/// # Safety
/// As [`Vector`]'s.
pub(crate) trait Products: Vector {
    /// A sum of products for every four bytes.
    type Sums: Copy;

    unsafe fn zero() -> Self::Sums;

    /// Whether bytes are signed where they are multiplied: less 128, so that 128 times the sum of all multipliers is missing.
    const SIGNED_BYTES: bool = false;

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

    /// [`Self::multipliers`] of 64 numbers within ±[`LARGEST_SMALL_WEIGHT`], of which the first words are 0; where there are [`Self::SMALL_WEIGHTS`],
    /// in the form that [`Self::add_small`] takes, and no others. Adds their products with as many bytes, of 128 at most (less 128 where those are
    /// [signed](Self::SIGNED_BYTES)), to the sixteen places of `total`.
    unsafe fn small_multipliers(
        total: Self::Whole,
        numbers: [Self::Whole; 4],
        bytes: *const u8,
        first: *mut i32,
        second: *mut i32,
    ) -> Self::Whole;

    /// Brings 64 whole numbers from 0 to [`LARGEST_SMALL_WEIGHT`] into the form that [`Self::add_weighted`] takes: a word for every four, in the order
    /// that `order` gives, if any.
    #[inline(always)]
    unsafe fn small_weights(_: [Self::Whole; 4], _: Option<&[u8; 64]>, _: *mut i32) {
        unreachable!("weights have two bytes")
    }

    /// `(sum + more) · step + along` as floats, `BYTES / 4` of them: written to `out`, or added to what is there.
    unsafe fn store<const ADD: bool>(sums: Self::Sums, line: Line, out: *mut f32);

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
}
