//! Tokens dropped behind the sinks, and what a cache goes on with.

mod common;

use common::{BY_NEED, attention, config_for, largest_difference, values};
use gearkv::{
    AttendOptions, CacheShape, ErrorCode, GearCache, GearConfig, GearTensor, KvShape, KvSlice, NEVER, Role,
    preset_names,
};
use proptest::prelude::*;

const HEADS: usize = 2;
const DIM: usize = 64;
const QUERY_HEADS: usize = 4;
const ROLES: [Role; 2] = [Role::Key, Role::Value];
const PROMPT: usize = 301;
/// Segments from the buffer behind the prompt's, and tokens that wait.
const ALL: usize = PROMPT + 200;
/// Of attention on what is held.
const TOLERANCE: f32 = 2e-3;

fn append(cache: &mut GearCache, tokens: usize, seed: u32) {
    let shape = KvShape::new(cache.shape().batch, HEADS, tokens, DIM).unwrap();
    let (k, v) = (values(shape, seed), values(shape, seed + 1000));
    cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), tokens, NEVER).unwrap();
}

fn filled(key: GearConfig, value: GearConfig, batch: usize) -> GearCache {
    let shape = CacheShape { layers: 1, batch, kv_heads: HEADS, head_dim: DIM };
    let mut cache = GearCache::new(shape, key, value).unwrap();
    append(&mut cache, PROMPT, 1);
    for (i, tokens) in [64, 70, 1, 65].into_iter().enumerate() {
        append(&mut cache, tokens, 2 + i as u32);
    }
    assert_eq!(cache.tokens(), ALL);
    cache
}

fn restored(cache: &GearCache, role: Role) -> Vec<f32> {
    cache.tensor(0, role).unwrap().decompress(NEVER).unwrap()
}

/// What is left of `[planes, tokens, dim]`.
fn without(all: &[f32], tokens: usize, keep: usize, drop: usize) -> Vec<f32> {
    let planes = all.chunks_exact(tokens * DIM);
    planes.flat_map(|plane| [&plane[..keep * DIM], &plane[(keep + drop) * DIM..]].concat()).collect()
}

fn attend(cache: &GearCache, options: &AttendOptions, queries: usize) -> (Vec<f32>, Vec<f32>) {
    let q = values(KvShape::new(cache.shape().batch, QUERY_HEADS, queries, DIM).unwrap(), 77);
    let mut out = vec![0.0; q.len()];
    cache.attend(0, KvSlice::F32(&q), queries, options, &mut out, NEVER).unwrap();
    (q, out)
}

/// Attention is attention on what the cache says it holds.
fn assert_attends(cache: &GearCache, what: &str) {
    let shape = cache.tensor(0, Role::Key).unwrap().shape();
    let windowed = AttendOptions { window: Some(90), ..AttendOptions::new(QUERY_HEADS) };
    for (options, queries) in
        [(AttendOptions::new(QUERY_HEADS), 1), (AttendOptions::new(QUERY_HEADS), 9), (windowed, 2)]
    {
        if queries > shape.tokens {
            continue;
        }
        let (q, out) = attend(cache, &options, queries);
        let (k, v) = (restored(cache, Role::Key), restored(cache, Role::Value));
        let difference = largest_difference(&attention(&k, &v, shape, &q, queries, &options), &out);
        assert!(difference < TOLERANCE, "{what}: {difference}");
    }
}

/// The same from its own image, to the bit.
fn assert_survives(cache: &GearCache, what: &str) {
    let tensors = ROLES.map(|role| GearTensor::from_image(cache.tensor(0, role).unwrap().image()).unwrap());
    let [key, value] = tensors;
    let again = GearCache::from_tensors(cache.shape(), vec![(key, value)]).unwrap();
    for role in ROLES {
        assert!(restored(&again, role) == restored(cache, role), "{what}: {role:?}");
    }
    let options = AttendOptions::new(QUERY_HEADS);
    assert!(attend(&again, &options, 1).1 == attend(cache, &options, 1).1, "{what}");
}

fn shift(cache: &mut GearCache, keep: Option<usize>, drop: usize, what: &str) {
    let tokens = cache.tokens();
    let sinks = ROLES.map(|role| cache.tensor(0, role).unwrap().image().sink_tokens).into_iter().max().unwrap();
    let before = ROLES.map(|role| restored(cache, role));
    let bytes = cache.byte_length();
    cache.shift(keep, drop).unwrap();
    assert_eq!(cache.tokens(), tokens - drop, "{what}");
    for (role, before) in ROLES.into_iter().zip(before) {
        let expected = without(&before, tokens, keep.unwrap_or(sinks), drop);
        assert!(restored(cache, role) == expected, "{what}: {role:?} is not what it was");
    }
    assert!(cache.byte_length() <= bytes + 1000, "{what}");
}

/// Where keys and values go into pieces in the same places, and where they do not.
fn pairs() -> Vec<(String, GearConfig, GearConfig)> {
    let alike = preset_names().iter().chain(&[BY_NEED]);
    let mut pairs: Vec<_> =
        alike.map(|name| (name.to_string(), config_for(name, ROLES[0]), config_for(name, ROLES[1]))).collect();
    for (key, value) in [("gear-4", "kivi-2"), ("kcvt-4", "gear-2"), ("float16", "gear-4"), ("paper-gear-4", "float32")]
    {
        pairs.push((format!("{key} and {value}"), config_for(key, ROLES[0]), config_for(value, ROLES[1])));
    }
    pairs
}

