//! Low-rank factors as they are kept: in float16, or A in 8 or 4 bits and B in 8.
//!
//! The small form is symmetric: `value = code · scale`. A row of A (one rank of one head) has one float16 scale with 8 bits,
//! and one for every [`GROUP`] tokens with 4, where a single large entry would leave the others too few codes. A row of B has one.

use std::ops::Range;

use half::f16;

use crate::joined::joined;
use crate::lowrank::Pair;
use crate::raw::{f16_bytes, finite_f16};
use crate::simd;

/// Entries of A in 4 bits that share a scale.
const GROUP: usize = 32;

/// What the factors of a segment, or of one head, are: `rows` ranks of all heads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FactorLayout {
    pub rows: usize,
    pub tokens: usize,
    pub dim: usize,
    /// 16, 8 or 4.
    pub bits: u32,
}

impl FactorLayout {
    fn group(&self) -> usize {
        if self.bits == 4 { GROUP } else { self.tokens.max(1) }
    }

    pub fn groups(&self) -> usize {
        self.tokens.div_ceil(self.group())
    }

    pub fn row_bytes(&self) -> usize {
        (self.tokens * self.bits as usize).div_ceil(8)
    }

    /// The largest code of A.
    fn largest(&self) -> f32 {
        if self.bits == 4 { 7.0 } else { 127.0 }
    }
}

/// Both factors of a segment, or of one head of it (a layout of one plane).
pub(crate) enum Factors {
    /// A: `[rows, tokens]`. B: `[rows, dim]`.
    Wide { a: Box<[f16]>, b: Box<[f16]> },
    /// A: `[rows, row_bytes]`, with 4 bits the even token in the low half of a byte, codes plus 8. Scales of A:
    /// `[rows, groups]`, of B: `[rows]`.
    Small { a: Box<[u8]>, b: Box<[u8]>, a_scales: Box<[f16]>, b_scales: Box<[f16]> },
}

impl Factors {
    /// Rounds the factors of one head, and leaves what they have become in `pair`.
    pub fn store(layout: &FactorLayout, pair: &mut Pair) -> Self {
        if layout.bits == 16 {
            simd::round_to_f16(&mut pair.a);
            simd::round_to_f16(&mut pair.b);
            let narrow = |x: &[f32]| {
                let mut out = vec![f16::ZERO; x.len()];
                simd::narrow(x, &mut out);
                out.into()
            };
            return Self::Wide { a: narrow(&pair.a), b: narrow(&pair.b) };
        }
        let mut a = Vec::with_capacity(layout.rows * layout.row_bytes());
        let mut a_scales = Vec::with_capacity(layout.rows * layout.groups());
        for row in pair.a.chunks_exact_mut(layout.tokens.max(1)) {
            let mut codes = Vec::with_capacity(layout.tokens);
            for group in row.chunks_mut(layout.group()) {
                a_scales.push(quantize(group, layout.largest(), &mut codes));
            }
            if layout.bits == 4 {
                a.extend(codes.chunks(2).map(|two| nibble(two[0]) | two.get(1).map_or(0, |&high| nibble(high) << 4)));
            } else {
                a.extend(codes.iter().map(|&code| code as u8));
            }
        }
        let mut b = Vec::with_capacity(layout.rows * layout.dim);
        let mut b_scales = Vec::with_capacity(layout.rows);
        for row in pair.b.chunks_exact_mut(layout.dim) {
            let mut codes = Vec::with_capacity(layout.dim);
            b_scales.push(quantize(row, 127.0, &mut codes));
            b.extend(codes.iter().map(|&code| code as u8));
        }
        Self::Small { a: a.into(), b: b.into(), a_scales: a_scales.into(), b_scales: b_scales.into() }
    }

    /// Those of all heads, which must be of one form.
    pub fn concat<'a>(parts: impl Iterator<Item = &'a Self> + Clone, bits: u32) -> Self {
        if bits == 16 {
            return Self::Wide { a: joined!(parts, Wide, a), b: joined!(parts, Wide, b) };
        }
        Self::Small {
            a: joined!(parts, Small, a),
            b: joined!(parts, Small, b),
            a_scales: joined!(parts, Small, a_scales),
            b_scales: joined!(parts, Small, b_scales),
        }
    }

    pub fn byte_length(&self) -> usize {
        match self {
            Self::Wide { a, b } => size_of_val(&**a) + size_of_val(&**b),
            Self::Small { a, b, a_scales, b_scales } => {
                a.len() + b.len() + size_of_val(&**a_scales) + size_of_val(&**b_scales)
            }
        }
    }

    /// A and B, then the scales of A and of B where there are any: little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Wide { a, b } => [f16_bytes(a), f16_bytes(b)].concat(),
            Self::Small { a, b, a_scales, b_scales } => [a, b, &*f16_bytes(a_scales), &*f16_bytes(b_scales)].concat(),
        }
    }

    /// What [`Self::bytes`] gave; `None` where the length does not fit or a number is not finite.
    pub fn from_bytes(layout: &FactorLayout, bytes: &[u8]) -> Option<Self> {
        let &FactorLayout { rows, tokens, dim, .. } = layout;
        if layout.bits == 16 {
            let values = finite_f16(bytes, rows * (tokens + dim))?;
            let (a, b) = values.split_at(rows * tokens);
            return Some(Self::Wide { a: a.into(), b: b.into() });
        }
        let (a, rest) = bytes.split_at_checked(rows * layout.row_bytes())?;
        let (b, rest) = rest.split_at_checked(rows * dim)?;
        let scales = finite_f16(rest, rows * (layout.groups() + 1))?;
        let (a_scales, b_scales) = scales.split_at(rows * layout.groups());
        Some(Self::Small { a: a.into(), b: b.into(), a_scales: a_scales.into(), b_scales: b_scales.into() })
    }

    /// Factors of tokens `first..first + tokens` of one head, whose `rows` they are: `[rank, tokens]` and `[rank, dim]`.
    pub fn load(
        &self,
        layout: &FactorLayout,
        rows: Range<usize>,
        first: usize,
        tokens: usize,
        a_out: &mut Vec<f32>,
        b_out: &mut Vec<f32>,
    ) {
        let dim = layout.dim;
        a_out.resize(rows.len() * tokens, 0.0);
        b_out.resize(rows.len() * dim, 0.0);
        for (r, row) in rows.enumerate() {
            let (a_out, b_out) = (&mut a_out[r * tokens..(r + 1) * tokens], &mut b_out[r * dim..(r + 1) * dim]);
            match self {
                Self::Wide { a, b } => {
                    let start = row * layout.tokens + first;
                    simd::widen(&a[start..start + tokens], a_out);
                    simd::widen(&b[row * dim..(row + 1) * dim], b_out);
                }
                Self::Small { a, b, a_scales, b_scales } => {
                    let a = &a[row * layout.row_bytes()..(row + 1) * layout.row_bytes()];
                    let scales = &a_scales[row * layout.groups()..(row + 1) * layout.groups()];
                    load_row(layout, a, scales, first, a_out);
                    let scale = b_scales[row].to_f32();
                    for (out, &code) in b_out.iter_mut().zip(&b[row * dim..(row + 1) * dim]) {
                        *out = f32::from(code as i8) * scale;
                    }
                }
            }
        }
    }
}

