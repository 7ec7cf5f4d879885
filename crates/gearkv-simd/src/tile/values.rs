//! Weighted sums of a tile of values: `Σ p · level(code) · scale` with the scales of tokens folded into the weights.
//!
//! Tokens of a tile are brought into the order of their widths, the widest first, so that four of one width share a unit: widths are dealt out
//! to four tokens of a tile at a time (`spread/tokens.rs`).

use super::sums::{LevelTables, MOST_ROWS, Row, UnitRun, Units, sums};
use super::{TILE, TileMultipliers, steps};
use crate::LANES;
use crate::level::{Level, level};
#[cfg(target_arch = "x86_64")]
use crate::vector::{Avx2, Avx512};
use crate::vector::{Line, Portable, Vector};
use crate::{LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4};

/// What codes stand for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Levels {
    /// Levels in 128ths of the scale (`backbone/rotated.rs`).
    Turned,
    /// Themselves, and a zero is added.
    Affine,
}

/// In which order a tile's tokens lie, and how wide they are.
#[derive(Debug, Clone)]
pub struct TileOrder {
    /// Tokens by their widths; their own order where all have one width.
    pub order: [u8; TILE],
    in_order: bool,
    /// Units of four tokens each.
    runs: [UnitRun; MOST_RUNS],
    count: usize,
    /// Tokens of 8 bits.
    wide: u64,
}

/// One of each width that there can be.
const MOST_RUNS: usize = 4;

impl TileOrder {
    /// All tokens have codes of so many bits.
    pub fn even(bits: u32) -> Self {
        let mut runs = [UnitRun::even(0, 0); MOST_RUNS];
        runs[0] = UnitRun::even(bits as u8, TILE / 4);
        let order = std::array::from_fn(|i| i as u8);
        Self { order, in_order: true, runs, count: 1, wide: if bits == 8 { u64::MAX } else { 0 } }
    }

    /// `fours` units of tokens in their own order, of 8 bits: levels as [`levels_of_codes`] makes them, or the codes of the tokens that are `wide`.
    pub fn unsorted(fours: usize, wide: u64) -> Self {
        let mut made = Self::even(8);
        made.runs[0].units = fours as u16;
        made.wide = wide;
        made
    }

    /// Units of one width after each other.
    pub fn runs(&self) -> &[UnitRun] {
        &self.runs[..self.count]
    }

    /// Units of tokens: which one among the tile's it is, and its bits.
    pub fn units(&self) -> impl Iterator<Item = (usize, u32)> {
        self.runs().iter().flat_map(|run| std::iter::repeat_n(u32::from(run.bits), usize::from(run.units))).enumerate()
    }

    /// Bytes of the units of 64 channels.
    pub fn bytes(&self) -> usize {
        self.runs().iter().map(|run| run.bytes()).sum()
    }
}

/// The order of 64 tokens whose widths are `set[index]` (ascending), indices being packed four to a byte, each width having a multiple of four tokens.
pub fn tile_order(level: Level, set: [u8; 4], packed: &[u8; TILE / 4]) -> TileOrder {
    let (mut low, mut high) = (0u64, 0u64);
    for (i, bytes) in packed.as_chunks::<8>().0.iter().enumerate() {
        let word = u64::from_le_bytes(*bytes);
        low |= u64::from(even_bits(word)) << (32 * i);
        high |= u64::from(even_bits(word >> 1)) << (32 * i);
    }
    // The widest first.
    let masks = [high & low, high & !low, !high & low, !(high | low)];
    let widths = [set[3], set[2], set[1], set[0]];
    if let Some(only) = masks.iter().position(|&mask| mask == u64::MAX) {
        return TileOrder::even(u32::from(widths[only]));
    }
    let mut made = TileOrder {
        // SAFETY: a level is only named where the machine has it.
        order: match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { order_avx512(masks) },
            _ => unsafe { Portable::order(masks) },
        },
        in_order: false,
        runs: [UnitRun::even(0, 0); MOST_RUNS],
        count: 0,
        wide: if widths[0] == 8 { masks[0] } else { 0 },
    };
    for (mask, bits) in masks.iter().zip(widths) {
        let tokens = mask.count_ones() as usize;
        assert!(tokens.is_multiple_of(4), "{tokens} tokens of {bits} bits in a tile, which has them in fours");
        if tokens > 0 {
            made.push(UnitRun::even(bits, tokens / 4));
        }
    }
    made
}

