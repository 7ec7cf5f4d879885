//! Caches frozen and thawed.

mod common;

use std::sync::Arc;

use common::{preset, value_preset};
use gearkv::{
    CacheShape, ErrorCode, FreezeOptions, FrozenCache, FrozenHeader, FrozenTensor, GearCache, KvShape, KvSlice, NEVER,
    Role, Statistics, f16,
};
use proptest::prelude::*;

const SHAPE: CacheShape = CacheShape { layers: 2, batch: 1, kv_heads: 2, head_dim: 32 };

/// Numbers like a normal distribution's.
struct Noise(u32);

impl Noise {
    fn next(&mut self) -> f32 {
        let uniform = |state: &mut u32| {
            *state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*state >> 8) as f32 / (1 << 24) as f32
        };
        (0..6).map(|_| uniform(&mut self.0)).sum::<f32>() - 3.0
    }
}

/// `[batch, heads, tokens, head_dim]`: channels of different strength around a mean; of keys the mean turns as RoPE turns it.
fn values(shape: CacheShape, tokens: usize, role: Role, seed: u32) -> Vec<f32> {
    let mut noise = Noise(seed);
    let dim = shape.head_dim;
    let mut out = Vec::new();
    for plane in 0..shape.batch * shape.kv_heads {
        for t in 0..tokens {
            for c in 0..dim {
                let pair = c % (dim / 2).max(1);
                let angle = t as f64 * 0.8f64.powi(pair as i32 * 2) + (plane + pair) as f64;
                let turned = if c < dim / 2 { angle.cos() } else { angle.sin() } as f32;
                let mean = if role == Role::Key { 4.0 * turned } else { 1.0 };
                let strength = 0.5 + (c % 5) as f32 * 0.4;
                out.push(f16::from_f32(mean + noise.next() * strength).to_f32());
            }
        }
    }
    out
}

fn cache(shape: CacheShape, tokens: usize, name: &str) -> GearCache {
    let mut cache = GearCache::new(shape, preset(name), value_preset(name)).unwrap();
    for layer in 0..shape.layers {
        let [k, v] = [Role::Key, Role::Value].map(|role| values(shape, tokens, role, 7 + layer as u32));
        cache.append(layer, KvSlice::F32(&k), KvSlice::F32(&v), tokens, NEVER).unwrap();
    }
    cache
}

fn freeze(cache: &GearCache, options: &FreezeOptions) -> FrozenCache {
    FrozenCache::freeze(cache, options, None, NEVER).unwrap()
}

fn at(bits: f64) -> FreezeOptions {
    FreezeOptions { bits_per_element: Some(bits), ..Default::default() }
}

fn step(step: f64) -> FreezeOptions {
    FreezeOptions { step: Some(step), ..Default::default() }
}

fn bits(frozen: &FrozenCache) -> f64 {
    frozen.byte_length() as f64 * 8.0 / (frozen.float16_byte_length() / 2) as f64
}

fn decompressed(frozen: &FrozenCache, layer: usize, role: Role) -> Vec<f32> {
    let mut out = vec![0.0; frozen.tensor(layer, role).unwrap().shape().elements()];
    frozen.decompress_into(layer, role, &mut out, NEVER).unwrap();
    out
}

fn exact(cache: &GearCache, layer: usize, role: Role) -> Vec<f32> {
    cache.tensor(layer, role).unwrap().decompress(NEVER).unwrap()
}

/// Root mean square of the difference.
fn error(x: &[f32], y: &[f32]) -> f32 {
    (x.iter().zip(y).map(|(x, y)| (x - y) * (x - y)).sum::<f32>() / x.len() as f32).sqrt()
}

#[test]
fn a_cache_has_the_size_that_was_asked_for_and_an_error_to_match() {
    let cache = cache(CacheShape { head_dim: 64, ..SHAPE }, 1500, "float16");
    let mut last = f32::INFINITY;
    for wanted in [2.2, 3.0, 4.0, 6.0] {
        let frozen = freeze(&cache, &at(wanted));
        assert!((bits(&frozen) / wanted - 1.0).abs() < 0.03, "{wanted}: {}", bits(&frozen));
        let off = error(&exact(&cache, 1, Role::Value), &decompressed(&frozen, 1, Role::Value));
        // What remains beside a mean has a deviation of about 1; a bit halves the error.
        assert!(off < last / 1.5 && off < 2.2f32.powf(1.0 - wanted as f32), "{wanted}: {off}");
        last = off;
    }
    assert_eq!(bits(&freeze(&cache, &FreezeOptions::default())), bits(&freeze(&cache, &at(3.0))));
}

