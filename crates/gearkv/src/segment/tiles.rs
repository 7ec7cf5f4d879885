//! How codes lie in memory: in tiles of 64 tokens that attention multiplies as they are (`gearkv-simd/src/tile.rs`), and in rows where there are fewer,
//! or where a grouping does not suit tiles. Files have rows only (FORMAT.md).
//!
//! A head's whole tiles come first, then the rows of the tokens that are left. A tile takes the bytes that its rows do.

use std::borrow::Cow;

use crate::backbone::Grouping;
use crate::parallel;
use crate::shape::{Role, blocks};
use crate::simd::{self, Level, TILE, TileOrder, UnitRun};
use crate::spread::{ChannelWidths, RowWidths, Widths};

use super::packer::Packer;
use super::{Segment, SegmentLayout};

/// The most channels that sums of 32 bits hold for.
pub(super) const MOST_CHANNELS: usize = 256;
/// One of each width that channels can have.
const MOST_BANDS: usize = 6;

/// What a head's whole tiles are made of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Tiling {
    /// None: all tokens are rows.
    Rows,
    /// Units of four channels by 64 tokens.
    Keys,
    /// Units of four tokens by 64 channels.
    Values,
}

impl Tiling {
    pub fn of(layout: &SegmentLayout, widths: &Widths) -> Self {
        let &SegmentLayout { role, tokens, dim, grouping, .. } = layout;
        if dim > MOST_CHANNELS {
            return Self::Rows;
        }
        // Files from before widths were dealt out in fours.
        if matches!(widths, Widths::Tokens(widths) if !widths.in_fours()) {
            return Self::Rows;
        }
        match (role, grouping) {
            (Role::Key, Grouping::Channel { tokens: group }) => {
                let one_scale = group.is_multiple_of(TILE) || group >= tokens;
                let whole = match widths {
                    Widths::Channels(widths) => {
                        (0..layout.planes()).all(|p| widths.bands(p).all(|band| band.channels.is_multiple_of(8)))
                    }
                    Widths::Even => true,
                    Widths::Tokens(_) => false,
                };
                if one_scale && whole && dim.is_multiple_of(16) { Self::Keys } else { Self::Rows }
            }
            (Role::Value, Grouping::Token { channels }) => {
                let groups_fit = channels >= dim || (channels.is_multiple_of(TILE) && dim.is_multiple_of(channels));
                if groups_fit && dim.is_multiple_of(TILE) { Self::Values } else { Self::Rows }
            }
            (Role::Value, Grouping::TokenAllHeads) if dim.is_multiple_of(TILE) => Self::Values,
            _ => Self::Rows,
        }
    }

    /// How many of a head's tokens lie in whole tiles: the first ones.
    pub fn whole(self, tokens: usize) -> usize {
        if self == Self::Rows { 0 } else { tokens - tokens % TILE }
    }
}

/// The codes of one head.
#[derive(Clone, Copy)]
pub(super) enum HeadCodes<'a> {
    /// Bands of neighboring channels.
    Bands(Bands<'a>),
    /// Rows of their own widths.
    Rows(RowWidths<'a>),
}

/// Neighboring channels of one width.
#[derive(Clone, Copy)]
pub(super) enum Bands<'a> {
    /// All of a head's: bits of a code, channels.
    Even(u32, usize),
    /// Those of this plane.
    Each(&'a ChannelWidths, usize),
}

impl Bands<'_> {
    /// Bits of a code and channels of each.
    pub fn each(self) -> impl Iterator<Item = (u32, usize)> {
        let (even, each) = match self {
            Self::Even(bits, channels) => (Some((bits, channels)), None),
            Self::Each(widths, plane) => (None, Some(widths.bands(plane))),
        };
        even.into_iter().chain(each.into_iter().flatten().map(|band| (band.bits, band.channels)))
    }
}

impl<'a> HeadCodes<'a> {
    pub fn of(layout: &SegmentLayout, widths: &'a Widths, plane: usize) -> Self {
        match widths {
            Widths::Channels(widths) => Self::Bands(Bands::Each(widths, plane)),
            Widths::Tokens(widths) => Self::Rows(widths.rows(plane)),
            Widths::Even if layout.role == Role::Key => Self::Bands(Bands::Even(layout.scales.bits, layout.dim)),
            Widths::Even => Self::Rows(RowWidths::Even(layout.scales.bits)),
        }
    }

