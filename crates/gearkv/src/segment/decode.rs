//! A block of a segment's rows, back in float32; and its parts, one by one, for attention.

use crate::backbone::banded::Head as Banded;
use crate::backbone::{self, CodeRows, Grouping, ScaleRoom, ScaleView, rotated};
use crate::shape::Role;
use crate::simd::{self, LowRank, Outlier, OutlierLines, TILE};
use crate::spread::{RowWidths, Widths};

use super::Segment;

/// Scratch for the factors of one plane of one segment, kept from block to block.
#[derive(Default)]
pub(crate) struct BlockScratch {
    /// `[rank, tokens of the block]`
    pub a: Vec<f32>,
    /// `[rank, head_dim]`
    pub b: Vec<f32>,
    /// `[head_dim]`
    pub mean: Vec<f32>,
    /// A block of keys, transposed, where many queries read it.
    pub transposed: Vec<f32>,
    pub decoding: DecodeRoom,
}

/// Memory for making rows of a block's codes.
#[derive(Default)]
pub(crate) struct DecodeRoom {
    /// One byte each: `[64, head_dim]`.
    codes: Vec<u8>,
    scales: ScaleRoom,
}

/// What is added to the backbone of a block, and where its channels are put if not where they are kept.
#[derive(Clone, Copy)]
struct More<'a> {
    order: Option<&'a [u16]>,
    /// Where codes stand for turned rows: the mean, for which they are turned back.
    mean: Option<&'a [f32]>,
    low_rank: LowRank<'a>,
}

impl More<'_> {
    const NOTHING: Self = Self { order: None, mean: None, low_rank: LowRank::NONE };
}

/// How far each channel's list of K outliers has been read: blocks come in token order, so no entry is looked at twice.
#[derive(Default)]
pub(crate) struct KeyCursor {
    next: Vec<u32>,
}

impl KeyCursor {
    /// Back to the first block, of heads of so many channels.
    pub fn reset(&mut self, dim: usize) {
        self.next.clear();
        self.next.resize(dim, 0);
    }
}

impl Segment {
    fn item_head(&self, plane: usize) -> (usize, usize) {
        (plane / self.layout.heads, plane % self.layout.heads)
    }

    /// What the codes of the tokens from `first` on stand for, as many as `out` (`[tokens, head_dim]`) holds: `D̂`; under the backbone
    /// `rotated`, `D̂` without its mean and turned; where channels have their own widths, `D̂` in their order.
    pub fn backbone_rows(&self, plane: usize, first: usize, out: &mut [f32], room: &mut DecodeRoom) {
        self.rows_of(plane, first, More::NOTHING, out, room);
    }

    /// As [`Self::backbone_rows`], each channel being put where `order` says, and with what is added to it.
    fn rows_of(
        &self,
        plane: usize,
        first: usize,
        more: More,
        out: &mut [f32],
        DecodeRoom { codes, scales }: &mut DecodeRoom,
    ) {
        let dim = self.layout.dim;
        codes.resize(TILE * dim, 0);
        let (mut done, mut out) = (0, out);
        while !out.is_empty() {
            let skipped = (first + done) % TILE;
            let tokens = (TILE - skipped).min(out.len() / dim);
            let (now, rest) = out.split_at_mut(tokens * dim);
            let codes = &mut codes[..(skipped + tokens) * dim];
            self.block_codes(plane, first + done - skipped, more.order, codes);
            let more = More { low_rank: more.low_rank.from(done), ..more };
            self.dequantize_codes(plane, first + done, &codes[skipped * dim..], more, now, scales);
            (done, out) = (done + tokens, rest);
        }
    }

