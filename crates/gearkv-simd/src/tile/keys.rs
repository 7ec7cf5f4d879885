//! Logits of tiles of keys: `q·(code · scale + zero)` with the scales of channels folded into the queries.

use super::key_scales::{KeyScales, Scales};
use super::sums::{MOST_ROWS, Row, UnitRun, Units, next_rows, sums};
use super::{Ahead, MOST_TILES, MOST_WORDS, TILE, TileMultipliers};
use crate::LANES;
use crate::level::Level;
use crate::vector::{LARGEST_MULTIPLIER, LARGEST_SMALL_WEIGHT, Line, Products, kernel};

/// Neighboring tiles of keys, [`MOST_TILES`] at most.
#[derive(Clone, Copy)]
pub struct KeyTiles<'a> {
    /// Of each tile; a unit has four channels.
    pub runs: &'a [UnitRun],
    /// Tile after tile, as many bytes each as the runs have.
    pub units: &'a [u8],
    /// Units that will be read soon.
    pub ahead: &'a [u8],
    /// Of the channels, tile after tile; or once, for all tiles.
    pub scales: KeyScales<'a>,
    /// Of each channel of *w* bits: 2^(*w* − 8).
    pub units_of_codes: &'a [f32],
    /// Whether codes reach as far as their bits let them, so that they have a middle that is known.
    pub reach_far: bool,
    /// How many tokens count, of all tiles: 64 of each but the last.
    pub tokens: usize,
    /// In which column of the logits the first one's are.
    pub column: usize,
}

impl KeyTiles<'_> {
    /// How many.
    fn count(&self) -> usize {
        self.tokens.div_ceil(TILE)
    }

    /// Whether multipliers of one byte are known here.
    fn can_be_rough(&self) -> bool {
        self.reach_far && self.units_of_codes.len().is_multiple_of(TILE)
    }
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub struct KeyRoom {
    tile_scales: Scales,
    /// Of a few queries: `[rows, channels]`.
    folded: Vec<f32>,
    multipliers: TileMultipliers,
    /// Logits of a tile whose tokens do not all count: `[rows, 64]`.
    aside: Vec<f32>,
}

/// `logits[row · stride + column + token]` of queries `q`: `[rows, channels]`, channels in the order of the units, at most 256 and a multiple of
/// 16. Of rows that are `rough` (none where it is empty), products of queries and scales are rounded to a byte, of ±127 steps, where codes reach far
/// and channels are a multiple of 64; returns whether that is so. What is rounded off is multiplied with codes less the middle one.
///
/// All tiles' multipliers are made before the first sums, so that none waits for the quotient that another one needs.
pub fn key_logits(
    level: Level,
    tiles: KeyTiles,
    (q, rough): (&[f32], &[bool]),
    logits: &mut [f32],
    stride: usize,
    room: &mut KeyRoom,
) -> bool {
    let (dim, count) = (tiles.units_of_codes.len(), tiles.count());
    let (units, bytes) =
        tiles.runs.iter().fold((0, 0), |(units, bytes), run| (units + usize::from(run.units), bytes + run.bytes()));
    assert!(dim > 0 && dim == 4 * units && dim.is_multiple_of(LANES) && units <= MOST_WORDS);
    let rows = q.len() / dim;
    assert!(q.len() == rows * dim && (rough.is_empty() || rough.len() == rows));
    assert!(count <= MOST_TILES && tiles.units.len() == count * bytes);
    assert!([dim, count * dim].contains(&tiles.scales.len()) && tiles.scales.have_steps(dim));
    assert!(tiles.column + tiles.tokens <= stride && logits.len() >= rows * stride);
    let is_rough = rough.contains(&true) && tiles.can_be_rough();
    let rough = if is_rough { rough } else { &[] };
    logits_at(level, tiles, (q, rough), logits, stride, room);
    is_rough
}

kernel!(
    fn logits_at(tiles: KeyTiles, queries: (&[f32], &[bool]), logits: &mut [f32], stride: usize, room: &mut KeyRoom) =
        generic
);

