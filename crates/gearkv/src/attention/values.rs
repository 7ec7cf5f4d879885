//! Weighted sums of one block of values after the other, for one KV head.

use crate::segment::{BlockScratch, Segment, ValuePlan};
use crate::simd::{self, ValueRoom};
use crate::tensor::Piece;

use super::{Ahead, BLOCK, Columns, MANY_QUERIES, Place};

/// What is gathered, and what is kept from block to block.
pub(super) struct Values<'a> {
    plane: usize,
    dim: usize,
    /// `[rows, head_dim]`
    out: &'a mut [f32],
    /// What is gathered of values that are turned; empty where none are.
    turned: Vec<f32>,
    /// The segment whose mean is still to be added, times each row's sum of weights so far.
    mean_of: Option<&'a Segment>,
    mean_weights: Vec<f32>,
    block: Vec<f32>,
    scratch: BlockScratch,
    plan: ValuePlan,
    room: ValueRoom,
}

impl<'a> Values<'a> {
    pub fn new(plane: usize, dim: usize, out: &'a mut [f32], rotated: bool) -> Self {
        out.fill(0.0);
        let rows = out.len() / dim;
        Self {
            plane,
            dim,
            turned: vec![0.0; if rotated { out.len() } else { 0 }],
            out,
            mean_of: None,
            mean_weights: vec![0.0; rows],
            block: vec![0.0; BLOCK * dim],
            scratch: BlockScratch::default(),
            plan: ValuePlan::default(),
            room: ValueRoom::default(),
        }
    }

    /// Multiplies what one row has gathered.
    pub fn shrink(&mut self, row: usize, factor: f32) {
        let own = row * self.dim..(row + 1) * self.dim;
        self.out[own.clone()].iter_mut().for_each(|x| *x *= factor);
        if let Some(turned) = self.turned.get_mut(own) {
            turned.iter_mut().for_each(|x| *x *= factor);
        }
        self.mean_weights[row] *= factor;
    }

    /// Adds the block at `place`, weighed by these columns of `weights`; `ahead` is what will be read next.
    pub fn add(&mut self, place: Place<'a>, ahead: Ahead<'a>, weights: &[f32], columns: Columns) {
        let Place { piece, first, tokens } = place;
        let dim = self.dim;
        let segment = match piece {
            Piece::Raw(raw) => {
                let few = self.out.len() / dim < MANY_QUERIES;
                if let Some(rows) = raw.rows_in_place(self.plane, first, tokens, ahead.rows).filter(|_| few) {
                    simd::weigh_raw(simd::level(), rows, &weights[columns.first..], columns.stride, self.out);
                    return;
                }
                let block = &mut self.block[..tokens * dim];
                raw.rows(self.plane, first, block);
                simd::weigh_rows(block, dim, &weights[columns.first..], columns.stride, self.out);
                return;
            }
            Piece::Segment(view) => &*view.segment,
        };
        self.backbone(segment, place, ahead, weights, columns);
        let rank = segment.load_factors(self.plane, first, tokens, &mut self.scratch);
        if rank > 0 {
            let mut along = vec![0.0; rank];
            for (row, out) in self.out.chunks_exact_mut(dim).enumerate() {
                simd::dot_rows(&weights[columns.of(row, tokens)], tokens, &self.scratch.a, &mut along, 1);
                simd::accumulate_rows(&along, &self.scratch.b, out);
            }
        }
        let (rows, out) = (self.out.len() / dim, &mut *self.out);
        segment.for_each_value_outlier(self.plane, first, tokens, |t, d, value| {
            for row in 0..rows {
                out[row * dim + d] += weights[columns.of(row, tokens).start + t] * value;
            }
        });
    }

    /// What the codes of a block contribute.
    fn backbone(
        &mut self,
        segment: &'a Segment,
        Place { first, tokens, .. }: Place<'a>,
        ahead: Ahead<'a>,
        weights: &[f32],
        columns: Columns,
    ) {
        let (plane, dim) = (self.plane, self.dim);
        if segment.layout.rotated {
            if !self.mean_of.is_some_and(|before| std::ptr::eq(before, segment)) {
                self.add_mean();
                self.mean_of = Some(segment);
            }
            for (row, sum) in self.mean_weights.iter_mut().enumerate() {
                *sum += simd::sum(&weights[columns.of(row, tokens)]);
            }
        }
        let out = if segment.layout.rotated { &mut *self.turned } else { &mut *self.out };
        let level = simd::level();
        if let Some(tile) = segment.value_tile(level, plane, first, ahead.codes, &mut self.plan) {
            let at = (columns.first, columns.stride);
            simd::add_values(level, tile, (weights, at), tokens, out, &mut self.room);
        } else {
            let block = &mut self.block[..tokens * dim];
            segment.backbone_rows(plane, first, block);
            simd::weigh_rows(block, dim, &weights[columns.first..], columns.stride, out);
        }
    }

    /// Adds the mean that is still to be added.
    fn add_mean(&mut self) {
        let Some(segment) = self.mean_of.take() else { return };
        segment.load_mean(self.plane, &mut self.scratch);
        for (weight, out) in self.mean_weights.iter_mut().zip(self.out.chunks_exact_mut(self.dim)) {
            simd::accumulate_rows(&[*weight], &self.scratch.mean, out);
            *weight = 0.0;
        }
    }

    /// Divides by the sums of weights.
    pub fn finish(mut self, sums: &[f32]) {
        self.add_mean();
        if !self.turned.is_empty() {
            simd::rotate_rows(&mut self.turned, self.dim);
            self.out.iter_mut().zip(&self.turned).for_each(|(out, turned)| *out += turned);
        }
        for (out, sum) in self.out.chunks_exact_mut(self.dim).zip(sums) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|x| *x *= inverse);
        }
    }
}
