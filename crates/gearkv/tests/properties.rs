//! What holds for every shape and configuration.

mod common;

use common::{attention, largest_difference, preset, values};
use gearkv::{
    AttendOptions, Backbone, CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER,
    Range, Role, f16,
};
use proptest::prelude::*;

/// `attend` against attention on what `decompress` gives, as a share of the largest value and of the largest logit there can be plus 1: queries
/// and weights have 16 bits, and all else is rounded as float32 is (4.4e-6 was the most in 6 000 cases).
const ATTEND_TOLERANCE: f32 = 1e-5;

/// The same, as a share of the largest value, of a long row none of whose weights matters much: queries times scales, and weights of turned values, have
/// 8 bits then (`attention/softmax.rs`; 9.1e-4 was the most).
const FLAT_TOLERANCE: f32 = 2.3e-3;

/// The same of a row in which one token matters (1.2e-4 was the most; 2.5e-3 where rough logits are taken as they are).
const EXACT_TOLERANCE: f32 = 2e-4;

fn norm(x: &[f32]) -> f32 {
    x.iter().map(|x| x * x).sum::<f32>().sqrt()
}

fn dims() -> impl Strategy<Value = usize> {
    prop_oneof![Just(64), Just(80), Just(96), Just(128), Just(192), Just(256), 1usize..70]
}

fn roles() -> impl Strategy<Value = Role> {
    prop_oneof![Just(Role::Key), Just(Role::Value)]
}

prop_compose! {
    fn shapes()(batch in 1usize..3, heads in 1usize..4, tokens in 0usize..150, head_dim in dims()) -> KvShape {
        KvShape::new(batch, heads, tokens, head_dim).unwrap()
    }
}

prop_compose! {
    fn configs()(
        bits in prop_oneof![Just(2u32), Just(3), Just(4), Just(8)],
        backbone in prop_oneof![Just(Backbone::Uniform), Just(Backbone::Kcvt), Just(Backbone::Kivi), Just(Backbone::Rotated)],
        group_size in prop_oneof![Just(64u32), Just(32), 1u32..100],
        rank in 0u32..6,
        decode_rank in 0u32..4,
        sparsity in prop_oneof![Just(0.0f64), Just(0.02), 0.0f64..0.5],
        sinks in 0u32..6,
        buffer_tokens in prop_oneof![Just(64u32), Just(20), 1u32..80],
        seed in any::<u32>(),
        threads in 0u32..3,
        range in prop_oneof![Just(Range::Minmax), Just(Range::Mse)],
        scale_bits in prop_oneof![Just(8u32), Just(16)],
        factor_bits in prop_oneof![Just(4u32), Just(8), Just(16)],
        rank_by_need in any::<bool>(),
        mean_bits in prop_oneof![3 => Just(0.0f64), 2 => 1.0f64..8.0],
    ) -> GearConfig {
        GearOptions {
            mean_bits: (backbone != Backbone::Uniform).then_some(mean_bits),
            preset: Some("paper-gear-4".into()),
            bits: Some(bits), backbone: Some(backbone), group_size: Some(group_size), rank: Some(rank),
            decode_rank: Some(decode_rank), sparsity: Some(sparsity), sinks: Some(sinks),
            buffer_tokens: Some(buffer_tokens), seed: Some(seed), threads: Some(threads), range: Some(range), scale_bits: Some(scale_bits),
            factor_bits: Some(factor_bits), rank_by_need: Some(rank_by_need), ..Default::default()
        }.resolve(Role::Key).unwrap()
    }
}

/// The configuration, without widths of its own where this role has none.
fn suited(config: &GearConfig, role: Role) -> GearConfig {
    let even = GearConfig { mean_bits: 0.0, ..config.clone() };
    if config.check_role(role).is_ok() { config.clone() } else { even }
}

fn compress(x: &[f32], shape: KvShape, role: Role, config: &GearConfig) -> GearTensor {
    GearTensor::compress(KvSlice::F32(x), shape, role, suited(config, role), NEVER).unwrap()
}

fn restored(tensor: &GearTensor) -> Vec<f32> {
    tensor.decompress(NEVER).unwrap()
}

/// Tokens `range` of `x`, still `[batch, heads, tokens, head_dim]`.
fn tokens_of(x: &[f32], shape: KvShape, range: std::ops::Range<usize>) -> Vec<f32> {
    let plane = shape.tokens * shape.head_dim;
    x.chunks_exact(plane.max(1))
        .flat_map(|p| p[range.start * shape.head_dim..range.end * shape.head_dim].iter().copied())
        .collect()
}

