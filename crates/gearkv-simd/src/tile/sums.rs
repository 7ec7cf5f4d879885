//! Sums of products of units of codes with whole numbers, lane by lane.
//!
//! SAFETY of all blocks: what [`sums`] asks for holds in all that it calls, since nothing but it is called from outside.

#![expect(clippy::needless_range_loop, reason = "fields and rows are unrolled, so that sums stay in registers")]

use super::{MOST_WORDS, ROW_WORDS, unit_bytes};
use crate::vector::{Line, Products, Vector};

/// The most rows of multipliers that are summed at a time.
pub(super) const MOST_ROWS: usize = 4;

/// The next of these rows, [`MOST_ROWS`] at most, and how many.
#[inline(always)]
pub(super) fn next_rows(rows: &mut impl Iterator<Item = usize>) -> ([usize; MOST_ROWS], usize) {
    let (mut group, mut count) = ([0; MOST_ROWS], 0);
    for (to, row) in group.iter_mut().zip(rows) {
        (*to, count) = (row, count + 1);
    }
    (group, count)
}

/// Neighboring units of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct UnitRun {
    /// Of a code: 1, 2, 3, 4, 6 or 8.
    pub bits: u8,
    /// How many.
    pub units: u16,
}

impl UnitRun {
    /// Units whose codes are all of this width.
    pub fn even(bits: u8, units: usize) -> Self {
        Self { bits, units: units as u16 }
    }

    /// Of the codes of 64 lanes.
    pub fn bytes(self) -> usize {
        usize::from(self.units) * unit_bytes(usize::from(self.bits))
    }
}

/// What codes below 8 bits are looked up in, for each width from 1 to 4; those of few bits again and again.
pub(super) type LevelTables = [[u8; 16]; 4];

/// A row: what its sums come to, and where 64 floats have room.
#[derive(Clone, Copy)]
pub(super) struct Row {
    /// Its first words; its second ones and those of the next row lie as [`TileMultipliers`](super::TileMultipliers) has them.
    pub multipliers: *const i32,
    pub line: Line,
    pub out: *mut f32,
}

/// Units that lie side by side.
#[derive(Clone, Copy)]
pub(super) struct Units<'a> {
    pub runs: &'a [UnitRun],
    /// As many bytes as the runs have.
    pub bytes: *const u8,
    /// What will be read soon.
    pub ahead: *const u8,
}

/// What the 64 lanes' sums over all these units come to, for up to [`MOST_ROWS`] rows: written, or with `VALUES` added to what is there. With
/// `VALUES`, what codes stand for is looked up in `tables`, where it is less 128 if [bytes are signed](Products::SIGNED_BYTES) or multipliers are small.
/// With `SMALL`, where there are [`Products::SMALL_WEIGHTS`], multipliers are of one byte: either
/// [`Products::small_weights`] for levels as signed bytes, or [`Products::small_multipliers`] for codes.
///
/// # Safety
/// `V`'s instruction set is there, each one's `bytes` reach as far as its runs, each row's multipliers as far as all of them, rows' multipliers follow each other, and each row has room.
#[inline(always)]
pub(super) unsafe fn sums<V: Products, const VALUES: bool, const SMALL: bool>(
    units: &[Units],
    tables: &LevelTables,
    rows: &[Row],
) {
    unsafe {
        #[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
        match *rows {
            [row] => fields::<V, 1, 4, VALUES, SMALL>(units, tables, [row], 0),
            _ => super::spread::sums::<VALUES>(units, tables, rows),
        }
        #[cfg(not(all(target_arch = "wasm32", target_feature = "simd128")))]
        if V::ROWS == MOST_ROWS {
            match *rows {
                // One sum a row and field: those of all four fields fit the registers.
                [a, b, c, d] if SMALL => fields::<V, 4, 4, VALUES, SMALL>(units, tables, [a, b, c, d], 0),
                [a, b, c] if SMALL => fields::<V, 3, 4, VALUES, SMALL>(units, tables, [a, b, c], 0),
                // Three rows' sums of all four fields would not fit the registers with what they are multiplied by.
                [a, b, c, d] => {
                    fields::<V, 4, 2, VALUES, SMALL>(units, tables, [a, b, c, d], 0);
                    fields::<V, 4, 2, VALUES, SMALL>(units, tables, [a, b, c, d], 2);
                }
                [a, b, c] => {
                    fields::<V, 3, 2, VALUES, SMALL>(units, tables, [a, b, c], 0);
                    fields::<V, 3, 2, VALUES, SMALL>(units, tables, [a, b, c], 2);
                }
                [a, b] => fields::<V, 2, 4, VALUES, SMALL>(units, tables, [a, b], 0),
                [a] => fields::<V, 1, 4, VALUES, SMALL>(units, tables, [a], 0),
                _ => {}
            }
        } else {
            for rows in rows.chunks(2) {
                match *rows {
                    [a, b] => fields::<V, 2, 4, VALUES, SMALL>(units, tables, [a, b], 0),
                    [a] => fields::<V, 1, 4, VALUES, SMALL>(units, tables, [a], 0),
                    _ => {}
                }
            }
        }
    }
}

