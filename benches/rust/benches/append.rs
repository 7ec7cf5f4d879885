//! Decoding on a compressed cache: what `append` costs beside the `attend` steps that it sits between, and how long the longest step is. One
//! thread.
//!
//! `cargo bench -p gearkv-benches --bench append -- [--json] [--tokens 4096,8192] [--presets gear-4,gear-2] [--cycles N] [--streamed]`
//!
//! A cache starts with a prompt of so many tokens and decodes: each step appends one token and attends to all. Every 64th append finds the buffer
//! full and makes a segment of it; `segment` is the median of these appends, `append` the median of all. `share` is what all appends take, those
//! that make a segment included, of what all `attend` calls take. `worst` is the longest step, and `worst / median` says how much longer than
//! most it is. With `--streamed` the prompt, too, has come token by token. What a model with many layers takes is a multiple of all of it, as its
//! layers do the same at the same step.

use std::hint::black_box;
use std::time::Instant;

use gearkv::{AttendOptions, CacheShape, GearCache, KvShape, KvSlice, NEVER, Role};
use gearkv_benches::numbers::Numbers;
use gearkv_benches::times::{median, worst};
use gearkv_benches::{arguments, config};

const PRESETS: [&str; 3] = ["gear-4", "gear-2", "kivi-4"];
const TOKENS: [&str; 3] = ["4096", "8192", "32768"];
const SHAPES: [Shape; 2] =
    [Shape { kv_heads: 8, query_heads: [32, 8], dim: 128 }, Shape { kv_heads: 3, query_heads: [9, 3], dim: 64 }];
/// Tokens of the buffer.
const BUFFER: usize = 64;
/// Segments that are made in a row.
const CYCLES: usize = 4;

#[derive(Clone, Copy)]
struct Shape {
    kv_heads: usize,
    query_heads: [usize; 2],
    dim: usize,
}

/// A cache of so many tokens whose buffer is empty.
fn cache(preset: &str, shape: Shape, tokens: usize, streamed: bool, numbers: &mut Numbers) -> GearCache {
    let Shape { kv_heads, dim, .. } = shape;
    let layer = CacheShape { layers: 1, batch: 1, kv_heads, head_dim: dim };
    let (key, value) = (config(preset, Role::Key), config(preset, Role::Value));
    let sinks = key.sinks as usize;
    let mut cache = GearCache::new(layer, key, value).expect("a shape");
    let mut left = tokens + sinks;
    while left > 0 {
        let count = if streamed { (BUFFER + sinks).min(left) } else { left };
        let [k, v] = [(); 2].map(|()| numbers.tokens(KvShape::new(1, kv_heads, count, dim).expect("a shape")));
        cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), count, NEVER).expect("finite values");
        left -= count;
    }
    cache
}

/// Milliseconds of each step's append and attend, and whether that append made a segment.
struct Times {
    append: Vec<f64>,
    attend: Vec<f64>,
    makes_segment: Vec<bool>,
}

fn decode(cache: &mut GearCache, shape: Shape, query_heads: usize, cycles: usize, numbers: &mut Numbers) -> Times {
    let Shape { kv_heads, dim, .. } = shape;
    let options = AttendOptions::new(query_heads);
    let mut out = vec![0.0; query_heads * dim];
    let mut times = Times { append: Vec::new(), attend: Vec::new(), makes_segment: Vec::new() };
    let headers = |cache: &GearCache| cache.tensor(0, Role::Key).expect("a layer").parts().headers;
    // One cycle to warm up.
    for step in 0..(cycles + 1) * BUFFER {
        let [k, v] = [(); 2].map(|()| numbers.tokens(KvShape::new(1, kv_heads, 1, dim).expect("a shape")));
        let q: Vec<f32> = (0..out.len()).map(|_| numbers.next() * 0.3).collect();
        let before = headers(cache);
        let start = Instant::now();
        cache.append(0, KvSlice::F32(black_box(&k)), KvSlice::F32(black_box(&v)), 1, NEVER).expect("finite values");
        let append = start.elapsed().as_secs_f64() * 1e3;
        let start = Instant::now();
        cache.attend(0, KvSlice::F32(black_box(&q)), 1, &options, &mut out, NEVER).expect("fits");
        let attend = start.elapsed().as_secs_f64() * 1e3;
        black_box(&out);
        if step >= BUFFER {
            times.append.push(append);
            times.attend.push(attend);
            times.makes_segment.push(headers(cache) > before);
        }
    }
    times
}

