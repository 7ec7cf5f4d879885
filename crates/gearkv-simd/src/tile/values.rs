//! Weighted sums of tiles of values: `Σ p · level(code) · scale` with the scales of tokens folded into the weights.

use super::order::TileOrder;
use super::sums::{LevelTables, MOST_ROWS, Row, Units, next_rows, sums};
use super::{Ahead, MOST_TILES, MOST_WORDS, TILE, TileMultipliers, steps};
use crate::LANES;
use crate::level::{Level, level};
use crate::vector::{LARGEST_MULTIPLIER, LARGEST_SMALL_WEIGHT, Line, Products, Vector, kernel};
use crate::{LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4};

/// What codes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Levels in 128ths of the scale (`backbone/rotated.rs`).
    Turned,
    /// Themselves, and a zero is added.
    Affine,
}

/// Neighboring tiles of values, [`MOST_TILES`] at most.
#[derive(Clone, Copy)]
pub struct ValueTiles<'a> {
    /// Of each tile's tokens.
    pub orders: &'a [TileOrder],
    /// What codes stand for.
    pub levels: Levels,
    /// Tile after tile, each with the units of 64 channels after those of 64 others.
    pub units: &'a [u8],
    /// Units that will be read soon.
    pub ahead: &'a [u8],
    /// `[groups, tiles, 64]`, groups being as many channels each.
    pub scales: &'a [f32],
    /// As `scales`; none where levels are [`Levels::Turned`].
    pub zeros: &'a [f32],
    /// How many tokens count, of all tiles: 64 of each but the last.
    pub tokens: usize,
    /// In which column of the weights the first one's are.
    pub column: usize,
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub struct ValueRoom {
    multipliers: TileMultipliers,
    /// Of all tiles' tokens.
    folded: Vec<f32>,
    /// Weights of tiles whose tokens do not all count.
    padded: Vec<f32>,
}

/// Levels, `more` being added, as often as there is room: so that the lowest bits of an index suffice.
const fn table<const N: usize>(levels: &[i8; N], more: i16) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < 16 {
        table[i] = (levels[i % N] as i16 + more) as u8;
        i += 1;
    }
    table
}

const fn turned(more: i16) -> LevelTables {
    [table(&LEVELS_1, more), table(&LEVELS_2, more), table(&LEVELS_3, more), table(&LEVELS_4, more)]
}

/// Levels, 128 being added so that they are not negative.
const TURNED: LevelTables = turned(128);
/// Levels as signed bytes.
const TURNED_SIGNED: LevelTables = turned(0);

const fn affine(less: u8) -> LevelTables {
    let mut tables = [[0; 16]; 4];
    let mut i = 0;
    while i < 64 {
        tables[i / 16][i % 16] = (i % 16 % (2 << (i / 16))) as u8 ^ less;
        i += 1;
    }
    tables
}

const AFFINE: LevelTables = affine(0);
/// Codes less 128, as signed bytes.
const AFFINE_SIGNED: LevelTables = affine(128);

/// Codes of one byte each become what [`Levels::Turned`] units of 8 bits have in their places.
pub fn levels_of_codes(codes: &mut [u8], bits: u32) {
    let Some(table) = TURNED.get(bits.wrapping_sub(1) as usize) else { return };
    look_up_at(level(), codes, table);
}

kernel!(fn look_up_at(codes: &mut [u8], table: &[u8; 16]) = look_up);

#[inline(always)]
unsafe fn look_up<V: Vector>(codes: &mut [u8], table: &[u8; 16]) {
    let mut registers = codes.chunks_exact_mut(V::BYTES);
    for codes in &mut registers {
        // SAFETY: a register's bytes are there, and 16 of the table.
        unsafe {
            let table = V::repeat(table.as_ptr());
            V::put_bytes(V::look_up(table, V::load(codes.as_ptr())), codes.as_mut_ptr());
        }
    }
    registers.into_remainder().iter_mut().for_each(|code| *code = table[usize::from(*code & 15)]);
}

fn tables_of(levels: Levels, signed: bool) -> &'static LevelTables {
    match levels {
        Levels::Affine if signed => &AFFINE_SIGNED,
        Levels::Affine => &AFFINE,
        Levels::Turned if signed => &TURNED_SIGNED,
        Levels::Turned => &TURNED,
    }
}

