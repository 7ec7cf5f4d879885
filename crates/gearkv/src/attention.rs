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

use crate::config::{Backbone, Storage};
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::parallel;
use crate::shape::{KvShape, KvSlice};
use crate::simd;
use crate::tensor::{GearTensor, Piece};

/// Tokens of a block: a multiple of every common group, and small enough that a block's rows stay in the first-level cache.
const BLOCK: usize = 64;

/// From so many query rows on, a copy of a block of rows in float32 (transposed, where it is keys) pays.
const MANY_QUERIES: usize = 8;

/// Tokens whose logits are taken together: several blocks, so that their work overlaps, where there are few query rows; one where there are
/// many.
const STRETCH: usize = 4 * BLOCK;
const FEW_QUERIES: usize = 16;

/// Tokens that are fetched ahead where they are not compressed and their head is read alone.
const ROWS_AHEAD: usize = 16;

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
    let planes = out.len() / run;
    // Heads of a thread go through the tokens together where they share what a short segment or a token has in one place. With many queries,
    // what they gather would not stay in the nearest caches.
    let rows = run / head_dim;
    let together =
        if rows <= FEW_QUERIES && !in_long_pieces(key) { planes.div_ceil(parallel::threads(threads)) } else { 1 };
    parallel::for_each_chunk(out, together * run, threads, |i, out| {
        let first = i * together;
        job.planes(first, run, &q[first * run..first * run + out.len()], out, cancel);
    });
    check(cancel)
}

/// Whether most tokens are in segments in each of which a head has much to read in one place.
fn in_long_pieces(tensor: &GearTensor) -> bool {
    const LONG: usize = 1024;
    tensor.config().storage == Storage::Gear && tensor.tokens() / tensor.pieces().count().max(1) >= LONG
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

/// One KV head on its way through the tokens.
struct Head<'a> {
    plane: usize,
    keys: Keys<'a>,
    values: Values<'a>,
    softmax: Softmax,
}

/// What will be read next.
#[derive(Clone, Copy)]
struct Ahead<'a> {
    /// Codes.
    codes: &'a [u8],
    /// Where tokens are not compressed: how many rows of one head lie between.
    rows: usize,
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

/// A block of keys and the same tokens' values.
struct Step<'a> {
    key: Place<'a>,
    value: Place<'a>,
    /// Its first token, and how many.
    token: usize,
    tokens: usize,
}

/// Walks the pieces of both tensors, in blocks that are cut where either changes its piece.
struct Walk<'a> {
    key: Pieces<'a>,
    value: Pieces<'a>,
    token: usize,
}

impl<'a> Walk<'a> {
    fn new(key: &'a GearTensor, value: &'a GearTensor) -> Self {
        Self { key: Pieces::new(key), value: Pieces::new(value), token: 0 }
    }

    /// What is left of the present pieces; `None` at the end.
    fn rest(&self) -> (Option<Place<'a>>, Option<Place<'a>>) {
        (self.key.rest(), self.value.rest())
    }

    /// The next block, of at most so many tokens, none of which is cut in two where it would fit the next time.
    fn next(&mut self, most: usize) -> Option<Step<'a>> {
        let (Some(key), Some(value)) = self.rest() else { return None };
        let tokens = key.tokens.min(value.tokens).min(BLOCK);
        if tokens > most {
            return None;
        }
        let step = Step { key: Place { tokens, ..key }, value: Place { tokens, ..value }, token: self.token, tokens };
        self.key.take(tokens);
        self.value.take(tokens);
        self.token += tokens;
        Some(step)
    }
}

/// The pieces of one tensor, and how far they have been gone through.
struct Pieces<'a> {
    pieces: Vec<Piece<'a>>,
    at: usize,
    offset: usize,
}

