//! Tokens behind a head's last whole tile. They are kept as rows, which take no more bytes than they have codes, and become a tile of
//! 8 bits where attention reads them: that takes about as long as one more tile, and far less than float32 rows would.

use crate::simd::{self, TILE, TileOrder, UnitRun};
use crate::spread::RowWidths;

use super::Segment;
use super::tiles::{HeadCodes, Tiling};

/// Below so many tokens, float32 rows are made sooner than a tile.
const LEAST_TOKENS: usize = 6;

/// Room for such a tile.
#[derive(Default)]
pub(super) struct Tail {
    /// One byte a code: `[64, head_dim]`.
    codes: Vec<u8>,
    units: Vec<u8>,
}

impl Segment {
    /// Whether the `tokens` tokens from `first` on lie behind the last whole tile, and are worth a tile.
    pub(super) fn is_tail(&self, first: usize, tokens: usize) -> bool {
        let tiling = self.tiling();
        tiling != Tiling::Rows && first == tiling.whole(self.layout.tokens) && tokens >= LEAST_TOKENS
    }
}

impl Tail {
    /// Units of 8 bits of the keys from `first` on; lanes behind the last token have no meaning.
    pub fn keys(&mut self, segment: &Segment, plane: usize, first: usize, tokens: usize) -> &[u8] {
        let dim = segment.layout.dim;
        self.load(segment, plane, first, tokens);
        self.units.resize(TILE * dim, 0);
        simd::pack_channels(simd::level(), &self.codes, dim, &[UnitRun::even(8, dim / 4)], &mut self.units);
        &self.units
    }

    /// Units of 8 bits of the values from `first` on, and their order.
    pub fn values(&mut self, segment: &Segment, plane: usize, first: usize, tokens: usize) -> (&[u8], TileOrder) {
        let layout = &segment.layout;
        let dim = layout.dim;
        self.load(segment, plane, first, tokens);
        let widths = match HeadCodes::of(layout, &segment.widths, plane) {
            HeadCodes::Rows(widths) => widths,
            HeadCodes::Bands(_) => RowWidths::Even(8),
        };
        let mut wide = 0;
        if layout.rotated {
            for (t, row) in self.codes.chunks_exact_mut(dim).take(tokens).enumerate() {
                let bits = widths.of(first + t);
                wide |= u64::from(bits == 8) << t;
                simd::levels_of_codes(row, bits);
            }
        }
        let fours = tokens.div_ceil(4);
        let order = TileOrder::unsorted(fours, wide);
        self.units.resize(4 * fours * dim, 0);
        simd::pack_tokens(simd::level(), &self.codes, dim, &order, &mut self.units);
        (&self.units, order)
    }

    fn load(&mut self, segment: &Segment, plane: usize, first: usize, tokens: usize) {
        let dim = segment.layout.dim;
        self.codes.resize(TILE * dim, 0);
        segment.block_codes(plane, first, None, &mut self.codes[..tokens * dim]);
    }
}