#[inline(always)]
unsafe fn generic<V: Products>(
    tiles: KeyTiles,
    (q, rough): (&[f32], &[bool]),
    logits: &mut [f32],
    stride: usize,
    room: &mut KeyRoom,
) {
    let (dim, kept) = (tiles.units_of_codes.len(), tiles.scales.len());
    room.tile_scales.prepare(&tiles, !rough.is_empty());
    room.folded.resize(MOST_ROWS * dim, 0.0);
    room.aside.resize(MOST_ROWS * TILE, 0.0);
    room.multipliers.resize(MOST_TILES * MOST_ROWS);
    // What comes soon is asked for with the first rows alone.
    let mut ahead = tiles.ahead;
    // A row's logits are the same whichever others are beside it.
    for kind in [false, true] {
        let mut rows = (0..q.len() / dim).filter(|&row| rough.get(row).is_some_and(|&rough| rough) == kind);
        let mut is_loaded = false;
        loop {
            let (group, now) = next_rows(&mut rows);
            if now == 0 {
                break;
            }
            let soon = Ahead::new(ahead, tiles.units, q.len() / dim, kept / LANES);
            if !std::mem::replace(&mut is_loaded, true) {
                // SAFETY: the caller vouches for the instruction set; channels are a multiple of 16.
                unsafe { room.tile_scales.load::<V>(&tiles, kind, soon) };
            }
            let of = Rows { q, all: group, now, stride };
            // SAFETY: what the caller vouches for.
            unsafe { rows_of::<V>(&tiles, of, kind, logits, room, ahead) };
            ahead = &[];
        }
    }
}

/// Some rows of all queries, [`MOST_ROWS`] at most, and how far the rows of logits are from each other.
#[derive(Clone, Copy)]
struct Rows<'a> {
    q: &'a [f32],
    all: [usize; MOST_ROWS],
    now: usize,
    stride: usize,
}

/// Logits of a few rows, all of them `rough` or none.
#[inline(always)]
unsafe fn rows_of<V: Products>(
    tiles: &KeyTiles,
    Rows { q, all: of, now, stride }: Rows,
    rough: bool,
    logits: &mut [f32],
    KeyRoom { tile_scales, folded, multipliers, aside }: &mut KeyRoom,
    ahead: &[u8],
) {
    let (dim, count, kept) = (tiles.units_of_codes.len(), tiles.count(), tiles.scales.len());
    let bytes = tiles.units.len() / count.max(1);
    let (zeros, middles) = (&tile_scales.zeros, &tile_scales.middles);
    let mut lines = [[Line::default(); MOST_ROWS]; MOST_TILES];
    // Where few rows are summed at a time, code that is small.
    let one_by_one = V::ROWS < MOST_ROWS;
    if now == 1 && count == MOST_TILES && kept > dim && !one_by_one {
        // Those of all tiles side by side, so that none of their quotients is waited for.
        let rows = [of[0]; MOST_ROWS];
        let factors = Factors { q, rows, scales: (&tile_scales.scales, dim), zeros, middles, rough, dim };
        let mut own = [Line::default(); MOST_TILES];
        // SAFETY: as below.
        unsafe { fold::<V, MOST_TILES>(factors, folded, |t| multipliers.row(t * MOST_ROWS), &mut own) };
        lines.iter_mut().zip(own).for_each(|(lines, line)| lines[0] = line);
    } else {
        for (t, lines) in lines.iter_mut().enumerate().take(count) {
            let at = if kept == dim { 0 } else { t * dim };
            let (scales, zeros) = (&tile_scales.scales[at..at + dim], &zeros[at..at + dim]);
            let factors = Factors { q, rows: of, scales: (scales, 0), zeros, middles, rough, dim };
            // SAFETY: queries, scales and zeros have `dim` numbers, a multiple of 16 (and, where rows are rough, of 64), as many a row as there is room
            // for in `folded`, and a row of multipliers has room for `dim / 4` words, which are no more than `MOST_WORDS`.
            unsafe {
                let rows = |r: usize| multipliers.row(t * MOST_ROWS + r);
                match now {
                    _ if one_by_one => {
                        for (r, line) in lines.chunks_mut(1).enumerate().take(now) {
                            let factors = Factors { rows: [of[r]; MOST_ROWS], ..factors };
                            fold::<V, 1>(factors, folded, |_| multipliers.row(t * MOST_ROWS + r), line);
                        }
                    }
                    1 => fold::<V, 1>(factors, folded, rows, lines),
                    2 => fold::<V, 2>(factors, folded, rows, lines),
                    3 => fold::<V, 3>(factors, folded, rows, lines),
                    _ => fold::<V, 4>(factors, folded, rows, lines),
                }
            }
        }
    }
    for (t, lines) in lines.iter().enumerate().take(count) {
        let tokens = (tiles.tokens - t * TILE).min(TILE);
        let whole = tokens == TILE;
        // Where not all of a tile's tokens count, there may be no room for the logits of the others.
        let start = |r: usize| of[r] * stride + tiles.column + t * TILE;
        let out = if whole { logits.as_mut_ptr() } else { aside.as_mut_ptr() };
        let rows: [Row; MOST_ROWS] = std::array::from_fn(|r| Row {
            multipliers: multipliers.from(t * MOST_ROWS + r),
            line: lines[r],
            out: out.wrapping_add(if whole { start(r) } else { r * TILE }),
        });
        let units = Units {
            runs: tiles.runs,
            bytes: tiles.units[t * bytes..].as_ptr(),
            // Where nothing is read soon, what is at hand: an address that is none would be looked for each time.
            ahead: if ahead.is_empty() { tiles.units.as_ptr() } else { ahead.as_ptr().wrapping_add(t * bytes) },
        };
        // SAFETY: what the caller vouches for; rows follow each other, have as many multipliers as the runs have units, and room for 64 logits.
        unsafe {
            if rough && V::SMALL_WEIGHTS {
                sums::<V, false, true>(&[units], &[[0; 16]; 4], &rows[..now]);
            } else {
                sums::<V, false, false>(&[units], &[[0; 16]; 4], &rows[..now]);
            }
        }
        if !whole {
            for (r, own) in aside.chunks_exact(TILE).enumerate().take(now) {
                logits[start(r)..start(r) + tokens].copy_from_slice(&own[..tokens]);
            }
        }
    }
}

