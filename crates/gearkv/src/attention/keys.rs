//! Logits of one block of keys after the other, for one KV head.

use crate::backbone::Grouping;
use crate::segment::{BlockScratch, KeyCursor, KeyPlan, Segment};
use crate::simd;
use crate::tensor::Piece;

use super::room::BlockRoom;
use super::walk::Place;
use super::{Ahead, BLOCK, Columns, MANY_QUERIES};

/// The queries of one KV head: `[rows, head_dim]`, times the scale.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub plane: usize,
    pub dim: usize,
    pub rows: &'a [f32],
}

/// What is kept from block to block.
#[derive(Default)]
pub(super) struct Keys {
    /// Queries, turned where keys are.
    turned: Vec<f32>,
    cursor: KeyCursor,
    plan: KeyPlan,
}

impl Keys {
    pub fn begin(&mut self, q: Queries, rotated: bool) {
        self.turned.clear();
        if rotated {
            self.turned.extend_from_slice(q.rows);
            simd::rotate_rows(&mut self.turned, q.dim);
        }
        self.cursor.reset(q.dim);
        self.plan.forget();
    }

    /// Numbers that there is room for.
    pub fn capacity(&self) -> usize {
        self.turned.capacity() + self.plan.capacity()
    }

    /// The logits of the block at `place`, into these columns of `logits`; `ahead` is what will be read next.
    pub fn logits(
        &mut self,
        queries: Queries,
        place: Place,
        ahead: Ahead,
        logits: &mut [f32],
        columns: Columns,
        room: &mut BlockRoom,
    ) {
        let Queries { plane, dim, rows: q } = queries;
        let Place { piece, first, tokens, .. } = place;
        if place.begins() {
            self.cursor.reset(dim);
        }
        let (segment, plane) = match piece {
            Piece::Raw(raw) => {
                let few = q.len() / dim < MANY_QUERIES;
                if let Some(rows) = raw.rows_in_place(plane, first, tokens, ahead.rows).filter(|_| few) {
                    simd::dot_raw(simd::level(), rows, q, &mut logits[columns.first..], columns.stride);
                    return;
                }
                room.rows.resize(BLOCK * dim, 0.0);
                let block = &mut room.rows[..tokens * dim];
                raw.rows(plane, first, block);
                dot_queries(block, dim, q, logits, columns, &mut room.scratch);
                return;
            }
            Piece::Segment(view) => (&*view.segment, view.plane(plane)),
        };
        let queries = Queries { plane, ..queries };
        self.backbone(queries, segment, place, ahead, logits, columns, room);
        let rank = segment.load_factors(plane, first, tokens, &mut room.scratch);
        if rank > 0 {
            room.along.resize(rank, 0.0);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                simd::dot_rows(q, dim, &room.scratch.b, &mut room.along, 1);
                simd::accumulate_rows(&room.along, &room.scratch.a, &mut logits[columns.of(row, tokens)]);
            }
        }
        let rows = q.len() / dim;
        segment.for_each_key_outlier(plane, first, tokens, &mut self.cursor, |t, d, value| {
            for row in 0..rows {
                logits[columns.of(row, tokens).start + t] += q[row * dim + d] * value;
            }
        });
    }

    /// What the codes of a block contribute.
    #[expect(clippy::too_many_arguments, reason = "a block, what it is multiplied with, and where that goes")]
    fn backbone(
        &mut self,
        Queries { plane, dim, rows: q }: Queries,
        segment: &Segment,
        Place { first, tokens, .. }: Place,
        ahead: Ahead,
        logits: &mut [f32],
        columns: Columns,
        room: &mut BlockRoom,
    ) {
        if matches!(segment.layout.grouping, Grouping::Channel { .. }) {
            self.plan.prepare(segment, plane, q);
            if let Some((tile, q)) = segment.key_tile(plane, first, tokens, ahead.codes, q, &mut self.plan) {
                let at = (columns.first, columns.stride);
                simd::key_logits(simd::level(), tile, q, logits, at, &mut room.key);
                return;
            }
        }
        room.rows.resize(BLOCK * dim, 0.0);
        let (block, scratch) = (&mut room.rows[..tokens * dim], &mut room.scratch);
        segment.backbone_rows(plane, first, block, &mut scratch.decoding);
        if segment.layout.rotated {
            dot_queries(block, dim, &self.turned, logits, columns, scratch);
            segment.load_mean(plane, scratch);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let mut along = [0.0];
                simd::dot_rows(q, dim, &scratch.mean, &mut along, 1);
                logits[columns.of(row, tokens)].iter_mut().for_each(|x| *x += along[0]);
            }
        } else {
            let q = if segment.channel_order(plane).is_some() { self.plan.queries(q) } else { q };
            dot_queries(block, dim, q, logits, columns, scratch);
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
