//! Logits of one block of keys after the other, for one KV head.

use crate::backbone::Grouping;
use crate::segment::{BlockScratch, KeyCursor, KeyPlan, Segment};
use crate::simd::{self, KeyRoom};
use crate::tensor::Piece;

use super::{BLOCK, Place};

/// From so many query rows on, transposing a block of keys pays.
const MANY_QUERIES: usize = 8;

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

    /// `[rows, tokens]` of the block at `place`; `next` is where the one after it starts.
    pub fn logits(&mut self, place: Place<'a>, next: Option<Place<'a>>, logits: &mut [f32]) {
        let Place { piece, first, tokens } = place;
        if first == 0 {
            self.cursor = KeyCursor::new(self.dim);
        }
        let segment = match piece {
            Piece::Raw(raw) => {
                raw.rows(self.plane, first, &mut self.block[..tokens * self.dim]);
                dot_queries(&self.block[..tokens * self.dim], self.dim, self.q, logits, &mut self.scratch);
                return;
            }
            Piece::Segment(view) => &*view.segment,
        };
        self.backbone(segment, first, tokens, next, logits);
        let (q, dim) = (self.q, self.dim);
        let rank = segment.load_factors(self.plane, first, tokens, &mut self.scratch);
        if rank > 0 {
            let mut u = vec![0.0; rank];
            for (q, logits) in q.chunks_exact(dim).zip(logits.chunks_exact_mut(tokens)) {
                simd::dot_rows(q, dim, &self.scratch.b, &mut u, 1);
                simd::accumulate_rows(&u, &self.scratch.a, logits);
            }
        }
        let rows = q.len() / dim;
        segment.for_each_key_outlier(self.plane, first, tokens, &mut self.cursor, |t, d, value| {
            for row in 0..rows {
                logits[row * tokens + t] += q[row * dim + d] * value;
            }
        });
    }

    /// What the codes of a block contribute.
    fn backbone(
        &mut self,
        segment: &'a Segment,
        first: usize,
        tokens: usize,
        next: Option<Place<'a>>,
        logits: &mut [f32],
    ) {
        let (plane, dim, q) = (self.plane, self.dim, self.q);
        if matches!(segment.layout.grouping, Grouping::Channel { .. }) {
            self.plan.prepare(segment, plane, q);
            let ahead = next.map_or(&[][..], |next| next.codes(plane));
            if let Some((tile, q)) = segment.key_tile(plane, first, tokens, ahead, q, &mut self.plan) {
                simd::key_logits(simd::level(), tile, q, logits, &mut self.room);
                return;
            }
        }
        let block = &mut self.block[..tokens * dim];
        segment.backbone_rows(plane, first, block);
        if segment.layout.rotated {
            dot_queries(block, dim, &self.turned, logits, &mut self.scratch);
            segment.load_mean(plane, &mut self.scratch);
            for (q, logits) in q.chunks_exact(dim).zip(logits.chunks_exact_mut(tokens)) {
                let mut along = [0.0];
                simd::dot_rows(q, dim, &self.scratch.mean, &mut along, 1);
                logits.iter_mut().for_each(|x| *x += along[0]);
            }
        } else {
            let q = if segment.channel_order(plane).is_some() { self.plan.queries(q) } else { q };
            dot_queries(block, dim, q, logits, &mut self.scratch);
        }
    }
}

/// `q·K̂ᵀ` of a block of rows.
fn dot_queries(block: &[f32], dim: usize, q: &[f32], logits: &mut [f32], scratch: &mut BlockScratch) {
    let tokens = block.len() / dim;
    if q.len() / dim < MANY_QUERIES {
        simd::dot_rows(block, dim, q, logits, tokens);
    } else {
        scratch.transposed.resize(block.len(), 0.0);
        simd::transpose(block, dim, &mut scratch.transposed);
        logits.fill(0.0);
        simd::weigh_rows(&scratch.transposed, tokens, q, dim, logits);
    }
}
