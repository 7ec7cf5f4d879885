//! Logits of a tile of keys: `q·(code · scale + zero)` with the scales of channels folded into the queries.

use super::sums::{MOST_ROWS, Row, UnitRun, Units, sums};
use super::{TILE, TileMultipliers};
use crate::LANES;
use crate::level::Level;
use crate::scales::scale_of_code;
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2, Avx512};
use crate::vector::{LARGEST_MULTIPLIER, Line, Portable, Vector};

/// Scales and zeros of a tile's channels, in the order of its units.
#[derive(Clone, Copy)]
pub enum KeyScales<'a> {
    /// As floats.
    Plain {
        /// One a channel.
        scales: &'a [f32],
        /// One a channel.
        zeros: &'a [f32],
    },
    /// As they are kept; `steps` is what a step of each channel's zero is, in steps of its codes.
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

/// The keys of up to 64 tokens.
#[derive(Clone, Copy)]
pub struct KeyTile<'a> {
    /// Each unit has four channels.
    pub runs: &'a [UnitRun],
    /// As many bytes as the runs have.
    pub units: &'a [u8],
    /// Units that will be read next.
    pub ahead: &'a [u8],
    /// Of the tile's channels.
    pub scales: KeyScales<'a>,
    /// Of each channel of *w* bits: 2^(*w* − 8).
    pub units_of_codes: &'a [f32],
    /// How many of the tile's tokens count.
    pub tokens: usize,
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub struct KeyRoom {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    folded: Vec<f32>,
    multipliers: TileMultipliers,
}

/// `logits[row · stride + first + token]` of queries `q` (`[rows, channels]`, channels in the order of the units, at most 256 and a multiple of
/// 16).
pub fn key_logits(
    level: Level,
    tile: KeyTile,
    q: &[f32],
    logits: &mut [f32],
    (first, stride): (usize, usize),
    room: &mut KeyRoom,
) {
    let dim = 4 * tile.runs.iter().map(|run| usize::from(run.units)).sum::<usize>();
    assert!(tile.units.len() == tile.runs.iter().map(|run| run.bytes()).sum::<usize>());
    assert!(dim > 0 && dim.is_multiple_of(LANES) && q.len().is_multiple_of(dim) && tile.tokens <= TILE);
    assert!(first + tile.tokens <= stride && logits.len() >= q.len() / dim * stride);
    let at = (first, stride);
    let (scales, zeros) = match tile.scales {
        KeyScales::Plain { scales, zeros } => (scales.len(), zeros.len()),
        KeyScales::Small { scales, zeros, steps, .. } => (scales.len().min(steps.len()), zeros.len()),
    };
    assert!(scales == dim && zeros == dim && tile.units_of_codes.len() == dim);
    // SAFETY: a level is only named where the machine has it, and the lengths were just checked.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(tile, dim, q, logits, at, room),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(tile, dim, q, logits, at, room),
            Level::Portable => generic::<Portable>(tile, dim, q, logits, at, room),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2")]
unsafe fn avx512(tile: KeyTile, dim: usize, q: &[f32], logits: &mut [f32], at: (usize, usize), room: &mut KeyRoom) {
    unsafe { generic::<Avx512>(tile, dim, q, logits, at, room) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(tile: KeyTile, dim: usize, q: &[f32], logits: &mut [f32], at: (usize, usize), room: &mut KeyRoom) {
    unsafe { generic::<Avx2>(tile, dim, q, logits, at, room) }
}

#[inline(always)]
unsafe fn generic<V: Vector>(
    tile: KeyTile,
    dim: usize,
    q: &[f32],
    logits: &mut [f32],
    at: (usize, usize),
    room: &mut KeyRoom,
) {
    let KeyRoom { scales: own_scales, zeros: own_zeros, folded, multipliers } = room;
    own_scales.resize(dim, 0.0);
    own_zeros.resize(dim, 0.0);
    match tile.scales {
        KeyScales::Plain { scales, zeros } => {
            own_scales.copy_from_slice(scales);
            own_zeros.copy_from_slice(zeros);
        }
        KeyScales::Small { super_scale, scales, zeros, steps } => {
            let out = own_scales.iter_mut().zip(own_zeros.iter_mut());
            for (((scale, zero), (&code, &multiple)), &step) in out.zip(scales.iter().zip(zeros)).zip(steps) {
                *scale = scale_of_code(u32::from(code), super_scale);
                *zero = f32::from(multiple) * step * *scale;
            }
        }
    }
    own_scales.iter_mut().zip(tile.units_of_codes).for_each(|(scale, unit)| *scale *= unit);
    let (scales, zeros) = (&**own_scales, &**own_zeros);
    folded.resize(dim, 0.0);
    multipliers.resize(dim / 4);
    let units =
        Units { runs: tile.runs, bytes: tile.units.as_ptr(), ahead: tile.ahead.as_ptr(), tables: &[[0; 16]; 4] };
    let whole = tile.tokens == TILE;
    let mut aside = [[0.0f32; TILE]; MOST_ROWS];
    for (first, q) in q.chunks(MOST_ROWS * dim).enumerate() {
        let now = q.len() / dim;
        let mut lines = [Line::default(); MOST_ROWS];
        for (r, (q, line)) in q.chunks_exact(dim).zip(&mut lines).enumerate() {
            // SAFETY: queries, scales and zeros have `dim` numbers, a multiple of 16, and a row has room for `dim / 4` words.
            *line = unsafe { fold::<V>(q, scales, zeros, folded, multipliers.row(r)) };
        }
        // Where not all of a tile's tokens count, there may be no room for the logits of the others.
        let start = |r: usize| (first * MOST_ROWS + r) * at.1 + at.0;
        let out = if whole { logits.as_mut_ptr() } else { aside.as_mut_ptr().cast() };
        let rows: [Row; MOST_ROWS] = std::array::from_fn(|r| Row {
            multipliers: multipliers.of(r),
            line: lines[r],
            out: out.wrapping_add(if whole { start(r) } else { r * TILE }),
        });
        // SAFETY: what the caller vouches for; rows have as many multipliers as the runs have units, and room for 64 logits.
        unsafe { sums::<V, false, false>(units, &rows[..now]) };
        if !whole {
            for (r, own) in aside[..now].iter().enumerate() {
                logits[start(r)..start(r) + tile.tokens].copy_from_slice(&own[..tile.tokens]);
            }
        }
    }
}

/// Multipliers of one query under the scales of a tile, and what their sums come to.
#[inline(always)]
unsafe fn fold<V: Vector>(
    q: &[f32],
    scales: &[f32],
    zeros: &[f32],
    folded: &mut [f32],
    (first, second): (*mut i32, *mut i32),
) -> Line {
    let dim = q.len();
    unsafe {
        let (mut most, mut sum) = (V::every(0.0), V::every(0.0));
        for i in (0..dim).step_by(LANES) {
            let x = V::floats(q.as_ptr().add(i));
            let product = V::times(x, V::floats(scales.as_ptr().add(i)));
            V::put(product, folded.as_mut_ptr().add(i));
            most = V::larger(V::magnitude(product), most);
            sum = V::plus(sum, V::times(x, V::floats(zeros.as_ptr().add(i))));
        }
        let (inverse, step) = super::steps(V::most(most));
        let inverse = V::every(inverse);
        let numbers = |i: usize| V::whole(V::times(V::floats(folded.as_ptr().add(i)), inverse));
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
        Line { more: 0, step, along: V::total(sum) }
    }
}

const _: () = assert!(LARGEST_MULTIPLIER < 32_768.0);
