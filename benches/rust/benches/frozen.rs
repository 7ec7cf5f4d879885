//! Freezing and thawing beside the codec of segments, one thread, on a real model's keys and values; throughput in bytes of
//! float32.
//!
//! `cargo bench -p gearkv-benches --bench frozen`

use std::hint::black_box;
use std::path::Path;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gearkv::{CacheShape, FreezeOptions, FrozenCache, GearCache, KvSlice, NEVER, Role, f16};
use gearkv_benches::config;
use safetensors::SafeTensors;

/// Layers 0, 10, 20 and 29 of SmolLM2-135M.
const SHAPE: CacheShape = CacheShape { layers: 4, batch: 1, kv_heads: 3, head_dim: 64 };
const TOKENS: usize = 512;

fn empty(preset: &str) -> GearCache {
    GearCache::new(SHAPE, config(preset, Role::Key), config(preset, Role::Value)).expect("a small shape")
}

/// Keys and values of each layer, `[heads, tokens, head_dim]`.
fn fixture() -> Vec<[Vec<f16>; 2]> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures/kv_smollm2_135m.safetensors");
    let file = std::fs::read(path).expect("the fixture");
    let tensors = SafeTensors::deserialize(&file).expect("a safetensors file");
    let values = |name: String| {
        let bytes = tensors.tensor(&name).expect("a tensor of the fixture").data();
        bytes.as_chunks::<2>().0.iter().map(|b| f16::from_le_bytes(*b)).collect()
    };
    [0, 10, 20, 29].map(|layer| ["key", "value"].map(|role| values(format!("layer.{layer}.{role}")))).into()
}

fn filled(layers: &[[Vec<f16>; 2]], preset: &str) -> GearCache {
    let mut cache = empty(preset);
    for (layer, [key, value]) in layers.iter().enumerate() {
        cache.append(layer, KvSlice::F16(key), KvSlice::F16(value), TOKENS, NEVER).expect("finite values");
    }
    cache
}

fn bench(c: &mut Criterion) {
    let layers = fixture();
    let exact = filled(&layers, "float16");
    let elements = exact.float16_byte_length() / 2;
    let mut group = c.benchmark_group("at rest");
    group.throughput(Throughput::Bytes(4 * elements as u64));
    let mut out = vec![0.0; SHAPE.kv_heads * TOKENS * SHAPE.head_dim];
    for bits in [2.5, 3.0, 4.0] {
        let options = FreezeOptions { bits_per_element: Some(bits), threads: Some(1), ..Default::default() };
        let freeze = || FrozenCache::freeze(black_box(&exact), &options, None, NEVER).expect("finite values");
        group.bench_function(format!("freeze {bits}"), |b| b.iter(freeze));
        let frozen = freeze();
        group.bench_function(format!("thaw {bits}"), |b| {
            b.iter(|| {
                for layer in 0..SHAPE.layers {
                    for role in [Role::Key, Role::Value] {
                        frozen.decompress_into(layer, role, black_box(&mut out), NEVER).expect("the right size");
                    }
                }
            });
        });
    }
    for preset in ["gear-4", "gear-2"] {
        group.bench_function(format!("compress {preset}"), |b| b.iter(|| filled(black_box(&layers), preset)));
        let cache = filled(&layers, preset);
        group.bench_function(format!("decompress {preset}"), |b| {
            b.iter(|| {
                for layer in 0..SHAPE.layers {
                    for role in [Role::Key, Role::Value] {
                        let tensor = cache.tensor(layer, role).expect("a layer of the cache");
                        tensor.decompress_into(black_box(&mut out), NEVER).expect("the right size");
                    }
                }
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
}
