//! One decode step of `attend` on each preset, beside the same step on uncompressed caches, interleaved in one run: one thread, 32 768 tokens.
//!
//! `cargo bench -p gearkv-benches --bench attend -- [--json] [--tokens N] [--queries N] [--rows float32,gear-4] [--each 1] [--rounds 200]`
//!
//! `--each` chooses how many query heads share a KV head, `--rounds` how often each row is timed at most. Rows `float32` and `float16` are caches whose heads lie one after the other (a layer a head), which is the most favorable order for them, and what
//! the others are compared with; in `float16 cache`, as applications have it, the heads of a token lie side by side. `read` adds up as many bytes as
//! `float32` takes. GB/s are bytes that a cache keeps, divided by the time of a step. Times are those of the fastest round, which other work on the machine
//! moves least; medians stand beside them.

use std::hint::black_box;
use std::time::Instant;

use gearkv::{AttendOptions, CacheShape, GearCache, GearTensor, KvShape, KvSlice, NEVER, Role, f16};
use gearkv_benches::numbers::Numbers;
use gearkv_benches::times::{fastest, median};
use gearkv_benches::{arguments, config};

const PRESETS: [&str; 5] = ["gear-4", "gear-l-4", "gear-3", "gear-2", "kivi-4"];
const SHAPES: [Shape; 2] =
    [Shape { kv_heads: 8, query_heads: [8, 32], dim: 128 }, Shape { kv_heads: 3, query_heads: [3, 9], dim: 64 }];
/// Tokens that are appended at a time where a cache grows as in decoding.
const STREAMED: usize = 64;
/// At least so many times each, and for so long.
const ROUNDS: usize = 15;
const SECONDS: f64 = 6.0;

#[derive(Clone, Copy)]
struct Shape {
    kv_heads: usize,
    query_heads: [usize; 2],
    dim: usize,
}

/// Tokens `range` of `x`, `[heads, tokens, dim]`.
fn part(x: &[f16], heads: usize, dim: usize, range: std::ops::Range<usize>) -> Vec<f16> {
    x.chunks_exact(x.len() / heads).flat_map(|head| &head[range.start * dim..range.end * dim]).copied().collect()
}

enum Work {
    /// Layers, each with its share of the heads.
    Attend(GearCache),
    Read(Vec<u64>),
}

struct Row {
    name: String,
    work: Work,
    bytes: usize,
    times: Vec<f64>,
}

impl Row {
    fn new(name: &str, work: Work) -> Self {
        let bytes = match &work {
            Work::Attend(cache) => cache.byte_length(),
            Work::Read(words) => size_of_val(words.as_slice()),
        };
        Self { name: name.into(), work, bytes, times: Vec::new() }
    }

    fn step(&mut self, query: &[f32], query_heads: usize, queries: usize, out: &mut [f32]) {
        let start = Instant::now();
        match &self.work {
            Work::Attend(cache) => {
                let layers = cache.shape().layers;
                let options = AttendOptions::new(query_heads / layers);
                let share = query.len() / layers;
                for (layer, (q, out)) in query.chunks_exact(share).zip(out.chunks_exact_mut(share)).enumerate() {
                    cache.attend(layer, KvSlice::F32(black_box(q)), queries, &options, out, NEVER).expect("fits");
                }
            }
            Work::Read(words) => {
                black_box(sum(black_box(words)));
            }
        }
        self.times.push(start.elapsed().as_secs_f64());
    }
}

/// Reads all of it, from four places at a time.
fn sum(words: &[u64]) -> u64 {
    let quarter = words.len() / 4;
    let (a, rest) = words.split_at(quarter);
    let (b, rest) = rest.split_at(quarter);
    let (c, d) = rest.split_at(quarter);
    let mut sums = [0u64; 16];
    let [a, b, c, d] = [a, b, c, d].map(|x| x.as_chunks::<16>().0);
    for (((a, b), c), d) in a.iter().zip(b).zip(c).zip(d) {
        for i in 0..16 {
            sums[i] = sums[i].wrapping_add(a[i] ^ b[i] ^ c[i] ^ d[i]);
        }
    }
    sums.iter().fold(0, |sum, x| sum.wrapping_add(*x))
}

fn compressed(preset: &str, shape: Shape, tokens: usize, k: &[f16], v: &[f16]) -> GearCache {
    let whole = KvShape::new(1, shape.kv_heads, tokens, shape.dim).expect("a shape");
    let tensor = |x: &[f16], role| {
        GearTensor::compress(KvSlice::F16(x), whole, role, config(preset, role), NEVER).expect("finite values")
    };
    let cache = CacheShape { layers: 1, batch: 1, kv_heads: shape.kv_heads, head_dim: shape.dim };
    GearCache::from_tensors(cache, vec![(tensor(k, Role::Key), tensor(v, Role::Value))]).expect("of this shape")
}

/// As it is after decoding all of it.
fn streamed(preset: &str, shape: Shape, tokens: usize, k: &[f16], v: &[f16]) -> GearCache {
    let cache = CacheShape { layers: 1, batch: 1, kv_heads: shape.kv_heads, head_dim: shape.dim };
    let mut cache = GearCache::new(cache, config(preset, Role::Key), config(preset, Role::Value)).expect("a shape");
    for first in (0..tokens).step_by(STREAMED) {
        let range = first..(first + STREAMED).min(tokens);
        let [k, v] = [k, v].map(|x| part(x, shape.kv_heads, shape.dim, range.clone()));
        cache.append(0, KvSlice::F16(&k), KvSlice::F16(&v), range.len(), NEVER).expect("finite values");
    }
    cache
}

