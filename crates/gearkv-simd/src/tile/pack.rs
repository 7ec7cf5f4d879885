//! Whole tiles, packed and unpacked: on one side codes of one byte each, on the other units.
//!
//! Between the two are *words*: the codes of a unit, 64 words of a byte for each place. A tile of keys has the channels of a token in
//! words beside each other, so that rows and words are each other's transposes; a tile of values needs the bytes of words transposed besides.
//!
//! SAFETY of all blocks: what is called from outside has checked lengths, and nothing else calls what is below it.

use std::mem::MaybeUninit;

use super::sums::codes;
use super::{MOST_WORDS, TILE, TileOrder, UnitRun, unit_bytes};
use crate::level::Level;
use crate::vector::{Vector, kernel};

/// The codes of a unit, a word a lane: the code at place *p* is byte *p*.
pub(super) type Words = [u32; TILE];

/// Sixteen lanes.
const FIELD: usize = TILE / 4;

/// The most channels of a tile of keys.
const MOST_CHANNELS: usize = 4 * MOST_WORDS;

#[inline(always)]
pub(super) unsafe fn pack_words<V: Vector>(words: &Words, bits: u32, unit: &mut [u8]) {
    assert!(unit.len() == unit_bytes(bits as usize));
    let (words, unit) = (words.as_ptr().cast(), unit.as_mut_ptr());
    // A width's planes: its low bits, as many as divide a byte, and those above them.
    unsafe {
        match bits {
            1 => pack_bits::<V, 0>(words, unit),
            2 => pack_plane::<V, 2, 0>(words, unit),
            3 => {
                pack_plane::<V, 2, 0>(words, unit);
                pack_bits::<V, 2>(words, unit.add(unit_bytes(2)));
            }
            4 => pack_plane::<V, 4, 0>(words, unit),
            6 => {
                pack_plane::<V, 4, 0>(words, unit);
                pack_plane::<V, 2, 4>(words, unit.add(unit_bytes(4)));
            }
            _ => words.copy_to_nonoverlapping(unit, unit_bytes(8)),
        }
    }
}

/// Fields of a plane of 2 or 4 bits above each other, as many as fill a byte.
#[inline(always)]
unsafe fn pack_plane<V: Vector, const WIDTH: usize, const LOW: usize>(words: *const u8, plane: *mut u8) {
    const BYTES: usize = 4 * FIELD;
    for first in (0..4).step_by(8 / WIDTH) {
        for part in (0..BYTES).step_by(V::BYTES) {
            unsafe {
                let mut packed = V::splat(0);
                for above in 0..8 / WIDTH {
                    let word = V::load(words.add((first + above) * BYTES + part));
                    let to = above * WIDTH;
                    let mask = V::splat((((1 << WIDTH) - 1) << to) as u8);
                    packed = V::or(packed, V::and(V::moved(word, LOW as i32 - to as i32), mask));
                }
                V::put_bytes(packed, plane.add(first * WIDTH / 8 * BYTES + part));
            }
        }
    }
}

/// Bits of all four fields, those of a field's second half above those of the first.
#[inline(always)]
unsafe fn pack_bits<V: Vector, const LOW: usize>(words: *const u8, plane: *mut u8) {
    const BYTES: usize = 4 * FIELD;
    let mut halves = [0; BYTES];
    for part in (0..BYTES).step_by(V::BYTES) {
        unsafe {
            let mut packed = V::splat(0);
            for field in 0..4 {
                let word = V::load(words.add(field * BYTES + part));
                packed = V::or(packed, V::and(V::moved(word, LOW as i32 - field as i32), V::splat(1 << field)));
            }
            V::put_bytes(packed, halves.as_mut_ptr().add(part));
        }
    }
    let (low, high) = halves.split_at(BYTES / 2);
    let mut packed = [0; BYTES / 2];
    for i in 0..BYTES / 2 {
        packed[i] = low[i] | high[i] << 4;
    }
    unsafe { plane.cast::<[u8; BYTES / 2]>().write_unaligned(packed) };
}

