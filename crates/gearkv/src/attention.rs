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
mod room;
mod softmax;
mod values;
mod walk;

pub use options::AttendOptions;

use keys::Queries;
use room::{BlockRoom, HeadRoom, Room};
use values::Outputs;
use walk::{Blocks, Coming, Walk};

use crate::config::{Backbone, Storage};
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::parallel;
use crate::shape::{KvShape, KvSlice, Role};
use crate::simd;
use crate::tensor::GearTensor;

/// Tokens of a block: a multiple of every common group, and small enough that a block's rows stay in the first-level cache.
const BLOCK: usize = 64;

/// From so many query rows on, a copy of a block of rows in float32 (transposed, where it is keys) pays.
const MANY_QUERIES: usize = 8;

/// Tokens whose logits are taken together where there are few query rows: several blocks, so that their work overlaps. One block where there
/// are many.
const STRETCH: usize = 8 * BLOCK;
/// The same where what a head reads lies in short segments.
const SHORT_STRETCH: usize = 4 * BLOCK;
const FEW_QUERIES: usize = 16;

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
    q: KvSlice<'a>,
    scale: f32,
    /// Query positions.
    queries: usize,
    /// Tokens of the cache.
    tokens: usize,
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
    check_finite(q, shape)?;
    let scale = options.scale.unwrap_or(1.0 / (head_dim as f32).sqrt());
    let job = Job { key, value, options, q, scale, queries, tokens };
    // The query heads of one KV head are neighbours, so each KV head reads and writes one contiguous run.
    let run = options.query_heads / heads * queries * head_dim;
    let threads = if worth_threads(&job, tokens, head_dim) { key.config().threads } else { 1 };
    let planes = out.len() / run;
    // Heads of a thread go through the tokens together where they share what a short segment or a token has in one place. With many queries,
    // what they gather would not stay in the nearest caches.
    let rows = run / head_dim;
    let together =
        if rows <= FEW_QUERIES && !in_long_pieces(key) { planes.div_ceil(parallel::threads(threads)) } else { 1 };
    parallel::for_each_chunk(out, together * run, threads, |i, out| {
        room::with(|room| job.planes(i * together, run, out, room, cancel));
    });
    check(cancel)
}

/// Whether most tokens are in segments in each of which a head has much to read in one place.
fn in_long_pieces(tensor: &GearTensor) -> bool {
    const LONG: usize = 1024;
    tensor.config().storage == Storage::Gear && tensor.tokens() / tensor.pieces().count().max(1) >= LONG
}

/// Tokens of a stretch: whatever the number of threads, on which results must not depend.
fn stretch_of(tensor: &GearTensor, rows: usize) -> usize {
    match tensor.config().storage {
        _ if rows > FEW_QUERIES => BLOCK,
        Storage::Gear if in_long_pieces(tensor) => STRETCH,
        Storage::Gear => SHORT_STRETCH,
        // All heads of a token lie side by side: those of a longer stretch would not stay in the nearest caches from one head to the next.
        _ if tensor.shape().planes() > 1 => BLOCK,
        _ => SHORT_STRETCH,
    }
}

/// The shape of queries, which fits a tensor of keys and these options.
fn query_shape(key: &GearTensor, q: KvSlice, queries: usize, options: &AttendOptions) -> Result<KvShape> {
    let KvShape { batch, heads, head_dim, .. } = key.shape();
    options.check(heads)?;
    let shape = KvShape::new(batch, options.query_heads, queries, head_dim)?;
    q.check_shape("the query", shape)?;
    Ok(shape)
}

/// Checks that queries fit a tensor of keys and these options, and are finite.
pub(crate) fn check_queries(key: &GearTensor, q: KvSlice, queries: usize, options: &AttendOptions) -> Result<()> {
    check_finite(q, query_shape(key, q, queries, options)?)
}

/// Waking threads takes some microseconds: about this many multiply-adds.
fn worth_threads(job: &Job, tokens: usize, dim: usize) -> bool {
    const WORK: usize = 1 << 18;
    let rows = job.options.query_heads.saturating_mul(job.queries);
    tokens.saturating_mul(dim).saturating_mul(rows) > WORK
}

