//! How codes lie in memory: in tiles of 64 tokens that attention multiplies as they are (`simd/tile.rs`), and in rows where there are fewer,
//! or where a grouping does not suit tiles. Files have rows only (FORMAT.md).
//!
//! A head's whole tiles come first, then the rows of the tokens that are left. A tile takes the bytes that its rows do.

use std::borrow::Cow;

use crate::backbone::Grouping;
use crate::shape::Role;
use crate::simd::{self, Level, TILE, TileOrder, UNIT_CODES, UnitRun, unit_bytes};
use crate::spread::{ChannelWidths, RowWidths, Widths};

use super::{Segment, SegmentLayout};

/// The most channels that sums of 32 bits hold for.
const MOST_CHANNELS: usize = 256;

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
        if tokens < TILE || dim > MOST_CHANNELS {
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
}

/// The codes of one head.
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
    fn each(self) -> impl Iterator<Item = (u32, usize)> {
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

    /// Runs of bits, and codes of each, in a token's row.
    fn row(&self, dim: usize, t: usize) -> usize {
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
                    simd::unpack_rows(own, channels, bits, &mut out[channel..], dim);
                    start += all * bytes;
                    channel += channels;
                }
                return 0;
            }
            Self::Bands(_) => {}
            Self::Rows(widths) => {
                for (t, out) in out.chunks_exact_mut(dim).enumerate() {
                    let bits = widths.of(first + t);
                    let bytes = simd::row_bytes(dim, bits);
                    simd::unpack_rows(&rows[start..start + bytes], dim, bits, out, dim);
                    start += bytes;
                }
            }
        }
        start
    }

    /// Appends the rows of codes of one byte each, `[tokens, dim]`, of all of a head's tokens or of those from `first` on.
    fn pack_rows(&self, codes: &[u8], dim: usize, first: usize, rows: &mut Vec<u8>) {
        let mut push = |codes: &[u8], dim: usize, bits: u32| {
            let start = rows.len();
            rows.resize(start + codes.len() / dim * simd::row_bytes(dim, bits), 0);
            simd::pack_rows(codes, dim, bits, &mut rows[start..]);
        };
        match self {
            Self::Bands(bands) => {
                let mut channel = 0;
                for (bits, channels) in bands.each() {
                    let band = codes.chunks_exact(dim).flat_map(|row| &row[channel..channel + channels]);
                    push(&band.copied().collect::<Vec<u8>>(), channels, bits);
                    channel += channels;
                }
            }
            Self::Rows(widths) => {
                for (t, codes) in codes.chunks_exact(dim).enumerate() {
                    push(codes, dim, widths.of(first + t));
                }
            }
        }
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

    /// Appends the tile of 64 tokens from `first` on, given one byte a code.
    fn pack_tile(&self, codes: &[u8], dim: usize, first: usize, out: &mut Vec<u8>) {
        self.for_each_unit(dim, first, |bits, place| {
            let own: [u8; UNIT_CODES] = std::array::from_fn(|i| codes[place(i / 4, i % 4)]);
            let start = out.len();
            out.resize(start + unit_bytes(bits as usize), 0);
            simd::pack_unit(&own, bits, &mut out[start..]);
        });
    }

    /// One byte a code, `[64, dim]`, of the tile that starts at `first`.
    pub fn unpack_tile(&self, tile: &[u8], dim: usize, first: usize, codes: &mut [u8]) {
        let mut tile = tile;
        let mut own = [0; UNIT_CODES];
        self.for_each_unit(dim, first, |bits, place| {
            let (unit, rest) = tile.split_at(unit_bytes(bits as usize));
            simd::unpack_unit(unit, bits, &mut own);
            for (i, &code) in own.iter().enumerate() {
                codes[place(i / 4, i % 4)] = code;
            }
            tile = rest;
        });
    }

    /// Calls `f` with the bits of each unit of a tile, and where in `[64, dim]` the code of a lane and a place stands.
    fn for_each_unit(&self, dim: usize, first: usize, mut f: impl FnMut(u32, &dyn Fn(usize, usize) -> usize)) {
        match self {
            Self::Bands(bands) => {
                let mut channel = 0;
                for (bits, channels) in bands.each() {
                    for unit in (channel..channel + channels).step_by(4) {
                        f(bits, &|lane, place| lane * dim + unit + place);
                    }
                    channel += channels;
                }
            }
            Self::Rows(_) => {
                let order = self.order(simd::level(), first);
                for block in (0..dim).step_by(TILE) {
                    let mut unit = 0;
                    for run in order.runs() {
                        for unit in unit..unit + usize::from(run.units) {
                            f(u32::from(run.bits), &|lane, place| {
                                usize::from(order.order[4 * unit + place]) * dim + block + lane
                            });
                        }
                        unit += usize::from(run.units);
                    }
                }
            }
        }
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

/// Codes as a segment holds them, out of those that a file has.
pub(super) fn held(layout: &SegmentLayout, tiling: Tiling, widths: &Widths, rows: &[u8]) -> Box<[u8]> {
    if tiling == Tiling::Rows {
        return rows.into();
    }
    let &SegmentLayout { tokens, dim, .. } = layout;
    let mut held = Vec::with_capacity(rows.len());
    let mut codes = vec![0; TILE * dim];
    let mut rows = rows;
    for plane in 0..layout.planes() {
        let head = HeadCodes::of(layout, widths, plane);
        let (own, rest) = rows.split_at(row_form_bytes(&head, dim, tokens));
        let (whole, mut at) = (tokens - tokens % TILE, 0);
        for first in (0..whole).step_by(TILE) {
            at += head.unpack_rows(&own[at..], dim, (tokens, first), first, &mut codes);
            head.pack_tile(&codes, dim, first, &mut held);
        }
        let left = &mut codes[..(tokens - whole) * dim];
        head.unpack_rows(&own[at..], dim, (tokens, whole), whole, left);
        head.pack_rows(left, dim, whole, &mut held);
        rows = rest;
    }
    held.into()
}

/// Bytes of a head's first `tokens` rows.
fn row_form_bytes(head: &HeadCodes, dim: usize, tokens: usize) -> usize {
    match head {
        HeadCodes::Bands(_) | HeadCodes::Rows(RowWidths::Even(_)) => tokens * head.row(dim, 0),
        HeadCodes::Rows(_) => (0..tokens).map(|t| head.row(dim, t)).sum(),
    }
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
        let mut rows = Vec::new();
        let mut codes = vec![0; tokens * dim];
        for plane in 0..self.layout.planes() {
            let head = HeadCodes::of(&self.layout, &self.widths, plane);
            for (i, block) in codes.chunks_mut(TILE * dim).enumerate() {
                self.block_codes(plane, i * TILE, block);
            }
            head.pack_rows(&codes, dim, 0, &mut rows);
        }
        Cow::Owned(rows)
    }

    /// One byte a code, `[tokens, dim]`, of up to 64 tokens of one head from `first`, a multiple of 64, on; channels in the order in which they
    /// are kept.
    pub(super) fn block_codes(&self, plane: usize, first: usize, out: &mut [u8]) {
        let &SegmentLayout { tokens, dim, .. } = &self.layout;
        let head = HeadCodes::of(&self.layout, &self.widths, plane);
        let whole = if self.tiling() == Tiling::Rows { 0 } else { tokens - tokens % TILE };
        if first < whole {
            if out.len() == TILE * dim {
                head.unpack_tile(self.tile(plane, first), dim, first, out);
            } else {
                let codes = &mut [0; TILE * MOST_CHANNELS][..TILE * dim];
                head.unpack_tile(self.tile(plane, first), dim, first, codes);
                out.copy_from_slice(&codes[..out.len()]);
            }
            return;
        }
        // Bands lie side by side, all of their tokens together.
        let from = if matches!(head, HeadCodes::Bands(_)) { whole } else { first };
        let rows = &self.codes[self.tile_start(plane, from)..];
        head.unpack_rows(rows, dim, (tokens - whole, first - whole), first, out);
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

    /// The bytes of a whole tile.
    pub(super) fn tile(&self, plane: usize, first: usize) -> &[u8] {
        &self.codes[self.tile_start(plane, first)..self.tile_start(plane, first + TILE)]
    }
}