fn nibble(code: i8) -> u8 {
    (code + 8) as u8
}

/// Entries `first..first + out.len()` of a row of A.
fn load_row(layout: &FactorLayout, codes: &[u8], scales: &[f16], first: usize, out: &mut [f32]) {
    let group = layout.group();
    let mut t = first;
    let end = first + out.len();
    while t < end {
        let stop = ((t / group + 1) * group).min(end);
        let scale = scales[t / group].to_f32();
        let out = &mut out[t - first..stop - first];
        if layout.bits == 4 {
            for (out, t) in out.iter_mut().zip(t..) {
                let code = i32::from(codes[t / 2] >> (t % 2 * 4) & 15) - 8;
                *out = code as f32 * scale;
            }
        } else {
            for (out, &code) in out.iter_mut().zip(&codes[t..stop]) {
                *out = f32::from(code as i8) * scale;
            }
        }
        t = stop;
    }
}

/// Codes of values that share a scale; the values become what the codes stand for.
fn quantize(values: &mut [f32], largest: f32, codes: &mut Vec<i8>) -> f16 {
    let scale = f16::from_f32(simd::largest_magnitude(values) / largest);
    let step = scale.to_f32();
    for x in values {
        // A scale that float16 rounds to 0 belongs to values that nobody will miss.
        let code = if step > 0.0 { (*x / step).round_ties_even().clamp(-largest, largest) } else { 0.0 };
        *x = code * step;
        codes.push(code as i8);
    }
    scale
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pair(layout: &FactorLayout) -> Pair {
        let wave = |n: usize, step: f32| (0..n).map(|i| (i as f32 * step).sin() * (1.0 + i as f32 * 0.01)).collect();
        Pair { a: wave(layout.rows * layout.tokens, 0.7), b: wave(layout.rows * layout.dim, 0.3) }
    }

    #[test]
    fn what_is_loaded_is_what_was_rounded_in_any_block() {
        for (bits, tokens, allowed) in [(16, 70, 1e-3), (8, 70, 6e-3), (4, 70, 0.1), (4, 33, 0.1), (4, 1, 0.1)] {
            let layout = FactorLayout { rows: 3, tokens, dim: 21, bits };
            let exact = pair(&layout);
            let mut rounded = pair(&layout);
            let stored = Factors::store(&layout, &mut rounded);
            assert_eq!(stored.byte_length(), stored.bytes().len());
            let again = Factors::from_bytes(&layout, &stored.bytes()).unwrap();
            for (first, count) in [(0, tokens), (tokens / 3, tokens - tokens / 3), (tokens - 1, 1)] {
                let (mut a, mut b) = (Vec::new(), Vec::new());
                again.load(&layout, 0..3, first, count, &mut a, &mut b);
                for r in 0..layout.rows {
                    let row = r * tokens + first;
                    assert_eq!(a[r * count..(r + 1) * count], rounded.a[row..row + count], "{bits} bits");
                }
                assert_eq!(b, rounded.b);
            }
            let largest = exact.a.iter().fold(0.0f32, |most, x| most.max(x.abs()));
            assert!(exact.a.iter().zip(&rounded.a).all(|(x, y)| (x - y).abs() <= allowed * largest), "{bits} bits");
        }
    }

    #[test]
    fn bytes_that_do_not_fit_are_refused() {
        let layout = FactorLayout { rows: 2, tokens: 35, dim: 8, bits: 4 };
        let bytes = Factors::store(&layout, &mut pair(&layout)).bytes();
        assert!(Factors::from_bytes(&layout, &bytes[1..]).is_none());
        let mut infinite = bytes.clone();
        let end = infinite.len();
        infinite[end - 2..].copy_from_slice(&f16::INFINITY.to_le_bytes());
        assert!(Factors::from_bytes(&layout, &infinite).is_none());
    }
}