#[inline(always)]
unsafe fn fields<V: Products, const R: usize, const F: usize, const VALUES: bool, const SMALL: bool>(
    all: &[Units],
    tables: &LevelTables,
    of: [Row; R],
    first: usize,
) {
    unsafe {
        for part in 0..64 / V::BYTES {
            let mut sums = [[V::zero(); R]; F];
            let mut words = of[0].multipliers;
            for units in all {
                let (mut at, mut ahead) = (units.bytes, units.ahead);
                for run in units.runs {
                    let run = *run;
                    let state = (&mut sums, &mut words, &mut at, &mut ahead);
                    match run.bits {
                        1 => even::<V, 1, R, F, VALUES, SMALL>(run, tables, state, first, part),
                        2 => even::<V, 2, R, F, VALUES, SMALL>(run, tables, state, first, part),
                        3 => even::<V, 3, R, F, VALUES, SMALL>(run, tables, state, first, part),
                        4 => even::<V, 4, R, F, VALUES, SMALL>(run, tables, state, first, part),
                        6 if !VALUES => even::<V, 6, R, F, VALUES, SMALL>(run, tables, state, first, part),
                        _ => even::<V, 8, R, F, VALUES, SMALL>(run, tables, state, first, part),
                    }
                }
            }
            for r in 0..R {
                for f in 0..F {
                    let lane = 16 * (first + f) + part * V::BYTES / 4;
                    V::store::<VALUES>(sums[f][r], of[r].line, of[r].out.add(lane));
                }
            }
        }
    }
}

/// Sums so far, and how far multipliers, units and what is fetched ahead have been gone through.
type State<'a, V, const R: usize, const F: usize> =
    (&'a mut [[<V as Products>::Sums; R]; F], &'a mut *const i32, &'a mut *const u8, &'a mut *const u8);

// In a function of its own, V8 keeps the sums in registers; within all that attends it stores them after every unit.
#[cfg_attr(target_arch = "wasm32", inline(never))]
#[cfg_attr(not(target_arch = "wasm32"), inline(always))]
unsafe fn even<
    V: Products,
    const BITS: usize,
    const R: usize,
    const F: usize,
    const VALUES: bool,
    const SMALL: bool,
