//! Outliers of one head, out of the lists that they are kept in: an index and a value each, the indices of a line ascending, in as few bytes as it needs.

use std::ops::Range;

use half::f16;

use super::LANES;
use super::convert::widened_by_scaling;
use super::level::Level;
use super::vector::{Vector, kernel};

/// An outlier: what codes and low-rank leave of a value.
#[derive(Debug, Clone, Copy)]
pub struct Outlier {
    /// Counted from the first one that was asked for.
    pub token: u32,
    /// Of its head.
    pub channel: u32,
    /// To be added.
    pub value: f32,
}

/// Bytes of one outlier index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IndexWidth {
    /// Of lines of up to 256.
    One,
    /// Of up to 65,536.
    Two,
    /// Of any.
    Four,
}

impl IndexWidth {
    /// What a line of so many values needs.
    #[inline]
    pub fn for_line(length: usize) -> Self {
        match length {
            0..=0x100 => Self::One,
            0x101..=0x1_0000 => Self::Two,
            _ => Self::Four,
        }
    }

    /// As a number.
    #[inline]
    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    /// Appends an index.
    #[inline]
    pub fn push(self, index: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&index.to_le_bytes()[..self.bytes()]);
    }

    /// The `i`-th index of packed `indices`.
    #[inline(always)]
    pub fn get(self, indices: &[u8], i: usize) -> usize {
        match self {
            Self::One => usize::from(indices[i]),
            Self::Two => usize::from(u16::from_le_bytes(indices.as_chunks().0[i])),
            Self::Four => u32::from_le_bytes(indices.as_chunks().0[i]) as usize,
        }
    }
}

/// Lines of as many outliers each.
#[derive(Clone, Copy)]
pub struct OutlierLines<'a> {
    /// Of `width` each.
    pub indices: &'a [u8],
    /// Of an index.
    pub width: IndexWidth,
    /// As many.
    pub values: &'a [f16],
    /// Outliers of a line.
    pub per_line: usize,
}

/// Of lines that are tokens, whose indices go through all heads' channels: the outliers among those of one head, `own`, token by token.
pub fn outliers_of_tokens(level: Level, lines: OutlierLines, own: Range<u32>, found: &mut Vec<Outlier>) {
    found.clear();
    of_tokens_at(level, lines, own, found);
}

kernel!(fn of_tokens_at(lines: OutlierLines, own: Range<u32>, found: &mut Vec<Outlier>) = of_tokens);

#[inline(always)]
unsafe fn of_tokens<V: Vector>(lines: OutlierLines, own: Range<u32>, found: &mut Vec<Outlier>) {
    let (indices, per_line) = (lines.indices.as_chunks::<2>().0, lines.per_line);
    // As floats, and between what others are, lower and higher.
    let (low, high) = (own.start as f32, own.end as f32 - 1.0);
    for (token, start) in (0..lines.values.len()).step_by(per_line).enumerate() {
        let mut add = |i: usize, index: u32| {
            let value = widened_by_scaling(lines.values[i].to_bits());
            found.push(Outlier { token: token as u32, channel: index - own.start, value });
        };
        let end = (start + per_line).min(lines.values.len());
        // Of two bytes each, as they are but for the smallest and the largest models.
        for first in (start..end).step_by(LANES) {
            let count = (end - first).min(LANES);
            match indices.get(first..first + LANES).filter(|_| lines.width == IndexWidth::Two) {
                Some(lanes) => {
                    let mut floats = [0.0; LANES];
                    for (float, lane) in floats.iter_mut().zip(lanes) {
                        *float = f32::from(u16::from_le_bytes(*lane));
                    }
                    // SAFETY: the caller vouches for the instruction set, and there are as many floats as it takes.
                    let outside = unsafe { V::outside(V::floats(floats.as_ptr()), V::every(low), V::every(high)) };
                    let mut bits = !outside & (u32::MAX >> (32 - count));
                    while bits != 0 {
                        let i = first + bits.trailing_zeros() as usize;
                        add(i, u32::from(u16::from_le_bytes(indices[i])));
                        bits &= bits - 1;
                    }
                }
                None => {
                    for i in first..first + count {
                        let index = lines.width.get(lines.indices, i) as u32;
                        if own.contains(&index) {
                            add(i, index);
                        }
                    }
                }
            }
        }
    }
}