#[test]
fn keys_whose_mean_turns_take_no_more_than_keys_without_a_mean() {
    let shape = CacheShape { layers: 1, ..SHAPE };
    let turning = cache(shape, 1000, "float16");
    let mut still = GearCache::new(shape, preset("float16"), value_preset("float16")).unwrap();
    let [k, v] = [values(shape, 1000, Role::Value, 7), values(shape, 1000, Role::Value, 7)];
    still.append(0, KvSlice::F32(&k), KvSlice::F32(&v), 1000, NEVER).unwrap();
    let size = |cache: &GearCache| freeze(cache, &step(0.5)).tensor(0, Role::Key).unwrap().byte_length() as f64;
    assert!(size(&turning) < 1.02 * size(&still), "{} {}", size(&turning), size(&still));
}

#[test]
fn layers_that_turn_otherwise_than_most_are_told_apart() {
    let shape = CacheShape { layers: 6, ..SHAPE };
    let alike = cache(shape, 1000, "float16");
    // Every other token: the mean of layer 4's keys turns twice as fast.
    let keys = values(shape, 2000, Role::Key, 99);
    let faster: Vec<f32> = keys.chunks_exact(32).step_by(2).flatten().copied().collect();
    let mut mixed = GearCache::new(shape, preset("float16"), preset("float16")).unwrap();
    for layer in 0..6 {
        let key = if layer == 4 { faster.clone() } else { exact(&alike, layer, Role::Key) };
        let value = exact(&alike, layer, Role::Value);
        mixed.append(layer, KvSlice::F32(&key), KvSlice::F32(&value), 1000, NEVER).unwrap();
    }
    let frozen = freeze(&mixed, &step(0.5));
    let rotations = (0..6).map(|layer| frozen.tensor(layer, Role::Key).unwrap().rotation());
    assert_eq!(rotations.collect::<Vec<_>>(), [0, 0, 0, 0, 1, 0]);
    let size = |layer| frozen.tensor(layer, Role::Key).unwrap().byte_length() as f64;
    assert!(size(4) < 1.03 * size(3), "{} {}", size(4), size(3));
}

#[test]
fn channels_that_queries_look_at_are_kept_better() {
    let cache = cache(SHAPE, 600, "float16");
    let looked_at = |c: usize| c % 4 == 1;
    let squares: Vec<f32> = (0..2 * 32).map(|c| if looked_at(c) { 16.0 } else { 1.0 }).collect();
    let frozen = FrozenCache::freeze(&cache, &step(0.6), Some(&[&squares, &squares]), NEVER).unwrap();
    let (x, y) = (exact(&cache, 0, Role::Key), decompressed(&frozen, 0, Role::Key));
    let off = |wanted: bool| {
        let channel =
            |x: &[f32]| x.iter().enumerate().filter(|(i, _)| looked_at(i % 32) == wanted).map(|p| *p.1).collect();
        let (x, y): (Vec<f32>, Vec<f32>) = (channel(&x), channel(&y));
        error(&x, &y)
    };
    let ratio = off(false) / off(true);
    assert!((3.0..5.0).contains(&ratio), "{ratio}");
}

#[test]
fn sinks_are_exact_and_any_shape_comes_back() {
    for (head_dim, tokens, sinks) in
        [(1, 3, 0), (5, 1, 4), (80, 200, 4), (17, 2100, 1), (256, 70, 0), (32, 0, 4), (6, 4, 4)]
    {
        let shape = CacheShape { layers: 3, batch: 2, kv_heads: 1, head_dim };
        let cache = cache(shape, tokens, "float16");
        let frozen = freeze(&cache, &FreezeOptions { sinks: Some(sinks), ..step(0.1) });
        assert_eq!(frozen.tokens(), tokens);
        for role in [Role::Key, Role::Value] {
            let (x, y) = (exact(&cache, 2, role), decompressed(&frozen, 2, role));
            assert!(x.is_empty() || error(&x, &y) < 0.1, "{head_dim} {tokens} {role:?}: {}", error(&x, &y));
            for head in 0..2 {
                let first = head * tokens * head_dim;
                let count = tokens.min(sinks as usize) * head_dim;
                assert_eq!(x[first..first + count], y[first..first + count]);
            }
        }
        let thawed = frozen.thaw(None, None, NEVER).unwrap();
        assert_eq!((thawed.tokens(), thawed.shape()), (tokens, shape));
        assert_eq!(thawed.tensor(0, Role::Key).unwrap().config().preset, "float16");
    }
}