/// What [`pack_words`] packed.
#[inline(always)]
pub(super) unsafe fn unpack_words<V: Vector>(unit: *const u8, bits: u32, words: *mut Words) {
    unsafe {
        match bits {
            1 => unpack_width::<V, 1>(unit, words),
            2 => unpack_width::<V, 2>(unit, words),
            3 => unpack_width::<V, 3>(unit, words),
            4 => unpack_width::<V, 4>(unit, words),
            6 => unpack_width::<V, 6>(unit, words),
            _ => unpack_width::<V, 8>(unit, words),
        }
    }
}

#[inline(always)]
unsafe fn unpack_width<V: Vector, const BITS: usize>(unit: *const u8, words: *mut Words) {
    let words = words.cast::<u8>();
    for field in 0..4 {
        for part in 0..64 / V::BYTES {
            unsafe { V::put_bytes(codes::<V, BITS>(unit, field, part), words.add(64 * field + part * V::BYTES)) };
        }
    }
}

/// Of each unit of a tile of keys its bits, and where its bytes are.
fn units_of_channels(runs: &[UnitRun]) -> impl Iterator<Item = (u32, usize)> {
    let mut start = 0;
    runs.iter().flat_map(|run| std::iter::repeat_n(u32::from(run.bits), usize::from(run.units))).map(move |bits| {
        let unit = (bits, start);
        start += unit_bytes(bits as usize);
        unit
    })
}

/// A tile of keys of codes `[64, dim]`, `dim` being a multiple of 16.
pub fn pack_channels(level: Level, codes: &[u8], dim: usize, runs: &[UnitRun], tile: &mut [u8]) {
    check_channels(dim, codes.len(), runs, tile.len());
    channels_packed_at(level, codes, dim, runs, tile);
}

/// The inverse of [`pack_channels`]. With `order`, which has each channel once, the *i*-th channel of a tile is put to `order[i]`.
pub fn unpack_channels(
    level: Level,
    tile: &[u8],
    dim: usize,
    runs: &[UnitRun],
    order: Option<&[u16]>,
    codes: &mut [u8],
) {
    check_channels(dim, codes.len(), runs, tile.len());
    let order = order.map(|order| Sources::of(order, dim));
    channels_unpacked_at(level, tile, dim, runs, order.as_ref(), codes);
}

fn check_channels(dim: usize, codes: usize, runs: &[UnitRun], tile: usize) {
    assert!(dim.is_multiple_of(FIELD) && dim <= MOST_CHANNELS && codes == TILE * dim);
    assert!(runs.iter().map(|run| usize::from(run.units)).sum::<usize>() == dim / 4);
    assert!(runs.iter().map(|run| run.bytes()).sum::<usize>() <= tile);
}

/// A tile of values of codes `[64, dim]`, or of as many tokens as `order` has; `dim` is a multiple of 64.
pub fn pack_tokens(level: Level, codes: &[u8], dim: usize, order: &TileOrder, tile: &mut [u8]) {
    check_tokens(dim, codes.len(), order, tile.len());
    tokens_packed_at(level, codes, dim, order, tile);
}

/// The inverse of [`pack_tokens`].
pub fn unpack_tokens(level: Level, tile: &[u8], dim: usize, order: &TileOrder, codes: &mut [u8]) {
    check_tokens(dim, codes.len(), order, tile.len());
    tokens_unpacked_at(level, tile, dim, order, codes);
}

fn check_tokens(dim: usize, codes: usize, order: &TileOrder, tile: usize) {
    let rows = order.order.iter().take(4 * order.units().count()).max().map_or(0, |&last| usize::from(last) + 1);
    assert!(dim.is_multiple_of(TILE) && codes >= rows * dim && tile >= dim / TILE * order.bytes());
}

kernel!(fn channels_packed_at(codes: &[u8], dim: usize, runs: &[UnitRun], tile: &mut [u8]) = channels_packed);
kernel!(
    fn channels_unpacked_at(tile: &[u8], dim: usize, runs: &[UnitRun], order: Option<&Sources>, codes: &mut [u8]) =
        channels_unpacked
);
kernel!(fn tokens_packed_at(codes: &[u8], dim: usize, order: &TileOrder, tile: &mut [u8]) = tokens_packed);
kernel!(fn tokens_unpacked_at(tile: &[u8], dim: usize, order: &TileOrder, codes: &mut [u8]) = tokens_unpacked);