/// The widest group that a value can be in, for a bound on what quantization may do to it.
fn spread(x: &[f32]) -> f32 {
    let (lo, hi) = x.iter().fold((f32::INFINITY, f32::NEG_INFINITY), |(lo, hi), &v| (lo.min(v), hi.max(v)));
    if hi > lo { hi - lo } else { 0.0 }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 160, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn the_backbone_is_never_off_by_more_than_half_a_step(
        shape in shapes(), role in roles(), config in configs(), seed in any::<u32>()
    ) {
        let options = GearOptions { rank: Some(0), sparsity: Some(0.0), sinks: Some(0), bits: Some(config.bits),
            backbone: Some(config.backbone), group_size: Some(config.group_size), scale_bits: Some(config.scale_bits), preset: Some("paper-gear-4".into()), ..Default::default() };
        prop_assume!(config.backbone != Backbone::Rotated);
        let x = values(shape, seed);
        let tensor = compress(&x, shape, role, &options.resolve(Role::Key).unwrap());
        let step = spread(&x) / ((1u32 << config.bits) - 1) as f32;
        // A small zero may lie 1/32 of the range too low, a small scale be 1/16 too large, and what lies far out takes a scale that
        // reaches it: 127/32 of the range.
        let step = if config.scale_bits == 8 {
            let largest = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
            (step * 32.0 / 31.0).max(largest * 32.0 / 127.0 / ((1u32 << config.bits) - 1) as f32) * 17.0 / 16.0
        } else {
            step
        };
        let largest = x.iter().fold(0.0f32, |most, v| most.max(v.abs()));
        // Scale and zero are rounded to float16: half an ulp (2⁻¹¹) of each, over all levels.
        let epsilon = (spread(&x) + largest) / 2048.0 + 1e-6;
        for (exact, got) in x.iter().zip(restored(&tensor)) {
            prop_assert!((exact - got).abs() <= step / 2.0 + epsilon, "{exact} became {got}, step {step}");
        }
    }

    #[test]
    fn every_part_makes_the_whole_better_and_never_unbounded(
        shape in shapes(), role in roles(), config in configs(), seed in any::<u32>()
    ) {
        let x = values(shape, seed);
        let tensor = compress(&x, shape, role, &config);
        let got = restored(&tensor);
        prop_assert_eq!(got.len(), x.len());
        let bound = spread(&x) * (1.0 + config.rank as f32);
        prop_assert!(x.iter().zip(&got).all(|(a, b)| (a - b).abs() <= bound + 1e-3));
        prop_assert_eq!(tensor.byte_length(), tensor.parts().total());
        prop_assert_eq!(tensor.shape(), shape);
    }

    #[test]
    fn float32_and_float16_input_give_the_same_bits(shape in shapes(), role in roles(), config in configs(), seed in any::<u32>()) {
        let x = values(shape, seed);
        let half: Vec<f16> = x.iter().map(|&v| f16::from_f32(v)).collect();
        let a = compress(&x, shape, role, &config);
        let b = GearTensor::compress(KvSlice::F16(&half), shape, role, suited(&config, role), NEVER).unwrap();
        prop_assert!(restored(&a) == restored(&b));
    }

    #[test]
    fn a_batch_item_does_not_depend_on_its_neighbours(shape in shapes(), role in roles(), config in configs(), seed in any::<u32>()) {
        let single = KvShape { batch: 1, ..shape };
        let first = values(single, seed);
        let mut both = first.clone();
        both.extend(values(single, seed ^ 0x5555).iter().map(|v| v * 7.0));
        let alone = restored(&compress(&first, single, role, &config));
        let together = restored(&compress(&both, KvShape { batch: 2, ..shape }, role, &config));
        prop_assert!(together[..alone.len()] == alone[..]);
    }

    #[test]
    fn appending_compresses_each_part_by_itself(
        shape in shapes(), role in roles(), config in configs(), seed in any::<u32>(), cuts in prop::collection::vec(0usize..150, 0..6)
    ) {
        let x = values(shape, seed);
        // Segments from the buffer have the widths of the segment before them.
        let inherits = role == Role::Key && config.backbone != Backbone::Rotated;
        let config = if inherits { GearConfig { mean_bits: 0.0, ..config } } else { config };
        let mut tensor = GearTensor::new(shape.batch, shape.heads, shape.head_dim, role, suited(&config, role)).unwrap();
        let mut cuts: Vec<usize> = cuts.into_iter().map(|c| c.min(shape.tokens)).collect();
        cuts.sort_unstable();
        cuts.push(shape.tokens);
        let mut at = 0;
        for cut in cuts {
            let part = tokens_of(&x, shape, at..cut);
            tensor.append(KvSlice::F32(&part), cut - at, NEVER).unwrap();
            at = cut;
        }
        prop_assert_eq!(tensor.shape(), shape);
        let got = restored(&tensor);
        // The same runs of tokens, each compressed alone.
        let mut at = 0;
        for segment in &tensor.image().segments {
            if at == 0 { at = tensor.image().sink_tokens; }
            let run = KvShape { tokens: segment.tokens, ..shape };
            let alone = GearConfig { sinks: 0, rank: segment.rank as u32, ..suited(&config, role) };
            let part = restored(&compress(&tokens_of(&x, shape, at..at + segment.tokens), run, role, &alone));
            prop_assert!(part == tokens_of(&got, shape, at..at + segment.tokens));
            at += segment.tokens;
        }
        let raw = tensor.image().sink_tokens;
        prop_assert!(tokens_of(&got, shape, 0..raw) == tokens_of(&x, shape, 0..raw));
        let buffered = shape.tokens - tensor.image().buffer_tokens;
        prop_assert!(tokens_of(&got, shape, buffered..shape.tokens) == tokens_of(&x, shape, buffered..shape.tokens));
    }

    #[test]
    fn attending_is_decompressing_then_attending(
        shape in shapes(), key_config in configs(), value_config in configs(), seed in any::<u32>(),
        group in 1usize..4, queries in prop_oneof![1usize..5, 5usize..40], causal in any::<bool>(), window in prop::option::of(1usize..100),
        softcap in prop::option::of(5.0f32..50.0), scale in prop::option::of(0.01f32..0.3), keep in 0usize..150,
    ) {
        prop_assume!(shape.tokens >= queries);
        let cache_shape = CacheShape { layers: 1, batch: shape.batch, kv_heads: shape.heads, head_dim: shape.head_dim };
        let mut cache = GearCache::new(cache_shape, key_config, suited(&value_config, Role::Value)).unwrap();
        let (k, v) = (values(shape, seed), values(shape, seed ^ 1));
        let first = shape.tokens / 2;
        for range in [0..first, first..shape.tokens] {
            let (n, k, v) = (range.len(), tokens_of(&k, shape, range.clone()), tokens_of(&v, shape, range));
            cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), n, NEVER).unwrap();
        }
        cache.truncate(keep.clamp(queries, shape.tokens)).unwrap();
        let shape = KvShape { tokens: cache.tokens(), ..shape };
        let options = AttendOptions {
            query_heads: shape.heads * group, scale, causal, window: window.filter(|_| causal), softcap,
        };
        let query = values(KvShape { heads: options.query_heads, tokens: queries, ..shape }, seed ^ 2);
        let mut got = vec![0.0; query.len()];
        cache.attend(0, KvSlice::F32(&query), queries, &options, &mut got, NEVER).unwrap();
        let key = restored(cache.tensor(0, Role::Key).unwrap());
        let value = restored(cache.tensor(0, Role::Value).unwrap());
        let exact = attention(&key, &value, shape, &query, queries, &options);
        let off = largest_difference(&exact, &got);
        // How far logits reach, and with them what is left out where queries become whole numbers.
        let longest = |x: &[f32]| x.chunks_exact(shape.head_dim).map(norm).fold(0.0, f32::max);
        let reach = options.scale.unwrap_or(1.0 / (shape.head_dim as f32).sqrt()) * longest(&query) * longest(&key);
        let largest = value.iter().fold(0.0f32, |most, x| most.max(x.abs()));
        let off = off / ((1.0 + reach) * largest.max(1e-3));
        prop_assert!(off <= ATTEND_TOLERANCE, "off by {off}");
    }

    #[test]
    fn truncating_shows_a_prefix_and_an_image_is_the_tensor(
        shape in shapes(), role in roles(), config in configs(), seed in any::<u32>(), keep in 0usize..150
    ) {
        let x = values(shape, seed);
        let mut tensor = GearTensor::new(shape.batch, shape.heads, shape.head_dim, role, suited(&config, role)).unwrap();
        tensor.append(KvSlice::F32(&x), shape.tokens, NEVER).unwrap();
        let whole = restored(&tensor);
        let keep = keep.min(shape.tokens);
        tensor.truncate(keep).unwrap();
        prop_assert!(restored(&tensor) == tokens_of(&whole, shape, 0..keep));
        let again = GearTensor::from_image(tensor.image()).unwrap();
        prop_assert!(restored(&again) == restored(&tensor));
        prop_assert_eq!(again.parts(), tensor.parts());
        let more = values(KvShape { tokens: 3, ..shape }, seed ^ 9);
        tensor.append(KvSlice::F32(&more), 3, NEVER).unwrap();
        prop_assert_eq!(tensor.tokens(), keep + 3);
        // What had been compressed stays as it was; what waited in the buffer may have been compressed now.
        let settled = keep - again.image().buffer_tokens;
        prop_assert!(tokens_of(&restored(&tensor), tensor.shape(), 0..settled) == tokens_of(&whole, shape, 0..settled));
    }
}