impl TileOrder {
    fn push(&mut self, run: UnitRun) {
        self.runs[self.count] = run;
        self.count += 1;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
unsafe fn order_avx512(masks: [u64; 4]) -> [u8; TILE] {
    unsafe { Avx512::order(masks) }
}

/// Bits 0, 2, 4 … side by side.
fn even_bits(x: u64) -> u32 {
    let mut x = x & 0x5555_5555_5555_5555;
    x = (x | x >> 1) & 0x3333_3333_3333_3333;
    x = (x | x >> 2) & 0x0F0F_0F0F_0F0F_0F0F;
    x = (x | x >> 4) & 0x00FF_00FF_00FF_00FF;
    x = (x | x >> 8) & 0x0000_FFFF_0000_FFFF;
    (x | x >> 16) as u32
}

/// The values of up to 64 tokens.
#[derive(Clone, Copy)]
pub struct ValueTile<'a> {
    /// Of its tokens.
    pub order: &'a TileOrder,
    /// What its codes stand for.
    pub levels: Levels,
    /// The units of 64 channels after those of 64 others.
    pub units: &'a [u8],
    /// Units that will be read next.
    pub ahead: &'a [u8],
    /// Of each token: `[groups, 64]`, groups being as many channels each.
    pub scales: &'a [f32],
    /// As `scales`; none where levels are [`Levels::Turned`].
    pub zeros: &'a [f32],
}

/// Memory that is kept from one call to the next.
#[derive(Default)]
pub struct ValueRoom {
    multipliers: TileMultipliers,
}

/// Weights of a tile's tokens, as columns of rows that reach further.
#[derive(Clone, Copy)]
struct Weights<'a> {
    all: &'a [f32],
    first: usize,
    stride: usize,
    tokens: usize,
}

const fn table<const N: usize>(levels: &[i8; N]) -> [u8; 16] {
    let mut table = [0; 16];
    let mut i = 0;
    while i < N {
        table[i] = (levels[i] as i16 + 128) as u8;
        i += 1;
    }
    table
}

/// Levels, 128 being added so that they are not negative.
const TURNED: LevelTables = [table(&LEVELS_1), table(&LEVELS_2), table(&LEVELS_3), table(&LEVELS_4)];
const AFFINE: LevelTables = {
    let mut numbers = [0; 16];
    let mut i = 0;
    while i < 16 {
        numbers[i] = i as u8;
        i += 1;
    }
    [numbers; 4]
};

