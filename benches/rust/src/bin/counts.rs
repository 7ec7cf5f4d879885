//! Work whose instructions `scripts/counts.mjs` has counted by callgrind: machines are noisy, instruction counts are not.
//!
//! Each row does its work twice, the first time for what happens once in a process, and prints its name and how many numbers it worked on. Callgrind
//! collects while [`counted`] runs and writes what it has when that returns, so that its n-th file belongs to the n-th line.
//!
//! `cargo run --release -p gearkv-benches --bin counts` runs it without counting anything; `attend` as an argument: the rows that begin with it.

use std::hint::black_box;

use gearkv::{
    AttendOptions, CacheShape, FreezeOptions, FrozenCache, GearCache, GearTensor, KvShape, KvSlice, NEVER, Role, f16,
};
use gearkv_benches::config;
use safetensors::SafeTensors;

const PRESETS: [&str; 4] = ["gear-4", "gear-2", "kivi-4", "paper-gear-4"];
/// In the program: with its path, which differs from checkout to checkout, other memory would lie elsewhere, and grow in its place or move.
const FIXTURE: &[u8] = include_bytes!("../../../../fixtures/kv_smollm2_135m.safetensors");
/// A layer of the fixture.
const SHAPE: CacheShape = CacheShape { layers: 1, batch: 1, kv_heads: 3, head_dim: 64 };
const LAYER: usize = 10;
const TOKENS: usize = 512;
const TOKEN: usize = SHAPE.kv_heads * SHAPE.head_dim;
/// The last of them, appended one by one to those before: whole buffers of every preset.
const APPENDED: usize = 128;

/// The name is what callgrind looks for.
#[inline(never)]
fn counted(work: &mut dyn FnMut()) {
    work();
}

fn row(name: &str, numbers: usize, mut work: impl FnMut()) {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    if !wanted.is_empty() && !wanted.iter().any(|start| name.starts_with(start)) {
        return;
    }
    work();
    counted(&mut work);
    println!("{name}\t{numbers}");
}

/// One tensor of the fixture, `[kv_heads, tokens, head_dim]`.
fn tensor(file: &SafeTensors, name: &str) -> Vec<f16> {
    let bytes = file.tensor(&format!("layer.{LAYER}.{name}")).expect("a tensor of the fixture").data();
    bytes.as_chunks::<2>().0.iter().map(|pair| f16::from_le_bytes(*pair)).collect()
}

/// Tokens `range` of it.
fn part(x: &[f16], range: std::ops::Range<usize>) -> Vec<f16> {
    let row = SHAPE.head_dim;
    x.chunks_exact(TOKENS * row).flat_map(|head| &head[range.start * row..range.end * row]).copied().collect()
}

fn compress(x: &[f16], role: Role, preset: &str) -> GearTensor {
    let shape = KvShape::new(1, SHAPE.kv_heads, x.len() / TOKEN, SHAPE.head_dim).expect("a small shape");
    GearTensor::compress(KvSlice::F16(x), shape, role, config(preset, role), NEVER).expect("finite values")
}

fn cache(k: &[f16], v: &[f16], preset: &str) -> GearCache {
    let tensors = vec![(compress(k, Role::Key, preset), compress(v, Role::Value, preset))];
    GearCache::from_tensors(SHAPE, tensors).expect("tensors of this shape")
}

fn main() {
    let file = SafeTensors::deserialize(FIXTURE).expect("a safetensors file");
    let [k, v] = ["key", "value"].map(|name| tensor(&file, name));
    let queries: Vec<f32> = tensor(&file, "query").into_iter().map(f32::from).cycle().take(4 * TOKEN).collect();

    for preset in PRESETS {
        for (role, x) in [(Role::Key, &k), (Role::Value, &v)] {
            row(&format!("compress {preset} {role:?}"), x.len(), || drop(compress(black_box(x), role, preset)));
        }
    }
    let mut out = vec![0.0; k.len()];
    for preset in PRESETS {
        for (role, x) in [(Role::Key, &k), (Role::Value, &v)] {
            let tensor = compress(x, role, preset);
            row(&format!("decompress {preset} {role:?}"), x.len(), || {
                tensor.decompress_into(black_box(&mut out), NEVER).expect("the right size");
            });
        }
    }
    for preset in PRESETS.into_iter().chain(["float16"]) {
        let cache = cache(&k, &v, preset);
        for sharing in [1, 4] {
            let options = AttendOptions::new(sharing * SHAPE.kv_heads);
            let query = KvSlice::F32(&queries[..sharing * TOKEN]);
            row(&format!("attend {preset} {sharing}:1"), k.len() + v.len(), || {
                cache.attend(0, black_box(query), 1, &options, &mut out[..sharing * TOKEN], NEVER).expect("fits");
            });
        }
    }
    for preset in PRESETS.into_iter().chain(["float16"]) {
        let first = TOKENS - APPENDED;
        let [k_before, v_before] = [&k, &v].map(|x| part(x, 0..first));
        let tokens: Vec<[Vec<f16>; 2]> =
            (first..TOKENS).map(|token| [&k, &v].map(|x| part(x, token..token + 1))).collect();
        // One for the first time, one that counts.
        let mut caches = [(); 2].map(|()| cache(&k_before, &v_before, preset)).into_iter();
        row(&format!("append {preset}"), 2 * APPENDED * TOKEN, || {
            let mut cache = caches.next().expect("one each time");
            for [k, v] in &tokens {
                cache.append(0, KvSlice::F16(black_box(k)), KvSlice::F16(v), 1, NEVER).expect("finite values");
            }
        });
    }
    let exact = cache(&k, &v, "float16");
    let options = FreezeOptions { bits_per_element: Some(3.0), threads: Some(1), ..Default::default() };
    let freeze = || FrozenCache::freeze(black_box(&exact), &options, None, NEVER).expect("finite values");
    row("freeze", k.len() + v.len(), || drop(freeze()));
    let frozen = freeze();
    row("thaw", k.len() + v.len(), || {
        for role in [Role::Key, Role::Value] {
            frozen.decompress_into(0, role, black_box(&mut out), NEVER).expect("the right size");
        }
    });
}
