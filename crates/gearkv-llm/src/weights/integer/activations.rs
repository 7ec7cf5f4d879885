//! What weights are multiplied with, in 16 bits.

use crate::weights::BLOCK;

/// Tokens that are multiplied together.
pub(super) const TILE: usize = 4;

/// The largest code.
const MOST: f32 = 32_767.0;
/// A block whose largest value is below this is zero: its reciprocal would not be finite.
const LEAST: f32 = 1e-30;

/// 32 activations of each of four tokens: `x = code · scale`.
#[derive(Clone, Copy)]
pub(super) struct Tile {
    /// Codes of neighbours in one integer, the first in its lower half.
    pub pairs: [[i32; TILE]; BLOCK / 2],
    pub scales: [f32; TILE],
    /// The sum of all 32 codes.
    pub sums: [f32; TILE],
}

/// Tokens that can be multiplied with any number of panels.
pub(crate) struct Activations {
    pub(super) tokens: usize,
    /// `[block][tile]`; behind the last token there are zeros.
    tiles: Vec<Tile>,
}

impl Activations {
    /// `x` is `[tokens, columns]`.
    pub fn quantize(x: &[f32], columns: usize) -> Self {
        let tokens = x.len() / columns;
        let across = tokens.div_ceil(TILE);
        let empty = Tile { pairs: [[0; TILE]; BLOCK / 2], scales: [0.0; TILE], sums: [0.0; TILE] };
        let mut tiles = vec![empty; columns / BLOCK * across];
        for (t, row) in x.chunks_exact(columns).enumerate() {
            for (b, block) in row.as_chunks().0.iter().enumerate() {
                tiles[b * across + t / TILE].set(t % TILE, block);
            }
        }
        Self { tokens, tiles }
    }

    /// All tokens, block by block.
    pub(super) fn blocks(&self) -> impl Iterator<Item = &[Tile]> {
        self.tiles.chunks_exact(self.tokens.div_ceil(TILE))
    }
}

impl Tile {
    /// Rounding costs at most half a code, 1/65534 of the block's largest value. Not a number and infinity make all products with
    /// the block not a number.
    fn set(&mut self, token: usize, x: &[f32; BLOCK]) {
        // By bits, where not a number is more than infinity, and that more than all else.
        let largest = f32::from_bits(x.iter().fold(0, |most, x| most.max(x.to_bits() & 0x7FFF_FFFF)));
        let (scale, inverse) = if largest < LEAST { (0.0, 0.0) } else { (largest / MOST, MOST / largest) };
        let codes: [i32; BLOCK] = std::array::from_fn(|i| (x[i] * inverse).round_ties_even() as i32);
        for (pair, codes) in self.pairs.iter_mut().zip(codes.as_chunks::<2>().0) {
            pair[token] = (codes[0] & 0xFFFF) | codes[1] << 16;
        }
        self.scales[token] = scale;
        self.sums[token] = codes.iter().sum::<i32>() as f32;
    }
}
