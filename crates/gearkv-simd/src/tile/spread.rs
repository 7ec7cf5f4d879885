//! Sums for several rows in WebAssembly, where registers are few and narrow: codes are spread to 16 bits once for all rows, then multiplied.
//!
//! SAFETY of all blocks: what [`sums`] asks for holds in all that it calls, since nothing but it is called from outside.

use std::arch::wasm32::*;
use std::mem::MaybeUninit;

use super::sums::{LevelTables, Row, Units, codes, levels, top_codes};
use super::{MOST_WORDS, ROW_WORDS, unit_bytes};
use crate::vector::{Portable, Products, Vector};

const FIELDS: usize = 4;
/// Registers that a unit's codes of one part of each field take: those of even places, and of odd ones.
const SPREAD: usize = 2 * FIELDS;

/// As [`super::sums::sums`].
///
/// # Safety
/// As there; all together no more than [`MOST_WORDS`] units.
#[inline(always)]
pub(super) unsafe fn sums<const VALUES: bool>(all: &[Units], tables: &LevelTables, rows: &[Row]) {
    let mut room = [const { MaybeUninit::<v128>::uninit() }; MOST_WORDS * SPREAD];
    let room = room.as_mut_ptr().cast::<v128>();
    unsafe {
        for part in 0..64 / Portable::BYTES {
            let mut to = room;
            for units in all {
                let mut at = units.bytes;
                for run in units.runs {
                    let count = usize::from(run.units);
                    match run.bits {
                        1 => spread::<1, VALUES>(at, count, tables, part, to),
                        2 => spread::<2, VALUES>(at, count, tables, part, to),
                        3 => spread::<3, VALUES>(at, count, tables, part, to),
                        4 => spread::<4, VALUES>(at, count, tables, part, to),
                        6 if !VALUES => spread::<6, VALUES>(at, count, tables, part, to),
                        _ => spread::<8, VALUES>(at, count, tables, part, to),
                    }
                    (at, to) = (at.add(run.bytes()), to.add(SPREAD * count));
                }
            }
            let spread = std::slice::from_raw_parts(room, to.offset_from_unsigned(room));
            for rows in rows.chunks(2) {
                match rows {
                    [a, b] => products::<2, VALUES>(spread, [a, b], part),
                    [a] => products::<1, VALUES>(spread, [a], part),
                    _ => {}
                }
            }
        }
    }
}

#[inline(never)]
unsafe fn spread<const BITS: usize, const VALUES: bool>(
    mut unit: *const u8,
    count: usize,
    tables: &LevelTables,
    part: usize,
    mut to: *mut v128,
) {
    unsafe {
        for _ in 0..count {
            for field in 0..FIELDS {
                let codes = if !VALUES {
                    top_codes::<Portable, BITS>(unit, field, part)
                } else if BITS <= 4 {
                    levels::<Portable, BITS>(Portable::repeat(tables[BITS - 1].as_ptr()), unit, field, part)
                } else {
                    codes::<Portable, BITS>(unit, field, part)
                };
                *to.add(2 * field) = v128_and(codes, u16x8_splat(0xFF));
                *to.add(2 * field + 1) = u16x8_shr(codes, 8);
            }
            (unit, to) = (unit.add(unit_bytes(BITS)), to.add(SPREAD));
        }
    }
}

// In a function of its own, V8 keeps the sums in registers.
#[inline(never)]
unsafe fn products<const R: usize, const VALUES: bool>(spread: &[v128], rows: [&Row; R], part: usize) {
    unsafe {
        let mut sums = [[Portable::zero(); R]; FIELDS];
        let mut words = rows[0].multipliers;
        for unit in spread.chunks_exact(SPREAD) {
            let multipliers: [(v128, v128); R] = std::array::from_fn(|r| {
                let row = words.add(r * ROW_WORDS);
                (i32x4_splat(*row), i32x4_splat(*row.add(MOST_WORDS)))
            });
            for (sums, codes) in sums.iter_mut().zip(unit.chunks_exact(2)) {
                for (sum, (first, second)) in sums.iter_mut().zip(multipliers) {
                    let (even, odd) = (i32x4_dot_i16x8(codes[0], first), i32x4_dot_i16x8(codes[1], second));
                    *sum = i32x4_add(*sum, i32x4_add(even, odd));
                }
            }
            words = words.add(1);
        }
        for (field, sums) in sums.into_iter().enumerate() {
            for (sum, row) in sums.into_iter().zip(rows) {
                Portable::store::<VALUES>(sum, row.line, row.out.add(16 * field + part * Portable::BYTES / 4));
            }
        }
    }
}
