//! Weighted sums of one stretch of values after the other, for one KV head.

use crate::segment::KeyCursor;
use crate::simd::{self, MOST_TILES, Outlier, TILE};
use crate::tensor::{GearTensor, Piece};

use super::room::BlockRoom;
use super::walk::{Blocks, Place};
use super::{BLOCK, MANY_QUERIES};

/// Where one KV head's outputs are gathered.
pub(super) struct Outputs<'a> {
    pub tensor: &'a GearTensor,
    pub plane: usize,
    pub dim: usize,
    /// `[rows, head_dim]`
    pub rows: &'a mut [f32],
}

/// The weights of a stretch.
#[derive(Clone, Copy)]
pub(super) struct Weights<'a> {
    /// `[rows, tokens]`
    pub rows: &'a [f32],
    /// Of each row, what they add up to,
    pub sums: &'a [f32],
    /// and whether none of them matters so much that a byte would not do.
    pub coarse: &'a [bool],
}

/// What is kept from block to block.
#[derive(Default)]
pub(super) struct Values {
    /// What is gathered of values that are turned; empty where none are.
    turned: Vec<f32>,
    /// The piece whose mean is still to be added, times each row's sum of weights so far.
    mean_of: Option<usize>,
    mean_weights: Vec<f32>,
}

impl Values {
    pub fn begin(&mut self, out: &mut Outputs, rotated: bool) {
        out.rows.fill(0.0);
        self.turned.clear();
        self.turned.resize(if rotated { out.rows.len() } else { 0 }, 0.0);
        self.mean_of = None;
        self.mean_weights.clear();
        self.mean_weights.resize(out.rows.len() / out.dim, 0.0);
    }

    /// Numbers that there is room for.
    pub fn capacity(&self) -> usize {
        self.turned.capacity()
    }

    /// Multiplies what one row has gathered.
    pub fn shrink(&mut self, out: &mut Outputs, row: usize, factor: f32) {
        let own = row * out.dim..(row + 1) * out.dim;
        out.rows[own.clone()].iter_mut().for_each(|x| *x *= factor);
        if let Some(turned) = self.turned.get_mut(own) {
            turned.iter_mut().for_each(|x| *x *= factor);
        }
        self.mean_weights[row] *= factor;
    }

    /// Adds the codes of blocks from the `s`-th on, weighed by a stretch's `weights`, or these tokens where they are not
    /// compressed; returns how many blocks were taken.
    pub fn add(
        &mut self,
        out: &mut Outputs,
        blocks: Blocks,
        s: usize,
        weights: Weights,
        room: &mut BlockRoom,
    ) -> usize {
        let done = self.tiles(out, blocks, s, weights, room);
        if done == 0 {
            self.block(out, blocks, s, weights.rows, room);
        }
        done.max(1)
    }

    /// Adds up the weights of each piece that has a mean.
    pub fn weigh_means(&mut self, out: &mut Outputs, blocks: Blocks, weights: Weights, room: &mut BlockRoom) {
        let mut s = 0;
        while s < blocks.len() {
            let Place { piece, index, .. } = blocks.place(s);
            let columns = blocks.columns(s);
            let (count, tokens) = blocks.of_one_piece(s);
            s += count;
            if !matches!(piece, Piece::Segment(view) if view.segment.layout.rotated) {
                continue;
            }
            if self.mean_of != Some(index) {
                self.add_mean(out, room);
                self.mean_of = Some(index);
            }
            let all = tokens == columns.stride;
            for (row, sum) in self.mean_weights.iter_mut().enumerate() {
                *sum += if all { weights.sums[row] } else { simd::sum(&weights.rows[columns.of(row, tokens)]) };
            }
        }
    }

    /// Adds the codes of blocks from the `s`-th on that are tiles of one segment; returns how many were.
    fn tiles(&mut self, out: &mut Outputs, blocks: Blocks, s: usize, weights: Weights, room: &mut BlockRoom) -> usize {
        let Piece::Segment(view) = blocks.place(s).piece else { return 0 };
        let (run, count) = blocks.run(s, MOST_TILES * TILE);
        let level = simd::level();
        let Some(tiles) = view.segment.value_tiles(level, view.plane(out.plane), run, &mut room.plan) else { return 0 };
        let out = if view.segment.layout.rotated { &mut *self.turned } else { &mut *out.rows };
        let Weights { rows, coarse, .. } = weights;
        simd::add_values(level, tiles, (rows, blocks.now.tokens), coarse, out, &mut room.value);
        count
    }

