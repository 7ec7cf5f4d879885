//! Tokens through all layers, unit by unit.
//!
//! Layers are outermost: a prompt goes through a layer as a whole, in chunks, and what that layer keeps of it is compressed before
//! the next layer begins. So a prompt attends to itself exactly, and uncompressed keys and values of one layer are all that is
//! ever there. A unit is one chunk in one layer, or the compression of what a layer holds; between two of them anything else may
//! happen, so that a thread that cannot be interrupted is never occupied for long.

use gearkv::{Cancel, ErrorCode, GearCache, GearError, Result};

use crate::forward::Step;
use crate::model::Weights;
use crate::queries::QueryLog;
use crate::rope::Rotation;
use crate::timings::{Stopwatch, Timings};

/// Rows that go through a layer at once: enough that unpacking the weights costs little beside the products.
const CHUNK: usize = 256;

/// Products of a unit where one thread does everything, in WebAssembly: a few hundredths of a second.
const UNIT_PRODUCTS: usize = 1 << 28;

/// Tokens of a prompt, or of several, that are through, and all there are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Tokens' worth of work that is done; equal to `total` only when nothing is left to do.
    pub done: usize,
    /// All tokens.
    pub total: usize,
}

impl Progress {
    /// Whether nothing is left to do.
    pub fn finished(self) -> bool {
        self.done == self.total
    }
}

/// What is told after each unit how far the work has come, and says whether to go on with the next at once.
pub type GoOn<'a> = &'a mut (dyn FnMut(Progress) -> bool + Send);

/// Fails where the caller wants no more.
pub(crate) fn check_cancel(cancel: Cancel) -> Result<()> {
    if cancel() { Err(GearError::new(ErrorCode::Aborted, "stopped at the caller's request")) } else { Ok(()) }
}

/// New tokens of one sequence.
#[derive(Clone, Copy)]
pub(crate) struct Part<'a> {
    /// Tokens that the sequence has already.
    pub held: usize,
    pub tokens: &'a [u32],
    /// Compress only when all of `tokens` are through, so that they see each other exactly.
    pub exact: bool,
}

/// Where a part's tokens go.
pub(crate) struct Lane<'a> {
    pub cache: &'a mut GearCache,
    /// Notes the tokens' queries, where somebody wants them.
    pub queries: Option<&'a mut QueryLog>,
}

/// A run of one part's tokens within a chunk.
#[derive(Clone)]
pub(crate) struct Piece {
    pub part: usize,
    pub exact: bool,
    /// Tokens that came together with these.
    pub together: usize,
    /// Its first row in the chunk.
    pub row: usize,
    pub rows: usize,
    pub rotation: Rotation,
    pub local_rotation: Option<Rotation>,
}

/// Rows that go through a layer together.
#[derive(Clone)]
pub(crate) struct Chunk {
    first_row: usize,
    pub rows: usize,
    pub pieces: Vec<Piece>,
}

/// Rows of a chunk for this model.
fn chunk_rows(weights: &Weights) -> usize {
    if !cfg!(target_arch = "wasm32") {
        return CHUNK;
    }
    let a = &weights.architecture;
    let layer = a.width * (2 * a.heads * a.head_dim + 2 * a.kv_heads * a.head_dim + 3 * a.feed_forward);
    // Of 32, as the products are tiled.
    (UNIT_PRODUCTS / layer.max(1) / 32 * 32).clamp(32, CHUNK)
}

/// Rows of several sequences that go through a layer together when each has one new token: so many are multiplied as each would
/// be alone.
pub(crate) const TOGETHER: usize = 32;

