//! `softmax(q Kᵀ · scale) V` on the compressed form, which is never decompressed as a whole.
//!
//! Tokens are visited once, in blocks of at most [`BLOCK`], with an online softmax, so that memory does not grow with
//! the context. For each block and KV head, all query rows that share the head are done together. Logits are
//! `q·D̂ᵀ` (codes unpacked once a block) `+ (Bᵀq)·A + q·S`; the output gathers `p·D̂ + (pᵀA)Bᵀ + p·S` the same way.
//!
//! Where channels of keys have their own widths, queries are brought into the order of the channels instead of the keys being
//! brought back. Under the backbone `rotated`, queries are turned once instead of the keys, and what the values' codes add up to is turned
//! back once, at the end.

mod keys;
mod options;
mod softmax;
mod values;

pub use options::AttendOptions;

use keys::Keys;
use softmax::Softmax;
use values::Values;

use crate::config::Backbone;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::parallel;
use crate::shape::{KvShape, KvSlice};
use crate::simd;
use crate::tensor::{GearTensor, Piece};

/// Tokens of a block: a multiple of every common group, and small enough that a block's rows stay in the first-level cache.
const BLOCK: usize = 64;

/// Which tokens one query row may see.
#[derive(Clone, Copy)]
struct Sight {
    first: usize,
    end: usize,
}

struct Job<'a> {
    key: &'a GearTensor,
    value: &'a GearTensor,
    options: &'a AttendOptions,
    scale: f32,
    /// Query positions.
    queries: usize,
    sights: Vec<Sight>,
}

/// Attention of `queries` positions: `q` and `out` are `[batch, query_heads, queries, head_dim]`.
pub(crate) fn attend(
    key: &GearTensor,
    value: &GearTensor,
    q: KvSlice,
    queries: usize,
    options: &AttendOptions,
    out: &mut [f32],
    cancel: Cancel,
) -> Result<()> {
    let KvShape { heads, tokens, head_dim, .. } = key.shape();
    let shape = query_shape(key, q, queries, options)?;
    KvSlice::F32(out).check_shape("the output", shape)?;
    if queries == 0 {
        return Ok(());
    }
    if tokens == 0 || (options.causal && queries > tokens) {
        return Err(GearError::shape(format!(
            "{queries} queries attend to {tokens} tokens; append the tokens first{}",
            if options.causal { " (a causal query sees its own token)" } else { "" }
        )));
    }
    let q = widened(q, shape)?;
    let sights = (0..queries).map(|i| sight(i, queries, tokens, options)).collect();
    let scale = options.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
    let job = Job { key, value, options, scale, queries, sights };
    // The query heads of one KV head are neighbours, so each KV head reads and writes one contiguous run.
    let run = options.query_heads / heads * queries * head_dim;
    let threads = if worth_threads(&job, tokens, head_dim) { key.config().threads } else { 1 };
    parallel::for_each_chunk(out, run, threads, |plane, out| {
        job.plane(plane, &q[plane * run..(plane + 1) * run], out, cancel);
    });
    check(cancel)
}

/// The shape of queries, which fits a tensor of keys and these options.
fn query_shape(key: &GearTensor, q: KvSlice, queries: usize, options: &AttendOptions) -> Result<KvShape> {
    let KvShape { batch, heads, head_dim, .. } = key.shape();
    options.check(heads)?;
    let shape = KvShape::new(batch, options.query_heads, queries, head_dim)?;
    q.check_shape("the query", shape)?;
    Ok(shape)
}

/// Queries that fit a tensor of keys and these options, in float32.
pub(crate) fn checked_queries(
    key: &GearTensor,
    q: KvSlice,
    queries: usize,
    options: &AttendOptions,
) -> Result<Vec<f32>> {
    widened(q, query_shape(key, q, queries, options)?)
}

/// Waking threads takes some microseconds: about this many multiply-adds.
fn worth_threads(job: &Job, tokens: usize, dim: usize) -> bool {
    const WORK: usize = 1 << 18;
    let rows = job.options.query_heads.saturating_mul(job.queries);
    tokens.saturating_mul(dim).saturating_mul(rows) > WORK
}

fn sight(i: usize, queries: usize, tokens: usize, options: &AttendOptions) -> Sight {
    let end = if options.causal { tokens - queries + i + 1 } else { tokens };
    Sight { first: options.window.map_or(0, |window| end.saturating_sub(window)), end }
}

