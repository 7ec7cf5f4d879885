//! Weighted sums of one block of values after the other, for one KV head.

use crate::segment::Segment;
use crate::simd;
use crate::tensor::{GearTensor, Piece};

use super::room::BlockRoom;
use super::walk::Place;
use super::{Ahead, BLOCK, Columns, MANY_QUERIES};

/// Where one KV head's outputs are gathered.
pub(super) struct Outputs<'a> {
    pub tensor: &'a GearTensor,
    pub plane: usize,
    pub dim: usize,
    /// `[rows, head_dim]`
    pub rows: &'a mut [f32],
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

    /// Adds the block at `place`, weighed by these columns of `weights`; `ahead` is what will be read next.
    pub fn add(
        &mut self,
        out: &mut Outputs,
        place: Place,
        ahead: Ahead,
        weights: &[f32],
        columns: Columns,
        room: &mut BlockRoom,
    ) {
        let Place { piece, first, tokens, .. } = place;
        let (plane, dim) = (out.plane, out.dim);
        let (segment, plane) = match piece {
            Piece::Raw(raw) => {
                let few = out.rows.len() / dim < MANY_QUERIES;
                if let Some(rows) = raw.rows_in_place(plane, first, tokens, ahead.rows).filter(|_| few) {
                    simd::weigh_raw(simd::level(), rows, &weights[columns.first..], columns.stride, out.rows);
                    return;
                }
                room.rows.resize(BLOCK * dim, 0.0);
                let block = &mut room.rows[..tokens * dim];
                raw.rows(plane, first, block);
                simd::weigh_rows(block, dim, &weights[columns.first..], columns.stride, out.rows);
                return;
            }
            Piece::Segment(view) => (&*view.segment, view.plane(plane)),
        };
        self.backbone(out, (segment, plane), place, ahead, weights, columns, room);
        let rank = segment.load_factors(plane, first, tokens, &mut room.scratch);
        if rank > 0 {
            room.along.resize(rank, 0.0);
            for (row, out) in out.rows.chunks_exact_mut(dim).enumerate() {
                simd::dot_rows(&weights[columns.of(row, tokens)], tokens, &room.scratch.a, &mut room.along, 1);
                simd::accumulate_rows(&room.along, &room.scratch.b, out);
            }
        }
        let (rows, out) = (out.rows.len() / dim, &mut *out.rows);
        segment.for_each_value_outlier(plane, first, tokens, |t, d, value| {
            for row in 0..rows {
                out[row * dim + d] += weights[columns.of(row, tokens).start + t] * value;
            }
        });
    }

    /// What the codes of a block contribute.
    #[expect(clippy::too_many_arguments, reason = "a block, what it is multiplied with, and where that goes")]
    fn backbone(
        &mut self,
        out: &mut Outputs,
        (segment, plane): (&Segment, usize),
        Place { index, first, tokens, .. }: Place,
        ahead: Ahead,
        weights: &[f32],
        columns: Columns,
        room: &mut BlockRoom,
    ) {
        let dim = out.dim;
        if segment.layout.rotated {
            if self.mean_of != Some(index) {
                self.add_mean(out, room);
                self.mean_of = Some(index);
            }
            for (row, sum) in self.mean_weights.iter_mut().enumerate() {
                *sum += simd::sum(&weights[columns.of(row, tokens)]);
            }
        }
        let out = if segment.layout.rotated { &mut *self.turned } else { &mut *out.rows };
        let level = simd::level();
        if let Some(tile) = segment.value_tile(level, plane, (first, tokens), ahead.codes, &mut room.plan) {
            let at = (columns.first, columns.stride);
            simd::add_values(level, tile, (weights, at), tokens, out, &mut room.value);
        } else {
            room.rows.resize(BLOCK * dim, 0.0);
            let block = &mut room.rows[..tokens * dim];
            segment.backbone_rows(plane, first, block, &mut room.scratch.decoding);
            simd::weigh_rows(block, dim, &weights[columns.first..], columns.stride, out);
        }
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