impl<'a> Pieces<'a> {
    fn new(tensor: &'a GearTensor) -> Self {
        Self { pieces: tensor.pieces().collect(), at: 0, offset: 0 }
    }

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

impl<'a> Job<'a> {
    /// Heads from `first_plane` on, each of which has `run` values of `q` and `out`.
    fn planes(&self, first_plane: usize, run: usize, q: &[f32], out: &mut [f32], cancel: Cancel) {
        let dim = self.key.shape().head_dim;
        let rows_of = run / dim;
        let scaled: Vec<f32> = q.iter().map(|x| x * self.scale).collect();
        let [turned_keys, turned_values] =
            [self.key, self.value].map(|tensor| tensor.config().backbone == Backbone::Rotated);
        let mut heads: Vec<Head> = scaled
            .chunks_exact(run)
            .zip(out.chunks_exact_mut(run))
            .zip(first_plane..)
            .map(|((q, out), plane)| Head {
                plane,
                keys: Keys::new(plane, dim, q, turned_keys),
                values: Values::new(plane, dim, out, turned_values),
                softmax: Softmax::new(rows_of),
            })
            .collect();
        let stretch = if rows_of <= FEW_QUERIES { STRETCH } else { BLOCK };
        let mut logits = vec![0.0; rows_of * stretch];
        let mut walk = Walk::new(self.key, self.value);
        let in_sight = self.sights.iter().fold(usize::MAX, |least, sight| least.min(sight.first));
        let mut steps: Vec<Step> = Vec::with_capacity(STRETCH / BLOCK);
        loop {
            steps.clear();
            let mut tokens = 0;
            while let Some(step) = walk.next(stretch - tokens) {
                if step.token + step.tokens > in_sight {
                    tokens += step.tokens;
                    steps.push(step);
                }
                if tokens == stretch {
                    break;
                }
            }
            if steps.is_empty() || cancel() {
                break;
            }
            let after = walk.rest();
            let count = heads.len();
            for (i, head) in heads.iter_mut().enumerate() {
                // Where the next head starts, or the first one in what comes after.
                let (key, value) = if i + 1 < count { (Some(steps[0].key), Some(steps[0].value)) } else { after };
                let plane = first_plane + (i + 1) % count;
                let all = self.key.shape().planes();
                let rows = match count {
                    1 => ROWS_AHEAD * all,
                    _ if i + 1 < count => 1,
                    _ => tokens * all - (count - 1),
                };
                let codes = |place: Option<Place<'a>>| place.map_or(&[][..], |place| place.codes(plane));
                let ahead = [key, value].map(|place| Ahead { codes: codes(place), rows });
                self.stretch(head, &steps, ahead, &mut logits[..rows_of * tokens], tokens);
            }
        }
        for Head { values, softmax, .. } in heads {
            values.finish(softmax.sums());
        }
    }

    /// One head's share of a stretch of `tokens` tokens. `ahead` is what will be read after its keys and its values.
    fn stretch(
        &self,
        head: &mut Head<'a>,
        steps: &[Step<'a>],
        ahead: [Ahead<'a>; 2],
        logits: &mut [f32],
        tokens: usize,
    ) {
        let Head { plane, keys, values, softmax } = head;
        let first = steps[0].token;
        let columns = |step: &Step| Columns { first: step.token - first, stride: tokens };
        let within = |i: usize, place: fn(&Step<'a>) -> Place<'a>, last: Ahead<'a>| {
            steps.get(i + 1).map_or(last, |next| Ahead { codes: place(next).codes(*plane), ..last })
        };
        for (i, step) in steps.iter().enumerate() {
            keys.logits(step.key, within(i, |step| step.key, ahead[0]), logits, columns(step));
        }
        self.mask(logits, tokens, first);
        softmax.take_block(logits, tokens, |row, factor| values.shrink(row, factor));
        for (i, step) in steps.iter().enumerate() {
            values.add(step.value, within(i, |step| step.value, ahead[1]), logits, columns(step));
        }
    }

    /// Softcap, and −∞ at tokens out of sight. Rows are query heads by queries.
    fn mask(&self, logits: &mut [f32], tokens: usize, first: usize) {
        let by_all = |sight: &Sight| sight.first <= first && first + tokens <= sight.end;
        if self.options.softcap.is_none() && self.sights.iter().all(by_all) {
            return;
        }
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
