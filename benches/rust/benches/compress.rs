//! Compressing and decompressing one K or V tensor with each preset, beside a copy of as many bytes, interleaved in one run: one thread.
//!
//! `cargo bench -p gearkv-benches --bench compress -- [--json] [--tokens N] [--rows prompt,decompress,segment,queries] [--presets gear-4,kivi-4]
//! [--seconds N]`
//!
//! Rows `prompt` compress a whole prompt that comes as float32; `decompress` brings it back to float32; `segment` is the append that fills the
//! buffer, when its 64 tokens become a segment behind that prompt; `queries` settles a held layer, keys and values together, with the queries of
//! its newest 64 positions known. GB/s are bytes of the tokens in float32, divided by the time: for `memcpy` bytes that are copied. Times are those
//! of the fastest round, which other work on the machine moves least; medians stand beside them.

use std::hint::black_box;
use std::time::Instant;

use gearkv::{AttendOptions, CacheShape, GearCache, GearConfig, GearTensor, KvShape, KvSlice, NEVER, Role};
use gearkv_benches::numbers::Numbers;
use gearkv_benches::times::{fastest, median};
use gearkv_benches::{arguments, config};

const PRESETS: [&str; 4] = ["kivi-4", "gear-4", "gear-2", "paper-gear-4"];
const KINDS: [&str; 4] = ["prompt", "decompress", "segment", "queries"];
const SHAPES: [Shape; 2] = [Shape { heads: 8, dim: 128 }, Shape { heads: 3, dim: 64 }];
/// Tokens of the buffer.
const BUFFER: usize = 64;
/// Positions whose queries are known, and query heads for each KV head.
const POSITIONS: usize = 64;
/// At least so many times each.
const ROUNDS: usize = 5;
const SECONDS: usize = 10;

#[derive(Clone, Copy)]
struct Shape {
    heads: usize,
    dim: usize,
}

impl Shape {
    fn of(self, tokens: usize) -> KvShape {
        KvShape::new(1, self.heads, tokens, self.dim).expect("a shape")
    }
}

enum Work<'a> {
    Copy(&'a [f32]),
    Prompt(&'a [f32], KvShape, Role, GearConfig),
    Decompress(GearTensor),
    /// A tensor whose buffer lacks one token, and that token.
    Segment(GearTensor, Vec<f32>),
    /// A cache that holds what it is to compress, with queries noted.
    Queries(GearCache),
}

struct Row<'a> {
    name: String,
    work: Work<'a>,
    /// Bytes in float32 of what is compressed or decompressed.
    bytes: usize,
    times: Vec<f64>,
}

impl Row<'_> {
    fn step(&mut self, out: &mut [f32]) {
        // What stands before the clock starts is no part of the work.
        self.times.push(match &self.work {
            Work::Copy(from) => timed(|| out.copy_from_slice(black_box(from))),
            Work::Prompt(x, shape, role, config) => {
                let config = config.clone();
                timed(|| {
                    GearTensor::compress(KvSlice::F32(black_box(x)), *shape, *role, config, NEVER)
                        .expect("finite values")
                })
            }
            Work::Decompress(tensor) => timed(|| tensor.decompress_into(black_box(&mut *out), NEVER).expect("fits")),
            Work::Segment(tensor, token) => {
                let mut tensor = tensor.clone();
                timed(|| {
                    tensor.append(KvSlice::F32(black_box(token)), 1, NEVER).expect("finite values");
                    tensor
                })
            }
            Work::Queries(cache) => {
                let mut cache = cache.clone();
                timed(|| {
                    cache.settle(0, NEVER).expect("finite values");
                    cache
                })
            }
        });
    }
}

/// Seconds that `work` takes; what it gives is dropped afterwards.
fn timed<T>(work: impl FnOnce() -> T) -> f64 {
    let start = Instant::now();
    let result = black_box(work());
    let seconds = start.elapsed().as_secs_f64();
    drop(result);
    seconds
}

/// A prompt compressed, and behind it a buffer that lacks one token.
fn before_a_segment(x: &[f32], shape: Shape, tokens: usize, role: Role, preset: &str) -> GearTensor {
    let mut tensor = GearTensor::compress(KvSlice::F32(x), shape.of(tokens), role, config(preset, role), NEVER)
        .expect("finite values");
    let waiting = Numbers(3).tokens(shape.of(BUFFER - 1));
    tensor.append(KvSlice::F32(&waiting), BUFFER - 1, NEVER).expect("finite values");
    tensor
}

