//! `softmax(q Kᵀ · scale) V` on the compressed form, which is never decompressed as a whole.
//!
//! Tokens are visited once, in blocks of at most [`BLOCK`], with an online softmax, so that memory does not grow with
//! the context. For each block and KV head, all query rows that share the head are done together. Logits are
//! `q·D̂ᵀ` (codes unpacked once a block) `+ (Bᵀq)·A + q·S`; the output gathers `p·D̂ + (pᵀA)Bᵀ + p·S` the same way.
//!
//! Where channels of keys have their own widths, queries are brought into the order of the channels instead of the keys being
//! brought back. Under the backbone `rotated`, queries are turned once instead of the keys, and what the values' codes add up to is turned
//! back once, at the end.

mod options;

pub use options::AttendOptions;

use crate::config::Backbone;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::parallel;
use crate::segment::{BlockScratch, KeyCursor};
use crate::shape::{KvShape, KvSlice};
use crate::simd;
use crate::tensor::{GearTensor, Piece};

/// Tokens of a block: a multiple of every common group, and small enough that a block's rows stay in the first-level cache.
const BLOCK: usize = 64;

/// From so many query rows on, transposing a block of keys pays.
const MANY_QUERIES: usize = 8;

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

    /// Tokens left in the present piece; 0 at the end.
    fn left(&self) -> usize {
        self.pieces.get(self.at).map_or(0, |piece| piece.tokens() - self.offset)
    }

    /// The present piece and the token in it, then moves on; `true` when the piece was entered anew.
    fn take(&mut self, tokens: usize) -> (Piece<'a>, usize, bool) {
        let (piece, first) = (self.pieces[self.at], self.offset);
        self.offset += tokens;
        if self.offset == piece.tokens() {
            self.at += 1;
            self.offset = 0;
        }
        (piece, first, first == 0)
    }
}

/// Running state of one KV head: `m`, `l` and the unnormalized output of the online softmax, one entry a query row.
struct Softmax {
    largest: Vec<f32>,
    sum: Vec<f32>,
}

impl Job<'_> {
    fn plane(&self, plane: usize, q: &[f32], out: &mut [f32], cancel: Cancel) {
        let dim = self.key.shape().head_dim;
        let rows = q.len() / dim;
        let scaled: Vec<f32> = q.iter().map(|x| x * self.scale).collect();
        let mut turned = Vec::new();
        if self.key.config().backbone == Backbone::Rotated {
            turned.extend_from_slice(&scaled);
            simd::rotate_rows(&mut turned, dim);
        }
        let queries = Queries { plain: &scaled, turned: &turned };
        let turns_values = self.value.config().backbone == Backbone::Rotated;
        let mut turned_out = vec![0.0; if turns_values { out.len() } else { 0 }];
        let mut softmax = Softmax { largest: vec![f32::NEG_INFINITY; rows], sum: vec![0.0; rows] };
        let mut block = vec![0.0; BLOCK * dim];
        let mut logits = vec![0.0; rows * BLOCK];
        let mut scratch = BlockScratch::default();
        let mut cursor = KeyCursor::new(dim);
        let (mut keys, mut values) = (Walk::new(self.key), Walk::new(self.value));
        let in_sight = self.sights.iter().fold(usize::MAX, |least, sight| least.min(sight.first));
        let mut token = 0;
        out.fill(0.0);
        loop {
            let tokens = keys.left().min(values.left()).min(BLOCK);
            if tokens == 0 || cancel() {
                break;
            }
            let (key, key_first, entered) = keys.take(tokens);
            let (value, value_first, _) = values.take(tokens);
            if entered {
                cursor = KeyCursor::new(dim);
            }
            let first = token;
            token += tokens;
            if token <= in_sight {
                continue;
            }
            let block = &mut block[..tokens * dim];
            let logits = &mut logits[..rows * tokens];
            key_logits(key, plane, key_first, queries, dim, block, logits, &mut scratch, &mut cursor);
            self.mask(logits, tokens, first);
            softmax.take_block(logits, tokens, [&mut *out, &mut turned_out], dim);
            let out = Outputs { plain: out, turned: &mut turned_out };
            add_values(value, plane, value_first, logits, tokens, dim, block, out, &mut scratch);
        }
        if turns_values {
            simd::rotate_rows(&mut turned_out, dim);
            out.iter_mut().zip(&turned_out).for_each(|(out, turned)| *out += turned);
        }
        for (out, sum) in out.chunks_exact_mut(dim).zip(&softmax.sum) {
            let inverse = 1.0 / sum;
            out.iter_mut().for_each(|x| *x *= inverse);
        }
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

impl Softmax {
    /// Turns a block's logits into weights relative to the largest logit so far, and rescales what was gathered before.
    /// `gathered` may have an empty part.
    fn take_block(&mut self, logits: &mut [f32], tokens: usize, mut gathered: [&mut [f32]; 2], dim: usize) {
        for (row, logits) in logits.chunks_exact_mut(tokens).enumerate() {
            let before = self.largest[row];
            let now = logits.iter().fold(before, |most, &x| if x > most { x } else { most });
            if now == f32::NEG_INFINITY {
                logits.fill(0.0);
                continue;
            }
            if now > before {
                // exp(−∞) = 0 at the first block.
                let shrink = (before - now).exp();
                self.sum[row] *= shrink;
                for part in gathered.iter_mut().filter(|part| !part.is_empty()) {
                    part[row * dim..(row + 1) * dim].iter_mut().for_each(|x| *x *= shrink);
                }
                self.largest[row] = now;
            }
            self.sum[row] += simd::exp_in_place(logits, now);
        }
    }
}

/// Queries, and the same turned where keys are.
#[derive(Clone, Copy)]
struct Queries<'a> {
    plain: &'a [f32],
    turned: &'a [f32],
}

