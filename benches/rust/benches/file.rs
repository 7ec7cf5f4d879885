//! Reading and writing `.gear` files in memory, on one thread where no more is said; throughput in bytes of file. Reading checks everything: checksums, lengths,
//! indices, and that numbers are finite.
//!
//! `cargo bench -p gearkv-benches --bench file`

use std::hint::black_box;
use std::time::Duration;

use criterion::{Criterion, Throughput};
use gearkv::{CacheShape, FreezeOptions, FrozenCache, GearCache, GearOptions, KvSlice, NEVER, Role};
use gearkv_format::{CacheReader, cache_from_bytes, cache_to_bytes, frozen_from_bytes, frozen_to_bytes};

const SHAPE: CacheShape = CacheShape { layers: 4, batch: 1, kv_heads: 8, head_dim: 128 };
const TOKENS: usize = 2048;

/// As a file in memory or from a disk comes.
const PIECE: usize = 1 << 20;

fn filled(preset: &str, threads: Option<u32>) -> GearCache {
    let [key, value] = [Role::Key, Role::Value].map(|role| {
        let options = GearOptions { preset: Some(preset.into()), threads, ..Default::default() };
        options.resolve(role).expect("a preset")
    });
    let mut cache = GearCache::new(SHAPE, key, value).expect("a small shape");
    let mut state = 1_u32;
    let values: Vec<f32> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
        (state >> 8) as f32 / 8_388_608.0 - 1.0
    })
    .take(SHAPE.kv_heads * TOKENS * SHAPE.head_dim)
    .collect();
    for layer in 0..SHAPE.layers {
        cache.append(layer, KvSlice::F32(&values), KvSlice::F32(&values), TOKENS, NEVER).expect("finite values");
    }
    cache
}

fn in_pieces(bytes: &[u8]) -> GearCache {
    let mut reader = CacheReader::new(None);
    bytes.chunks(PIECE).for_each(|piece| reader.push(piece).expect("an intact file"));
    reader.into_cache().expect("a whole file").0
}

fn bench(c: &mut Criterion) {
    let mut group = c.benchmark_group("file");
    for preset in ["gear-4", "gear-2", "kivi-4", "paper-gear-4", "float16"] {
        let cache = filled(preset, Some(1));
        let bytes = cache_to_bytes(&cache).expect("a small cache");
        group.throughput(Throughput::Bytes(bytes.len() as u64));
        group.bench_function(format!("read {preset}"), |b| b.iter(|| cache_from_bytes(black_box(&bytes))));
        if preset == "gear-4" {
            group.bench_function(format!("read {preset} in pieces"), |b| b.iter(|| in_pieces(black_box(&bytes))));
        }
        if preset.starts_with("gear") {
            // A file tells how many threads its cache was made for.
            let bytes = cache_to_bytes(&filled(preset, None)).expect("a small cache");
            let name = format!("read {preset} on {} threads", gearkv::default_threads());
            group.bench_function(name, |b| b.iter(|| cache_from_bytes(black_box(&bytes))));
        }
        group.bench_function(format!("write {preset}"), |b| b.iter(|| cache_to_bytes(black_box(&cache))));
        if preset == "float16" {
            let options = FreezeOptions { bits_per_element: Some(3.0), threads: Some(1), ..Default::default() };
            let frozen = FrozenCache::freeze(&cache, &options, None, NEVER).expect("finite values");
            let bytes = frozen_to_bytes(&frozen).expect("a small cache");
            group.throughput(Throughput::Bytes(bytes.len() as u64));
            group.bench_function("read frozen", |b| b.iter(|| frozen_from_bytes(black_box(&bytes))));
            group.bench_function("write frozen", |b| b.iter(|| frozen_to_bytes(black_box(&frozen))));
        }
    }
    group.finish();
}

fn main() {
    let (warm_up, measure) = (Duration::from_millis(300), Duration::from_secs(2));
    let mut criterion = Criterion::default().warm_up_time(warm_up).measurement_time(measure).sample_size(20);
    criterion = criterion.configure_from_args();
    bench(&mut criterion);
    criterion.final_summary();
}
