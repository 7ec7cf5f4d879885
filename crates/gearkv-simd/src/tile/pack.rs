//! Whole tiles, packed and unpacked: on one side codes of one byte each, on the other units.

use multiversion::multiversion;

use super::{TILE, TileOrder, UnitRun, planes, unit_bytes};

/// The codes of a unit, a word a lane: the code at place *p* is byte *p*.
pub(super) type Words = [u32; TILE];

/// Sixteen lanes.
const FIELD: usize = TILE / 4;

/// The same bits of each of four bytes.
const fn every_byte(bits: u32) -> u32 {
    bits * 0x0101_0101
}

#[inline(always)]
pub(super) fn pack_words(words: &Words, bits: u32, unit: &mut [u8]) {
    let [f0, f1, f2, f3] = words.as_chunks::<FIELD>().0 else { return };
    let mut unit = unit.as_chunks_mut::<4>().0;
    for &(width, low) in planes(bits) {
        let (plane, rest) = unit.split_at_mut(unit_bytes(width as usize) / 4);
        let mask = every_byte((1 << width) - 1);
        let of = |word: u32| word >> low & mask;
        match width {
            8 => plane.iter_mut().zip(words).for_each(|(out, word)| *out = word.to_le_bytes()),
            4 => {
                for (out, (even, odd)) in plane.as_chunks_mut::<FIELD>().0.iter_mut().zip([(f0, f1), (f2, f3)]) {
                    for i in 0..FIELD {
                        out[i] = (of(even[i]) | of(odd[i]) << 4).to_le_bytes();
                    }
                }
            }
            2 => {
                for (i, out) in plane.first_chunk_mut::<FIELD>().into_iter().flatten().enumerate() {
                    *out = (of(f0[i]) | of(f1[i]) << 2 | of(f2[i]) << 4 | of(f3[i]) << 6).to_le_bytes();
                }
            }
            _ => {
                let both = |f: &[u32; FIELD], i: usize| of(f[i]) | of(f[i + FIELD / 2]) << 4;
                for (i, out) in plane.first_chunk_mut::<{ FIELD / 2 }>().into_iter().flatten().enumerate() {
                    *out = (both(f0, i) | both(f1, i) << 1 | both(f2, i) << 2 | both(f3, i) << 3).to_le_bytes();
                }
            }
        }
        unit = rest;
    }
}

/// What [`pack_words`] packed.
#[inline(always)]
pub(super) fn unpack_words(unit: &[u8], bits: u32, words: &mut Words) {
    let mut unit = unit.as_chunks::<4>().0;
    words.fill(0);
    for &(width, low) in planes(bits) {
        let (plane, rest) = unit.split_at(unit_bytes(width as usize) / 4);
        let mask = every_byte((1 << width) - 1);
        for (f, field) in words.as_chunks_mut::<FIELD>().0.iter_mut().enumerate() {
            // Which words of the plane the field's lanes lie in, and how far up.
            let (first, length, up) = match width {
                8 => (f * FIELD, FIELD, 0),
                4 => (f / 2 * FIELD, FIELD, 4 * (f % 2)),
                2 => (0, FIELD, 2 * f),
                _ => (0, FIELD / 2, f),
            };
            let from = &plane[first..first + length];
            for (part, lanes) in field.chunks_exact_mut(length).enumerate() {
                for (word, bytes) in lanes.iter_mut().zip(from) {
                    *word |= (u32::from_le_bytes(*bytes) >> (up + 4 * part) & mask) << low;
                }
            }
        }
        unit = rest;
    }
}

/// Of each unit of a tile of keys its first channel, bits, and where its bytes are.
fn units_of_channels(runs: &[UnitRun]) -> impl Iterator<Item = (usize, u32, usize)> {
    let (mut channel, mut start) = (0, 0);
    runs.iter().flat_map(|run| std::iter::repeat_n(u32::from(run.bits), usize::from(run.units))).map(move |bits| {
        let unit = (channel, bits, start);
        channel += 4;
        start += unit_bytes(bits as usize);
        unit
    })
}

/// A tile of keys of codes `[64, dim]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn pack_channels(codes: &[u8], dim: usize, runs: &[UnitRun], tile: &mut [u8]) {
    let mut words = [0; TILE];
    for (channel, bits, start) in units_of_channels(runs) {
        for (word, row) in words.iter_mut().zip(codes.chunks_exact(dim)) {
            *word = row[channel..].first_chunk().map_or(0, |four| u32::from_le_bytes(*four));
        }
        pack_words(&words, bits, &mut tile[start..start + unit_bytes(bits as usize)]);
    }
}

/// A tile of values of codes `[64, dim]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn pack_tokens(codes: &[u8], dim: usize, order: &TileOrder, tile: &mut [u8]) {
    let mut start = 0;
    for block in 0..dim / TILE {
        for (unit, bits) in order.units() {
            let lanes = |place: usize| {
                let token = usize::from(order.order[4 * unit + place]);
                codes[token * dim + block * TILE..].first_chunk().unwrap_or(&[0; TILE])
            };
            let bytes = unit_bytes(bits as usize);
            pack_words(&side_by_side(std::array::from_fn(lanes)), bits, &mut tile[start..start + bytes]);
            start += bytes;
        }
    }
}

#[inline(always)]
fn side_by_side([a, b, c, d]: [&[u8; TILE]; 4]) -> Words {
    std::array::from_fn(|i| u32::from(a[i]) | u32::from(b[i]) << 8 | u32::from(c[i]) << 16 | u32::from(d[i]) << 24)
}

/// The inverse of [`pack_channels`]. With `order`, the *i*-th channel of a tile is put to `order[i]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn unpack_channels(tile: &[u8], dim: usize, runs: &[UnitRun], order: Option<&[u16]>, codes: &mut [u8]) {
    let mut words = [0; TILE];
    for (channel, bits, start) in units_of_channels(runs) {
        unpack_words(&tile[start..start + unit_bytes(bits as usize)], bits, &mut words);
        if let Some(order) = order {
            let [a, b, c, d]: [usize; 4] = std::array::from_fn(|place| usize::from(order[channel + place]));
            for (word, row) in words.iter().zip(codes.chunks_exact_mut(dim)) {
                [row[a], row[b], row[c], row[d]] = word.to_le_bytes();
            }
        } else {
            for (word, row) in words.iter().zip(codes.chunks_exact_mut(dim)) {
                row[channel..channel + 4].copy_from_slice(&word.to_le_bytes());
            }
        }
    }
}

/// The inverse of [`pack_tokens`].
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn unpack_tokens(tile: &[u8], dim: usize, order: &TileOrder, codes: &mut [u8]) {
    let (mut words, mut start) = ([0; TILE], 0);
    for block in 0..dim / TILE {
        for (unit, bits) in order.units() {
            let bytes = unit_bytes(bits as usize);
            unpack_words(&tile[start..start + bytes], bits, &mut words);
            start += bytes;
            for place in 0..4 {
                let first = usize::from(order.order[4 * unit + place]) * dim + block * TILE;
                for (code, word) in codes[first..first + TILE].iter_mut().zip(&words) {
                    *code = (word >> (8 * place)) as u8;
                }
            }
        }
    }
}