/// Codes of one byte each become what [`Levels::Turned`] units of 8 bits have in their places.
pub fn levels_of_codes(codes: &mut [u8], bits: u32) {
    let Some(table) = TURNED.get(bits.wrapping_sub(1) as usize) else { return };
    // SAFETY: a level is only named where the machine has it.
    unsafe {
        match level() {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => look_up_avx512(codes, table),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => look_up_avx2(codes, table),
            Level::Portable => look_up::<Portable>(codes, table),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2")]
unsafe fn look_up_avx512(codes: &mut [u8], table: &[u8; 16]) {
    unsafe { look_up::<Avx512>(codes, table) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn look_up_avx2(codes: &mut [u8], table: &[u8; 16]) {
    unsafe { look_up::<Avx2>(codes, table) }
}

#[inline(always)]
unsafe fn look_up<V: Vector>(codes: &mut [u8], table: &[u8; 16]) {
    let mut registers = codes.chunks_exact_mut(V::BYTES);
    for codes in &mut registers {
        // SAFETY: a register's bytes are there, and 16 of the table.
        unsafe {
            let table = V::repeat(table.as_ptr());
            V::put_bytes(V::look_up(table, V::load(codes.as_ptr())), codes.as_mut_ptr());
        }
    }
    registers.into_remainder().iter_mut().for_each(|code| *code = table[usize::from(*code & 15)]);
}

fn tables_of(levels: Levels) -> &'static LevelTables {
    if levels == Levels::Turned { &TURNED } else { &AFFINE }
}

/// `out[row][channel] += Σ weights[row · stride + first + token] · value[token][channel]` over at most 64 tokens. `out` is `[rows, dim]`, `dim`
/// being a multiple of 64.
pub fn add_values(
    level: Level,
    tile: ValueTile,
    (weights, (first, stride)): (&[f32], (usize, usize)),
    tokens: usize,
    out: &mut [f32],
    room: &mut ValueRoom,
) {
    let rows = weights.len() / stride.max(1);
    let dim = out.len() / rows.max(1);
    let groups = tile.scales.len() / TILE;
    assert!(first + tokens <= stride && tokens <= TILE && weights.len() == rows * stride && out.len() == rows * dim);
    let weights = Weights { all: weights, first, stride, tokens };
    assert!(dim > 0 && dim.is_multiple_of(TILE) && tile.units.len() == dim / TILE * tile.order.bytes());
    assert!(groups > 0 && tile.scales.len() == groups * TILE && (dim / TILE).is_multiple_of(groups));
    assert!(tile.zeros.is_empty() || tile.zeros.len() == tile.scales.len());
    // SAFETY: a level is only named where the machine has it, and the lengths were just checked.
    unsafe {
        match level {
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => avx512(tile, weights, dim, out, room),
            #[cfg(target_arch = "x86_64")]
            Level::Avx2 => avx2(tile, weights, dim, out, room),
            Level::Portable => generic::<Portable>(tile, weights, dim, out, room),
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2")]
unsafe fn avx512(tile: ValueTile, weights: Weights, dim: usize, out: &mut [f32], room: &mut ValueRoom) {
    unsafe { generic::<Avx512>(tile, weights, dim, out, room) }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma,f16c")]
unsafe fn avx2(tile: ValueTile, weights: Weights, dim: usize, out: &mut [f32], room: &mut ValueRoom) {
    unsafe { generic::<Avx2>(tile, weights, dim, out, room) }
}

#[inline(always)]
unsafe fn generic<V: Vector>(tile: ValueTile, weights: Weights, dim: usize, out: &mut [f32], room: &mut ValueRoom) {
    const UNITS: usize = TILE / 4;
    let groups = tile.scales.len() / TILE;
    let tables = tables_of(tile.levels);
    let blocks = dim / TILE;
    let multipliers = &mut room.multipliers;
    multipliers.resize(UNITS);
    let rows = out.len() / dim;
    let mut padded = [0.0; TILE];
    for first in (0..rows).step_by(MOST_ROWS) {
        let now = (rows - first).min(MOST_ROWS);
        for group in 0..groups {
            let scales = &tile.scales[group * TILE..(group + 1) * TILE];
            let zeros = tile.zeros.get(group * TILE..(group + 1) * TILE);
            let mut lines = [Line::default(); MOST_ROWS];
            for (r, line) in lines.iter_mut().enumerate().take(now) {
                let start = (first + r) * weights.stride + weights.first;
                let own = &weights.all[start..start + weights.tokens];
                let p = own.first_chunk().unwrap_or_else(|| {
                    padded[..weights.tokens].copy_from_slice(own);
                    &padded
                });
                // SAFETY: a row has room for 16 words.
                *line = unsafe { fold::<V>(&tile, p, scales, zeros, multipliers.row(r)) };
            }
            for block in group * blocks / groups..(group + 1) * blocks / groups {
                let bytes = tile.order.bytes();
                let units = Units {
                    runs: tile.order.runs(),
                    bytes: tile.units[block * bytes..].as_ptr(),
                    ahead: tile.ahead.as_ptr().wrapping_add(block * bytes),
                    tables,
                };
                let base = out.as_mut_ptr();
                let rows: [Row; MOST_ROWS] = std::array::from_fn(|r| Row {
                    multipliers: multipliers.of(r),
                    line: lines[r],
                    out: base.wrapping_add((first + r) * dim + block * TILE),
                });
                // SAFETY: what the caller vouches for; a tile has 16 units for every 64 channels, and rows have room for these.
                unsafe { sums::<V, true, true>(units, &rows[..now]) };
            }
        }
    }
}

#[inline(always)]
unsafe fn fold<V: Vector>(
    tile: &ValueTile,
    p: &[f32; TILE],
    scales: &[f32],
    zeros: Option<&[f32]>,
    (first, second): (*mut i32, *mut i32),
) -> Line {
    // SAFETY: weights, scales and zeros have 64 numbers, and a row has room for 16 words.
    unsafe {
        let at = |i: usize| V::floats(p.as_ptr().add(LANES * i));
        let scale = |i: usize| V::floats(scales.as_ptr().add(LANES * i));
        let folded = [0, 1, 2, 3].map(|i| V::times(at(i), scale(i)));
        let [a, b, c, d] = folded.map(|x| V::magnitude(x));
        let (inverse, step) = steps(V::most(V::larger(V::larger(a, b), V::larger(c, d))));
        let inverse = V::every(inverse);
        let numbers = folded.map(|x| V::whole(V::times(x, inverse)));
        if tile.order.in_order {
            V::more_multipliers(numbers, first, second);
        } else {
            V::ordered_multipliers(numbers, &tile.order.order, first, second);
        }
        if tile.levels == Levels::Affine {
            let mut sum = V::every(0.0);
            if let Some(zeros) = zeros {
                for i in 0..4 {
                    sum = V::plus(sum, V::times(at(i), V::floats(zeros.as_ptr().add(LANES * i))));
                }
            }
            return Line { step, more: 0, along: V::total(sum) };
        }
        // Levels of 8 bits are `code − 127.5`.
        let mut halves = 0i32;
        if tile.order.wide != 0 {
            let mut all = [0i32; TILE];
            for (i, numbers) in numbers.into_iter().enumerate() {
                V::put_whole(numbers, all.as_mut_ptr().add(LANES * i));
            }
            for (t, &number) in all.iter().enumerate() {
                halves = halves.wrapping_add(if tile.order.wide >> t & 1 == 1 { number } else { 0 });
            }
        }
        let step = step / 128.0;
        Line { step, more: V::whole_total(numbers).wrapping_mul(-128), along: halves as f32 * 0.5 * step }
    }
}