fn check_finite(q: KvSlice, shape: KvShape) -> Result<()> {
    let bad = match q {
        KvSlice::F32(x) => x.iter().copied().enumerate().find(|(_, x)| !x.is_finite()),
        KvSlice::F16(x) => x.iter().map(|x| x.to_f32()).enumerate().find(|(_, x)| !x.is_finite()),
    };
    let Some((at, value)) = bad else { return Ok(()) };
    let (channel, query) = (at % shape.head_dim, at / shape.head_dim % shape.tokens);
    let plane = at / shape.head_dim / shape.tokens;
    Err(GearError::new(
        ErrorCode::NotFinite,
        format!(
            "the query at [batch {}, head {}, query {query}, channel {channel}] is {value}; expected finite numbers",
            plane / shape.heads,
            plane % shape.heads
        ),
    ))
}

/// The columns of a block in rows of logits that reach over several.
#[derive(Clone, Copy)]
struct Columns {
    first: usize,
    /// From a row to the next.
    stride: usize,
}

impl Columns {
    /// A row's own, of so many tokens.
    fn of(self, row: usize, tokens: usize) -> std::ops::Range<usize> {
        let start = row * self.stride + self.first;
        start..start + tokens
    }
}

impl Job<'_> {
    /// Heads from `first_plane` on, each of which has `run` values of the queries and of `out`.
    fn planes(&self, first_plane: usize, run: usize, out: &mut [f32], room: &mut Room, cancel: Cancel) {
        let dim = self.key.shape().head_dim;
        let rows_of = run / dim;
        let count = out.len() / run;
        let Room { q, logits, stretches: [now, next], heads, block } = room;
        self.scaled(first_plane * run, out.len(), q);
        let queries = |i: usize| Queries::new(&q[i * run..(i + 1) * run], dim);
        let [turned_keys, turned_values] =
            [self.key, self.value].map(|tensor| tensor.config().backbone == Backbone::Rotated);
        if heads.len() < count {
            heads.resize_with(count, HeadRoom::default);
        }
        let heads = &mut heads[..count];
        for (i, (head, out)) in heads.iter_mut().zip(out.chunks_exact_mut(run)).enumerate() {
            head.keys.begin(queries(i), turned_keys);
            head.values.begin(&mut self.outputs(first_plane + i, out), turned_values);
            head.softmax.begin(rows_of);
        }
        let stretch = stretch_of(self.key, rows_of);
        logits.resize(count * rows_of * stretch, 0.0);
        let mut walk = Walk::new(self.key, self.value);
        let mut coming = [self.key, self.value].map(Coming::new);
        let in_sight = self.sight(0).first;
        walk.stretch(stretch, in_sight, now);
        while !(now.steps.is_empty() || cancel()) {
            walk.stretch(stretch, in_sight, next);
            for (coming, pieces) in coming.iter_mut().zip([&walk.key, &walk.value]) {
                coming.fetch(pieces.index + 1);
            }
            let tokens = now.tokens;
            let blocks = |role, head| Blocks {
                tensor: if role == Role::Key { self.key } else { self.value },
                role,
                now,
                next,
                head,
                heads: count,
                first_plane,
            };
            // All heads of a block before the next block: what they read of a short segment, or of a token, lies side by side.
            let size = rows_of * tokens;
            // Outliers are gone through once.
            let may_be_rough = !blocks(Role::Key, 0).have_outliers();
            heads.iter_mut().for_each(|head| head.is_rough = false);
            let mut s = 0;
            while s < now.steps.len() {
                let mut done = 1;
                for (i, (head, logits)) in heads.iter_mut().zip(logits.chunks_exact_mut(size)).enumerate() {
                    let rough = if may_be_rough { head.softmax.rough() } else { &[] };
                    let queries = Queries { rough, ..queries(i) };
                    let (taken, is_rough) = head.keys.logits(queries, blocks(Role::Key, i), s, logits, block);
                    head.is_rough |= is_rough;
                    done = taken;
                }
                s += done;
            }
            let each = heads.iter_mut().zip(logits.chunks_exact_mut(size)).zip(out.chunks_exact_mut(run));
            for (i, ((head, logits), out)) in each.enumerate() {
                head.keys.add_what_codes_lack(queries(i), blocks(Role::Key, i), logits, block);
                self.mask(logits, tokens, now.first(), 0);
                if head.is_rough {
                    self.make_exact(head, queries(i), blocks(Role::Key, i), logits, block);
                }
                let mut out = self.outputs(first_plane + i, out);
                head.softmax.take_block(logits, tokens, |row, factor| head.values.shrink(&mut out, row, factor));
                head.values.weigh_means(&mut out, blocks(Role::Value, i), head.softmax.weights(logits), block);
            }
            let mut s = 0;
            while s < now.steps.len() {
                let mut done = 1;
                let each = heads.iter_mut().zip(logits.chunks_exact(size)).zip(out.chunks_exact_mut(run));
                for (i, ((head, weights), out)) in each.enumerate() {
                    let mut out = self.outputs(first_plane + i, out);
                    let weights = head.softmax.weights(weights);
                    done = head.values.add(&mut out, blocks(Role::Value, i), s, weights, block);
                }
                s += done;
            }
            for (i, (logits, out)) in logits.chunks_exact(size).zip(out.chunks_exact_mut(run)).enumerate() {
                values::add_what_codes_lack(
                    &mut self.outputs(first_plane + i, out),
                    blocks(Role::Value, i),
                    logits,
                    block,
                );
            }
            std::mem::swap(now, next);
        }
        for (i, (head, out)) in heads.iter_mut().zip(out.chunks_exact_mut(run)).enumerate() {
            head.values.finish(&mut self.outputs(first_plane + i, out), head.softmax.sums(), block);
        }
    }

    /// Makes logits again, and exactly, of rows whose rough ones matter after all.
    fn make_exact(
        &self,
        head: &mut HeadRoom,
        queries: Queries,
        blocks: Blocks,
        logits: &mut [f32],
        block: &mut BlockRoom,
    ) {
        let tokens = blocks.now.tokens;
        let HeadRoom { keys, softmax, .. } = head;
        let mut rows = softmax.that_matter(0, logits, tokens);
        while !rows.is_empty() {
            let queries = Queries { first: rows.start, count: rows.len(), ..queries };
            let own = &mut logits[rows.start * tokens..rows.end * tokens];
            let mut s = 0;
            while s < blocks.len() {
                s += keys.logits(queries, blocks, s, own, block).0;
            }
            keys.add_what_codes_lack(queries, blocks, own, block);
            self.mask(own, tokens, blocks.now.first(), rows.start);
            // The one behind them does not.
            rows = softmax.that_matter(rows.end + 1, logits, tokens);
        }
    }

    /// `count` values of the queries from `first` on, times the scale.
    fn scaled(&self, first: usize, count: usize, out: &mut Vec<f32>) {
        out.resize(count, 0.0);
        match self.q {
            KvSlice::F32(q) => out.copy_from_slice(&q[first..first + count]),
            KvSlice::F16(q) => simd::widen(&q[first..first + count], out),
        }
        out.iter_mut().for_each(|x| *x *= self.scale);
    }

    fn outputs<'b>(&'b self, plane: usize, rows: &'b mut [f32]) -> Outputs<'b> {
        Outputs { tensor: self.value, plane, dim: self.value.shape().head_dim, rows }
    }

    /// What query `i` sees: the later it is, the more of what follows and the less of what comes first.
    fn sight(&self, i: usize) -> Sight {
        let end = if self.options.causal { self.tokens - self.queries + i + 1 } else { self.tokens };
        Sight { first: self.options.window.map_or(0, |window| end.saturating_sub(window)), end }
    }

    /// Softcap, and −∞ at tokens out of sight. Rows from `first_row` on are query heads by queries.
    fn mask(&self, logits: &mut [f32], tokens: usize, first: usize, first_row: usize) {
        let by_all = self.sight(self.queries - 1).first <= first && first + tokens <= self.sight(0).end;
        if self.options.softcap.is_none() && by_all {
            return;
        }
        for (row, logits) in logits.chunks_exact_mut(tokens).enumerate() {
            if let Some(cap) = self.options.softcap {
                logits.iter_mut().for_each(|x| *x = cap * (*x / cap).tanh());
            }
            let sight = self.sight((first_row + row) % self.queries);
            let seen = sight.first.saturating_sub(first).min(tokens)..sight.end.saturating_sub(first).min(tokens);
            logits[..seen.start].fill(f32::NEG_INFINITY);
            logits[seen.end.max(seen.start)..].fill(f32::NEG_INFINITY);
        }
    }
}
