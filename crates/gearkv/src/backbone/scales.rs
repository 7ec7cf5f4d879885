//! Scales and zeros as they are kept: in float16, or in 8 bits each under a float16 super-scale a head.
//!
//! The small form is made for groups whose values differ by orders of magnitude, as those of key channels do. A scale is a
//! float of 4 exponent and 4 mantissa bits, `super · (16 + s mod 16) · 2^(⌊s/16⌋ − 20)`: within 3 % of what is wanted over
//! a range of 2¹⁵, where equal steps would leave next to nothing to a small channel beside a large one. A zero is a multiple of
//! 1/32 of its own group's range, `zero = z · (2^b − 1)/32 · scale`: up to four ranges away from 0. Where a group lies
//! further out, its scale is made large enough to reach it.

use half::f16;

use crate::config::{GearConfig, Range};
use crate::joined::joined;
use crate::raw::{f16_bytes, finite_f16};
use crate::simd::{self, Grid, SmallGrid};

/// Zeros are multiples of this share of a group's range.
const ZERO_STEPS_PER_RANGE: f32 = 32.0;
const LARGEST_ZERO: f32 = 127.0;
/// The largest float16.
pub(super) const LARGEST_F16: f32 = 65504.0;
/// The largest scale in units of the super-scale: `31 · 2^(15 − 20)`.
const LARGEST_SCALE: f32 = 31.0 / 32.0;

/// How scales are found and kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ScaleRecipe {
    pub bits: u32,
    pub small: bool,
    pub range: Range,
}

impl ScaleRecipe {
    pub fn of(config: &GearConfig) -> Self {
        Self { bits: config.bits, small: config.scale_bits == 8, range: config.range }
    }

    /// The largest code.
    pub fn levels(self) -> f32 {
        ((1u32 << self.bits) - 1) as f32
    }
}

/// What one step of a small zero is, in steps of its group's codes.
pub(crate) fn zero_unit(bits: u32) -> f32 {
    ((1u32 << bits) - 1) as f32 / ZERO_STEPS_PER_RANGE
}

/// Scales and zeros of one head or of a whole segment.
///
/// Order within a head: `[group][channel]` for `Grouping::Channel`, `[token][group]` for `Grouping::Token`, `[token]` for
/// `Grouping::TokenAllHeads`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Scales {
    /// Float16.
    Wide { scales: Box<[f16]>, zeros: Box<[f16]> },
    /// 8 bits, under one super-scale a head (one a batch item, where heads share their scales).
    Small { supers: Box<[f16]>, scales: Box<[u8]>, zeros: Box<[i8]> },
}

impl Scales {
    /// Those of all heads, which must be of one form.
    pub fn concat<'a>(parts: impl Iterator<Item = &'a Self> + Clone, small: bool) -> Self {
        if small {
            Self::Small {
                supers: joined!(parts, Small, supers),
                scales: joined!(parts, Small, scales),
                zeros: joined!(parts, Small, zeros),
            }
        } else {
            Self::Wide { scales: joined!(parts, Wide, scales), zeros: joined!(parts, Wide, zeros) }
        }
    }

    /// Of a head that has none of its own.
    pub fn none(small: bool) -> Self {
        Self::concat(std::iter::empty(), small)
    }

    /// Nearest to these scales, of a backbone without zeros. Where all are 0, so is the super-scale.
    pub fn of_magnitudes(recipe: ScaleRecipe, scales: &[f32]) -> Self {
        if !recipe.small {
            let mut wide = vec![f16::ZERO; scales.len()];
            simd::narrow(scales, &mut wide);
            return Self::Wide { scales: wide.into(), zeros: Box::default() };
        }
        let super_scale = round_up(simd::largest_magnitude(scales) / LARGEST_SCALE);
        let mut codes = vec![0; scales.len()];
        simd::narrow_magnitudes(scales, super_scale.to_f32(), &mut codes);
        Self::Small { supers: [super_scale].into(), scales: codes.into(), zeros: Box::default() }
    }

    /// Number of scales.
    pub fn len(&self) -> usize {
        match self {
            Self::Wide { scales, .. } => scales.len(),
            Self::Small { scales, .. } => scales.len(),
        }
    }

    pub fn byte_length(&self) -> usize {
        match self {
            Self::Wide { scales, zeros } => size_of_val(&**scales) + size_of_val(&**zeros),
            Self::Small { supers, scales, zeros } => size_of_val(&**supers) + scales.len() + zeros.len(),
        }
    }

    /// Asks for all of them.
    pub fn prefetch(&self) {
        match self {
            Self::Wide { scales, zeros } => {
                simd::prefetch(scales, size_of_val(&**scales));
                simd::prefetch(zeros, size_of_val(&**zeros));
            }
            Self::Small { supers, scales, zeros } => {
                simd::prefetch(supers, size_of_val(&**supers));
                simd::prefetch(scales, scales.len());
                simd::prefetch(zeros, zeros.len());
            }
        }
    }

    /// Super-scales where there are any, scales, zeros: little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Wide { scales, zeros } => [f16_bytes(scales), f16_bytes(zeros)].concat(),
            Self::Small { supers, scales, zeros } => {
                [&*f16_bytes(supers), scales, bytemuck::cast_slice(zeros)].concat()
            }
        }
    }

    /// What [`Self::bytes`] gave of `count` scales and `zero_count` zeros in `sets` heads; `None` where the length does not fit or a number is not
    /// finite.
    pub fn from_bytes(small: bool, sets: usize, count: usize, zero_count: usize, bytes: &[u8]) -> Option<Self> {
        if small {
            let (supers, rest) = bytes.split_at_checked(2 * sets)?;
            let supers = finite_f16(supers, sets)?.into();
            if rest.len() != count + zero_count {
                return None;
            }
            let (scales, zeros) = rest.split_at(count);
            return Some(Self::Small { supers, scales: scales.into(), zeros: bytemuck::cast_slice(zeros).into() });
        }
        let values = finite_f16(bytes, count + zero_count)?;
        let (scales, zeros) = values.split_at(count);
        Some(Self::Wide { scales: scales.into(), zeros: zeros.into() })
    }

    /// Those at `range`, whose super-scale is the `head`-th.
    pub fn view(&self, bits: u32, head: usize, range: std::ops::Range<usize>) -> ScaleView<'_> {
        match self {
            Self::Wide { scales, zeros } => {
                ScaleView::Wide { scales: &scales[range.clone()], zeros: zeros.get(range).unwrap_or_default() }
            }
            Self::Small { supers, scales, zeros } => ScaleView::Small {
                grid: SmallGrid { super_scale: supers[head].to_f32(), zero_unit: zero_unit(bits) },
                scales: &scales[range.clone()],
                zeros: zeros.get(range).unwrap_or_default(),
            },
        }
    }
}