#[test]
fn a_cache_thaws_into_any_other() {
    let cache = cache(SHAPE, 300, "gear-4");
    let frozen = freeze(&cache, &at(5.0));
    let thawed = frozen.thaw(Some(preset("gear-4")), Some(preset("float32")), NEVER).unwrap();
    assert_eq!(thawed.tensor(0, Role::Key).unwrap().config().preset, "gear-4");
    assert_eq!(exact(&thawed, 1, Role::Value), decompressed(&frozen, 1, Role::Value));
    let (x, y) = (exact(&cache, 1, Role::Key), exact(&thawed, 1, Role::Key));
    assert!(error(&x, &y) < 0.25, "{}", error(&x, &y));
}

#[test]
fn layers_may_differ_in_tokens() {
    let mut cache = cache(SHAPE, 100, "float16");
    let one = vec![0.5; 2 * 32];
    cache.append(0, KvSlice::F32(&one), KvSlice::F32(&one), 1, NEVER).unwrap();
    let thawed = freeze(&cache, &at(4.0)).thaw(None, None, NEVER).unwrap();
    assert_eq!((thawed.layer_tokens(0), thawed.layer_tokens(1), thawed.tokens()), (Ok(101), Ok(100), 100));
}

#[test]
fn the_number_of_threads_changes_nothing() {
    let cache = cache(SHAPE, 1300, "gear-3");
    let all = |threads: u32| {
        let frozen = freeze(&cache, &FreezeOptions { threads: Some(threads), ..at(3.0) });
        let mut bytes = frozen.statistics().bytes().to_vec();
        for layer in 0..2 {
            for role in [Role::Key, Role::Value] {
                bytes.extend(frozen.tensor(layer, role).unwrap().bytes());
            }
        }
        bytes
    };
    assert_eq!(all(1), all(2));
    assert_eq!(all(1), all(0));
}

#[test]
fn hard_values_come_back_as_near_as_others() {
    let tokens = 400;
    let shape = CacheShape { layers: 1, ..SHAPE };
    type Make = fn(usize, f32) -> f32;
    let cases: [(&str, Make, f32); 7] = [
        ("nothing", |_, _| 0.0, 0.0),
        ("constant", |_, _| 0.3, 1e-3),
        ("constant channels", |i, x| if i % 32 < 30 { (i % 32) as f32 } else { x }, 0.08),
        ("strong channels", |i, x| if i % 32 == 9 { 100.0 + 8.0 * x } else { x }, 0.3),
        ("one outlier", |i, x| if i == 7777 { 6e4 } else { x }, 60.0),
        ("tiny", |_, x| x * 1e-30, 8e-32),
        ("huge", |_, x| x * 1e30, 8e28),
    ];
    for (name, make, most) in cases {
        let mut noise = Noise(3);
        let x: Vec<f32> = (0..2 * tokens * 32).map(|i| make(i, noise.next())).collect();
        let mut cache = GearCache::new(shape, preset("float32"), value_preset("float32")).unwrap();
        cache.append(0, KvSlice::F32(&x), KvSlice::F32(&x), tokens, NEVER).unwrap();
        let frozen = freeze(&cache, &step(0.25));
        for role in [Role::Key, Role::Value] {
            let y = decompressed(&frozen, 0, role);
            let off = x.iter().zip(&y).fold(0.0f32, |most, (x, y)| most.max((x - y).abs()));
            assert!(off <= most * 4.0, "{name} {role:?}: {off}");
        }
    }
}

