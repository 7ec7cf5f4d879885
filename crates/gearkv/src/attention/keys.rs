//! Logits of one block of keys after the other, for one KV head.

use crate::backbone::Grouping;
use crate::segment::{BlockScratch, KeyCursor, KeyPlan, Segment};
use crate::simd::{self, KeyRoom};
use crate::tensor::Piece;

use super::{Ahead, BLOCK, Columns, MANY_QUERIES, Place};

/// The queries of one KV head, and what is kept from block to block.
pub(super) struct Keys<'a> {
    plane: usize,
    dim: usize,
    /// `[rows, head_dim]`, times the scale.
    q: &'a [f32],
    /// The same, turned where keys are.
    turned: Vec<f32>,
    block: Vec<f32>,
    scratch: BlockScratch,
    cursor: KeyCursor,
    plan: KeyPlan<'a>,
    room: KeyRoom,
}

impl<'a> Keys<'a> {
    pub fn new(plane: usize, dim: usize, q: &'a [f32], rotated: bool) -> Self {
        let mut turned = Vec::new();
        if rotated {
            turned.extend_from_slice(q);
            simd::rotate_rows(&mut turned, dim);
        }
        Self {
            plane,
            dim,
            q,
            turned,
            block: vec![0.0; BLOCK * dim],
            scratch: BlockScratch::default(),
            cursor: KeyCursor::new(dim),
            plan: KeyPlan::default(),
            room: KeyRoom::default(),
        }
    }

    /// The logits of the block at `place`, into these columns of `logits`; `ahead` is what will be read next.
    pub fn logits(&mut self, place: Place<'a>, ahead: Ahead<'a>, logits: &mut [f32], columns: Columns) {
        let Place { piece, first, tokens } = place;
        if first == 0 {
            self.cursor = KeyCursor::new(self.dim);
        }
        let segment = match piece {
            Piece::Raw(raw) => {
                let few = self.q.len() / self.dim < MANY_QUERIES;
                if let Some(rows) = raw.rows_in_place(self.plane, first, tokens, ahead.rows).filter(|_| few) {
                    simd::dot_raw(simd::level(), rows, self.q, &mut logits[columns.first..], columns.stride);
                    return;
                }
                raw.rows(self.plane, first, &mut self.block[..tokens * self.dim]);
                dot_queries(&self.block[..tokens * self.dim], self.dim, self.q, logits, columns, &mut self.scratch);
                return;
            }
            Piece::Segment(view) => &*view.segment,
        };
        self.backbone(segment, place, ahead, logits, columns);
        let (q, dim) = (self.q, self.dim);
        let rank = segment.load_factors(self.plane, first, tokens, &mut self.scratch);
        if rank > 0 {
            let mut u = vec![0.0; rank];
            for (row, q) in q.chunks_exact(dim).enumerate() {
                simd::dot_rows(q, dim, &self.scratch.b, &mut u, 1);
                simd::accumulate_rows(&u, &self.scratch.a, &mut logits[columns.of(row, tokens)]);
            }
        }
        let rows = q.len() / dim;
        segment.for_each_key_outlier(self.plane, first, tokens, &mut self.cursor, |t, d, value| {
            for row in 0..rows {
                logits[columns.of(row, tokens).start + t] += q[row * dim + d] * value;
            }
        });
    }

    /// What the codes of a block contribute.
    fn backbone(
        &mut self,
        segment: &'a Segment,
        Place { first, tokens, .. }: Place<'a>,
        ahead: Ahead<'a>,
        logits: &mut [f32],
        columns: Columns,
    ) {
        let (plane, dim, q) = (self.plane, self.dim, self.q);
        if matches!(segment.layout.grouping, Grouping::Channel { .. }) {
            self.plan.prepare(segment, plane, q);
            if let Some((tile, q)) = segment.key_tile(plane, first, tokens, ahead.codes, q, &mut self.plan) {
                let at = (columns.first, columns.stride);
                simd::key_logits(simd::level(), tile, q, logits, at, &mut self.room);
                return;
            }
        }
        let block = &mut self.block[..tokens * dim];
        segment.backbone_rows(plane, first, block);
        if segment.layout.rotated {
            dot_queries(block, dim, &self.turned, logits, columns, &mut self.scratch);
            segment.load_mean(plane, &mut self.scratch);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let mut along = [0.0];
                simd::dot_rows(q, dim, &self.scratch.mean, &mut along, 1);
                logits[columns.of(row, tokens)].iter_mut().for_each(|x| *x += along[0]);
            }
        } else {
            let q = if segment.channel_order(plane).is_some() { self.plan.queries(q) } else { q };
            dot_queries(block, dim, q, logits, columns, &mut self.scratch);
        }
    }
}

/// `q·K̂ᵀ` of a block of rows.
fn dot_queries(block: &[f32], dim: usize, q: &[f32], logits: &mut [f32], columns: Columns, scratch: &mut BlockScratch) {
    let tokens = block.len() / dim;
    if q.len() / dim < MANY_QUERIES {
        simd::dot_rows(block, dim, q, &mut logits[columns.first..], columns.stride);
        return;
    }
    scratch.transposed.resize(block.len(), 0.0);
    simd::transpose(block, dim, &mut scratch.transposed);
    for (row, q) in q.chunks_exact(dim).enumerate() {
        let logits = &mut logits[columns.of(row, tokens)];
        logits.fill(0.0);
        simd::weigh_rows(&scratch.transposed, tokens, q, dim, logits);
    }
}