/// `out[row][channel] += Σ weights[row · stride + column + token] · value[token][channel]`. `out` is `[rows, dim]`, `dim` being a multiple of 64.
/// Of rows that are `coarse`, where levels are [`Levels::Turned`], products of weights and scales are rounded to a byte, of 127 steps; none is negative.
///
/// All tiles' multipliers are made before the first sums, so that none waits for the quotient that another one needs.
pub fn add_values(
    level: Level,
    tiles: ValueTiles,
    (weights, stride): (&[f32], usize),
    coarse: &[bool],
    out: &mut [f32],
    room: &mut ValueRoom,
) {
    let rows = weights.len() / stride.max(1);
    let dim = out.len() / rows.max(1);
    let count = tiles.orders.len();
    let groups = tiles.scales.len() / (count * TILE).max(1);
    assert!(weights.len() == rows * stride && out.len() == rows * dim && tiles.column + tiles.tokens <= stride);
    assert!(count <= MOST_TILES && count == tiles.tokens.div_ceil(TILE) && coarse.len() == rows);
    assert!(dim > 0 && dim.is_multiple_of(TILE) && groups > 0 && (dim / TILE).is_multiple_of(groups));
    assert!(tiles.units.len() == dim / TILE * tiles.orders.iter().map(TileOrder::bytes).sum::<usize>());
    assert!(tiles.scales.len() == groups * count * TILE);
    assert!(tiles.zeros.is_empty() || tiles.zeros.len() == tiles.scales.len());
    sums_at(level, tiles, Weights { all: weights, stride, coarse }, dim, out, room);
}

/// Weights of rows, and which rows' are coarse.
#[derive(Clone, Copy)]
struct Weights<'a> {
    all: &'a [f32],
    stride: usize,
    coarse: &'a [bool],
}

/// Tokens of all tiles together.
const MOST_TOKENS: usize = MOST_TILES * TILE;

const _: () = assert!(MOST_TOKENS <= 4 * MOST_WORDS);

kernel!(
    fn sums_at(
        tiles: ValueTiles,
        weights: Weights,
        dim: usize,
        out: &mut [f32],
        room: &mut ValueRoom,
    ) = generic
);

#[inline(always)]
unsafe fn generic<V: Products>(tiles: ValueTiles, weights: Weights, dim: usize, out: &mut [f32], room: &mut ValueRoom) {
    room.folded.resize(MOST_TOKENS, 0.0);
    room.multipliers.resize(MOST_ROWS);
    // Levels lie around zero, where what rounding leaves is least; codes do not.
    let may = tiles.levels == Levels::Turned;
    // What comes soon is asked for with the first rows alone.
    let mut ahead = tiles.ahead;
    // A row's sums are the same whichever others are beside it.
    for kind in [false, true] {
        let mut rows = (0..weights.coarse.len()).filter(|&row| (may && weights.coarse[row]) == kind);
        loop {
            let (group, now) = next_rows(&mut rows);
            if now == 0 {
                break;
            }
            let (rows, largest) = (&group[..now], if kind { LARGEST_SMALL_WEIGHT } else { LARGEST_MULTIPLIER });
            // SAFETY: what the caller vouches for.
            unsafe {
                if kind && V::SMALL_WEIGHTS {
                    add_rows::<V, true>(&tiles, weights, (rows, largest), dim, out, room, ahead);
                } else {
                    add_rows::<V, false>(&tiles, weights, (rows, largest), dim, out, room, ahead);
                }
            }
            ahead = &[];
        }
    }
}

/// Adds what [`MOST_ROWS`] rows at most gather, whose multipliers reach as far as `largest`.
#[inline(always)]
unsafe fn add_rows<V: Products, const SMALL: bool>(
    tiles: &ValueTiles,
    weights: Weights,
    (rows, largest): (&[usize], f32),
    dim: usize,
    out: &mut [f32],
    room: &mut ValueRoom,
    ahead: &[u8],
) {
    let count = tiles.orders.len();
    let groups = tiles.scales.len() / (count * TILE);
    let blocks = dim / TILE;
    let ValueRoom { multipliers, folded, padded } = room;
    for group in 0..groups {
        let of_group = group * count * TILE..(group + 1) * count * TILE;
        let scales = &tiles.scales[of_group.clone()];
        let zeros = tiles.zeros.get(of_group);
        let mut lines = [Line::default(); MOST_ROWS];
        for (r, (&row, line)) in rows.iter().zip(&mut lines).enumerate() {
            let start = row * weights.stride + tiles.column;
            let mut p = &weights.all[start..start + tiles.tokens];
            if tiles.tokens < count * TILE {
                padded.clear();
                padded.extend_from_slice(p);
                padded.resize(count * TILE, 0.0);
                p = padded;
            }
            let words = multipliers.row(r);
            let ahead = if group == 0 { ahead } else { &[] };
            let ahead = Ahead::new(ahead, tiles.units, weights.coarse.len(), count * TILE / LANES);
            let factors = Factors { weights: p, scales, zeros };
            // SAFETY: weights and scales (and zeros) have 64 numbers of each tile, and a row has room for 16 words of each.
            *line = unsafe { fold::<V, SMALL>(tiles.orders, tiles.levels, factors, largest, ahead, folded, words) };
        }
        for block in group * blocks / groups..(group + 1) * blocks / groups {
            // Where nothing is read soon, what is at hand: an address that is none would be looked for each time.
            let at_hand = tiles.units.as_ptr();
            let mut units = [Units { runs: &[], bytes: at_hand, ahead: at_hand }; MOST_TILES];
            let mut start = 0;
            for (units, order) in units.iter_mut().zip(tiles.orders) {
                let at = start + block * order.bytes();
                units.runs = order.runs();
                units.bytes = tiles.units[at..].as_ptr();
                if !ahead.is_empty() {
                    units.ahead = ahead.as_ptr().wrapping_add(at);
                }
                start += blocks * order.bytes();
            }
            let base = out.as_mut_ptr();
            let of: [Row; MOST_ROWS] = std::array::from_fn(|r| Row {
                multipliers: multipliers.from(r),
                line: lines[r],
                out: base.wrapping_add(rows.get(r).map_or(0, |row| row * dim + block * TILE)),
            });
            let (units, of) = (&units[..count], &of[..rows.len()]);
            // SAFETY: what the caller vouches for; a tile has 16 units for every 64 channels, and rows' multipliers follow each other and have room for these.
            unsafe {
                if SMALL {
                    sums::<V, true, true>(units, tables_of(tiles.levels, true), of);
                } else {
                    sums::<V, true, false>(units, tables_of(tiles.levels, V::SIGNED_BYTES), of);
                }
            }
        }
    }
}

