//! Forks and truncated caches that go on.

mod common;

use std::sync::LazyLock;

use common::{attention, largest_difference, preset_for, values};
use gearkv::{AttendOptions, CacheShape, GearCache, KvShape, KvSlice, NEVER, Role};
use proptest::prelude::*;

const SHAPE: CacheShape = CacheShape { layers: 1, batch: 2, kv_heads: 2, head_dim: 64 };
const PRESETS: [&str; 6] = ["gear-4", "gear-2", "kivi-2", "kcvt-4", "paper-gear-4", "float16"];
const PROMPT: usize = 301;
const ALL: usize = PROMPT + 200;

static KEYS: LazyLock<Vec<f32>> = LazyLock::new(|| values(shape(ALL), 1));
static VALUES: LazyLock<Vec<f32>> = LazyLock::new(|| values(shape(ALL), 2));

fn shape(tokens: usize) -> KvShape {
    KvShape::new(SHAPE.batch, SHAPE.kv_heads, tokens, SHAPE.head_dim).unwrap()
}

/// Tokens `from..to` of all.
fn part(all: &[f32], from: usize, to: usize) -> Vec<f32> {
    let row = SHAPE.head_dim;
    all.chunks_exact(ALL * row).flat_map(|plane| &plane[from * row..to * row]).copied().collect()
}

fn append(cache: &mut GearCache, from: usize, to: usize) {
    let (k, v) = (part(&KEYS, from, to), part(&VALUES, from, to));
    cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), to - from, NEVER).unwrap();
}

/// The prompt, then tokens one by one up to `tokens`.
fn grown(preset: &str, tokens: usize) -> GearCache {
    let mut cache = GearCache::new(SHAPE, preset_for(preset, Role::Key), preset_for(preset, Role::Value)).unwrap();
    append(&mut cache, 0, PROMPT);
    decode(&mut cache, PROMPT, tokens);
    cache
}

fn decode(cache: &mut GearCache, from: usize, to: usize) {
    (from..to).for_each(|token| append(cache, token, token + 1));
}

fn options() -> AttendOptions {
    AttendOptions::new(4)
}

fn attend(cache: &GearCache, options: &AttendOptions) -> Vec<f32> {
    let q = values(KvShape::new(SHAPE.batch, options.query_heads, 1, SHAPE.head_dim).unwrap(), 3);
    let mut out = vec![0.0; q.len()];
    cache.attend(0, KvSlice::F32(&q), 1, options, &mut out, NEVER).unwrap();
    out
}

/// Attention to these keys and values.
fn reference(k: &[f32], v: &[f32], tokens: usize) -> Vec<f32> {
    let q = values(KvShape::new(SHAPE.batch, 4, 1, SHAPE.head_dim).unwrap(), 3);
    attention(k, v, shape(tokens), &q, 1, &options())
}

fn restored(cache: &GearCache, role: Role) -> Vec<f32> {
    cache.tensor(0, role).unwrap().decompress(NEVER).unwrap()
}

#[test]
fn a_fork_that_is_continued_alike_is_the_same_to_the_bit() {
    for preset in PRESETS {
        let mut original = grown(preset, PROMPT + 30);
        let mut fork = original.clone();
        decode(&mut original, PROMPT + 30, ALL);
        decode(&mut fork, PROMPT + 30, ALL);
        assert_eq!(attend(&fork, &options()), attend(&original, &options()), "{preset}");
        for role in [Role::Key, Role::Value] {
            assert_eq!(restored(&fork, role), restored(&original, role), "{preset} {role:?}");
        }
    }
}

#[test]
fn a_cache_cut_where_a_segment_ends_or_in_the_buffer_goes_on_to_the_bit() {
    for preset in PRESETS {
        let original = grown(preset, ALL);
        let buffer = original.tensor(0, Role::Key).unwrap().config().buffer_tokens as usize;
        let in_buffer = PROMPT + (ALL - PROMPT) / buffer * buffer + (ALL - PROMPT) % buffer / 2;
        for cut in [PROMPT, PROMPT + buffer, in_buffer] {
            let mut fork = original.clone();
            fork.truncate(cut).unwrap();
            decode(&mut fork, cut, ALL);
            assert_eq!(attend(&fork, &options()), attend(&original, &options()), "{preset}, cut to {cut}");
        }
    }
}

/// Inside a segment the cut stays where it is, and the next segment begins there rather than where the old one ended.
#[test]
fn a_cache_cut_inside_a_segment_is_as_near_to_what_it_holds_as_it_was() {
    for preset in PRESETS {
        let original = grown(preset, ALL);
        let exact = reference(&KEYS, &VALUES, ALL);
        let error = largest_difference(&exact, &attend(&original, &options()));
        for cut in [2, PROMPT - 50, PROMPT + 11] {
            let mut fork = original.clone();
            fork.truncate(cut).unwrap();
            decode(&mut fork, cut, ALL);
            let now = largest_difference(&exact, &attend(&fork, &options()));
            assert!(now <= 2.0 * error + 1e-3, "{preset}, cut to {cut}: error {now}, before {error}");
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    /// Cuts in sinks, segments and buffer, and tokens behind them: what is attended to is what the cache says it holds.
    #[test]
    fn what_is_cut_is_gone_and_the_rest_is_exact(
        preset in 0..PRESETS.len(),
        tokens in PROMPT..ALL,
        cut in 1..PROMPT + 150,
        more in 1usize..90,
    ) {
        let cut = cut.min(tokens);
        let original = grown(PRESETS[preset], tokens);
        let mut fork = original.clone();
        fork.truncate(cut).unwrap();
        for role in [Role::Key, Role::Value] {
            let (before, after) = (restored(&original, role), restored(&fork, role));
            let row = SHAPE.head_dim;
            for (before, after) in before.chunks_exact(tokens * row).zip(after.chunks_exact(cut * row)) {
                prop_assert!(before[..cut * row] == *after);
            }
        }
        let end = (cut + more).min(ALL);
        decode(&mut fork, cut, end);
        prop_assert_eq!(fork.tokens(), end);
        let expected = reference(&restored(&fork, Role::Key), &restored(&fork, Role::Value), end);
        prop_assert!(largest_difference(&expected, &attend(&fork, &options())) < 2e-3);
        prop_assert_eq!(original.tokens(), tokens);
    }
}