/// One head a layer, so that each lies in one piece.
fn uncompressed(preset: &str, shape: Shape, tokens: usize, k: &[f16], v: &[f16]) -> GearCache {
    let head = KvShape::new(1, 1, tokens, shape.dim).expect("a shape");
    let tensor = |x: &[f16], role| {
        GearTensor::compress(KvSlice::F16(x), head, role, config(preset, role), NEVER).expect("finite values")
    };
    let heads = k.chunks_exact(tokens * shape.dim).zip(v.chunks_exact(tokens * shape.dim));
    let layers = heads.map(|(k, v)| (tensor(k, Role::Key), tensor(v, Role::Value))).collect();
    let cache = CacheShape { layers: shape.kv_heads, batch: 1, kv_heads: 1, head_dim: shape.dim };
    GearCache::from_tensors(cache, layers).expect("of this shape")
}

fn main() {
    let json = arguments::has("--json");
    let tokens = arguments::number("--tokens").unwrap_or(32_768);
    let queries = arguments::number("--queries").unwrap_or(1);
    let only = arguments::list("--rows");
    let each = arguments::number("--each");
    let most = arguments::number("--rounds").unwrap_or(200);
    let wanted = |name: &str| only.as_ref().is_none_or(|only| only.iter().any(|row| row == name));
    let mut results = Vec::new();
    for shape in SHAPES {
        let mut numbers = Numbers(1);
        let all = KvShape::new(1, shape.kv_heads, tokens, shape.dim).expect("a shape");
        let [k, v] = [(); 2].map(|()| numbers.tokens(all).into_iter().map(f16::from_f32).collect::<Vec<f16>>());
        let words = 2 * k.len() / 2;
        let mut rows = Vec::new();
        for name in
            ["read", "float32", "float16", "float16 cache"].into_iter().chain(PRESETS).chain(["gear-4 streamed"])
        {
            if wanted(name) {
                let work = match name {
                    "read" => Work::Read((0..words as u64).collect()),
                    "float32" | "float16" => Work::Attend(uncompressed(name, shape, tokens, &k, &v)),
                    "float16 cache" => Work::Attend(compressed("float16", shape, tokens, &k, &v)),
                    "gear-4 streamed" => Work::Attend(streamed("gear-4", shape, tokens, &k, &v)),
                    preset => Work::Attend(compressed(preset, shape, tokens, &k, &v)),
                };
                rows.push(Row::new(name, work));
            }
        }
        for query_heads in shape.query_heads.into_iter().filter(|n| each.is_none_or(|each| *n == each * shape.kv_heads))
        {
            let query: Vec<f32> = (0..query_heads * queries * shape.dim).map(|_| numbers.next() * 0.3).collect();
            let mut out = query.clone();
            rows.iter_mut().for_each(|row| row.times.clear());
            let start = Instant::now();
            while rows[0].times.len() < ROUNDS
                || (start.elapsed().as_secs_f64() < SECONDS && rows[0].times.len() < most)
            {
                rows.iter_mut().for_each(|row| row.step(&query, query_heads, queries, &mut out));
                if start.elapsed().as_secs_f64() > 4.0 * SECONDS {
                    break;
                }
            }
            let per_head = query_heads / shape.kv_heads;
            if !json {
                println!(
                    "\n{tokens} tokens, {} KV heads of {}, {per_head} query head(s) each, {queries} quer{} ({})",
                    shape.kv_heads,
                    shape.dim,
                    if queries == 1 { "y" } else { "ies" },
                    gearkv::simd_level()
                );
                println!(
                    "  {:16} {:>9} {:>9} {:>7} {:>9} {:>9} {:>9}",
                    "", "MB", "ms", "GB/s", "× float32", "× float16", "median"
                );
            }
            let time_of =
                |name: &str| rows.iter().find(|row| row.name == name).map_or(f64::NAN, |row| fastest(&row.times));
            let [float32, float16] = ["float32", "float16"].map(time_of);
            for row in &rows {
                let time = fastest(&row.times);
                let rate = row.bytes as f64 / time * 1e-9;
                if json {
                    results.push(serde_json::json!({
                        "tokens": tokens, "kvHeads": shape.kv_heads, "queryHeads": query_heads, "headDim": shape.dim, "queries": queries,
                        "row": row.name, "bytes": row.bytes, "milliseconds": time * 1e3, "medianMilliseconds": median(&row.times) * 1e3, "gigabytesPerSecond": rate,
                        "timesFloat32": float32 / time, "timesFloat16": float16 / time, "instructions": gearkv::simd_level(),
                    }));
                } else {
                    println!(
                        "  {:16} {:>9.2} {:>9.3} {:>7.1} {:>9.2} {:>9.2} {:>9.3}",
                        row.name,
                        row.bytes as f64 * 1e-6,
                        time * 1e3,
                        rate,
                        float32 / time,
                        float16 / time,
                        median(&row.times) * 1e3
                    );
                }
            }
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&results).expect("numbers and names"));
    }
}