>(
    run: UnitRun,
    tables: &LevelTables,
    (sums, words, at, ahead): State<V, R, F>,
    first: usize,
    part: usize,
) {
    unsafe {
        let table = if VALUES && BITS <= 4 { V::repeat(tables[BITS - 1].as_ptr()) } else { V::splat(0) };
        let (mut own, mut unit, mut next) = (*sums, *at, *ahead);
        let mut multipliers = *words;
        for _ in 0..run.units {
            for line in 0..unit_bytes(BITS).div_ceil(64) {
                V::prefetch(next.wrapping_add(64 * line));
            }
            for f in 0..F {
                let codes = if !VALUES && SMALL {
                    codes_at::<V, BITS>(unit, first + f, part, V::SMALL_CODES.saturating_sub(BITS))
                } else if !VALUES {
                    top_codes::<V, BITS>(unit, first + f, part)
                } else {
                    levels::<V, BITS>(table, unit, first + f, part)
                };
                // What is looked up is signed in its table already.
                let is_looked_up = VALUES && BITS <= 4;
                let codes =
                    if !is_looked_up && (V::SIGNED_BYTES || VALUES && SMALL) { V::less_128(codes) } else { codes };
                for r in 0..R {
                    let words = multipliers.add(r * ROW_WORDS);
                    own[f][r] = if SMALL && !VALUES {
                        match BITS {
                            8 => V::add_small::<true>(own[f][r], codes, *words),
                            _ => V::add_small::<false>(own[f][r], codes, *words),
                        }
                    } else if SMALL {
                        V::add_weighted(own[f][r], codes, *words)
                    } else {
                        V::add_products(own[f][r], codes, *words, *words.add(MOST_WORDS))
                    };
                }
            }
            multipliers = multipliers.add(1);
            unit = unit.add(unit_bytes(BITS));
            next = next.wrapping_add(unit_bytes(BITS));
        }
        (*sums, *words, *at, *ahead) = (own, multipliers, unit, next);
    }
}

/// What the codes of one field of a unit are looked up as: those of 8 bits as themselves.
#[inline(always)]
pub(super) unsafe fn levels<V: Vector, const BITS: usize>(
    table: V::Bytes,
    unit: *const u8,
    field: usize,
    part: usize,
) -> V::Bytes {
    unsafe {
        let byte = part * V::BYTES;
        match BITS {
            // Bits of other fields above a code change nothing: the table begins again and again.
            2 => V::look_up_low(table, V::moved(V::load(unit.add(byte)), 2 * field as i32)),
            4 => {
                let both = V::load(unit.add(64 * (field / 2) + byte));
                V::look_up_low(table, V::moved(both, 4 * (field % 2) as i32))
            }
            8 => codes::<V, BITS>(unit, field, part),
            _ => V::look_up(table, codes::<V, BITS>(unit, field, part)),
        }
    }
}

/// The codes of one field of a unit, one byte each, in the `part`-th register that they take.
#[inline(always)]
pub(super) unsafe fn codes<V: Vector, const BITS: usize>(unit: *const u8, field: usize, part: usize) -> V::Bytes {
    unsafe { codes_at::<V, BITS>(unit, field, part, 0) }
}

/// As [`codes`], times 2^(8 − `BITS`): so that one step of a multiplier counts alike whatever the width.
#[inline(always)]
pub(super) unsafe fn top_codes<V: Vector, const BITS: usize>(unit: *const u8, field: usize, part: usize) -> V::Bytes {
    unsafe { codes_at::<V, BITS>(unit, field, part, 8 - BITS) }
}

/// Codes whose lowest bit is bit `low` of each byte.
#[inline(always)]
unsafe fn codes_at<V: Vector, const BITS: usize>(unit: *const u8, field: usize, part: usize, low: usize) -> V::Bytes {
    unsafe {
        let byte = part * V::BYTES;
        // A field of a plane of 4 and of 2 bits, its lowest bit becoming bit `to`.
        let four = |to: usize| {
            let x = V::load(unit.add(64 * (field / 2) + byte));
            V::and(V::moved(x, 4 * (field % 2) as i32 - to as i32), V::splat(15 << to))
        };
        let two = |plane: usize, to: usize| {
            let x = V::load(unit.add(plane + byte));
            V::and(V::moved(x, 2 * field as i32 - to as i32), V::splat(3 << to))
        };
        match BITS {
            1 => V::bit(unit, field, part, low),
            2 => two(0, low),
            3 => V::or(two(0, low), V::bit(unit.add(unit_bytes(2)), field, part, low + 2)),
            4 => four(low),
            6 => V::or(four(low), two(unit_bytes(4), low + 4)),
            _ => V::load(unit.add(64 * field + byte)),
        }
    }
}