/// How far attention on a prompt, whose keys are changed before it is compressed, is off from attention on what it decompresses to: as a share of the
/// largest value.
fn off(name: &str, tokens: usize, reach: f32, seed: u32, change: impl Fn(&mut [f32], &[f32])) -> f32 {
    let shape = KvShape::new(1, 2, tokens, 128).unwrap();
    let cache_shape = CacheShape { layers: 1, batch: 1, kv_heads: 2, head_dim: 128 };
    let of = |role| GearOptions { preset: Some(name.into()), ..Default::default() }.resolve(role).unwrap();
    let mut cache = GearCache::new(cache_shape, of(Role::Key), of(Role::Value)).unwrap();
    let unit = values(KvShape { heads: 6, tokens: 1, ..shape }, seed ^ 2);
    let query: Vec<f32> = unit.iter().map(|x| x * reach).collect();
    let (mut k, v) = (values(shape, seed), values(shape, seed ^ 1));
    change(&mut k, &query);
    cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), shape.tokens, NEVER).unwrap();
    let options = AttendOptions { causal: false, ..AttendOptions::new(6) };
    let mut got = vec![0.0; query.len()];
    cache.attend(0, KvSlice::F32(&query), 1, &options, &mut got, NEVER).unwrap();
    let [key, value] = [Role::Key, Role::Value].map(|role| restored(cache.tensor(0, role).unwrap()));
    let exact = attention(&key, &value, shape, &query, 1, &options);
    let largest = value.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    exact.iter().zip(&got).fold(0.0f32, |most, (x, y)| most.max((x - y).abs())) / largest
}

