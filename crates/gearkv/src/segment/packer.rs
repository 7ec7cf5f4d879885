//! One head's codes on their way to where a segment holds them (`tiles`).

use crate::simd::{self, TILE, UnitRun};
use crate::spread::RowWidths;

use super::tiles::{HeadCodes, Tiling};

/// Takes the codes of one head in token order, and puts them where they lie.
pub(crate) struct Packer<'a> {
    head: HeadCodes<'a>,
    runs: Vec<UnitRun>,
    dim: usize,
    tokens: usize,
    /// Tokens that lie in tiles.
    whole: usize,
    /// How many have been put, and how many bytes their tiles and rows take; of rows whose bands lie side by side only those of tiles.
    next: usize,
    at: usize,
    out: &'a mut [u8],
}

impl<'a> Packer<'a> {
    /// `out` holds exactly the codes of the head's `tokens` tokens.
    pub fn new(head: HeadCodes<'a>, dim: usize, tokens: usize, tiling: Tiling, out: &'a mut [u8]) -> Self {
        let whole = tiling.whole(tokens);
        let runs = if whole > 0 { head.runs().collect() } else { Vec::new() };
        Self { head, runs, dim, tokens, whole, next: 0, at: 0, out }
    }

    /// The next codes, one byte each: `[tokens, dim]`. All 64 tokens of a tile come at once.
    pub fn put(&mut self, codes: &[u8]) {
        let dim = self.dim;
        if self.next < self.whole {
            debug_assert_eq!(codes.len(), TILE * dim);
            if let HeadCodes::Bands(_) = self.head {
                let tile = self.take(TILE * self.head.row(dim, 0));
                simd::pack_channels(simd::level(), codes, dim, &self.runs, &mut self.out[tile]);
            } else {
                let level = simd::level();
                let order = self.head.order(level, self.next);
                let tile = self.take(dim / TILE * order.bytes());
                simd::pack_tokens(level, codes, dim, &order, &mut self.out[tile]);
            }
            self.next += TILE;
            return;
        }
        match &self.head {
            HeadCodes::Bands(bands) => {
                // Bands lie side by side, all of their tokens together.
                let (all, at, tokens) = (self.tokens - self.whole, self.next - self.whole, codes.len() / dim);
                let (mut start, mut channel) = (self.at, 0);
                for (bits, channels) in bands.each() {
                    let bytes = simd::row_bytes(channels, bits);
                    let own = &mut self.out[start + at * bytes..start + (at + tokens) * bytes];
                    simd::pack_rows(&codes[channel..], dim, channels, bits, own);
                    start += all * bytes;
                    channel += channels;
                }
                self.next += tokens;
            }
            &HeadCodes::Rows(RowWidths::Even(bits)) => {
                let rows = self.take(codes.len() / dim * simd::row_bytes(dim, bits));
                simd::pack_rows(codes, dim, dim, bits, &mut self.out[rows]);
                self.next += codes.len() / dim;
            }
            &HeadCodes::Rows(widths) => {
                for codes in codes.chunks_exact(dim) {
                    self.put_row(codes, widths.of(self.next));
                    self.next += 1;
                }
            }
        }
    }

    fn put_row(&mut self, codes: &[u8], bits: u32) {
        let row = self.take(simd::row_bytes(self.dim, bits));
        simd::pack_rows(codes, self.dim, self.dim, bits, &mut self.out[row]);
    }

    /// Where the next so many bytes lie.
    fn take(&mut self, bytes: usize) -> std::ops::Range<usize> {
        let start = self.at;
        self.at += bytes;
        start..self.at
    }
}
