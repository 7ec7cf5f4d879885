//! Logits of one stretch of keys after the other, for one KV head.

use crate::backbone::Grouping;
use crate::segment::{BlockScratch, KeyCursor, KeyPlan};
use crate::simd::{self, Outlier};
use crate::tensor::Piece;

use super::room::BlockRoom;
use super::walk::{Blocks, Place};
use super::{BLOCK, Columns, MANY_QUERIES};

/// Queries of one KV head, times the scale.
#[derive(Clone, Copy)]
pub(super) struct Queries<'a> {
    pub dim: usize,
    /// `[rows, head_dim]`
    pub all: &'a [f32],
    /// Which rows are taken: the first one, and how many.
    pub first: usize,
    pub count: usize,
    /// Of those that are taken, which ones' products with keys may be rounded to bytes; empty where none.
    pub rough: &'a [bool],
}

impl<'a> Queries<'a> {
    /// All rows.
    pub fn new(all: &'a [f32], dim: usize) -> Self {
        Self { dim, all, first: 0, count: all.len() / dim, rough: &[] }
    }

    /// Those that are taken.
    fn rows(&self) -> &'a [f32] {
        self.of(self.all)
    }

    /// Those that are taken, of all that were made of these.
    fn of<'b>(&self, all: &'b [f32]) -> &'b [f32] {
        &all[self.first * self.dim..(self.first + self.count) * self.dim]
    }
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
            self.turned.extend_from_slice(q.all);
            simd::rotate_rows(&mut self.turned, q.dim);
        }
        self.cursor.reset(q.dim);
        self.plan.forget();
    }

    /// Numbers that there is room for.
    pub fn capacity(&self) -> usize {
        self.turned.capacity() + self.plan.capacity()
    }

    /// What the codes of blocks from the `s`-th on contribute to the logits of a stretch (`[rows, tokens]`), or what these are where tokens are not
    /// compressed; returns how many blocks were taken, and whether any row was rounded.
    pub fn logits(
        &mut self,
        queries: Queries,
        blocks: Blocks,
        s: usize,
        logits: &mut [f32],
        room: &mut BlockRoom,
    ) -> (usize, bool) {
        let (done, rough) = self.tiles(queries, blocks, s, logits, room);
        if done == 0 {
            self.block(queries, blocks, s, logits, room);
        }
        (done.max(1), rough)
    }

    /// What the codes of blocks from the `s`-th on contribute that are tiles of one segment; returns how many were, and whether any row was rounded.
    fn tiles(
        &mut self,
        queries: Queries,
        blocks: Blocks,
        s: usize,
        logits: &mut [f32],
        room: &mut BlockRoom,
    ) -> (usize, bool) {
        let Piece::Segment(view) = blocks.place(s).piece else { return (0, false) };
        if !matches!(view.segment.layout.grouping, Grouping::Channel { .. }) {
            return (0, false);
        }
        let plane = view.plane(blocks.plane());
        self.plan.prepare(&view.segment, plane, queries.all);
        let (run, count) = blocks.run(s, view.segment.key_tiles_together(blocks.place(s).first));
        let Some((tiles, q)) = view.segment.key_tiles(plane, run, queries.all, &mut self.plan) else {
            return (0, false);
        };
        let q = (queries.of(q), queries.rough);
        let rough = simd::key_logits(simd::level(), tiles, q, logits, blocks.now.tokens, &mut room.key);
        (count, rough)
    }

    /// What the `s`-th block contributes, as rows; the codes alone where it is compressed.
    fn block(&mut self, queries: Queries, blocks: Blocks, s: usize, logits: &mut [f32], room: &mut BlockRoom) {
        let (dim, q) = (queries.dim, queries.rows());
        let Place { piece, first, tokens, .. } = blocks.place(s);
        let (plane, columns) = (blocks.plane(), blocks.columns(s));
        if let Piece::Raw(raw) = piece
            && q.len() / dim < MANY_QUERIES
            && let Some(rows) = raw.rows_in_place(plane, first, tokens, blocks.rows_ahead(s))
        {
            simd::dot_raw(simd::level(), rows, q, &mut logits[columns.first..], columns.stride);
            return;
        }
        room.rows.resize(BLOCK * dim, 0.0);
        let (block, scratch) = (&mut room.rows[..tokens * dim], &mut room.scratch);
        let (segment, plane) = match piece {
            Piece::Raw(raw) => {
                raw.rows(plane, first, block);
                dot_queries(block, dim, q, logits, columns, scratch);
                return;
            }
            Piece::Segment(view) => (&*view.segment, view.plane(plane)),
        };
        segment.backbone_rows(plane, first, block, &mut scratch.decoding);
        if segment.layout.rotated {
            dot_queries(block, dim, queries.of(&self.turned), logits, columns, scratch);
            segment.load_mean(plane, scratch);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let mut along = [0.0];
                simd::dot_rows(q, dim, &scratch.mean, &mut along, 1);
                logits[columns.of(row, tokens)].iter_mut().for_each(|x| *x += along[0]);
            }
        } else {
            let ordered = segment.channel_order(plane).is_some();
            let q = if ordered { queries.of(self.plan.queries(queries.all)) } else { q };
            dot_queries(block, dim, q, logits, columns, scratch);
        }
    }

    /// Adds low-rank and outliers.
    pub fn add_what_codes_lack(&mut self, queries: Queries, blocks: Blocks, logits: &mut [f32], room: &mut BlockRoom) {
        let (dim, q) = (queries.dim, queries.rows());
        let mut with_outliers = 0;
        for s in blocks.that_lack() {
            let place = blocks.place(s);
            let Place { piece: Piece::Segment(view), first, tokens, .. } = place else { continue };
            let (segment, plane, columns) = (&view.segment, view.plane(blocks.plane()), blocks.columns(s));
            let rank = segment.load_factors(plane, first, tokens, &mut room.scratch);
            if rank > 0 {
                room.along.resize(rank, 0.0);
                for (row, q) in q.chunks_exact(dim).enumerate() {
                    simd::dot_rows(q, dim, &room.scratch.b, &mut room.along, 1);
                    simd::accumulate_rows(&room.along, &room.scratch.a, &mut logits[columns.of(row, tokens)]);
                }
            }
            if place.begins() {
                self.cursor.reset(dim);
            }
            if s < with_outliers {
                continue;
            }
            // Those of a whole piece at once.
            let (count, tokens) = blocks.of_one_piece(s);
            with_outliers = s + count;
            segment.load_outliers(plane, first, tokens, &mut self.cursor, &mut room.outliers);
            for (row, q) in q.chunks_exact(dim).enumerate() {
                let logits = &mut logits[columns.of(row, tokens)];
                for &Outlier { token, channel, value } in &room.outliers {
                    logits[token as usize] += q[channel as usize] * value;
                }
            }
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