#[test]
fn what_is_left_is_what_it_was_and_is_attended_to() {
    // Inside the prompt; to a tile's end; a segment's; into the next; inside the buffer; all.
    let cuts =
        [(None, 1), (None, 37), (None, 64), (None, 297), (None, 330), (None, 490), (None, ALL - 4), (Some(50), 20)];
    let more = [(Some(64), 300), (Some(310), 70), (Some(0), 0), (Some(ALL), 0)];
    for (name, key, value) in pairs() {
        let original = filled(key, value, 1);
        let before = attend(&original, &AttendOptions::new(QUERY_HEADS), 1).1;
        for (keep, drop) in cuts.into_iter().chain(more) {
            if keep == Some(0) && original.tensor(0, Role::Key).unwrap().image().sink_tokens > 0 {
                continue;
            }
            let what = format!("{name}: {drop} behind {keep:?}");
            let mut cache = original.clone();
            if cache.shift(keep, drop).is_err() {
                // Only keys have sinks, or only values.
                assert_eq!(keep, Some(0), "{what}");
                continue;
            }
            let mut cache = original.clone();
            shift(&mut cache, keep, drop, &what);
            if cache.tokens() > 0 {
                assert_attends(&cache, &what);
                assert_survives(&cache, &what);
            }
            append(&mut cache, 90, 20);
            assert_attends(&cache, &format!("{what}, later"));
            assert_survives(&cache, &format!("{what}, later"));
            shift(&mut cache, None, 23, &format!("{what}, again"));
            assert_attends(&cache, &format!("{what}, again"));
        }
        assert!(attend(&original, &AttendOptions::new(QUERY_HEADS), 1).1 == before, "{name}: the fork");
    }
}

/// A window of bounded size, as long as one likes: what goes in goes out again.
#[test]
fn a_cache_that_is_shifted_again_and_again_stays_as_large_as_its_window() {
    for preset in ["gear-4", "kivi-2", "kcvt-4", "paper-gear-4", "float16"] {
        let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
        let mut cache = GearCache::new(shape, config_for(preset, ROLES[0]), config_for(preset, ROLES[1])).unwrap();
        let mut most = 0;
        for step in 0..3000 {
            append(&mut cache, 1, step);
            if cache.tokens() > 400 {
                cache.shift(None, 200).unwrap();
            }
            let bytes = cache.byte_length();
            if step < 1000 {
                most = most.max(bytes);
            } else {
                assert!(bytes <= most + most / 4, "{preset}: {bytes} bytes, {most} before");
            }
        }
        assert_attends(&cache, preset);
    }
}

#[test]
fn what_cannot_be_dropped_is_refused_and_nothing_changes() {
    let mut cache = filled(config_for("gear-4", ROLES[0]), config_for("gear-4", ROLES[1]), 1);
    let before = attend(&cache, &AttendOptions::new(QUERY_HEADS), 1).1;
    for (keep, drop) in
        [(None, ALL - 3), (Some(3), 1), (Some(ALL), 1), (Some(usize::MAX), usize::MAX), (None, usize::MAX)]
    {
        let error = cache.shift(keep, drop).unwrap_err();
        assert_eq!(error.code(), ErrorCode::ShapeMismatch, "{error}");
    }
    assert_eq!(cache.tokens(), ALL);
    assert!(attend(&cache, &AttendOptions::new(QUERY_HEADS), 1).1 == before);
    let fork = cache.clone();
    cache.shift(None, 0).unwrap();
    assert_eq!(fork.shared_byte_length(), fork.byte_length());
}

#[derive(Clone, Debug)]
enum Step {
    Append(usize),
    Truncate(usize),
    Shift(usize, usize),
    Reorder(Vec<usize>),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (1usize..130).prop_map(Step::Append),
        1 => (1usize..500).prop_map(Step::Truncate),
        2 => (0usize..300, 1usize..200).prop_map(|(keep, drop)| Step::Shift(keep, drop)),
        1 => prop::collection::vec(0usize..60, 1..4).prop_map(Step::Reorder),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_cache_is_what_it_says_it_holds_whatever_was_done_to_it(
        preset in prop::sample::select(vec!["gear-4", "gear-2", "kivi-2", "kcvt-4", "paper-gear-4", BY_NEED, "float16"]),
        steps in prop::collection::vec(step(), 1..9),
    ) {
        let mut cache = filled(config_for(preset, ROLES[0]), config_for(preset, ROLES[1]), 2);
        let mut forks = Vec::new();
        for (i, step) in steps.iter().enumerate() {
            let tokens = cache.tokens();
            forks.push((cache.clone(), restored(&cache, Role::Key)));
            match step {
                Step::Append(more) => append(&mut cache, *more, 100 + i as u32),
                Step::Truncate(left) => cache.truncate(4 + left % (tokens - 3)).unwrap(),
                Step::Shift(keep, drop) => {
                    let keep = 4 + keep % (tokens - 3);
                    shift(&mut cache, Some(keep), *drop.min(&(tokens - keep)), preset);
                }
                Step::Reorder(order) => {
                    let batch = cache.shape().batch;
                    let order: Vec<u32> = order.iter().map(|item| (item % batch) as u32).collect();
                    cache.reorder(&order).unwrap();
                }
            }
            assert_attends(&cache, preset);
        }
        assert_survives(&cache, preset);
        for (fork, keys) in forks {
            prop_assert!(restored(&fork, Role::Key) == keys, "{preset}: a fork changed");
        }
    }
}
