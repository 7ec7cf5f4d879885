//! Logits of a tile of keys: `q·(code · scale + zero)` with the scales of channels folded into the queries.

use super::super::level::Level;
use super::super::scales::scale_of_code;
#[cfg(target_arch = "x86_64")]
use super::super::vector::{Avx2, Avx512};
use super::super::vector::{LARGEST_MULTIPLIER, Portable, Vector};
use super::sums::{MOST_ROWS, Multipliers, UnitRun, Units, sums};
use super::{TILE, TileMultipliers, largest, quantize, sum_of_lanes};
use crate::simd::LANES;

/// Scales and zeros of a tile's channels, in the order of its units.
#[derive(Clone, Copy)]
pub(crate) enum KeyScales<'a> {
    Plain {
        scales: &'a [f32],
        zeros: &'a [f32],
    },
    /// As they are kept; `steps` is what a step of each channel's zero is, in steps of its codes.
    Small {
        super_scale: f32,
        scales: &'a [u8],
        zeros: &'a [i8],
        steps: &'a [f32],
    },
}

/// The keys of up to 64 tokens.
#[derive(Clone, Copy)]
pub(crate) struct KeyTile<'a> {
    /// Each unit has four channels.
    pub runs: &'a [UnitRun],
    pub units: &'a [u8],
    /// Units that will be read next.
    pub ahead: &'a [u8],
    pub scales: KeyScales<'a>,
    /// Of each channel of *w* bits: 2^(*w* − 8).
    pub units_of_codes: &'a [f32],
    /// How many of the tile's tokens count.
    pub tokens: usize,
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub(crate) struct KeyRoom {
    scales: Vec<f32>,
    zeros: Vec<f32>,
    folded: Vec<f32>,
    multipliers: TileMultipliers,
}

/// `logits[row][token]` of queries `q` (`[rows, channels]`, channels in the order of the units, at most 256 and a multiple of 16).
pub(crate) fn key_logits(level: Level, tile: KeyTile, q: &[f32], logits: &mut [f32], room: &mut KeyRoom) {
    let dim = 4 * tile.runs.iter().map(|run| usize::from(run.units)).sum::<usize>();
    assert!(tile.units.len() == tile.runs.iter().map(|run| run.bytes()).sum::<usize>());
    assert!(dim > 0 && dim.is_multiple_of(LANES) && q.len().is_multiple_of(dim) && tile.tokens <= TILE);
    assert!(logits.len() == q.len() / dim * tile.tokens);
    let (scales, zeros) = match tile.scales {
        KeyScales::Plain { scales, zeros } => (scales.len(), zeros.len()),
        KeyScales::Small { scales, zeros, steps, .. } => (scales.len().min(steps.len()), zeros.len()),
    };
    assert!(scales == dim && zeros == dim && tile.units_of_codes.len() == dim);
    // SAFETY: a level is only named where the machine has it, and the lengths were just checked.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(tile, dim, q, logits, room),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(tile, dim, q, logits, room),
            Level::Portable => generic::<Portable>(tile, dim, q, logits, room),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2")]
unsafe fn avx512(tile: KeyTile, dim: usize, q: &[f32], logits: &mut [f32], room: &mut KeyRoom) {
    unsafe { generic::<Avx512>(tile, dim, q, logits, room) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(tile: KeyTile, dim: usize, q: &[f32], logits: &mut [f32], room: &mut KeyRoom) {
    unsafe { generic::<Avx2>(tile, dim, q, logits, room) }
}

#[inline(always)]
unsafe fn generic<V: Vector>(tile: KeyTile, dim: usize, q: &[f32], logits: &mut [f32], room: &mut KeyRoom) {
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
    let rows = q.len() / dim;
    let mut row = 0;
    while row < rows {
        let now = (rows - row).min(MOST_ROWS);
        let mut steps = [0.0; MOST_ROWS];
        let mut along = [0.0; MOST_ROWS];
        for r in 0..now {
            let q = &q[(row + r) * dim..(row + r + 1) * dim];
            let (mut most, mut lanes) = ([0.0f32; LANES], [0.0f32; LANES]);
            let chunks = q.as_chunks::<LANES>().0.iter().zip(folded.as_chunks_mut::<LANES>().0);
            let of = scales.as_chunks::<LANES>().0.iter().zip(zeros.as_chunks::<LANES>().0);
            for ((q, folded), (scale, zero)) in chunks.zip(of) {
                for i in 0..LANES {
                    folded[i] = q[i] * scale[i];
                    most[i] = largest(most[i], folded[i].abs());
                    lanes[i] += q[i] * zero[i];
                }
            }
            along[r] = sum_of_lanes(lanes);
            let (inverse, step) = super::steps(most);
            steps[r] = step;
            let (first, second) = multipliers.row(r);
            for (i, folded) in folded.as_chunks::<LANES>().0.iter().enumerate() {
                let numbers = quantize(folded, inverse);
                // SAFETY: a row has room for `dim / 4` words.
                unsafe { V::multipliers(numbers.as_ptr(), first.add(4 * i), second.add(4 * i)) };
            }
        }
        let mut out = [[0.0; TILE]; MOST_ROWS];
        let units =
            Units { runs: tile.runs, bytes: tile.units.as_ptr(), ahead: tile.ahead.as_ptr(), tables: &[[0; 16]; 4] };
        let of = |r: usize| -> Multipliers { multipliers.of(r) };
        // SAFETY: what the caller vouches for; rows have as many multipliers as the runs have units.
        unsafe {
            match now {
                4 => sums::<V, 4, false>(units, [of(0), of(1), of(2), of(3)], [0; 4], &mut out),
                3 => sums::<V, 3, false>(units, [of(0), of(1), of(2)], [0; 3], &mut out),
                2 => sums::<V, 2, false>(units, [of(0), of(1)], [0; 2], &mut out),
                _ => sums::<V, 1, false>(units, [of(0)], [0], &mut out),
            }
        }
        for r in 0..now {
            let logits = &mut logits[(row + r) * tile.tokens..(row + r + 1) * tile.tokens];
            for (logit, sum) in logits.iter_mut().zip(&out[r]) {
                *logit = sum * steps[r] + along[r];
            }
        }
        row += now;
    }
}
const _: () = assert!(LARGEST_MULTIPLIER < 32_768.0);
