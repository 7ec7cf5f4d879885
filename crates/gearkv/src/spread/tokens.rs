//! Tokens whose rows of codes differ in width.
//!
//! Rows stay in the order of the tokens; where a block of them starts is noted, and within a block the widths are added up.

use super::allocation::{Unit, deal};
use super::{HEADER_BYTES, NUMBER_BYTES};
use crate::simd;

/// Tokens between two noted places.
const BLOCK: usize = 64;

/// What a row can have, where few bits are dealt out and where many are.
const FEW: [u8; 4] = [1, 2, 3, 4];
const MANY: [u8; 4] = [2, 3, 4, 8];
/// From so many bits on the average on.
const MANY_FROM: f64 = 3.0;

/// The share of a normal distribution's variance that its best quantizer of so many levels leaves (J. Max 1960, table I), and what
/// evenly spaced levels do with eight bits.
fn error(bits: u8) -> f64 {
    match bits {
        1 => 0.3634,
        2 => 0.1175,
        3 => 0.034_54,
        4 => 0.009_497,
        _ => 0.000_06,
    }
}

/// Widths of the rows of all planes.
#[derive(Debug, PartialEq)]
pub(crate) struct TokenWidths {
    tokens: usize,
    dim: usize,
    set: [u8; 4],
    /// Indices in `set`, four to a byte: `[planes, ⌈tokens / 4⌉]`.
    packed: Box<[u8]>,
    /// Where a plane's codes start: `[planes + 1]`.
    planes: Box<[usize]>,
    /// Where a block starts within its plane: `[planes, ⌈tokens / BLOCK⌉]`.
    blocks: Box<[u32]>,
    /// Whether each whole block has a multiple of four rows of each width.
    in_fours: bool,
}

/// Widths of the rows of one plane, or the one that all have.
#[derive(Clone, Copy)]
pub(crate) enum RowWidths<'a> {
    Even(u32),
    Each { set: [u8; 4], packed: &'a [u8] },
}

impl RowWidths<'_> {
    /// Of token `t`'s row.
    pub fn of(self, t: usize) -> u32 {
        match self {
            Self::Even(bits) => bits,
            Self::Each { set, packed } => u32::from(set[usize::from(packed[t / 4] >> (t % 4 * 2) & 3)]),
        }
    }
}

fn set_for(mean_bits: f64) -> [u8; 4] {
    if mean_bits < MANY_FROM { FEW } else { MANY }
}

/// Which of a set of widths rows have that differ by no more than a step.
fn flat_widths(set: [u8; 4], mean_bits: f64) -> std::ops::Range<usize> {
    let below = set.iter().rposition(|&bits| f64::from(bits) <= mean_bits).unwrap_or(0);
    below..(below + 2).min(set.len())
}

/// The rows of each plane (`[planes, tokens]`) four by four, and how many each time: in a whole block the heaviest together, and so on; behind the
/// last one, each alone.
fn fours(weights: &[f64], tokens: usize) -> (Vec<u32>, Vec<u8>) {
    let (mut rows, mut counts) = (Vec::with_capacity(weights.len()), Vec::with_capacity(weights.len() / 4));
    for first_of_plane in (0..weights.len()).step_by(tokens.max(1)) {
        let whole = first_of_plane + tokens - tokens % BLOCK;
        for first in (first_of_plane..whole).step_by(BLOCK) {
            let start = rows.len();
            rows.extend(first as u32..(first + BLOCK) as u32);
            rows[start..].sort_by(|&a, &b| weights[b as usize].total_cmp(&weights[a as usize]));
            counts.extend([4; BLOCK / 4]);
        }
        let rest = whole..first_of_plane + tokens;
        counts.extend(rest.clone().map(|_| 1));
        rows.extend(rest.map(|row| row as u32));
    }
    (rows, counts)
}

impl TokenWidths {
    /// Widths of the rows of one batch item's heads: `mean_bits` on the average, where `weights` (`[heads, tokens]`) is each row's
    /// variance times what an error there weighs. With `flat`, no row gets more than one bit more than another. In a whole block four rows of
    /// about the same weight have one width: attention takes them together.
    pub fn dealt(weights: &[f64], tokens: usize, dim: usize, mean_bits: f64, flat: bool) -> Self {
        let set = set_for(mean_bits);
        let usable = if flat { flat_widths(set, mean_bits) } else { 0..set.len() };
        let (widths, errors) = (&set[usable.clone()], set.map(error));
        let mut packed = vec![0; weights.len() / tokens.max(1) * tokens.div_ceil(4)];
        let mut give = |row: usize, at: u8| {
            let (plane, t) = (row / tokens, row % tokens);
            packed[plane * tokens.div_ceil(4) + t / 4] |= (at + usable.start as u8) << (2 * (t % 4));
        };
        let bits = (mean_bits * weights.len() as f64) as usize;
        if usable.len() == 1 || bits <= weights.len() * usize::from(widths[0]) {
            (0..weights.len()).for_each(|row| give(row, 0));
        } else {
            let (rows, counts) = fours(weights, tokens);
            let mut left = &rows[..];
            let units = counts.iter().map(|&codes| {
                let own;
                (own, left) = left.split_at(usize::from(codes));
                Unit { weight: own.iter().map(|&row| weights[row as usize]).sum(), codes }
            });
            let chosen = deal(units, widths, &errors[usable.clone()], bits);
            let mut rows = rows.iter();
            for (at, &count) in chosen.into_iter().zip(&counts) {
                rows.by_ref().take(usize::from(count)).for_each(|&row| give(row as usize, at));
            }
        }
        Self::of_packed(packed.into(), tokens, dim, set)
    }

