//! Compress, decompress, append and attend, one thread, a layer of a 7B-class model (8 KV heads of 128, 32 query heads).
//! Each group holds the same work on an uncompressed float16 cache, and the ratio to it is printed at the end.
//!
//! `cargo bench -p gearkv-benches`

use std::hint::black_box;
use std::path::PathBuf;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gearkv::{AttendOptions, CacheShape, GearCache, GearTensor, KvShape, KvSlice, NEVER, Role, f16};
use gearkv_benches::config;

const PRESETS: [&str; 7] = ["float16", "uniform-4", "kcvt-4", "kivi-4", "kivi-2", "gear-4", "gear-2"];
const BASELINE: &str = "float16";
const SHAPE: CacheShape = CacheShape { layers: 1, batch: 1, kv_heads: 8, head_dim: 128 };
const QUERY_HEADS: usize = 32;
const TOKENS: usize = 2048;

fn shape(tokens: usize) -> KvShape {
    KvShape::new(1, SHAPE.kv_heads, tokens, SHAPE.head_dim).expect("a small shape")
}

/// Noise with a few strong channels, as keys have.
fn values(tokens: usize) -> Vec<f16> {
    let mut state = 1u32;
    (0..shape(tokens).elements())
        .map(|i| {
            state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            let noise = (state >> 8) as f32 / (1 << 23) as f32 - 1.0;
            f16::from_f32(if i % 31 == 5 { noise * 12.0 } else { noise })
        })
        .collect()
}

fn compress(x: &[f16], role: Role, preset: &str) -> GearTensor {
    GearTensor::compress(KvSlice::F16(x), shape(TOKENS), role, config(preset, role), NEVER).expect("finite values")
}

fn bench(c: &mut Criterion) {
    let x = values(TOKENS);
    let bytes = Throughput::Bytes(2 * x.len() as u64);
    for role in [Role::Key, Role::Value] {
        let mut group = c.benchmark_group(format!("compress {role:?}"));
        group.throughput(bytes.clone());
        for preset in PRESETS {
            group.bench_function(preset, |b| b.iter(|| compress(black_box(&x), role, preset)));
        }
        group.finish();
        let mut group = c.benchmark_group(format!("decompress {role:?}"));
        group.throughput(bytes.clone());
        let mut out = vec![0.0; x.len()];
        for preset in PRESETS {
            let tensor = compress(&x, role, preset);
            group.bench_function(preset, |b| {
                b.iter(|| tensor.decompress_into(black_box(&mut out), NEVER).expect("the right size"));
            });
        }
        group.finish();
    }

    let mut group = c.benchmark_group("attend one query");
    let query = vec![0.1f32; QUERY_HEADS * SHAPE.head_dim];
    let mut out = query.clone();
    for preset in PRESETS {
        let tensors = vec![(compress(&x, Role::Key, preset), compress(&x, Role::Value, preset))];
        let cache = GearCache::from_tensors(SHAPE, tensors).expect("tensors of this shape");
        let options = AttendOptions::new(QUERY_HEADS);
        group.bench_function(preset, |b| {
            b.iter(|| cache.attend(0, KvSlice::F32(black_box(&query)), 1, &options, &mut out, NEVER).expect("fits"));
        });
    }
    group.finish();

    let mut group = c.benchmark_group("append 256 tokens one by one");
    let token = values(1);
    for preset in PRESETS {
        group.bench_function(preset, |b| {
            b.iter(|| {
                let mut tensor =
                    GearTensor::new(1, SHAPE.kv_heads, SHAPE.head_dim, Role::Key, config(preset, Role::Key))
                        .expect("a small shape");
                for _ in 0..256 {
                    tensor.append(KvSlice::F16(black_box(&token)), 1, NEVER).expect("finite values");
                }
                tensor
            });
        });
    }
    group.finish();
}

fn main() {
    // Short, so that all of it takes a few minutes: `-- --measurement-time 10` measures for longer.
    let criterion = Criterion::default().sample_size(20).warm_up_time(Duration::from_millis(500));
    let mut criterion = criterion.measurement_time(Duration::from_secs(2)).configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
    println!("\ninstruction set: {}", gearkv::simd_level());
    let target = std::env::var_os("CARGO_TARGET_DIR")
        .map_or_else(|| PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../target"), PathBuf::from);
    for group in [
        "compress Key",
        "decompress Key",
        "compress Value",
        "decompress Value",
        "attend one query",
        "append 256 tokens one by one",
    ] {
        gearkv_benches::print_ratios(&target.join("criterion"), group, BASELINE);
    }
}