fn main() {
    let list = |name: &str, default: &[&str]| {
        arguments::list(name).unwrap_or_else(|| default.iter().map(|&one| one.to_owned()).collect())
    };
    let (json, streamed) = (arguments::has("--json"), arguments::has("--streamed"));
    let presets = list("--presets", &PRESETS);
    let lengths: Vec<usize> = list("--tokens", &TOKENS).iter().filter_map(|tokens| tokens.parse().ok()).collect();
    let cycles = arguments::number("--cycles").unwrap_or(CYCLES);
    let mut results = Vec::new();
    for shape in SHAPES {
        for query_heads in shape.query_heads {
            let per_head = query_heads / shape.kv_heads;
            if !json {
                println!(
                    "\n{} KV heads of {}, {per_head} query head(s) each{} ({}): ms",
                    shape.kv_heads,
                    shape.dim,
                    if streamed { ", streamed" } else { "" },
                    gearkv::simd_level()
                );
                println!(
                    "  {:8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>8} {:>7} {:>14}",
                    "",
                    "tokens",
                    "append",
                    "worst",
                    "segment",
                    "attend",
                    "worst",
                    "step",
                    "worst",
                    "share",
                    "worst / median"
                );
            }
            for preset in &presets {
                for &tokens in &lengths {
                    let mut numbers = Numbers(1);
                    let mut cache = cache(preset, shape, tokens, streamed, &mut numbers);
                    let Times { append, attend, makes_segment } =
                        decode(&mut cache, shape, query_heads, cycles, &mut numbers);
                    let step: Vec<f64> = append.iter().zip(&attend).map(|(append, attend)| append + attend).collect();
                    let segments = append.iter().zip(&makes_segment).filter(|(_, made)| **made).map(|(x, _)| *x);
                    let segment = median(&segments.collect::<Vec<f64>>());
                    let share = append.iter().sum::<f64>() / attend.iter().sum::<f64>();
                    let [append_median, attend_median, step_median] =
                        [&append, &attend, &step].map(|times| median(times));
                    let [append_worst, attend_worst, step_worst] = [&append, &attend, &step].map(|times| worst(times));
                    let over_median = step_worst / step_median;
                    if json {
                        results.push(serde_json::json!({
                            "preset": preset, "tokens": tokens, "kvHeads": shape.kv_heads, "queryHeads": query_heads,
                            "headDim": shape.dim, "streamed": streamed, "steps": step.len(),
                            "appendMilliseconds": append_median, "worstAppendMilliseconds": append_worst,
                            "segmentMilliseconds": segment,
                            "attendMilliseconds": attend_median, "worstAttendMilliseconds": attend_worst,
                            "stepMilliseconds": step_median, "worstStepMilliseconds": step_worst,
                            "appendShare": share, "worstOverMedian": over_median, "instructions": gearkv::simd_level(),
                        }));
                    } else {
                        println!(
                            "  {preset:8} {tokens:>8} {append_median:>8.4} {append_worst:>8.3} {segment:>8.3} {attend_median:>8.3} {attend_worst:>8.3} {step_median:>8.3} {step_worst:>8.3} {:>6.1}% {over_median:>14.1}",
                            share * 1e2
                        );
                    }
                }
            }
        }
    }
    if json {
        println!("{}", serde_json::to_string_pretty(&results).expect("numbers and names"));
    }
}
