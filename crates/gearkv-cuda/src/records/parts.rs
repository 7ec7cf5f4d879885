//! What heads and records are written with: numbers as the kernels read them, and the parts that keys and values have in common.

use crate::source::{FactorA, Grouping, Plane, Scales};

/// Tokens of a block.
pub(crate) const BLOCK: usize = 64;
/// Groups of channels that a token of keys may have scales for.
pub(super) const MOST_KEY_GROUPS: usize = 16;
/// Units of 64 channels that a token of values may have, padding counted.
pub(super) const MOST_VALUE_UNITS: usize = 4;
/// What scales times queries stay below.
pub(super) const RANGE_BITS: i32 = 14;

pub(super) const CHANNEL: u32 = 1;
pub(super) const TOKEN: u32 = 2;
pub(super) const LEVELS: u32 = 3;
pub(super) const SMALL: u32 = 0;
pub(super) const HALF: u32 = 1;
pub(super) const FLOAT: u32 = 2;
pub(super) const NO_CHANNEL: u16 = u16::MAX;
pub(crate) const HEAD_BYTES: usize = 96;
pub(super) const LANES: usize = 32;
/// Bytes of B's registers: of a unit of keys, and of a pair of tokens and a unit of values.
pub(super) const KEY_UNIT_WORDS: usize = 128;
pub(super) const VALUE_PAIR_WORDS: usize = 32;
/// Bytes of a block's weights.
pub(super) const WEIGHT_BYTES: usize = (BLOCK + 1) * 16;

/// 2^x, within what a float32 of full precision can be.
pub(super) fn power_of_two(x: i32) -> f32 {
    f32::from_bits(((127 + x.clamp(-126, 127)) as u32) << 23)
}

/// The exponent of the least power of two that is not smaller.
pub(super) fn exponent_above(x: f32) -> i32 {
    let exponent = (x.to_bits() >> 23) as i32 - 126;
    exponent.clamp(-80, 80)
}

pub(super) fn align(bytes: &mut Vec<u8>) {
    bytes.resize(bytes.len().next_multiple_of(16), 0);
}

pub(super) fn push_words(bytes: &mut Vec<u8>, words: impl IntoIterator<Item = u32>) {
    words.into_iter().for_each(|word| bytes.extend_from_slice(&word.to_le_bytes()));
}

pub(super) fn push_halves(bytes: &mut Vec<u8>, halves: impl IntoIterator<Item = u16>) {
    halves.into_iter().for_each(|half| bytes.extend_from_slice(&half.to_le_bytes()));
}

/// Channels in groups of `group`, each padded to whole units of `unit`: which channel stands where, and how many units a group has.
pub(super) fn padded_groups(dim: usize, group: usize, unit: usize) -> (Vec<u16>, Vec<usize>) {
    let (mut order, mut units) = (Vec::new(), Vec::new());
    for first in (0..dim).step_by(group) {
        let end = dim.min(first + group);
        order.extend((first..end).map(|channel| channel as u16));
        order.resize(order.len().next_multiple_of(unit), NO_CHANNEL);
        units.push((end - first).div_ceil(unit));
    }
    (order, units)
}

pub(super) fn super_scale(scales: &Scales) -> f32 {
    match scales {
        Scales::Small { super_scale, .. } => *super_scale,
        Scales::Half { .. } => 0.0,
    }
}

/// Levels of 8 bits are `code / 128` plus this.
pub(super) fn fine_offset(bits: u8) -> f32 {
    if bits == 8 { -255.0 / 256.0 } else { 0.0 }
}

pub(super) fn group_channels(grouping: Grouping, dim: usize) -> usize {
    match grouping {
        Grouping::Token { channels } => channels,
        _ => dim,
    }
}

/// The `at`-th scale or zero in its own form; nothing stands for 0.
pub(super) fn push_scale(scales: &Scales, zero: bool, at: Option<usize>, record: &mut Vec<u8>) {
    match scales {
        Scales::Small { scales, zeros, .. } => {
            let from = if zero { zeros } else { scales };
            record.push(at.map_or(0, |at| from[at]));
        }
        Scales::Half { scales, zeros } => {
            let from = if zero { zeros } else { scales };
            push_halves(record, [at.map_or(0, |at| from[at])]);
        }
    }
}

/// A of a block's tokens, padded to 64.
pub(super) fn push_factor(plane: &Plane, all: usize, rank: usize, first: usize, tokens: usize, record: &mut Vec<u8>) {
    if rank == 0 {
        return;
    }
    match &plane.a {
        FactorA::Half(a) => {
            for r in 0..rank {
                push_halves(record, (0..BLOCK).map(|t| if t < tokens { a[r * all + first + t] } else { 0 }));
            }
        }
        FactorA::Small { codes, scales, group } => {
            // Scales belong to 32 tokens each, of which a block of 64 may see parts of two or, cut anew, begin within one.
            let (aligned, per_row) = (first / BLOCK * BLOCK, all.div_ceil(*group));
            push_words(record, [(first - aligned) as u32, 0, 0, 0]);
            for r in 0..rank {
                record.extend((0..BLOCK).map(|t| if t < tokens { codes[r * all + first + t] as u8 } else { 0 }));
            }
            for r in 0..rank {
                let of = |t: usize| scales[r * per_row + (t.min(all - 1) / group).min(per_row - 1)];
                push_words(record, [of(aligned), of(aligned + 32)].map(f32::to_bits));
            }
        }
    }
    align(record);
}