    /// Bytes of all codes of a head of so many tokens.
    pub fn bytes(&self, dim: usize, tokens: usize) -> usize {
        match self {
            Self::Bands(_) | Self::Rows(RowWidths::Even(_)) => tokens * self.row(dim, 0),
            Self::Rows(_) => (0..tokens).map(|t| self.row(dim, t)).sum(),
        }
    }

    /// Bytes of a token's row.
    pub fn row(&self, dim: usize, t: usize) -> usize {
        match self {
            Self::Bands(bands) => bands.each().map(|(bits, channels)| simd::row_bytes(channels, bits)).sum(),
            Self::Rows(widths) => simd::row_bytes(dim, widths.of(t)),
        }
    }

    /// One byte a code, `[tokens, dim]`, of the tokens from `first` on. Bands are found in `rows` as those of `all` tokens, of which
    /// the first wanted is the `at`-th; rows of their own widths start with the first wanted. Returns the bytes of the latter.
    fn unpack_rows(&self, rows: &[u8], dim: usize, (all, at): (usize, usize), first: usize, out: &mut [u8]) -> usize {
        let tokens = out.len() / dim;
        let (mut start, mut channel) = (0, 0);
        match self {
            Self::Bands(bands) if tokens > 0 => {
                for (bits, channels) in bands.each() {
                    let bytes = simd::row_bytes(channels, bits);
                    let own = &rows[start + at * bytes..start + (at + tokens) * bytes];
                    simd::unpack_rows(simd::level(), own, channels, bits, &mut out[channel..], dim);
                    start += all * bytes;
                    channel += channels;
                }
                return 0;
            }
            Self::Bands(_) => {}
            Self::Rows(widths) => {
                // Neighbors of one width together: they are mostly dealt out in fours.
                let (level, mut t) = (simd::level(), 0);
                while t < tokens {
                    let bits = widths.of(first + t);
                    let alike = (t + 1..tokens).find(|&t| widths.of(first + t) != bits).unwrap_or(tokens) - t;
                    let bytes = alike * simd::row_bytes(dim, bits);
                    let out = &mut out[t * dim..(t + alike) * dim];
                    simd::unpack_rows(level, &rows[start..start + bytes], dim, bits, out, dim);
                    start += bytes;
                    t += alike;
                }
            }
        }
        start
    }

    /// The order of the tokens of the tile that starts at `first`, where they are rows.
    pub fn order(&self, level: Level, first: usize) -> TileOrder {
        match self {
            Self::Rows(RowWidths::Each { set, packed }) => {
                let mut own = [0; TILE / 4];
                own.copy_from_slice(&packed[first / 4..first / 4 + TILE / 4]);
                simd::tile_order(level, *set, &own)
            }
            Self::Rows(RowWidths::Even(bits)) => TileOrder::even(*bits),
            Self::Bands(_) => TileOrder::even(8),
        }
    }

    /// One byte a code, `[64, dim]`, of the tile that starts at `first`; channels as for [`Segment::block_codes`].
    fn unpack_tile(&self, tile: &[u8], dim: usize, first: usize, channels: Option<&[u16]>, codes: &mut [u8]) {
        if let Self::Bands(_) = self {
            let mut runs = [UnitRun::even(0, 0); MOST_BANDS];
            runs.iter_mut().zip(self.runs()).for_each(|(to, run)| *to = run);
            simd::unpack_channels(simd::level(), tile, dim, &runs, channels, codes);
            return;
        }
        let order = self.order(simd::level(), first);
        simd::unpack_tokens(simd::level(), tile, dim, &order, codes);
    }

    /// Runs of units of four channels.
    pub fn runs(&self) -> impl Iterator<Item = UnitRun> {
        let bands = match self {
            Self::Bands(bands) => Some(bands.each()),
            Self::Rows(_) => None,
        };
        bands.into_iter().flatten().map(|(bits, channels)| UnitRun::even(bits as u8, channels / 4))
    }
}

/// Codes as a segment holds them, out of those that a file has, head by head on as many threads as that.
pub(crate) fn held(layout: &SegmentLayout, widths: &Widths, rows: &[u8], threads: u32) -> Box<[u8]> {
    let tiling = Tiling::of(layout, widths);
    if tiling == Tiling::Rows {
        return rows.into();
    }
    let &SegmentLayout { tokens, dim, .. } = layout;
    let mut held = vec![0; rows.len()];
    let (mut from, mut to) = (rows, &mut *held);
    let mut planes = Vec::with_capacity(layout.planes());
    for plane in 0..layout.planes() {
        let head = HeadCodes::of(layout, widths, plane);
        let bytes = head.bytes(dim, tokens);
        let ((own, rows), (held, rest)) = (from.split_at(bytes), to.split_at_mut(bytes));
        planes.push((head, own, held));
        (from, to) = (rows, rest);
    }
    parallel::map_mut(&mut planes, threads, |_, (head, rows, held)| {
        let mut codes = vec![0; TILE * dim];
        let mut packer = Packer::new(*head, dim, tokens, tiling, held);
        let mut at = 0;
        for (first, count) in blocks(tokens, TILE) {
            let codes = &mut codes[..count * dim];
            at += head.unpack_rows(&rows[at..], dim, (tokens, first), first, codes);
            packer.put(codes);
        }
    });
    held.into()
}

