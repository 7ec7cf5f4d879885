//! The preset `auto` keeps what it was asked for, and is never worse than a fixed preset of the same size.

mod common;

use common::{preset_for, values};
use gearkv::{
    AttendOptions, CacheShape, ErrorCode, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role,
};

const SHAPE: KvShape = KvShape { batch: 1, heads: 2, tokens: 260, head_dim: 32 };
const FIXED: [&str; 3] = ["gear-4", "gear-3", "gear-2"];

fn auto(goal: &str, role: Role) -> GearConfig {
    GearOptions::from_json(&format!(r#"{{"preset": "auto", {goal}}}"#)).unwrap().resolve(role).unwrap()
}

fn compress(x: &[f32], shape: KvShape, role: Role, config: GearConfig) -> GearTensor {
    GearTensor::compress(KvSlice::F32(x), shape, role, config, NEVER).unwrap()
}

fn bits(tensor: &GearTensor) -> f64 {
    8.0 * tensor.byte_length() as f64 / tensor.shape().elements() as f64
}

fn difference(x: &[f32], y: &[f32]) -> f64 {
    let square = |x: f32| f64::from(x) * f64::from(x);
    let (mut error, mut norm) = (0.0, 0.0);
    for (&x, &y) in x.iter().zip(y) {
        error += square(x - y);
        norm += square(x);
    }
    (error / norm).sqrt()
}

fn error(x: &[f32], tensor: &GearTensor) -> f64 {
    difference(x, &tensor.decompress(NEVER).unwrap())
}

/// What one direction of large values adds: low-rank pays.
fn with_direction(mut x: Vec<f32>, dim: usize, strength: f32) -> Vec<f32> {
    for (t, row) in x.chunks_exact_mut(dim).enumerate() {
        let along = ((t * t) as f32 * 0.37).sin() * strength;
        row.iter_mut().enumerate().for_each(|(d, x)| *x += along * (d as f32 * 1.3).cos());
    }
    x
}

#[test]
fn a_size_is_kept_and_used_up() {
    let x = values(SHAPE, 3);
    for role in [Role::Key, Role::Value] {
        for most in [2.5, 3.0, 3.7, 4.4, 6.0] {
            let tensor = compress(&x, SHAPE, role, auto(&format!(r#""maxBitsPerElement": {most}"#), role));
            assert!(bits(&tensor) <= most, "{role:?}: {} of {most}", bits(&tensor));
            // Eight channels of 64 go from 4 to 6 bits together: a quarter of a bit here.
            assert!(bits(&tensor) > most - 0.26, "{role:?}: {} of {most}", bits(&tensor));
            assert_eq!(tensor.config().preset, "auto");
            assert_eq!(tensor.config().max_bits_per_element, most);
        }
    }
}

#[test]
fn at_the_size_of_a_fixed_preset_it_is_never_worse() {
    for (what, x) in [("plain", values(SHAPE, 5)), ("one direction", with_direction(values(SHAPE, 6), 32, 8.0))] {
        for role in [Role::Key, Role::Value] {
            for name in FIXED {
                let fixed = compress(&x, SHAPE, role, preset_for(name, role));
                let most = bits(&fixed);
                let tensor = compress(&x, SHAPE, role, auto(&format!(r#""maxBitsPerElement": {most}"#), role));
                assert!(tensor.byte_length() <= fixed.byte_length(), "{what}: {name} {role:?}");
                let (own, theirs) = (error(&x, &tensor), error(&x, &fixed));
                assert!(own <= theirs, "{what}: {name} {role:?}: {own} > {theirs}");
            }
        }
    }
}

#[test]
fn low_rank_and_outliers_are_chosen_where_they_pay() {
    let x = with_direction(values(SHAPE, 6), 32, 8.0);
    let along = compress(&x, SHAPE, Role::Value, auto(r#""maxBitsPerElement": 3.5"#, Role::Value));
    assert!(along.config().rank > 0, "{:?}", along.config());
    let mut x = values(SHAPE, 5);
    for i in 0..x.len() / 190 {
        x[i * 190 + 7] += 60.0;
    }
    let fixed = compress(&x, SHAPE, Role::Key, preset_for("gear-3", Role::Key));
    let most = bits(&fixed);
    let spiked = compress(&x, SHAPE, Role::Key, auto(&format!(r#""maxBitsPerElement": {most}"#), Role::Key));
    assert!(spiked.config().sparsity > 0.0, "{:?}", spiked.config());
    assert!(error(&x, &spiked) < 0.9 * error(&x, &fixed), "{} {}", error(&x, &spiked), error(&x, &fixed));
}

#[test]
fn an_error_is_kept_by_as_few_bits_as_do() {
    let x = values(SHAPE, 9);
    for role in [Role::Key, Role::Value] {
        let mut before = f64::INFINITY;
        for most in [0.01, 0.03, 0.1, 0.3] {
            let tensor = compress(&x, SHAPE, role, auto(&format!(r#""maxError": {most}"#), role));
            assert!(error(&x, &tensor) <= most, "{role:?}: {} of {most}", error(&x, &tensor));
            let config = tensor.config().clone();
            assert!(bits(&tensor) < before, "{role:?}: {} bits for {most}", bits(&tensor));
            before = bits(&tensor);
            if config.mean_bits > 1.1 {
                let fewer = GearConfig { mean_bits: config.mean_bits - 0.1, max_error: 0.0, ..config };
                assert!(error(&x, &compress(&x, SHAPE, role, fewer)) > most, "{role:?}: fewer bits keep {most}");
            }
        }
    }
}

#[test]
fn an_error_that_cannot_be_kept_is_refused_and_nothing_changes() {
    let x = values(SHAPE, 9);
    let config = auto(r#""maxError": 0.0001"#, Role::Value);
    let mut tensor = GearTensor::new(1, 2, 32, Role::Value, config).unwrap();
    let refused = tensor.append(KvSlice::F32(&x), SHAPE.tokens, NEVER).unwrap_err();
    assert_eq!(refused.code(), ErrorCode::OutOfRange);
    assert!(refused.to_string().contains("maxError is 0.0001"), "{refused}");
    assert_eq!(tensor.tokens(), 0);
}

#[test]
fn what_is_chosen_stays_until_all_is_removed() {
    let x = values(KvShape { tokens: 400, ..SHAPE }, 11);
    let goal = r#""maxBitsPerElement": 3.2"#;
    let mut tensor = GearTensor::new(1, 1, 32, Role::Key, auto(goal, Role::Key)).unwrap();
    let first = tensor.config().clone();
    tensor.append(KvSlice::F32(&x[..200 * 32]), 200, NEVER).unwrap();
    let chosen = tensor.config().clone();
    assert_ne!(first.mean_bits, chosen.mean_bits);
    for t in 200..400 {
        tensor.append(KvSlice::F32(&x[t * 32..(t + 1) * 32]), 1, NEVER).unwrap();
    }
    assert_eq!(tensor.config(), &chosen);
    tensor.clear();
    tensor.append(KvSlice::F32(&x[..64 * 32].repeat(3)), 192, NEVER).unwrap();
    assert_eq!(tensor.config().max_bits_per_element, 3.2);
    assert!(bits(&tensor) <= 3.2);
}

#[test]
fn a_layer_shares_what_keys_and_values_may_take() {
    let shape = KvShape { tokens: 1100, ..SHAPE };
    let (k, v) = (values(shape, 21), values(shape, 22));
    let cache_of = |key: GearConfig, value: GearConfig, queries: Option<&[f32]>| {
        let mut cache =
            GearCache::new(CacheShape { layers: 1, batch: 1, kv_heads: 2, head_dim: 32 }, key, value).unwrap();
        let (k, v) = (KvSlice::F32(&k), KvSlice::F32(&v));
        match queries {
            Some(q) => {
                let options = AttendOptions::new(4);
                cache.append_with_queries(0, k, v, shape.tokens, KvSlice::F32(q), &options, NEVER).unwrap();
            }
            None => cache.append(0, k, v, shape.tokens, NEVER).unwrap(),
        }
        cache
    };
    let q = values(KvShape { heads: 4, ..shape }, 23);
    for queries in [None, Some(q.as_slice())] {
        for name in FIXED {
            let fixed = cache_of(preset_for(name, Role::Key), preset_for(name, Role::Value), queries);
            let most = 8.0 * fixed.byte_length() as f64 / (2 * shape.elements()) as f64;
            let goal = format!(r#""maxBitsPerElement": {most}"#);
            let cache = cache_of(auto(&goal, Role::Key), auto(&goal, Role::Value), queries);
            assert!(cache.byte_length() <= fixed.byte_length(), "{name}");
            let bits = |cache: &GearCache, role| cache.tensor(0, role).unwrap().config().mean_bits;
            let chosen = [Role::Key, Role::Value].map(|role| cache.tensor(0, role).unwrap().chosen().unwrap());
            let plain = chosen.iter().all(|chosen| chosen.rank == 0 && chosen.sparsity == 0.0);
            assert!(plain || queries.is_none(), "{name}: {chosen:?}");
            for role in [Role::Key, Role::Value] {
                assert!(!plain || bits(&cache, role) >= bits(&fixed, role), "{name} {role:?}: {chosen:?}");
            }
            assert!(cache.byte_length() as f64 > 0.99 * fixed.byte_length() as f64, "{name}");
        }
    }
}

#[test]
fn goals_are_checked() {
    for (json, words) in [
        (r#"{"preset": "auto"}"#, vec!["maxBitsPerElement", "maxError", "exactly one"]),
        (r#"{"preset": "auto", "maxBitsPerElement": 3, "maxError": 0.1}"#, vec!["exactly one"]),
        (r#"{"preset": "auto", "maxBitsPerElement": 0.5}"#, vec!["maxBitsPerElement is 0.5", "1 to 16"]),
        (r#"{"preset": "auto", "maxError": 0}"#, vec!["maxError is 0", "to 1"]),
        (r#"{"preset": "auto", "maxError": 2}"#, vec!["maxError is 2"]),
        (r#"{"preset": "gear-4", "maxError": 0.1}"#, vec!["maxError", "gear-4", "auto"]),
        (r#"{"maxBitsPerElement": 3}"#, vec!["maxBitsPerElement", "auto"]),
        (r#"{"preset": "auto", "maxError": 0.1, "meanBits": 3}"#, vec!["meanBits", "auto"]),
        (r#"{"preset": "auto", "maxError": 0.1, "rank": 3}"#, vec!["rank", "auto"]),
    ] {
        let refused = GearOptions::from_json(json).unwrap().resolve(Role::Key).unwrap_err();
        assert_eq!(refused.code(), ErrorCode::InvalidOption, "{json}");
        for word in words {
            assert!(refused.to_string().contains(word), "{json}: {refused}");
        }
    }
}

#[test]
fn queries_of_tokens_that_others_followed_without_queries_count_no_more() {
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: 2, head_dim: 32 };
    let x = values(SHAPE, 3);
    let goal = r#""maxBitsPerElement": 3"#;
    let [first, rest] = [0..2 * 20 * 32, 2 * 20 * 32..2 * 260 * 32].map(|range| KvSlice::F32(&x[range]));
    let filled = |with_queries: bool| {
        let mut cache = GearCache::new(shape, auto(goal, Role::Key), auto(goal, Role::Value)).unwrap();
        if with_queries {
            cache.append_with_queries(0, first, first, 20, first, &AttendOptions::new(2), NEVER).unwrap();
        } else {
            cache.append(0, first, first, 20, NEVER).unwrap();
        }
        cache.append(0, rest, rest, 240, NEVER).unwrap();
        [Role::Key, Role::Value].map(|role| cache.tensor(0, role).unwrap().decompress(NEVER).unwrap())
    };
    assert!(filled(true) == filled(false));
}