/// What is gathered of values, and of values that are turned.
struct Outputs<'a> {
    plain: &'a mut [f32],
    turned: &'a mut [f32],
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

#[expect(clippy::too_many_arguments, reason = "one block's state, used once, in the innermost loop")]
fn key_logits(
    piece: Piece,
    plane: usize,
    first: usize,
    queries: Queries,
    dim: usize,
    block: &mut [f32],
    logits: &mut [f32],
    scratch: &mut BlockScratch,
    cursor: &mut KeyCursor,
) {
    let tokens = block.len() / dim;
    let q = queries.plain;
    let segment = match piece {
        Piece::Raw(raw) => {
            raw.rows(plane, first, block);
            dot_queries(block, dim, q, logits, scratch);
            return;
        }
        Piece::Segment(view) => &view.segment,
    };
    segment.backbone_rows(plane, first, block);
    if segment.layout.rotated {
        dot_queries(block, dim, queries.turned, logits, scratch);
        segment.load_mean(plane, scratch);
        for (q, logits) in q.chunks_exact(dim).zip(logits.chunks_exact_mut(tokens)) {
            let mut along = [0.0];
            simd::dot_rows(q, dim, &scratch.mean, &mut along, 1);
            logits.iter_mut().for_each(|x| *x += along[0]);
        }
    } else if let Some(order) = segment.channel_order(plane) {
        let mut ordered = std::mem::take(&mut scratch.ordered);
        ordered.resize(q.len(), 0.0);
        simd::gather_rows(q, order, &mut ordered);
        dot_queries(block, dim, &ordered, logits, scratch);
        scratch.ordered = ordered;
    } else {
        dot_queries(block, dim, q, logits, scratch);
    }
    let rank = segment.layout.rank;
    if rank > 0 {
        segment.load_factors(plane, first, tokens, scratch);
        let mut u = vec![0.0; rank];
        for (q, logits) in q.chunks_exact(dim).zip(logits.chunks_exact_mut(tokens)) {
            simd::dot_rows(q, dim, &scratch.b, &mut u, 1);
            simd::accumulate_rows(&u, &scratch.a, logits);
        }
    }
    let rows = q.len() / dim;
    segment.for_each_key_outlier(plane, first, tokens, cursor, |t, d, value| {
        for row in 0..rows {
            logits[row * tokens + t] += q[row * dim + d] * value;
        }
    });
}

#[expect(clippy::too_many_arguments, reason = "one block's state, used once, in the innermost loop")]
fn add_values(
    piece: Piece,
    plane: usize,
    first: usize,
    weights: &[f32],
    tokens: usize,
    dim: usize,
    block: &mut [f32],
    out: Outputs,
    scratch: &mut BlockScratch,
) {
    let Outputs { plain: out, turned } = out;
    let segment = match piece {
        Piece::Raw(raw) => {
            raw.rows(plane, first, block);
            simd::weigh_rows(block, dim, weights, tokens, out);
            return;
        }
        Piece::Segment(view) => &view.segment,
    };
    segment.backbone_rows(plane, first, block);
    if segment.layout.rotated {
        simd::weigh_rows(block, dim, weights, tokens, turned);
        segment.load_mean(plane, scratch);
        for (weights, out) in weights.chunks_exact(tokens).zip(out.chunks_exact_mut(dim)) {
            simd::accumulate_rows(&[weights.iter().sum()], &scratch.mean, out);
        }
    } else {
        simd::weigh_rows(block, dim, weights, tokens, out);
    }
    let rank = segment.layout.rank;
    if rank > 0 {
        segment.load_factors(plane, first, tokens, scratch);
        let mut along = vec![0.0; rank];
        for (weights, out) in weights.chunks_exact(tokens).zip(out.chunks_exact_mut(dim)) {
            simd::dot_rows(weights, tokens, &scratch.a, &mut along, 1);
            simd::accumulate_rows(&along, &scratch.b, out);
        }
    }
    let rows = out.len() / dim;
    segment.for_each_value_outlier(plane, first, tokens, |t, d, value| {
        for row in 0..rows {
            out[row * dim + d] += weights[row * tokens + t] * value;
        }
    });
}
