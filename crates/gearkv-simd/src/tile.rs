//! Codes as attention reads them: 64 lanes side by side, four codes of each lane in the four bytes of a word.
//!
//! A *unit* is the codes of one width of 64 lanes by four places. For keys a lane is a token and the places are four channels, for
//! values a lane is a channel and the places are four tokens; either way the places are what is summed over, so that one instruction
//! multiplies 16 words of four bytes with four multipliers and adds them up, and no sum ever crosses lanes.
//!
//! Lanes come in four *fields* of 16. A unit of *w* bits takes 32·*w* bytes, one *plane* after the other, the lowest bits first (3 bits are a
//! plane of 2 and one of 1, 6 bits one of 4 and one of 2). Byte *i* of field *f* is the code of lane 16·*f* + ⌊*i*/4⌋ at place *i* mod 4, and lies in
//!
//! - a plane of 8: byte 64·*f* + *i*;
//! - a plane of 4: byte 64·⌊*f*/2⌋ + *i*, bits 4·(*f* mod 2) and up;
//! - a plane of 2: byte *i*, bits 2·*f* and up;
//! - a plane of 1: byte *i* mod 32, bit *f* + 4·⌊*i*/32⌋.
//!
//! So a register that is loaded is moved and masked once for each field, and never shuffled.

mod key_scales;
mod keys;
mod order;
mod pack;
#[cfg(all(target_arch = "wasm32", target_feature = "simd128"))]
mod spread;
mod sums;
mod values;

pub use key_scales::KeyScales;
pub use keys::{KeyRoom, KeyTiles, key_logits};
pub use order::{TileOrder, tile_order};
pub use pack::{pack_channels, pack_tokens, unpack_channels, unpack_tokens};
pub use sums::UnitRun;
pub use values::{Levels, ValueRoom, ValueTiles, add_values, levels_of_codes};

use crate::vector::Vector;

/// Lanes of a unit, and tokens of a tile.
pub const TILE: usize = 64;

/// So many tiles are taken together at most.
pub const MOST_TILES: usize = 4;

/// Bytes of a unit of codes of so many bits.
pub const fn unit_bytes(bits: usize) -> usize {
    32 * bits
}

/// The most words of one kind that a row has: a fourth of the most channels of a key, or of the tokens of all tiles.
const MOST_WORDS: usize = 64;
/// From one row's words to the next one's. The same for all, so that one pointer leads to the words of several rows.
const ROW_WORDS: usize = 2 * MOST_WORDS;

/// Multipliers of rows: of each, its first words, and [`MOST_WORDS`] after these its second ones.
#[derive(Default)]
struct TileMultipliers(Vec<i32>);

impl TileMultipliers {
    fn resize(&mut self, rows: usize) {
        self.0.resize(rows * ROW_WORDS, 0);
    }

    /// Where a row's words are written.
    #[inline(always)]
    fn row(&mut self, r: usize) -> (*mut i32, *mut i32) {
        let (first, second) = self.0[r * ROW_WORDS..(r + 1) * ROW_WORDS].split_at_mut(MOST_WORDS);
        (first.as_mut_ptr(), second.as_mut_ptr())
    }

    /// The first words of rows from `r` on.
    #[inline(always)]
    fn from(&self, r: usize) -> *const i32 {
        self.0[r * ROW_WORDS..].as_ptr()
    }
}

/// The second half of what will be read soon, asked for step by step while the multipliers of a single row are made, though [`sums::Units`] ask for it, too:
/// where so little is computed, memory would be idle meanwhile, and what is asked for when too much is waited for is not brought.
#[derive(Clone, Copy)]
struct Ahead {
    at: *const u8,
    lines: usize,
}

impl Ahead {
    /// Of as many bytes as `units` are, in so many steps; nothing where nothing will be read soon, or there are several rows.
    fn new(ahead: &[u8], units: &[u8], rows: usize, steps: usize) -> Self {
        let half = if ahead.is_empty() || rows > 1 { 0 } else { units.len() / 2 };
        Self { at: ahead.as_ptr().wrapping_add(half), lines: half.div_ceil(64 * steps.max(1)) }
    }

    /// The `step`-th step.
    ///
    /// # Safety
    /// `V`'s instruction set is there.
    #[inline(always)]
    unsafe fn ask<V: Vector>(self, step: usize) {
        for line in 0..self.lines {
            // SAFETY: the caller vouches for the instruction set; an address may be any.
            unsafe { V::prefetch(self.at.wrapping_add(64 * (step * self.lines + line))) };
        }
    }
}

/// What numbers that reach so far are multiplied by to become multipliers of `largest` at most, and what one step of these is worth.
#[inline(always)]
fn steps(most: f32, largest: f32) -> (f32, f32) {
    // Below this, the inverse is no finite number; and nothing is lost.
    const LEAST: f32 = 1e-30;
    if most > LEAST { (largest / most, most / largest) } else { (0.0, 0.0) }
}

#[cfg(test)]
mod tests;