    /// A plane's scales.
    pub(super) fn scales_of(&self, plane: usize) -> ScaleView<'_> {
        let layout = &self.layout;
        let (item, head) = self.item_head(plane);
        let range = layout.head_scale_range(head);
        let base = item * layout.scales_per_item();
        let set = if layout.grouping == Grouping::TokenAllHeads { item } else { plane };
        self.scales.view(layout.scales.bits, set, base + range.start..base + range.end)
    }

    /// What codes of one byte each (`[tokens, head_dim]`, of the tokens from `first` on) stand for, with what is added to it.
    fn dequantize_codes(
        &self,
        plane: usize,
        first: usize,
        codes: &[u8],
        More { order, mean, low_rank }: More,
        out: &mut [f32],
        room: &mut ScaleRoom,
    ) {
        let layout = &self.layout;
        let dim = layout.dim;
        if let Widths::Channels(widths) = &self.widths {
            let (item, head) = self.item_head(plane);
            let base = item * layout.scales_per_item() + layout.head_scale_range(head).start;
            let head = Banded { widths, plane, group: layout.group_tokens(), dim, order };
            head.dequantize(&self.scales, base, codes, first, low_rank, out, room);
            return;
        }
        let rows = CodeRows { grouping: layout.grouping, scales: self.scales_of(plane), first, dim };
        if layout.rotated {
            let widths = match &self.widths {
                Widths::Tokens(widths) => widths.rows(plane),
                _ => RowWidths::Even(layout.scales.bits),
            };
            rotated::dequantize(rows, (codes, widths), mean, low_rank, out, room);
        } else {
            backbone::dequantize(rows, codes, low_rank, out, room);
        }
    }

    /// The order in which [`Self::backbone_rows`] gives a plane's channels, where it is not their own.
    pub fn channel_order(&self, plane: usize) -> Option<&[u16]> {
        match &self.widths {
            Widths::Channels(widths) => Some(widths.order(plane)),
            _ => None,
        }
    }

    /// The mean that [`Self::backbone_rows`] leaves out of one plane's rows, under the backbone `rotated`.
    pub fn load_mean(&self, plane: usize, scratch: &mut BlockScratch) {
        scratch.mean.resize(self.layout.dim, 0.0);
        self.means.load(plane, &mut scratch.mean);
    }

    /// Loads the factors of tokens `first..first + tokens` of one plane, and says its rank.
    pub fn load_factors(&self, plane: usize, first: usize, tokens: usize, scratch: &mut BlockScratch) -> usize {
        let rows = self.ranks.rows(plane);
        let rank = rows.len();
        self.factors.load(&self.layout.factors(), rows, first, tokens, &mut scratch.a, &mut scratch.b);
        rank
    }

    /// Whether anything belongs to what codes stand for: low-rank or outliers.
    pub fn lacks(&self, plane: usize) -> bool {
        self.layout.per_line > 0 || !self.ranks.rows(plane).is_empty()
    }

    /// The outliers of one plane in tokens `first..first + tokens`, into `found`, which has room for as many as there can be. Of keys, blocks must be visited in
    /// token order with the same cursor.
    pub fn load_outliers(
        &self,
        plane: usize,
        first: usize,
        tokens: usize,
        cursor: &mut KeyCursor,
        found: &mut Vec<Outlier>,
    ) {
        found.clear();
        let layout = &self.layout;
        let (per_line, width) = (layout.per_line(), layout.index_width());
        if per_line == 0 {
            return;
        }
        let lines = |from: usize, to: usize| OutlierLines {
            indices: &self.outlier_indices[from * per_line * width.bytes()..to * per_line * width.bytes()],
            width,
            values: &self.outlier_values[from * per_line..to * per_line],
            per_line,
        };
        match layout.role {
            // No step of decoding allocates once it knows how many may come.
            Role::Key => {
                found.reserve(layout.dim * per_line.min(tokens));
                let lines = lines(plane * layout.dim, (plane + 1) * layout.dim);
                let tokens = first as u32..(first + tokens) as u32;
                simd::outliers_of_channels(lines, tokens, &mut cursor.next, found);
            }
            Role::Value => {
                found.reserve(tokens * per_line.min(layout.dim));
                let (item, head) = self.item_head(plane);
                let start = item * layout.tokens + first;
                let own = (head * layout.dim) as u32..((head + 1) * layout.dim) as u32;
                simd::outliers_of_tokens(simd::level(), lines(start, start + tokens), own, found);
            }
        }
    }

    /// `D̂ + L + S` of the tokens of one plane from `first` on, as many as `out` (`[tokens, head_dim]`) holds.
    pub fn decompress_rows(&self, plane: usize, first: usize, out: &mut [f32]) {
        let layout = &self.layout;
        let dim = layout.dim;
        let mut scratch = BlockScratch::default();
        if layout.rotated {
            self.load_mean(plane, &mut scratch);
        }
        let order = self.channel_order(plane);
        let mut decoding = DecodeRoom::default();
        let (mut cursor, mut outliers) = (KeyCursor::default(), Vec::new());
        cursor.reset(dim);
        // Block by block, each of which stays in the nearest caches from its codes to the last of its outliers.
        let (mut first, mut rest) = (first, out);
        while !rest.is_empty() {
            let tokens = (TILE - first % TILE).min(rest.len() / dim);
            let out;
            (out, rest) = rest.split_at_mut(tokens * dim);
            self.load_factors(plane, first, tokens, &mut scratch);
            let low_rank = LowRank { weights: &scratch.a, stride: tokens, vectors: &scratch.b };
            let mean = layout.rotated.then_some(&*scratch.mean);
            self.rows_of(plane, first, More { order, mean, low_rank }, out, &mut decoding);
            self.load_outliers(plane, first, tokens, &mut cursor, &mut outliers);
            for &Outlier { token, channel, value } in &outliers {
                out[token as usize * dim + channel as usize] += value;
            }
            first += tokens;
        }
    }
}