impl Segment {
    /// Whether its whole tiles are tiles.
    pub fn tiling(&self) -> Tiling {
        self.tiling
    }

    /// All codes as a file has them.
    pub fn row_codes(&self) -> Cow<'_, [u8]> {
        if self.tiling() == Tiling::Rows {
            return Cow::Borrowed(&self.codes);
        }
        let &SegmentLayout { tokens, dim, .. } = &self.layout;
        let mut rows = vec![0; self.codes.len()];
        let mut codes = vec![0; TILE * dim];
        let mut left = &mut *rows;
        for plane in 0..self.layout.planes() {
            let head = HeadCodes::of(&self.layout, &self.widths, plane);
            let (own, rest) = left.split_at_mut(head.bytes(dim, tokens));
            let mut packer = Packer::new(head, dim, tokens, Tiling::Rows, own);
            for (first, count) in blocks(tokens, TILE) {
                let codes = &mut codes[..count * dim];
                self.block_codes(plane, first, None, codes);
                packer.put(codes);
            }
            left = rest;
        }
        Cow::Owned(rows)
    }

    /// One byte a code, `[tokens, dim]`, of up to 64 tokens of one head from `first`, a multiple of 64, on; channels in the order in which they
    /// are kept or, with `order`, each where that says.
    pub(super) fn block_codes(&self, plane: usize, first: usize, order: Option<&[u16]>, out: &mut [u8]) {
        let &SegmentLayout { tokens, dim, .. } = &self.layout;
        let head = HeadCodes::of(&self.layout, &self.widths, plane);
        let whole = self.tiling().whole(tokens);
        if first < whole {
            if out.len() == TILE * dim {
                head.unpack_tile(self.tile(plane, first), dim, first, order, out);
            } else {
                let codes = &mut [0; TILE * MOST_CHANNELS][..TILE * dim];
                head.unpack_tile(self.tile(plane, first), dim, first, order, codes);
                out.copy_from_slice(&codes[..out.len()]);
            }
            return;
        }
        // Bands lie side by side, all of their tokens together.
        let from = if matches!(head, HeadCodes::Bands(_)) { whole } else { first };
        let rows = &self.codes[self.tile_start(plane, from)..];
        head.unpack_rows(rows, dim, (tokens - whole, first - whole), first, out);
        if let Some(order) = order {
            let mut ordered = vec![0; dim];
            for row in out.chunks_exact_mut(dim) {
                ordered.copy_from_slice(row);
                simd::scatter(&ordered, order, row);
            }
        }
    }

    /// Where the tile of one head that starts at token `first` lies, or the rows after the last one.
    pub(super) fn tile_start(&self, plane: usize, first: usize) -> usize {
        match &self.widths {
            Widths::Channels(widths) => {
                let (before, after) = (widths.row_bytes_before(plane), widths.row_bytes_before(plane + 1));
                self.layout.tokens * before + first * (after - before)
            }
            // Behind the last one, that of the next head.
            Widths::Tokens(widths) if first < self.layout.tokens => widths.start(plane, first),
            Widths::Tokens(widths) if plane + 1 < self.layout.planes() => widths.start(plane + 1, 0),
            Widths::Tokens(widths) => widths.code_bytes(),
            Widths::Even => plane * self.layout.head_code_bytes() + first * self.layout.row_bytes(),
        }
    }

    /// Where the codes of a batch item lie.
    pub fn item_codes(&self, item: usize) -> std::ops::Range<usize> {
        let end = if item + 1 == self.layout.batch {
            self.codes.len()
        } else {
            self.tile_start((item + 1) * self.layout.heads, 0)
        };
        self.tile_start(item * self.layout.heads, 0)..end
    }

    /// The bytes of a whole tile.
    pub(super) fn tile(&self, plane: usize, first: usize) -> &[u8] {
        &self.codes[self.tile_start(plane, first)..self.tile_start(plane, first + TILE)]
    }
}
