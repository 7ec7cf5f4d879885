//! In which order a tile's tokens lie: by their widths, the widest first, so that four of one width share a unit. Widths are dealt out to four
//! tokens of a tile at a time (`spread/tokens.rs` of the core).

use super::TILE;
use super::sums::UnitRun;
use crate::level::Level;
#[cfg(target_arch = "x86_64")]
use crate::vector::Avx512;
use crate::vector::{Portable, Vector};

/// In which order a tile's tokens lie, and how wide they are.
#[derive(Debug, Clone)]
pub struct TileOrder {
    /// Tokens by their widths; their own order where all have one width.
    pub order: [u8; TILE],
    pub(super) in_order: bool,
    /// Units of four tokens each.
    runs: [UnitRun; MOST_RUNS],
    count: usize,
    /// Tokens of 8 bits.
    pub(super) wide: u64,
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

    /// `fours` units of tokens in their own order, of 8 bits: levels as [`levels_of_codes`](super::levels_of_codes) makes them, or the codes of the tokens that are `wide`.
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
    let mut order = TileOrder::even(0);
    order.become_of(level, set, packed);
    order
}

impl TileOrder {
    /// Becomes [`tile_order`], in place.
    pub fn become_of(&mut self, level: Level, set: [u8; 4], packed: &[u8; TILE / 4]) {
        match level {
            // SAFETY: a level is only named where the machine has it.
            #[cfg(target_arch = "x86_64")]
            Level::Avx512 => unsafe { become_avx512(self, set, packed) },
            _ => self.become_by::<Portable>(set, packed, even_bits),
        }
    }

    /// [`Self::become_of`]; `even_bits` brings bits 0, 2, 4 … side by side.
    #[inline(always)]
    fn become_by<V: Vector>(&mut self, set: [u8; 4], packed: &[u8; TILE / 4], even_bits: impl Fn(u64) -> u32) {
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
            *self = Self::even(u32::from(widths[only]));
            return;
        }
        // SAFETY: the caller has what `V` stands for.
        self.order = unsafe { V::order(masks) };
        self.in_order = false;
        self.count = 0;
        self.wide = if widths[0] == 8 { masks[0] } else { 0 };
        for (mask, bits) in masks.iter().zip(widths) {
            let tokens = mask.count_ones() as usize;
            assert!(tokens.is_multiple_of(4), "tokens of a tile that have one width come in fours");
            if tokens > 0 {
                self.push(UnitRun::even(bits, tokens / 4));
            }
        }
    }

    #[inline(always)]
    fn push(&mut self, run: UnitRun) {
        self.runs[self.count] = run;
        self.count += 1;
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2,popcnt,bmi1,bmi2")]
unsafe fn become_avx512(order: &mut TileOrder, set: [u8; 4], packed: &[u8; TILE / 4]) {
    order.become_by::<Avx512>(set, packed, |x| std::arch::x86_64::_pext_u64(x, 0x5555_5555_5555_5555) as u32);
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
