//! Logits of tiles of keys: `q·(code · scale + zero)` with the scales of channels folded into the queries.

use half::f16;

use super::sums::{MOST_ROWS, Row, UnitRun, Units, sums};
use super::{MOST_TILES, MOST_WORDS, TILE, TileMultipliers};
use crate::LANES;
use crate::level::Level;
use crate::vector::{LARGEST_MULTIPLIER, Line, Vector, kernel};

/// Scales and zeros of a tile's channels, in the order of its units, as they are kept.
#[derive(Clone, Copy)]
pub enum KeyScales<'a> {
    /// In float16.
    Wide {
        /// One a channel.
        scales: &'a [f16],
        /// One a channel.
        zeros: &'a [f16],
    },
    /// In 8 bits each; `steps` is what a step of each channel's zero is, in steps of its codes.
    Small {
        /// What scales are multiples of.
        super_scale: f32,
        /// One a channel.
        scales: &'a [u8],
        /// One a channel.
        zeros: &'a [i8],
        /// One a channel.
        steps: &'a [f32],
    },
}

impl KeyScales<'_> {
    /// How many there are.
    fn len(&self) -> usize {
        match *self {
            Self::Wide { scales, zeros } => scales.len().min(zeros.len()),
            Self::Small { scales, zeros, .. } => scales.len().min(zeros.len()),
        }
    }

    /// Whether each of the channels has a step of its zero.
    fn have_steps(&self, dim: usize) -> bool {
        match *self {
            Self::Wide { .. } => true,
            Self::Small { steps, .. } => steps.len() == dim,
        }
    }
}

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
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub struct KeyRoom {
    /// Of each tile: `[tiles, channels]`.
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// Of a few queries: `[rows, channels]`.
    folded: Vec<f32>,
    multipliers: TileMultipliers,
    /// Logits of a tile whose tokens do not all count: `[rows, 64]`.
    aside: Vec<f32>,
}

/// `logits[row · stride + column + token]` of queries `q`: `[rows, channels]`, channels in the order of the units, at most 256 and a multiple of
/// 16.
///
/// All tiles' multipliers are made before the first sums, so that none waits for the quotient that another one needs.
pub fn key_logits(level: Level, tiles: KeyTiles, q: &[f32], logits: &mut [f32], stride: usize, room: &mut KeyRoom) {
    let (dim, count) = (tiles.units_of_codes.len(), tiles.count());
    let (units, bytes) =
        tiles.runs.iter().fold((0, 0), |(units, bytes), run| (units + usize::from(run.units), bytes + run.bytes()));
    assert!(
        dim > 0 && dim == 4 * units && dim.is_multiple_of(LANES) && units <= MOST_WORDS && q.len().is_multiple_of(dim)
    );
    assert!(count <= MOST_TILES && tiles.units.len() == count * bytes);
    assert!([dim, count * dim].contains(&tiles.scales.len()) && tiles.scales.have_steps(dim));
    assert!(tiles.column + tiles.tokens <= stride && logits.len() >= q.len() / dim * stride);
    logits_at(level, tiles, q, logits, stride, room);
}

kernel!(
    fn logits_at(tiles: KeyTiles, q: &[f32], logits: &mut [f32], stride: usize, room: &mut KeyRoom) = generic
);