/// Of lines that are channels, whose indices are tokens: the outliers of tokens `tokens`, channel by channel. `next` says of each line how many entries are
/// before these, and then, how many are before those behind them.
pub fn outliers_of_channels(lines: OutlierLines, tokens: Range<u32>, next: &mut [u32], found: &mut Vec<Outlier>) {
    found.clear();
    match lines.width {
        IndexWidth::One => of_channels_by::<1>(lines, tokens, next, found),
        IndexWidth::Two => of_channels_by::<2>(lines, tokens, next, found),
        IndexWidth::Four => of_channels_by::<4>(lines, tokens, next, found),
    }
}

#[inline(always)]
fn of_channels_by<const BYTES: usize>(
    lines: OutlierLines,
    tokens: Range<u32>,
    next: &mut [u32],
    found: &mut Vec<Outlier>,
) {
    let indices = lines.indices.as_chunks::<BYTES>().0;
    let each = indices.chunks_exact(lines.per_line).zip(lines.values.chunks_exact(lines.per_line));
    for (channel, ((indices, values), next)) in each.zip(next).enumerate() {
        let left = indices.iter().zip(values).skip(*next as usize);
        for (at, value) in left {
            let token = index::<BYTES>(at);
            if token >= tokens.end {
                break;
            }
            *next += 1;
            if token >= tokens.start {
                let value = widened_by_scaling(value.to_bits());
                found.push(Outlier { token: token - tokens.start, channel: channel as u32, value });
            }
        }
    }
}

#[inline(always)]
fn index<const BYTES: usize>(bytes: &[u8; BYTES]) -> u32 {
    let mut all = [0; 4];
    all[..BYTES].copy_from_slice(bytes);
    u32::from_le_bytes(all)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;

    fn lines(width: IndexWidth, per_line: usize, lines: usize, length: u32) -> (Vec<u8>, Vec<u32>, Vec<f16>) {
        let step = length / per_line as u32;
        let all: Vec<u32> = (0..lines * per_line)
            .map(|i| (i % per_line) as u32 * step + (i as u32).wrapping_mul(2_654_435_761) % step)
            .collect();
        let mut bytes = Vec::new();
        all.iter().for_each(|&index| width.push(index, &mut bytes));
        let values = (0..all.len()).map(|i| f16::from_f32(i as f32 / 8.0 - 40.0)).collect();
        (bytes, all, values)
    }

    #[test]
    fn each_head_finds_its_own_in_the_lines_of_tokens() {
        for (bytes, per_line, length) in [(1, 4, 256), (2, 20, 1024), (2, 34, 1024), (2, 16, 768), (4, 40, 70_000)] {
            let width = IndexWidth::for_line(length as usize);
            assert_eq!(width.bytes(), bytes);
            let (indices, all, values) = lines(width, per_line, 9, length);
            let lines = OutlierLines { indices: &indices, width, values: &values, per_line };
            for level in levels() {
                for own in [0..length / 8, length / 8 * 3..length / 8 * 4, length / 8 * 7..length] {
                    let mut found = Vec::new();
                    outliers_of_tokens(level, lines, own.clone(), &mut found);
                    let found: Vec<_> = found.iter().map(|o| (o.token, o.channel, o.value.to_bits())).collect();
                    let kept = all.iter().zip(&values).enumerate().filter(|(_, (index, _))| own.contains(index));
                    let expected: Vec<_> = kept
                        .map(|(i, (index, value))| ((i / per_line) as u32, index - own.start, value.to_f32().to_bits()))
                        .collect();
                    assert_eq!(found, expected, "{level:?}, {bytes} bytes, {per_line} a line");
                }
            }
        }
    }

    #[test]
    fn tokens_are_found_stretch_by_stretch_in_the_lines_of_channels() {
        let (width, per_line, channels, length) = (IndexWidth::Two, 30, 5, 600);
        let (indices, all, values) = lines(width, per_line, channels, length);
        let lines = OutlierLines { indices: &indices, width, values: &values, per_line };
        let (mut next, mut found, mut count) = (vec![0; channels], Vec::new(), 0);
        for tokens in [0..64, 128..192, 192..600] {
            outliers_of_channels(lines, tokens.clone(), &mut next, &mut found);
            for outlier in &found {
                let line = outlier.channel as usize * per_line..(outlier.channel as usize + 1) * per_line;
                let token = outlier.token + tokens.start;
                let at = line.start + all[line.clone()].iter().position(|&index| index == token).unwrap();
                assert_eq!(outlier.value, values[at].to_f32());
            }
            let expected = all.iter().filter(|index| tokens.contains(index)).count();
            assert_eq!(found.len(), expected);
            count += expected;
        }
        assert!(count > 100);
    }
}