/// A sequence with several new tokens shares no chunk, so that it gets what it gets alone, to the last bit: products of many rows
/// and of few add in another order, and compression makes a difference of a last bit one that can be seen.
fn chunks(weights: &Weights, parts: &[Part]) -> Vec<Chunk> {
    let (a, most) = (&weights.architecture, chunk_rows(weights));
    let mut chunks: Vec<Chunk> = Vec::new();
    let mut row = 0;
    for (index, part) in parts.iter().enumerate() {
        let has_room = |chunk: &Chunk| chunk.rows == chunk.pieces.len() && chunk.rows < TOGETHER.min(most);
        let joins = part.tokens.len() == 1 && chunks.last().is_some_and(has_room);
        let mut done = 0;
        while done < part.tokens.len() {
            if !joins {
                chunks.push(Chunk { first_row: row, rows: 0, pieces: Vec::new() });
            }
            let Some(chunk) = chunks.last_mut() else { break };
            let rows = (most - chunk.rows).min(part.tokens.len() - done);
            let position = part.held + done;
            chunk.pieces.push(Piece {
                part: index,
                exact: part.exact,
                together: part.tokens.len(),
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

/// New tokens on their way through the layers.
#[derive(Clone)]
pub(crate) struct Pass {
    /// `[tokens, width]`, part by part.
    states: Vec<f32>,
    chunks: Vec<Chunk>,
    /// New tokens of each part, and of all.
    lengths: Vec<usize>,
    tokens: usize,
    layers: usize,
    layer: usize,
    /// The next chunk in that layer; behind the last, the layer's caches are compressed.
    chunk: usize,
}

impl Pass {
    /// Before the first layer. The tokens must be ones that [`crate::Model`] lets pass.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when a sequence would become longer than the model's context.
    pub fn new(weights: &Weights, parts: &[Part], timings: &mut Timings) -> Result<Self> {
        let a = &weights.architecture;
        let mut clock = Stopwatch::start();
        for part in parts {
            a.check_context(part.held + part.tokens.len())?;
        }
        let lengths: Vec<usize> = parts.iter().map(|part| part.tokens.len()).collect();
        let tokens = lengths.iter().sum();
        let mut states = vec![0.0; tokens * a.width];
        let ids = parts.iter().flat_map(|part| part.tokens);
        for (&token, state) in ids.zip(states.chunks_exact_mut(a.width)) {
            weights.embed(token, state);
        }
        let chunks = chunks(weights, parts);
        clock.lap(&mut timings.other);
        Ok(Self { states, chunks, lengths, tokens, layers: a.layers, layer: 0, chunk: 0 })
    }

    /// Whether all tokens are through all layers.
    pub fn finished(&self) -> bool {
        self.layer == self.layers
    }

    /// Units in terms of tokens.
    pub fn progress(&self) -> Progress {
        let units = self.chunks.len() + 1;
        let share = (self.layer * units + self.chunk) as f64 / (self.layers * units) as f64;
        // Below the total until the last unit is done, however many there are.
        let most = if self.finished() { self.tokens } else { self.tokens.saturating_sub(1) };
        Progress { done: ((self.tokens as f64 * share) as usize).min(most), total: self.tokens }
    }

    /// The next unit; `lanes` are those of the parts, in their order.
    ///
    /// # Errors
    /// Whatever the caches find wrong, and `ABORTED`; the caches may have some of the new tokens in some layers then.
    pub fn advance(
        &mut self,
        weights: &Weights,
        lanes: &mut [Lane],
        timings: &mut Timings,
        cancel: Cancel,
    ) -> Result<()> {
        check_cancel(cancel)?;
        let Some(layer) = weights.layers.get(self.layer) else { return Ok(()) };
        let mut clock = Stopwatch::start();
        if self.chunk == 0 {
            self.reserve(lanes)?;
        }
        if let Some(chunk) = self.chunks.get(self.chunk) {
            let width = weights.architecture.width;
            let states = &mut self.states[chunk.first_row * width..(chunk.first_row + chunk.rows) * width];
            let mut step = Step { weights, layer, index: self.layer, clock: &mut clock, timings, cancel };
            step.attention(chunk, lanes, states)?;
            step.feed_forward(states);
            self.chunk += 1;
        } else {
            for lane in lanes {
                lane.cache.settle(self.layer, cancel)?;
            }
            clock.lap(&mut timings.compression);
            self.layer += 1;
            self.chunk = 0;
        }
        Ok(())
    }

    /// Room for what this layer will hold until it is compressed.
    fn reserve(&self, lanes: &mut [Lane]) -> Result<()> {
        // A single token has its place in the buffer.
        let mut prompts = lanes.iter_mut().zip(&self.lengths).filter(|(_, tokens)| **tokens > 1);
        prompts.try_for_each(|(lane, &tokens)| lane.cache.reserve(self.layer, tokens))
    }

    /// Behind the last layer: `[tokens, width]`, part by part.
    pub fn states(&self) -> &[f32] {
        &self.states
    }

    /// As [`Self::states`].
    pub fn into_states(self) -> Vec<f32> {
        self.states
    }
}