/// Some of a segment's scales and zeros.
#[derive(Clone, Copy)]
pub(crate) enum ScaleView<'a> {
    Wide { scales: &'a [f16], zeros: &'a [f16] },
    Small { grid: SmallGrid, scales: &'a [u8], zeros: &'a [i8] },
}

impl ScaleView<'_> {
    /// Asks for so many from `first` on, where there are any.
    pub fn prefetch(&self, first: usize, count: usize) {
        match self {
            Self::Wide { scales, zeros } => {
                simd::prefetch(scales.get(first..).unwrap_or_default(), 2 * count);
                simd::prefetch(zeros.get(first..).unwrap_or_default(), 2 * count);
            }
            Self::Small { scales, zeros, .. } => {
                simd::prefetch(scales.get(first..).unwrap_or_default(), count);
                simd::prefetch(zeros.get(first..).unwrap_or_default(), count);
            }
        }
    }

    /// As [`Self::load`], of a backbone without zeros.
    pub fn load_scales(&self, first: usize, scale: &mut [f32]) {
        let range = first..first + scale.len();
        match self {
            Self::Wide { scales, .. } => simd::widen(&scales[range], scale),
            Self::Small { grid, scales, .. } => simd::widen_scales(&scales[range], grid.super_scale, scale),
        }
    }

    /// Those from `first` on, in float32, as many as there is room for.
    pub fn load(&self, first: usize, scale: &mut [f32], zero: &mut [f32]) {
        let range = first..first + scale.len();
        match self {
            Self::Wide { scales, zeros } => {
                simd::widen(&scales[range.clone()], scale);
                simd::widen(&zeros[range], zero);
            }
            Self::Small { grid, scales, zeros } => {
                simd::widen_scales(&scales[range.clone()], grid.super_scale, scale);
                simd::widen_zeros(&zeros[range], grid.zero_unit, scale, zero);
            }
        }
    }
}

/// The scale that a group with this range asks for, where scales have 8 bits.
pub(super) fn asked_for(low: f32, high: f32, levels: f32, unit: f32) -> f32 {
    simd::range_scale(high - low, levels).max(low.abs() / (LARGEST_ZERO * unit))
}

/// The largest of what groups with these ranges ask for; an empty range (`low > high`) is a group whose values are all outliers.
pub(super) fn most_asked_for(low: &[f32], high: &[f32], levels: f32, unit: f32) -> f32 {
    let groups = low.iter().zip(high).filter(|(low, high)| high >= low);
    groups.fold(0.0, |most, (&low, &high)| most.max(asked_for(low, high, levels, unit)))
}

/// The super-scale under which a scale can be as large as this.
pub(super) fn super_scale_for(most: f32) -> f32 {
    let up = round_up(most / LARGEST_SCALE);
    // Nothing but zeros: any positive scale will do.
    if up > f16::ZERO { up.to_f32() } else { 1.0 }
}

/// Rounded scales and zeros as they are kept. `units` are what a step of a small zero is, of one scale after the other, and again from the start.
pub(super) fn store(grid: Grid, scale: &[f32], zero: &[f32], units: &[f32]) -> Scales {
    match grid {
        Grid::Float16 => {
            let (mut scales, mut zeros) = (vec![f16::ZERO; scale.len()], vec![f16::ZERO; zero.len()]);
            simd::narrow(scale, &mut scales);
            simd::narrow(zero, &mut zeros);
            Scales::Wide { scales: scales.into(), zeros: zeros.into() }
        }
        Grid::Small(super_scale) => {
            let (mut scales, mut zeros) = (vec![0; scale.len()], vec![0; zero.len()]);
            let units = units.iter().copied().cycle();
            simd::narrow_scales((scale, zero), super_scale, units, &mut scales, &mut zeros);
            Scales::Small { supers: [f16::from_f32(super_scale)].into(), scales: scales.into(), zeros: zeros.into() }
        }
    }
}

/// The least float16 that is not smaller than `x`, which is not negative.
fn round_up(x: f32) -> f16 {
    let nearest = f16::from_f32(x);
    if nearest.to_f32() < x { f16::from_bits(nearest.to_bits() + 1) } else { nearest }
}