    /// Adds the `s`-th block, as rows; the codes alone where it is compressed.
    fn block(&mut self, out: &mut Outputs, blocks: Blocks, s: usize, weights: &[f32], room: &mut BlockRoom) {
        let Place { piece, first, tokens, .. } = blocks.place(s);
        let (plane, dim) = (out.plane, out.dim);
        let columns = blocks.columns(s);
        let weights = &weights[columns.first..];
        if let Piece::Raw(raw) = piece
            && out.rows.len() / dim < MANY_QUERIES
            && let Some(rows) = raw.rows_in_place(plane, first, tokens, blocks.rows_ahead(s))
        {
            simd::weigh_raw(simd::level(), rows, weights, columns.stride, out.rows);
            return;
        }
        room.rows.resize(BLOCK * dim, 0.0);
        let block = &mut room.rows[..tokens * dim];
        let mut to = &mut *out.rows;
        match piece {
            Piece::Raw(raw) => raw.rows(plane, first, block),
            Piece::Segment(view) => {
                view.segment.backbone_rows(view.plane(plane), first, block, &mut room.scratch.decoding);
                if view.segment.layout.rotated {
                    to = &mut self.turned;
                }
            }
        }
        simd::weigh_rows(block, dim, weights, columns.stride, to);
    }

    /// Adds the mean that is still to be added.
    fn add_mean(&mut self, out: &mut Outputs, room: &mut BlockRoom) {
        let Some(Piece::Segment(view)) = self.mean_of.take().map(|index| out.tensor.piece(index)) else { return };
        view.segment.load_mean(view.plane(out.plane), &mut room.scratch);
        for (weight, out) in self.mean_weights.iter_mut().zip(out.rows.chunks_exact_mut(out.dim)) {
            simd::accumulate_rows(&[*weight], &room.scratch.mean, out);
            *weight = 0.0;
        }
    }

    /// Divides by the sums of weights.
    pub fn finish(&mut self, out: &mut Outputs, sums: &[f32], room: &mut BlockRoom) {
        self.add_mean(out, room);
        if !self.turned.is_empty() {
            simd::rotate_rows(&mut self.turned, out.dim);
            out.rows.iter_mut().zip(&self.turned).for_each(|(out, turned)| *out += turned);
        }
        for (out, sum) in out.rows.chunks_exact_mut(out.dim).zip(sums) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}

/// Adds low-rank and outliers.
pub(super) fn add_what_codes_lack(out: &mut Outputs, blocks: Blocks, weights: &[f32], room: &mut BlockRoom) {
    let mut with_outliers = 0;
    for s in blocks.that_lack() {
        let Place { piece: Piece::Segment(view), first, tokens, .. } = blocks.place(s) else { continue };
        let (segment, columns, plane, dim) = (&view.segment, blocks.columns(s), view.plane(out.plane), out.dim);
        let rank = segment.load_factors(plane, first, tokens, &mut room.scratch);
        if rank > 0 {
            room.along.resize(rank, 0.0);
            for (row, out) in out.rows.chunks_exact_mut(dim).enumerate() {
                simd::dot_rows(&weights[columns.of(row, tokens)], tokens, &room.scratch.a, &mut room.along, 1);
                simd::accumulate_rows(&room.along, &room.scratch.b, out);
            }
        }
        if s < with_outliers {
            continue;
        }
        // Those of a whole piece at once.
        let (count, tokens) = blocks.of_one_piece(s);
        with_outliers = s + count;
        segment.load_outliers(plane, first, tokens, &mut KeyCursor::default(), &mut room.outliers);
        for (row, out) in out.rows.chunks_exact_mut(dim).enumerate() {
            let weights = &weights[columns.of(row, tokens)];
            for &Outlier { token, channel, value } in &room.outliers {
                out[channel as usize] += weights[token as usize] * value;
            }
        }
    }
}