#[test]
fn what_does_not_fit_is_refused_by_name() {
    let cache = cache(SHAPE, 20, "float16");
    let refused = |options: &FreezeOptions| FrozenCache::freeze(&cache, options, None, NEVER).err().unwrap();
    for (options, named) in [
        (at(0.5), "bitsPerElement"),
        (at(f64::NAN), "bitsPerElement"),
        (step(0.0), "step"),
        (FreezeOptions { step: Some(1.0), ..at(3.0) }, "both"),
        (FreezeOptions { sinks: Some(70_000), ..at(3.0) }, "sinks"),
        (FreezeOptions { threads: Some(300), ..at(3.0) }, "threads"),
    ] {
        let error = refused(&options);
        assert!(error.code() == ErrorCode::InvalidOption && error.to_string().contains(named), "{error}");
    }
    assert_eq!(FreezeOptions::from_json(r#"{"bits":3}"#).unwrap_err().code(), ErrorCode::InvalidOption);
    let queries =
        |layer: &[f32]| FrozenCache::freeze(&cache, &at(3.0), Some(&[layer, layer]), NEVER).err().map(|e| e.code());
    assert_eq!(queries(&[1.0; 63]), Some(ErrorCode::ShapeMismatch));
    assert_eq!(queries(&[f32::NAN; 64]), Some(ErrorCode::NotFinite));
    assert_eq!(queries(&[0.0; 64]), None);
    let stopped = FrozenCache::freeze(&cache, &at(3.0), None, &|| true).err().unwrap();
    assert_eq!(stopped.code(), ErrorCode::Aborted);
    let frozen = freeze(&cache, &at(3.0));
    assert_eq!(frozen.thaw(None, None, &|| true).err().unwrap().code(), ErrorCode::Aborted);
    assert_eq!(frozen.decompress_into(0, Role::Key, &mut [0.0], NEVER).unwrap_err().code(), ErrorCode::ShapeMismatch);
    assert_eq!(frozen.decompress_into(2, Role::Key, &mut [], NEVER).unwrap_err().code(), ErrorCode::ShapeMismatch);
}

fn header(role: Role, shape: KvShape, sinks: usize) -> FrozenHeader {
    FrozenHeader { role, shape, config: preset("float16"), sinks, weighted: true, rotation: 0 }
}

/// A tensor from bytes as if from a file, in a cache of one layer.
fn restored(shape: KvShape, sinks: usize, bytes: &[u8], statistics: &[u8]) -> gearkv::Result<FrozenCache> {
    let tensor = |role| {
        let bytes: Arc<[u8]> = bytes.into();
        FrozenTensor::from_bytes(header(role, shape, sinks), bytes)
    };
    let KvShape { batch, heads: kv_heads, head_dim, .. } = shape;
    let statistics = Statistics::from_bytes(statistics, head_dim)?;
    let layers = vec![(tensor(Role::Key)?, tensor(Role::Value)?)];
    FrozenCache::from_parts(CacheShape { layers: 1, batch, kv_heads, head_dim }, statistics, layers)
}

fn sample() -> FrozenCache {
    freeze(&cache(CacheShape { layers: 1, ..SHAPE }, 90, "float16"), &step(0.7))
}

#[test]
fn bytes_bring_a_cache_back_and_claims_beyond_them_are_refused() {
    let frozen = sample();
    let key = frozen.tensor(0, Role::Key).unwrap();
    let shape = key.shape();
    let tensor =
        |shape, sinks| FrozenTensor::from_bytes(header(Role::Key, shape, sinks), key.bytes().into()).map(|_| ());
    assert_eq!(tensor(shape, 4), Ok(()));
    for tokens in [1 << 20, usize::MAX >> 12] {
        assert_eq!(tensor(KvShape { tokens, ..shape }, 4).unwrap_err().code(), ErrorCode::CorruptData, "{tokens}");
    }
    // A token more or less shows when the codes are read.
    for tokens in [89, 90, 91] {
        let claimed = KvShape { tokens, ..shape };
        let cache = restored(claimed, 4, key.bytes(), frozen.statistics().bytes()).unwrap();
        let mut out = vec![0.0; claimed.elements()];
        let read = cache.decompress_into(0, Role::Key, &mut out, NEVER);
        assert_eq!(read.err().map(|e| e.code()), (tokens != 90).then_some(ErrorCode::CorruptData), "{tokens}");
    }
    for heads in [1, 3, 1 << 30] {
        assert_eq!(tensor(KvShape { heads, ..shape }, 4).unwrap_err().code(), ErrorCode::CorruptData, "{heads}");
    }
    assert_eq!(tensor(shape, 5).unwrap_err().code(), ErrorCode::CorruptData);
    assert_eq!(tensor(shape, usize::MAX).unwrap_err().code(), ErrorCode::CorruptData);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, ..ProptestConfig::default() })]

    #[test]
    fn damaged_bytes_are_an_error_or_finite_values(
        mutations in proptest::collection::vec((any::<proptest::sample::Index>(), any::<u8>()), 1..6),
        cut in proptest::option::of(any::<proptest::sample::Index>()),
        in_statistics: bool,
    ) {
        let frozen = sample();
        let key = frozen.tensor(0, Role::Key).unwrap();
        let (mut bytes, mut statistics) = (key.bytes().to_vec(), frozen.statistics().bytes().to_vec());
        let damaged = if in_statistics { &mut statistics } else { &mut bytes };
        for (index, byte) in mutations {
            let at = index.index(damaged.len());
            damaged[at] = byte;
        }
        if let Some(cut) = cut {
            damaged.truncate(cut.index(damaged.len()));
        }
        let Ok(cache) = restored(key.shape(), 4, &bytes, &statistics) else { return Ok(()) };
        let mut out = vec![0.0; key.shape().elements()];
        match cache.decompress_into(0, Role::Key, &mut out, NEVER) {
            Ok(()) => prop_assert!(out.iter().all(|x| x.is_finite())),
            Err(error) => prop_assert_eq!(error.code(), ErrorCode::CorruptData),
        }
    }
}