/// What multipliers are made of, as many numbers each.
struct Factors<'a> {
    weights: &'a [f32],
    scales: &'a [f32],
    zeros: Option<&'a [f32]>,
}

/// Multipliers of one row of weights under the scales of all tiles, and what their sums come to.
#[inline(always)]
unsafe fn fold<V: Products, const SMALL: bool>(
    orders: &[TileOrder],
    levels: Levels,
    Factors { weights: p, scales, zeros }: Factors,
    largest: f32,
    ahead: Ahead,
    folded: &mut [f32],
    (first, second): (*mut i32, *mut i32),
) -> Line {
    unsafe {
        let (mut most, mut sum) = (V::every(0.0), V::every(0.0));
        for i in (0..p.len()).step_by(LANES) {
            ahead.ask::<V>(i / LANES);
            let weight = V::floats(p.as_ptr().add(i));
            let product = V::times(weight, V::floats(scales.as_ptr().add(i)));
            V::put(product, folded.as_mut_ptr().add(i));
            most = V::larger(V::magnitude(product), most);
            if let Some(zeros) = zeros {
                sum = V::plus(sum, V::times(weight, V::floats(zeros.as_ptr().add(i))));
            }
        }
        let (inverse, step) = steps(V::most(most), largest);
        let inverse = V::every(inverse);
        // Levels of 8 bits are `code − 127.5`.
        let mut halves = 0i32;
        let mut total = V::whole(V::every(0.0));
        for (t, order) in orders.iter().enumerate() {
            let folded = folded.as_ptr().add(t * TILE);
            let numbers = [0, 1, 2, 3].map(|i| V::whole(V::times(V::floats(folded.add(LANES * i)), inverse)));
            let (first, second) = (first.add(t * TILE / 4), second.add(t * TILE / 4));
            if SMALL {
                V::small_weights(numbers, (!order.in_order).then_some(&order.order), first);
            } else if order.in_order {
                V::more_multipliers(numbers, first, second);
            } else {
                V::ordered_multipliers(numbers, &order.order, first, second);
            }
            if (levels == Levels::Affine) == V::SIGNED_BYTES && !SMALL {
                total = V::added_up(total, numbers);
            }
            if levels == Levels::Turned && order.wide != 0 {
                let mut all = [0i32; TILE];
                for (i, numbers) in numbers.into_iter().enumerate() {
                    V::put_whole(numbers, all.as_mut_ptr().add(LANES * i));
                }
                for (t, &number) in all.iter().enumerate() {
                    halves = halves.wrapping_add(if order.wide >> t & 1 == 1 { number } else { 0 });
                }
            }
        }
        // Codes are multiplied as they are or, where bytes are signed, less 128; levels as they are where bytes are signed or weights small, with 128 more
        // elsewhere. What is the case where nothing is missing has left the total at zero.
        let more = V::whole_total(total).wrapping_mul(if V::SIGNED_BYTES { 128 } else { -128 });
        if levels == Levels::Affine {
            return Line { step, more, along: V::total(sum) };
        }
        let step = step / 128.0;
        Line { step, more, along: halves as f32 * 0.5 * step }
    }
}

// Sums of whole numbers are exact as long as they fit: levels less 128 at least, and codes of weights that are not negative.
const _: () = assert!((MOST_TOKENS as f32) * LARGEST_MULTIPLIER * 255.0 < 2_147_483_648.0);

// Pairs of products with small weights fit 16 bits, as AVX2 wants it.
const _: () = assert!(2.0 * LARGEST_SMALL_WEIGHT * 128.0 < 32_768.0);