fn held(k: &[f32], v: &[f32], shape: Shape, tokens: usize, preset: &str) -> GearCache {
    let cache = CacheShape { layers: 1, batch: 1, kv_heads: shape.heads, head_dim: shape.dim };
    let mut cache = GearCache::new(cache, config(preset, Role::Key), config(preset, Role::Value)).expect("a shape");
    cache.hold(0, KvSlice::F32(k), KvSlice::F32(v), tokens).expect("finite values");
    let queries = Numbers(5).tokens(shape.of(POSITIONS));
    cache.observe(0, KvSlice::F32(&queries), POSITIONS, &AttendOptions::new(shape.heads)).expect("finite values");
    cache
}

/// Whether `name` is among those that the command line asks for; all are where it asks for none.
fn wanted(list: &str, name: &str) -> bool {
    arguments::list(list).is_none_or(|names| names.iter().any(|one| one == name))
}

fn rows<'a>(k: &'a [f32], v: &'a [f32], shape: Shape, tokens: usize) -> Vec<Row<'a>> {
    let row = |name: String, bytes, work| Row { name, work, bytes, times: Vec::new() };
    let prompt = size_of_val(k);
    let mut rows = vec![row("memcpy".into(), prompt, Work::Copy(k))];
    for kind in KINDS.into_iter().filter(|kind| wanted("--rows", kind)) {
        for preset in PRESETS.into_iter().filter(|preset| wanted("--presets", preset)) {
            if kind == "queries" {
                // Without widths that differ, queries make no difference.
                if config(preset, Role::Key).mean_bits != 0.0 {
                    let work = Work::Queries(held(k, v, shape, tokens, preset));
                    rows.push(row(format!("{kind} {preset} K+V"), 2 * prompt, work));
                }
                continue;
            }
            for (name, role, x) in [("K", Role::Key, k), ("V", Role::Value, v)] {
                let (bytes, work) = match kind {
                    "prompt" => (prompt, Work::Prompt(x, shape.of(tokens), role, config(preset, role))),
                    "segment" => {
                        let token = Numbers(7).tokens(shape.of(1));
                        let bytes = BUFFER * size_of_val(token.as_slice());
                        (bytes, Work::Segment(before_a_segment(x, shape, tokens, role, preset), token))
                    }
                    _ => {
                        let config = config(preset, role);
                        let tensor = GearTensor::compress(KvSlice::F32(x), shape.of(tokens), role, config, NEVER);
                        (prompt, Work::Decompress(tensor.expect("finite values")))
                    }
                };
                rows.push(row(format!("{kind} {preset} {name}"), bytes, work));
            }
        }
    }
    rows
}

fn main() {
    let json = arguments::has("--json");
    let tokens = arguments::number("--tokens").unwrap_or(4096);
    let seconds = arguments::number("--seconds").unwrap_or(SECONDS) as f64;
    let mut results = Vec::new();
    for shape in SHAPES {
        let mut numbers = Numbers(1);
        let [k, v] = [(); 2].map(|()| numbers.tokens(shape.of(tokens)));
        let mut rows = rows(&k, &v, shape, tokens);
        let mut out = vec![0.0; k.len()];
        let start = Instant::now();
        while rows[0].times.len() < ROUNDS || start.elapsed().as_secs_f64() < seconds {
            rows.iter_mut().for_each(|row| row.step(&mut out));
        }
        if !json {
            println!("\n{tokens} tokens, {} heads of {} ({})", shape.heads, shape.dim, gearkv::simd_level());
            println!("  {:26} {:>9} {:>9} {:>9} {:>9}", "", "ms", "GB/s", "× memcpy", "median");
        }
        let rate = |row: &Row| row.bytes as f64 / fastest(&row.times) * 1e-9;
        let copied = rate(&rows[0]);
        for row in &rows {
            let (time, rate) = (fastest(&row.times), rate(row));
            if json {
                results.push(serde_json::json!({
                    "tokens": tokens, "heads": shape.heads, "headDim": shape.dim, "row": row.name, "bytes": row.bytes,
                    "milliseconds": time * 1e3, "medianMilliseconds": median(&row.times) * 1e3, "gigabytesPerSecond": rate,
                    "timesMemcpy": rate / copied, "instructions": gearkv::simd_level(),
                }));
            } else {
                println!(
                    "  {:26} {:>9.3} {:>9.2} {:>9.2} {:>9.3}",
                    row.name,
                    time * 1e3,
                    rate,
                    rate / copied,
                    median(&row.times) * 1e3
                );
            }
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&results).expect("numbers and names"));
    }
}
