//! A chunk of new tokens through one layer, and behind the last one to logits.

use gearkv::{Cancel, KvSlice, Result, Role};

use crate::layer::Layer;
use crate::model::Weights;
use crate::ops;
use crate::pass::{Chunk, Lane, Piece};
use crate::timings::{Stopwatch, Timings};

/// Logits of states behind the last layer, `[tokens, vocabulary]`.
pub(crate) fn logits(weights: &Weights, states: &[f32], timings: &mut Timings) -> Vec<f32> {
    let mut clock = Stopwatch::start();
    let a = &weights.architecture;
    let normed = normed(states, &weights.norm, a.epsilon);
    clock.lap(&mut timings.other);
    let logits = weights.output.as_ref().unwrap_or(&weights.embedding).multiply(&normed, weights.workers);
    clock.lap(&mut timings.matmul);
    logits
}

fn normed(states: &[f32], weight: &[f32], epsilon: f32) -> Vec<f32> {
    let mut out = states.to_vec();
    ops::normalize_rows(&mut out, weight, epsilon);
    out
}

/// One layer at work.
pub(crate) struct Step<'a> {
    pub weights: &'a Weights,
    pub layer: &'a Layer,
    pub index: usize,
    pub clock: &'a mut Stopwatch,
    pub timings: &'a mut Timings,
    pub cancel: Cancel<'a>,
}

impl Step<'_> {
    /// Adds attention to `states`, `[chunk.rows, width]`; the caches have the chunk's keys and values then.
    pub fn attention(&mut self, chunk: &Chunk, lanes: &mut [Lane], states: &mut [f32]) -> Result<()> {
        let (a, layer) = (&self.weights.architecture, self.layer);
        let x = normed(states, &layer.attention_norm, a.epsilon);
        self.clock.lap(&mut self.timings.other);
        let mut projected = layer.projections.multiply(&x, self.weights.workers);
        self.clock.lap(&mut self.timings.matmul);
        if let Some(bias) = &layer.projection_bias {
            ops::add_to_rows(&mut projected, bias);
        }
        let width = a.heads * a.head_dim;
        let mut attended = vec![0.0; chunk.rows * width];
        for piece in &chunk.pieces {
            let rows = layer.projections.rows();
            let projected = &mut projected[piece.row * rows..(piece.row + piece.rows) * rows];
            let attended = &mut attended[piece.row * width..(piece.row + piece.rows) * width];
            self.attend(piece, &mut lanes[piece.part], projected, attended)?;
        }
        self.clock.lap(&mut self.timings.other);
        let mut out = layer.output.multiply(&attended, self.weights.workers);
        self.clock.lap(&mut self.timings.matmul);
        if let Some(norm) = &layer.attention_out_norm {
            ops::normalize_rows(&mut out, norm, a.epsilon);
        }
        ops::add(states, &out);
        Ok(())
    }

    /// Puts one piece's keys and values into its cache and attends to all that is there.
    fn attend(&mut self, piece: &Piece, lane: &mut Lane, projected: &mut [f32], out: &mut [f32]) -> Result<()> {
        let Lane { cache, queries: log } = lane;
        let (a, layer) = (&self.weights.architecture, self.layer);
        let (n, dim) = (piece.rows, a.head_dim);
        let window = a.layer_window(self.index);
        let rotation = match (&piece.local_rotation, window) {
            (Some(local), Some(_)) => local,
            _ => &piece.rotation,
        };
        // `[heads, tokens, head_dim]` of queries, keys and values.
        let total = a.heads + 2 * a.kv_heads;
        let mut heads = vec![0.0; total * n * dim];
        for (t, row) in projected.chunks_exact_mut(total * dim).enumerate() {
            for (h, head) in row.chunks_exact_mut(dim).enumerate() {
                if h < a.heads + a.kv_heads {
                    let norm = if h < a.heads { &layer.query_norm } else { &layer.key_norm };
                    if let Some(norm) = norm {
                        ops::normalize_rows(head, norm, a.epsilon);
                    }
                    rotation.turn(t, head);
                }
                heads[(h * n + t) * dim..][..dim].copy_from_slice(head);
            }
        }
        let (queries, rest) = heads.split_at(a.heads * n * dim);
        let (keys, values) = rest.split_at(a.kv_heads * n * dim);
        if let Some(log) = log {
            log.note(self.index, queries);
        }
        self.clock.lap(&mut self.timings.other);
        cache.hold(self.index, KvSlice::F32(keys), KvSlice::F32(values), n)?;
        self.clock.lap(&mut self.timings.compression);
        let options = a.attend_options(self.index);
        // Of a prompt, whose last queries show what the rest of the text will look for. A single token's would have to be kept
        // for as long as it waits in the buffer, where they take more room than they save.
        if piece.exact && piece.together > cache.tensor(self.index, Role::Key)?.config().buffer_tokens as usize {
            cache.observe(self.index, KvSlice::F32(queries), n, &options)?;
        }
        let mut attended = vec![0.0; queries.len()];
        cache.attend(self.index, KvSlice::F32(queries), n, &options, &mut attended, self.cancel)?;
        self.clock.lap(&mut self.timings.attention);
        if !piece.exact {
            cache.settle(self.index, self.cancel)?;
            self.clock.lap(&mut self.timings.compression);
        }
        for (h, head) in attended.chunks_exact(n * dim).enumerate() {
            for (t, head) in head.chunks_exact(dim).enumerate() {
                out[(t * a.heads + h) * dim..][..dim].copy_from_slice(head);
            }
        }
        Ok(())
    }

    /// Adds the feed-forward network to `states`.
    pub fn feed_forward(&mut self, states: &mut [f32]) {
        let (a, layer) = (&self.weights.architecture, self.layer);
        let x = normed(states, &layer.feed_forward_norm, a.epsilon);
        self.clock.lap(&mut self.timings.other);
        let gate_up = layer.gate_up.multiply(&x, self.weights.workers);
        self.clock.lap(&mut self.timings.matmul);
        let hidden = ops::gated(&gate_up, a.feed_forward, a.gate);
        self.clock.lap(&mut self.timings.other);
        let mut out = layer.down.multiply(&hidden, self.weights.workers);
        self.clock.lap(&mut self.timings.matmul);
        if let Some(norm) = &layer.feed_forward_out_norm {
            ops::normalize_rows(&mut out, norm, a.epsilon);
        }
        ops::add(states, &out);
        self.clock.lap(&mut self.timings.other);
    }
}