#[inline(always)]
unsafe fn channels_packed<V: Vector>(codes: &[u8], dim: usize, runs: &[UnitRun], tile: &mut [u8]) {
    let mut units = units_of_channels(runs);
    for channel in (0..dim).step_by(FIELD) {
        let mut words = [[0; TILE]; 4];
        for token in (0..TILE).step_by(V::BYTES / 4) {
            unsafe {
                let rows = codes.as_ptr().add(token * dim + channel);
                let of_units = V::transposed([
                    V::lanes(rows, 4 * dim),
                    V::lanes(rows.add(dim), 4 * dim),
                    V::lanes(rows.add(2 * dim), 4 * dim),
                    V::lanes(rows.add(3 * dim), 4 * dim),
                ]);
                for (words, of_unit) in words.iter_mut().zip(of_units) {
                    V::put_bytes(of_unit, words[token..].as_mut_ptr().cast());
                }
            }
        }
        for (words, (bits, start)) in words.iter().zip(&mut units) {
            unsafe { pack_words::<V>(words, bits, &mut tile[start..start + unit_bytes(bits as usize)]) };
        }
    }
}

#[inline(always)]
unsafe fn channels_unpacked<V: Vector>(
    tile: &[u8],
    dim: usize,
    runs: &[UnitRun],
    order: Option<&Sources>,
    codes: &mut [u8],
) {
    // All that is read of it is written first.
    let mut words = [MaybeUninit::<Words>::uninit(); MOST_WORDS];
    let mut units = units_of_channels(runs);
    // Where it can, a register's bytes are put into order once they are rows. Otherwise a row's bytes come from all over the tile.
    let picked = order.filter(|_| !V::PERMUTES);
    if picked.is_some() {
        unsafe { unpack_units::<V>(tile, &mut units, &mut words[..dim / 4]) };
    }
    for channel in (0..dim).step_by(FIELD) {
        if picked.is_none() {
            unsafe { unpack_units::<V>(tile, &mut units, &mut words[..4]) };
        }
        let words = words.as_ptr().cast::<Words>();
        for token in (0..TILE).step_by(V::BYTES / 4) {
            unsafe {
                let fours = match picked {
                    None => units_at::<V>(words, [0, 1, 2, 3], token),
                    Some(Sources(from)) => {
                        let [a, b, c, d] = [0, 4, 8, 12].map(|more| &from[channel + more..][..4]);
                        [
                            picked_from::<V>(words, a, token),
                            picked_from::<V>(words, b, token),
                            picked_from::<V>(words, c, token),
                            picked_from::<V>(words, d, token),
                        ]
                    }
                };
                let [a, b, c, d] = V::transposed(fours);
                let out = codes.as_mut_ptr().add(token * dim + channel);
                V::put_lanes(a, out, 4 * dim);
                V::put_lanes(b, out.add(dim), 4 * dim);
                V::put_lanes(c, out.add(2 * dim), 4 * dim);
                V::put_lanes(d, out.add(3 * dim), 4 * dim);
            }
        }
    }
    if let (Some(Sources(from)), true) = (order, V::PERMUTES) {
        for row in codes.chunks_exact_mut(dim) {
            unsafe { V::permute(row, from) };
        }
    }
}

/// The next units' words.
// Not a closure: that would not be compiled for the registers that it uses.
#[inline(always)]
unsafe fn unpack_units<V: Vector>(
    tile: &[u8],
    units: &mut impl Iterator<Item = (u32, usize)>,
    words: &mut [MaybeUninit<Words>],
) {
    for (words, (bits, start)) in words.iter_mut().zip(units) {
        unsafe { unpack_words::<V>(tile[start..].as_ptr(), bits, words.as_mut_ptr()) };
    }
}

/// The words of some units, from a token on.
#[inline(always)]
unsafe fn units_at<V: Vector>(words: *const Words, units: [usize; 4], token: usize) -> [V::Bytes; 4] {
    unsafe {
        [
            V::load(words.add(units[0]).cast::<u8>().add(4 * token)),
            V::load(words.add(units[1]).cast::<u8>().add(4 * token)),
            V::load(words.add(units[2]).cast::<u8>().add(4 * token)),
            V::load(words.add(units[3]).cast::<u8>().add(4 * token)),
        ]
    }
}