fn widened(q: KvSlice, shape: KvShape) -> Result<Vec<f32>> {
    let bad = match q {
        KvSlice::F32(x) => x.iter().copied().enumerate().find(|(_, x)| !x.is_finite()),
        KvSlice::F16(x) => x.iter().map(|x| x.to_f32()).enumerate().find(|(_, x)| !x.is_finite()),
    };
    if let Some((at, value)) = bad {
        let (channel, query) = (at % shape.head_dim, at / shape.head_dim % shape.tokens);
        let plane = at / shape.head_dim / shape.tokens;
        return Err(GearError::new(
            ErrorCode::NotFinite,
            format!(
                "the query at [batch {}, head {}, query {query}, channel {channel}] is {value}; expected finite numbers",
                plane / shape.heads,
                plane % shape.heads
            ),
        ));
    }
    let mut wide = vec![0.0; q.len()];
    match q {
        KvSlice::F32(x) => wide.copy_from_slice(x),
        KvSlice::F16(x) => simd::widen(x, &mut wide),
    }
    Ok(wide)
}

/// A block of one tensor: tokens of one piece, from `first` of it on.
#[derive(Clone, Copy)]
struct Place<'a> {
    piece: Piece<'a>,
    first: usize,
    tokens: usize,
}

impl<'a> Place<'a> {
    /// The codes of one head from there on, where these are tiles.
    fn codes(self, plane: usize) -> &'a [u8] {
        match self.piece {
            Piece::Raw(_) => &[],
            Piece::Segment(view) => view.segment.codes_from(plane, self.first),
        }
    }
}

/// Walks the pieces of one tensor in steps that the caller chooses.
struct Walk<'a> {
    pieces: Vec<Piece<'a>>,
    at: usize,
    offset: usize,
}

impl<'a> Walk<'a> {
    fn new(tensor: &'a GearTensor) -> Self {
        Self { pieces: tensor.pieces().collect(), at: 0, offset: 0 }
    }

    /// What is left of the present piece; `None` at the end.
    fn rest(&self) -> Option<Place<'a>> {
        let piece = *self.pieces.get(self.at)?;
        Some(Place { piece, first: self.offset, tokens: piece.tokens() - self.offset })
    }

    /// Moves on.
    fn take(&mut self, tokens: usize) {
        self.offset += tokens;
        if self.pieces.get(self.at).is_some_and(|piece| piece.tokens() == self.offset) {
            self.at += 1;
            self.offset = 0;
        }
    }
}

impl Job<'_> {
    fn plane(&self, plane: usize, q: &[f32], out: &mut [f32], cancel: Cancel) {
        let dim = self.key.shape().head_dim;
        let rows = q.len() / dim;
        let scaled: Vec<f32> = q.iter().map(|x| x * self.scale).collect();
        let rotated = |tensor: &GearTensor| tensor.config().backbone == Backbone::Rotated;
        let mut keys = Keys::new(plane, dim, &scaled, rotated(self.key));
        let mut values = Values::new(plane, dim, out, rotated(self.value));
        let mut softmax = Softmax::new(rows);
        let mut logits = vec![0.0; rows * BLOCK];
        let (mut key_walk, mut value_walk) = (Walk::new(self.key), Walk::new(self.value));
        let in_sight = self.sights.iter().fold(usize::MAX, |least, sight| least.min(sight.first));
        let mut token = 0;
        while let (Some(key), Some(value)) = (key_walk.rest(), value_walk.rest()) {
            if cancel() {
                break;
            }
            let tokens = key.tokens.min(value.tokens).min(BLOCK);
            key_walk.take(tokens);
            value_walk.take(tokens);
            let first = token;
            token += tokens;
            if token <= in_sight {
                continue;
            }
            let logits = &mut logits[..rows * tokens];
            keys.logits(Place { tokens, ..key }, key_walk.rest(), logits);
            self.mask(logits, tokens, first);
            softmax.take_block(logits, tokens, |row, factor| values.shrink(row, factor));
            values.add(Place { tokens, ..value }, value_walk.rest(), logits);
        }
        values.finish(softmax.sums());
    }

    /// Softcap, and −∞ at tokens out of sight. Rows are query heads by queries.
    fn mask(&self, logits: &mut [f32], tokens: usize, first: usize) {
        for (row, logits) in logits.chunks_exact_mut(tokens).enumerate() {
            if let Some(cap) = self.options.softcap {
                logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
            }
            let sight = self.sights[row % self.queries];
            let seen = sight.first.saturating_sub(first).min(tokens)..sight.end.saturating_sub(first).min(tokens);
            logits[..seen.start].fill(f32::NEG_INFINITY);
            logits[seen.end.max(seen.start)..].fill(f32::NEG_INFINITY);
        }
    }
}