#[test]
fn what_matters_little_may_be_bytes() {
    for (name, tokens, reach, seed) in [
        ("gear-4", 1500, 0.0, 1),
        ("gear-4", 1500, 1.5, 2),
        ("gear-3", 1500, 0.5, 3),
        ("gear-2", 1500, 3.0, 4),
        ("gear-4", 8000, 4.0, 5),
        ("gear-l-4", 8000, 3.0, 6),
        ("kivi-4", 8000, 4.0, 7),
    ] {
        let off = off(name, tokens, reach, seed, |_, _| {});
        assert!(off < FLAT_TOLERANCE, "{name}, {reach}: off by {off}");
    }
}

#[test]
fn a_token_that_matters_after_many_that_do_not_is_exact() {
    for (name, seed) in [("gear-4", 11), ("gear-2", 12), ("gear-l-4", 13), ("kivi-4", 14)] {
        // Of each head, a late key that is much like one of the queries that share the head.
        let off = off(name, 6000, 0.1, seed, |k, query| {
            for (head, keys) in k.chunks_exact_mut(6000 * 128).enumerate() {
                let like = &query[(3 * head + 1) * 128..][..128];
                let key = &mut keys[(5000 + head) * 128..][..128];
                key.iter_mut().zip(like).for_each(|(k, q)| *k = 60.0 * q);
            }
        });
        assert!(off < EXACT_TOLERANCE, "{name}: off by {off}");
    }
}

#[test]
fn uncompressed_presets_give_back_what_was_given() {
    let shape = KvShape::new(2, 3, 77, 40).unwrap();
    let x: Vec<f32> = values(shape, 3).iter().map(|v| v * 1.000_123).collect();
    assert_eq!(restored(&compress(&x, shape, Role::Key, &preset("float32"))), x);
    let rounded: Vec<f32> = x.iter().map(|&v| f16::from_f32(v).to_f32()).collect();
    assert_eq!(restored(&compress(&x, shape, Role::Value, &preset("float16"))), rounded);
}
