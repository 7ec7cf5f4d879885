//! Tokens through all layers.
//!
//! Layers are outermost: a prompt goes through a layer as a whole, in chunks, and what that layer keeps of it is compressed before
//! the next layer begins. So a prompt attends to itself exactly, and uncompressed keys and values of one layer are all that is
//! ever there.

use gearkv::{AttendOptions, Cancel, ErrorCode, GearCache, GearError, KvSlice, Result};

use crate::layer::Layer;
use crate::model::Weights;
use crate::ops;
use crate::rope::Rotation;
use crate::timings::{Stopwatch, Timings};

/// Rows that go through a layer at once.
const CHUNK: usize = 256;

/// New tokens of one sequence.
pub(crate) struct Part<'a> {
    pub cache: &'a mut GearCache,
    pub tokens: &'a [u32],
    /// Compress only when all of `tokens` are through, so that they see each other exactly.
    pub exact: bool,
}

/// A run of one part's tokens within a chunk.
struct Piece {
    part: usize,
    /// Its first row in the chunk.
    row: usize,
    rows: usize,
    rotation: Rotation,
    local_rotation: Option<Rotation>,
}

struct Chunk {
    first_row: usize,
    rows: usize,
    pieces: Vec<Piece>,
}

fn chunks(weights: &Weights, parts: &[Part]) -> Vec<Chunk> {
    let a = &weights.architecture;
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut row = 0;
    for (index, part) in parts.iter().enumerate() {
        let mut done = 0;
        while done < part.tokens.len() {
            if chunks.last().is_none_or(|chunk| chunk.rows == CHUNK) {
                chunks.push(Chunk { first_row: row, rows: 0, pieces: Vec::new() });
            }
            let Some(chunk) = chunks.last_mut() else { break };
            let rows = (CHUNK - chunk.rows).min(part.tokens.len() - done);
            let position = part.cache.tokens() + done;
            chunk.pieces.push(Piece {
                part: index,
                row: chunk.rows,
                rows,
                rotation: Rotation::new(&a.rope, position, rows),
                local_rotation: a.local_rope.as_ref().map(|rope| Rotation::new(rope, position, rows)),
            });
            chunk.rows += rows;
            row += rows;
            done += rows;
        }
    }
    chunks
}

/// The states of all new tokens behind the last layer, `[tokens, width]`, part by part. The caches have the new tokens then.
///
/// # Errors
/// Whatever the cache finds wrong, and `ABORTED`; the caches may have some of the new tokens in some layers then.
pub(crate) fn forward(
    weights: &Weights,
    parts: &mut [Part],
    timings: &mut Timings,
    cancel: Cancel,
) -> Result<Vec<f32>> {
    let a = &weights.architecture;
    let mut clock = Stopwatch::start();
    for part in parts.iter() {
        let tokens = part.cache.tokens() + part.tokens.len();
        if tokens > a.context {
            return Err(GearError::new(
                ErrorCode::OutOfRange,
                format!(
                    "{tokens} tokens are more than the model's context of {}; shorten the text or truncate the session",
                    a.context
                ),
            ));
        }
    }
    let rows: usize = parts.iter().map(|part| part.tokens.len()).sum();
    let mut states = vec![0.0; rows * a.width];
    let tokens = parts.iter().flat_map(|part| part.tokens);
    for (&token, state) in tokens.zip(states.chunks_exact_mut(a.width)) {
        weights.embed(token, state);
    }
    let chunks = chunks(weights, parts);
    clock.lap(&mut timings.other);
    for (index, layer) in weights.layers.iter().enumerate() {
        let mut step = Step { weights, layer, index, clock: &mut clock, timings, cancel };
        for chunk in &chunks {
            if cancel() {
                return Err(GearError::new(ErrorCode::Aborted, "stopped at the caller's request"));
            }
            let states = &mut states[chunk.first_row * a.width..(chunk.first_row + chunk.rows) * a.width];
            step.attention(chunk, parts, states)?;
            step.feed_forward(states);
        }
        for part in parts.iter_mut() {
            part.cache.settle(index, cancel)?;
        }
        clock.lap(&mut timings.compression);
    }
    Ok(states)
}

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
struct Step<'a> {
    weights: &'a Weights,
    layer: &'a Layer,
    index: usize,
    clock: &'a mut Stopwatch,
    timings: &'a mut Timings,
    cancel: Cancel<'a>,
}

impl Step<'_> {
    fn attention(&mut self, chunk: &Chunk, parts: &mut [Part], states: &mut [f32]) -> Result<()> {
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
            self.attend(piece, &mut parts[piece.part], projected, attended)?;
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
    fn attend(&mut self, piece: &Piece, part: &mut Part, projected: &mut [f32], out: &mut [f32]) -> Result<()> {
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
        self.clock.lap(&mut self.timings.other);
        part.cache.hold(self.index, KvSlice::F32(keys), KvSlice::F32(values), n)?;
        self.clock.lap(&mut self.timings.compression);
        let options = AttendOptions { scale: Some(a.attention_scale), window, ..AttendOptions::new(a.heads) };
        let mut attended = vec![0.0; queries.len()];
        part.cache.attend(self.index, KvSlice::F32(queries), n, &options, &mut attended, self.cancel)?;
        self.clock.lap(&mut self.timings.attention);
        if !part.exact {
            part.cache.settle(self.index, self.cancel)?;
            self.clock.lap(&mut self.timings.compression);
        }
        for (h, head) in attended.chunks_exact(n * dim).enumerate() {
            for (t, head) in head.chunks_exact(dim).enumerate() {
                out[(t * a.heads + h) * dim..][..dim].copy_from_slice(head);
            }
        }
        Ok(())
    }

    fn feed_forward(&mut self, states: &mut [f32]) {
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