    /// Whether weights make a difference where widths are flat: not where there is one width that they all can have.
    pub fn weights_matter(rows: usize, mean_bits: f64) -> bool {
        let set = set_for(mean_bits);
        let usable = flat_widths(set, mean_bits);
        let least = rows * usize::from(set[usable.start]);
        usable.len() > 1 && (mean_bits * rows as f64) as usize > least
    }

    fn of_packed(packed: Box<[u8]>, tokens: usize, dim: usize, set: [u8; 4]) -> Self {
        let (mut planes, mut blocks, mut in_fours) = (vec![0], Vec::new(), true);
        for packed in packed.chunks_exact(tokens.div_ceil(4).max(1)) {
            let widths = RowWidths::Each { set, packed };
            let mut bytes = 0;
            for first in (0..tokens).step_by(BLOCK) {
                blocks.push(bytes as u32);
                let mut rows_of = [0; 9];
                for t in first..tokens.min(first + BLOCK) {
                    let bits = widths.of(t);
                    rows_of[bits as usize] += 1;
                    bytes += simd::row_bytes(dim, bits);
                }
                in_fours &= first + BLOCK > tokens || rows_of.iter().all(|rows| rows % 4 == 0);
            }
            planes.push(planes[planes.len() - 1] + bytes);
        }
        Self { tokens, dim, set, packed, planes: planes.into(), blocks: blocks.into(), in_fours }
    }

    /// Those of several batch items, one after the other.
    pub fn concat(items: &[Self], tokens: usize, dim: usize, mean_bits: f64) -> Self {
        let packed: Vec<u8> = items.iter().flat_map(|item| item.packed.iter().copied()).collect();
        Self::of_packed(packed.into(), tokens, dim, set_for(mean_bits))
    }

    /// What [`Self::bytes`] gave; `None` where the length does not fit.
    pub fn from_bytes(planes: usize, tokens: usize, dim: usize, mean_bits: f64, bytes: &[u8]) -> Option<Self> {
        (bytes.len() == planes * tokens.div_ceil(4))
            .then(|| Self::of_packed(bytes.into(), tokens, dim, set_for(mean_bits)))
    }

    /// Indices in the set of widths, four to a byte, the first in the lowest bits: `[planes, ⌈tokens / 4⌉]`.
    pub fn bytes(&self) -> &[u8] {
        &self.packed
    }

    pub fn byte_length(&self) -> usize {
        HEADER_BYTES + self.packed.len() + NUMBER_BYTES * self.planes.len() + size_of_val(&*self.blocks)
    }

    /// Whether each whole block of 64 tokens has a multiple of four rows of each width, as [`Self::dealt`] makes them.
    pub fn in_fours(&self) -> bool {
        self.in_fours
    }

    /// Asks for all of them.
    pub fn prefetch(&self) {
        simd::prefetch(&self.packed, self.packed.len());
        simd::prefetch(&self.planes, size_of_val(&*self.planes));
        simd::prefetch(&self.blocks, size_of_val(&*self.blocks));
    }

    /// Of one plane.
    pub fn rows(&self, plane: usize) -> RowWidths<'_> {
        let bytes = self.tokens.div_ceil(4);
        RowWidths::Each { set: self.set, packed: &self.packed[plane * bytes..(plane + 1) * bytes] }
    }

    /// Bytes of all codes.
    pub fn code_bytes(&self) -> usize {
        self.planes[self.planes.len() - 1]
    }

    /// Where the codes of a plane's token start.
    pub fn start(&self, plane: usize, token: usize) -> usize {
        let block = token / BLOCK;
        let rows = self.rows(plane);
        let before: usize = (block * BLOCK..token).map(|t| simd::row_bytes(self.dim, rows.of(t))).sum();
        self.planes[plane] + self.blocks[plane * self.tokens.div_ceil(BLOCK) + block] as usize + before
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_that_weigh_more_are_wider_and_every_row_is_found() {
        for (tokens, mean) in [(1, 2.0), (63, 1.5), (64, 2.25), (200, 2.5), (130, 3.9), (77, 8.0)] {
            let weights: Vec<f64> = (0..2 * tokens).map(|i| 3f64.powi(i as i32 * 5 % 11)).collect();
            for flat in [false, true] {
                let widths = TokenWidths::dealt(&weights, tokens, 21, mean, flat);
                let mut start = 0;
                let (mut least, mut most, mut sum) = (8, 0, 0);
                for plane in 0..2 {
                    for t in 0..tokens {
                        assert_eq!(widths.start(plane, t), start);
                        let bits = widths.rows(plane).of(t);
                        start += simd::row_bytes(21, bits);
                        (least, most, sum) = (bits.min(least), bits.max(most), sum + bits);
                    }
                }
                assert!(widths.in_fours());
                assert_eq!(widths.code_bytes(), start);
                assert!(f64::from(sum) <= mean * weights.len() as f64);
                assert!(!flat || most - least <= 1 || (least, most) == (4, 8), "{least} to {most} bits");
                let again = TokenWidths::from_bytes(2, tokens, 21, mean, widths.bytes());
                assert_eq!(again.as_ref(), Some(&widths));
            }
        }
        assert!(TokenWidths::from_bytes(2, 64, 21, 2.0, &[0; 31]).is_none());
        let one_row_more = [&[1][..], &[0; 31]].concat();
        assert!(!TokenWidths::from_bytes(2, 64, 21, 2.0, &one_row_more).unwrap().in_fours());
    }
}