#[inline(always)]
unsafe fn generic<V: Vector>(tiles: KeyTiles, q: &[f32], logits: &mut [f32], stride: usize, room: &mut KeyRoom) {
    let KeyRoom { scales, zeros, folded, multipliers, aside } = room;
    let (dim, count) = (tiles.units_of_codes.len(), tiles.count());
    scales.resize(MOST_TILES * dim, 0.0);
    zeros.resize(MOST_TILES * dim, 0.0);
    folded.resize(MOST_ROWS * dim, 0.0);
    aside.resize(MOST_ROWS * TILE, 0.0);
    multipliers.resize(MOST_TILES * MOST_ROWS);
    let kept = tiles.scales.len();
    for first in (0..kept).step_by(dim) {
        // SAFETY: the caller vouches for the instruction set and for `dim` numbers of each kind, a multiple of 16.
        unsafe { load::<V>(&tiles, first, &mut scales[first..first + dim], &mut zeros[first..first + dim]) };
    }
    let bytes = tiles.units.len() / count.max(1);
    for (first, q) in q.chunks(MOST_ROWS * dim).enumerate() {
        let now = q.len() / dim;
        let mut lines = [[Line::default(); MOST_ROWS]; MOST_TILES];
        // Where few rows are summed at a time, code that is small.
        let one_by_one = V::ROWS < MOST_ROWS;
        if now == 1 && count == MOST_TILES && kept > dim && !one_by_one {
            // Those of all tiles side by side, so that none of their quotients is waited for.
            let factors = Factors { q: (q, 0), scales: (scales, dim), zeros, dim };
            let mut own = [Line::default(); MOST_TILES];
            // SAFETY: as below.
            unsafe { fold::<V, MOST_TILES>(factors, folded, |t| multipliers.row(t * MOST_ROWS), &mut own) };
            lines.iter_mut().zip(own).for_each(|(lines, line)| lines[0] = line);
        } else {
            for (t, lines) in lines.iter_mut().enumerate().take(count) {
                let at = if kept == dim { 0 } else { t * dim };
                let (scales, zeros) = (&scales[at..at + dim], &zeros[at..at + dim]);
                let factors = Factors { q: (q, dim), scales: (scales, 0), zeros, dim };
                // SAFETY: queries, scales and zeros have `dim` numbers, a multiple of 16, as many a row as there is room for in `folded`, and a
                // row of multipliers has room for `dim / 4` words, which are no more than `MOST_WORDS`.
                unsafe {
                    let rows = |r: usize| multipliers.row(t * MOST_ROWS + r);
                    match now {
                        _ if one_by_one => {
                            for (r, (q, line)) in q.chunks_exact(dim).zip(lines.chunks_mut(1)).enumerate() {
                                let factors = Factors { q: (q, dim), ..factors };
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
            let start = |r: usize| (first * MOST_ROWS + r) * stride + tiles.column + t * TILE;
            let out = if whole { logits.as_mut_ptr() } else { aside.as_mut_ptr() };
            let rows: [Row; MOST_ROWS] = std::array::from_fn(|r| Row {
                multipliers: multipliers.from(t * MOST_ROWS + r),
                line: lines[r],
                out: out.wrapping_add(if whole { start(r) } else { r * TILE }),
            });
            let units = Units {
                runs: tiles.runs,
                bytes: tiles.units[t * bytes..].as_ptr(),
                // What comes soon is asked for once.
                ahead: if first == 0 { tiles.ahead.as_ptr().wrapping_add(t * bytes) } else { std::ptr::null() },
            };
            // SAFETY: what the caller vouches for; rows follow each other, have as many multipliers as the runs have units, and room for 64 logits.
            unsafe { sums::<V, false, false>(&[units], &[[0; 16]; 4], &rows[..now]) };
            if !whole {
                for (r, own) in aside.chunks_exact(TILE).enumerate().take(now) {
                    logits[start(r)..start(r) + tokens].copy_from_slice(&own[..tokens]);
                }
            }
        }
    }
}

/// The scales from `first` on, each times what a step of its channel's codes is there, and zeros.
#[inline(always)]
unsafe fn load<V: Vector>(tiles: &KeyTiles, first: usize, out_scales: &mut [f32], out_zeros: &mut [f32]) {
    let dim = out_scales.len();
    for i in (0..dim).step_by(LANES) {
        // SAFETY: all have `dim` numbers from there on, a multiple of 16.
        unsafe {
            let (scale, zero) = match tiles.scales {
                KeyScales::Wide { scales, zeros } => (
                    V::widened(scales.as_ptr().add(first + i).cast()),
                    V::widened(zeros.as_ptr().add(first + i).cast()),
                ),
                KeyScales::Small { super_scale, scales, zeros, steps } => {
                    let scale = V::times(V::shares(scales.as_ptr().add(first + i)), V::every(super_scale));
                    let steps = V::times(V::signed(zeros.as_ptr().add(first + i)), V::floats(steps.as_ptr().add(i)));
                    (scale, V::times(steps, scale))
                }
            };
            let unit = V::floats(tiles.units_of_codes.as_ptr().add(i));
            V::put(V::times(scale, unit), out_scales.as_mut_ptr().add(i));
            V::put(zero, out_zeros.as_mut_ptr().add(i));
        }
    }
}

/// What multipliers are made of: queries, and scales and zeros, each with how far one's numbers are from the next one's, which is 0 where there is one
/// for all.
#[derive(Clone, Copy)]
struct Factors<'a> {
    q: (&'a [f32], usize),
    scales: (&'a [f32], usize),
    /// As far from each other as the scales.
    zeros: &'a [f32],
    dim: usize,
}

/// `R` times multipliers of a query under the scales of a tile, and what their sums come to.
#[inline(always)]
unsafe fn fold<V: Vector, const R: usize>(
    Factors { q: (q, next_q), scales: (scales, next_scales), zeros, dim }: Factors,
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
                x[r] = V::floats(q.as_ptr().add(r * next_q + i));
            }
            for r in 0..R {
                let product = V::times(x[r], scale[r]);
                V::put(product, folded.as_mut_ptr().add(r * dim + i));
                most[r] = V::larger(V::magnitude(product), most[r]);
                sum[r] = V::plus(sum[r], V::times(x[r], zero[r]));
            }
        }
        for r in 0..R {
            let (inverse, step) = super::steps(V::most(most[r]), LARGEST_MULTIPLIER);
            let inverse = V::every(inverse);
            let folded = folded.as_ptr().add(r * dim);
            let numbers = |i: usize| V::whole(V::times(V::floats(folded.add(i)), inverse));
            let (first, second) = rows(r);
            let mut i = 0;
            while i + TILE <= dim {
                let four = [0, 1, 2, 3].map(|j| numbers(i + LANES * j));
                V::more_multipliers(four, first.add(i / 4), second.add(i / 4));
                i += TILE;
            }
            while i < dim {
                V::multipliers(numbers(i), first.add(i / 4), second.add(i / 4));
                i += LANES;
            }
            lines[r] = Line { more: 0, step, along: V::total(sum[r]) };
        }
    }
}

const _: () = assert!(LARGEST_MULTIPLIER < 32_768.0 && MOST_TILES <= MOST_ROWS);