/// Words made of the channels `from` of a tile, from a token on.
#[inline(always)]
unsafe fn picked_from<V: Vector>(words: *const Words, from: &[u8], token: usize) -> V::Bytes {
    unsafe {
        let from = [from[0], from[1], from[2], from[3]].map(usize::from);
        let [a, b, c, d] = units_at::<V>(words, from.map(|channel| channel / 4), token);
        let a = V::pick(a, V::repeat(PICK[0][from[0] % 4].as_ptr()));
        let b = V::pick(b, V::repeat(PICK[1][from[1] % 4].as_ptr()));
        let c = V::pick(c, V::repeat(PICK[2][from[2] % 4].as_ptr()));
        let d = V::pick(d, V::repeat(PICK[3][from[3] % 4].as_ptr()));
        V::or(V::or(a, b), V::or(c, d))
    }
}

#[inline(always)]
unsafe fn tokens_packed<V: Vector>(codes: &[u8], dim: usize, order: &TileOrder, tile: &mut [u8]) {
    let mut start = 0;
    for block in (0..dim).step_by(TILE) {
        for (unit, bits) in order.units() {
            let mut words = [0; TILE];
            for part in (0..TILE).step_by(V::BYTES) {
                unsafe {
                    let [a, b, c, d] =
                        tokens_of(order, unit).map(|token| codes.as_ptr().add(token * dim + block + part));
                    let fours = V::transposed([V::load(a), V::load(b), V::load(c), V::load(d)]);
                    for (j, four) in fours.into_iter().enumerate() {
                        let four = V::pick(four, V::repeat(TRANSPOSE.as_ptr()));
                        V::put_lanes(four, words[part + 4 * j..].as_mut_ptr().cast(), 64);
                    }
                }
            }
            let bytes = unit_bytes(bits as usize);
            unsafe { pack_words::<V>(&words, bits, &mut tile[start..start + bytes]) };
            start += bytes;
        }
    }
}

#[inline(always)]
unsafe fn tokens_unpacked<V: Vector>(tile: &[u8], dim: usize, order: &TileOrder, codes: &mut [u8]) {
    let (mut words, mut start) = ([0; TILE], 0);
    for block in (0..dim).step_by(TILE) {
        for (unit, bits) in order.units() {
            unsafe { unpack_words::<V>(tile[start..].as_ptr(), bits, &mut words) };
            start += unit_bytes(bits as usize);
            for part in (0..TILE).step_by(V::BYTES) {
                unsafe {
                    let (words, places) = (words[part..].as_ptr(), V::repeat(TRANSPOSE.as_ptr()));
                    let rows = V::transposed([
                        V::pick(V::lanes(words.cast(), 64), places),
                        V::pick(V::lanes(words.add(4).cast(), 64), places),
                        V::pick(V::lanes(words.add(8).cast(), 64), places),
                        V::pick(V::lanes(words.add(12).cast(), 64), places),
                    ]);
                    for (row, token) in rows.into_iter().zip(tokens_of(order, unit)) {
                        V::put_bytes(row, codes.as_mut_ptr().add(token * dim + block + part));
                    }
                }
            }
        }
    }
}

/// The four tokens of a unit.
#[inline(always)]
fn tokens_of(order: &TileOrder, unit: usize) -> [usize; 4] {
    [0, 1, 2, 3].map(|place| usize::from(order.order[4 * unit + place]))
}

/// For each channel of a row which of a tile's channels it is.
struct Sources([u8; MOST_CHANNELS]);

impl Sources {
    fn of(order: &[u16], dim: usize) -> Self {
        assert!(order.len() == dim);
        let mut from = [0; MOST_CHANNELS];
        for (i, &channel) in order.iter().enumerate() {
            from[..dim][usize::from(channel)] = i as u8;
        }
        Self(from)
    }
}

/// `PICK[to][from]` moves byte `from` of each word to byte `to`, and leaves nothing else.
const PICK: [[[u8; 16]; 4]; 4] = {
    let mut pick = [[[0x80; 16]; 4]; 4];
    let mut i = 0;
    while i < 64 {
        let (to, from, word) = (i / 16, i / 4 % 4, i % 4);
        pick[to][from][4 * word + to] = (4 * word + from) as u8;
        i += 1;
    }
    pick
};

/// The four bytes of four words, transposed.
const TRANSPOSE: [u8; 16] = [0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15];
