//! Scales and zeros of keys, as multipliers are made of them.

use half::f16;

use super::keys::KeyTiles;
use super::{Ahead, MOST_TILES};
use crate::LANES;
use crate::vector::Vector;

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
    pub(super) fn len(&self) -> usize {
        match *self {
            Self::Wide { scales, zeros } => scales.len().min(zeros.len()),
            Self::Small { scales, zeros, .. } => scales.len().min(zeros.len()),
        }
    }

    /// Whether each of the channels has a step of its zero.
    pub(super) fn have_steps(&self, dim: usize) -> bool {
        match *self {
            Self::Wide { .. } => true,
            Self::Small { steps, .. } => steps.len() == dim,
        }
    }
}

/// Scales of each tile, each times what a step of its channel's codes is there; and zeros or, where rows are rough, what the middle of all codes stands for:
/// `[tiles, channels]`.
#[derive(Default)]
pub(super) struct Scales {
    pub scales: Vec<f32>,
    pub zeros: Vec<f32>,
    /// The middle, on 8 bits, of each channel.
    pub middles: Vec<u8>,
}

impl Scales {
    /// Makes room, and middles, where any row is `rough`.
    pub fn prepare(&mut self, tiles: &KeyTiles, rough: bool) {
        let dim = tiles.units_of_codes.len();
        self.scales.resize(MOST_TILES * dim, 0.0);
        self.zeros.resize(MOST_TILES * dim, 0.0);
        self.middles.clear();
        // Rows may become rough at any step, and none allocates.
        self.middles.reserve(dim);
        for run in tiles.runs.iter().take_while(|_| rough) {
            self.middles.resize(self.middles.len() + 4 * usize::from(run.units), middle(run.bits));
        }
    }

    /// Fills them, with middles where rows are `rough`; on the way, what is `ahead` is asked for, in a step for every 16 channels.
    ///
    /// # Safety
    /// `V`'s instruction set is there, and these are [prepared](Self::prepare) for the same tiles, whose channels are a multiple of 16.
    #[inline(always)]
    pub unsafe fn load<V: Vector>(&mut self, tiles: &KeyTiles, rough: bool, ahead: Ahead) {
        let dim = tiles.units_of_codes.len();
        for first in (0..tiles.scales.len()).step_by(dim) {
            let mut to = To {
                units: tiles.units_of_codes,
                middles: if rough { &self.middles } else { &[] },
                scales: &mut self.scales[first..first + dim],
                zeros: &mut self.zeros[first..first + dim],
            };
            // SAFETY: all have `dim` numbers from there on, a multiple of 16.
            unsafe { fill::<V>(tiles, first, &mut to, ahead) };
        }
    }
}

/// One tile's.
#[inline(always)]
unsafe fn fill<V: Vector>(tiles: &KeyTiles, first: usize, to: &mut To, ahead: Ahead) {
    unsafe {
        match tiles.scales {
            KeyScales::Wide { scales, zeros } => {
                for i in (0..to.units.len()).step_by(LANES) {
                    ahead.ask::<V>((first + i) / LANES);
                    let scale = V::widened(scales.as_ptr().add(first + i).cast());
                    to.put::<V>(i, scale, V::widened(zeros.as_ptr().add(first + i).cast()));
                }
            }
            KeyScales::Small { super_scale, scales, zeros, steps } => {
                for i in (0..to.units.len()).step_by(LANES) {
                    ahead.ask::<V>((first + i) / LANES);
                    let scale = V::times(V::shares(scales.as_ptr().add(first + i)), V::every(super_scale));
                    let steps = V::times(V::signed(zeros.as_ptr().add(first + i)), V::floats(steps.as_ptr().add(i)));
                    to.put::<V>(i, scale, V::times(steps, scale));
                }
            }
        }
    }
}

/// Where one tile's scales and zeros go.
struct To<'a> {
    units: &'a [f32],
    /// None where zeros stay what they are.
    middles: &'a [u8],
    scales: &'a mut [f32],
    zeros: &'a mut [f32],
}

impl To<'_> {
    #[inline(always)]
    unsafe fn put<V: Vector>(&mut self, i: usize, scale: V::Floats, zero: V::Floats) {
        unsafe {
            let scale = V::times(scale, V::floats(self.units.as_ptr().add(i)));
            V::put(scale, self.scales.as_mut_ptr().add(i));
            let zero = if self.middles.is_empty() {
                zero
            } else {
                V::plus(zero, V::times(scale, V::numbers(self.middles.as_ptr().add(i))))
            };
            V::put(zero, self.zeros.as_mut_ptr().add(i));
        }
    }
}

/// The middle of all codes of so many bits, or the next code, times 2^(8 − `bits`).
const fn middle(bits: u8) -> u8 {
    128 - (128u32 >> bits) as u8
}