/// What multipliers are made of: some rows of the queries, and scales and zeros, each with how far one row's are from the next one's, which is 0 where
/// there is one for all.
#[derive(Clone, Copy)]
struct Factors<'a> {
    q: &'a [f32],
    rows: [usize; MOST_ROWS],
    scales: (&'a [f32], usize),
    /// As far from each other as the scales.
    zeros: &'a [f32],
    /// One for all.
    middles: &'a [u8],
    rough: bool,
    dim: usize,
}

/// `R` times multipliers of a query under the scales of a tile, and what their sums come to.
#[inline(always)]
unsafe fn fold<V: Products, const R: usize>(
    Factors { q, rows: of, scales: (scales, next_scales), zeros, middles, rough, dim }: Factors,
    folded: &mut [f32],
    mut rows: impl FnMut(usize) -> (*mut i32, *mut i32),
    lines: &mut [Line],
) {
    unsafe {
        let (mut most, mut sum) = ([V::every(0.0); R], [V::every(0.0); R]);
        for i in (0..dim).step_by(LANES) {
            // Before anything is written, so that what is the same for all is loaded once.
            let (mut scale, mut zero, mut x) = ([V::every(0.0); R], [V::every(0.0); R], [V::every(0.0); R]);
            for r in 0..R {
                scale[r] = V::floats(scales.as_ptr().add(r * next_scales + i));
                zero[r] = V::floats(zeros.as_ptr().add(r * next_scales + i));
                x[r] = V::floats(q.as_ptr().add(of[r] * dim + i));
            }
            for r in 0..R {
                let product = V::times(x[r], scale[r]);
                V::put(product, folded.as_mut_ptr().add(r * dim + i));
                most[r] = V::larger(V::magnitude(product), most[r]);
                sum[r] = V::plus(sum[r], V::times(x[r], zero[r]));
            }
        }
        let largest = if rough { LARGEST_SMALL_WEIGHT } else { LARGEST_MULTIPLIER };
        for r in 0..R {
            let (inverse, step) = super::steps(V::most(most[r]), largest);
            let inverse = V::every(inverse);
            let folded = folded.as_ptr().add(r * dim);
            let numbers = |i: usize| V::whole(V::times(V::floats(folded.add(i)), inverse));
            let (first, second) = rows(r);
            let mut line = Line { more: 0, step, along: V::total(sum[r]) };
            let mut i = 0;
            let mut total = V::whole(V::every(0.0));
            if rough {
                while i < dim {
                    let four = [0, 1, 2, 3].map(|j| numbers(i + LANES * j));
                    let middles = middles.as_ptr().add(i);
                    total = V::small_multipliers(total, four, middles, first.add(i / 4), second.add(i / 4));
                    i += TILE;
                }
            }
            while i + TILE <= dim {
                let four = [0, 1, 2, 3].map(|j| numbers(i + LANES * j));
                if V::SIGNED_BYTES {
                    total = V::added_up(total, four);
                }
                V::more_multipliers(four, first.add(i / 4), second.add(i / 4));
                i += TILE;
            }
            while i < dim {
                let numbers = numbers(i);
                if V::SIGNED_BYTES {
                    total = V::added(total, numbers);
                }
                V::multipliers(numbers, first.add(i / 4), second.add(i / 4));
                i += LANES;
            }
            if rough {
                line.more = -V::whole_total(total);
            } else if V::SIGNED_BYTES {
                line.more = V::whole_total(total).wrapping_mul(128);
            }
            lines[r] = line;
        }
    }
}

const _: () = assert!(LARGEST_MULTIPLIER < 32_768.0 && MOST_TILES <= MOST_ROWS);
