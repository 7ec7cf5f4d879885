//! A cache that is appended to, truncated, shifted, forked, reordered, saved and restored in any order. What is forked must not change, what is
//! truncated must stay as it was up to there, and what is restored must be what was saved.

use gearkv::{AttendOptions, CacheShape, GearCache, GearOptions, KvSlice, NEVER, Role};
use gearkv_format::{About, CacheReader, CacheWriter};

const PRESETS: [&str; 12] = [
    "gear-4",
    "gear-3",
    "gear-2",
    "gear-l-2",
    "kivi-4",
    "kivi-2",
    "kcvt-4",
    "uniform-4",
    "uniform-8",
    "paper-gear-4",
    "float16",
    "float32",
];
const HEAD_DIM: usize = 8;
const MOST_TOKENS: usize = 120;
const MOST_STEPS: usize = 24;

/// Bytes that decide what happens; zeros once they are used up.
struct Choices<'a>(std::slice::Iter<'a, u8>);

impl Choices<'_> {
    fn below(&mut self, bound: usize) -> usize {
        usize::from(self.0.next().copied().unwrap_or(0)) % bound
    }
}

/// Everything that a cache holds, as bits.
type Content = Vec<Vec<u32>>;

/// Does what the bytes say.
pub fn run(bytes: &[u8]) {
    let mut choices = Choices(bytes.iter());
    let Some(mut cache) = empty(&mut choices) else { return };
    let mut forks: Vec<(GearCache, Content)> = Vec::new();
    let mut steps = 0;
    while choices.0.len() > 0 && steps < MOST_STEPS {
        steps += 1;
        match choices.below(10) {
            0..=2 => {
                let (tokens, seed) = (1 + choices.below(24), choices.below(256));
                (0..cache.shape().layers).for_each(|layer| append(&mut cache, layer, tokens, seed));
            }
            // Layers grow apart in the middle of a step.
            3 => append(&mut cache, 0, 1, 7),
            4 => {
                let tokens = choices.below(cache.tokens() + 1);
                let before = content(&cache, tokens);
                cache.truncate(tokens).unwrap();
                assert_eq!(cache.tokens(), tokens);
                assert!(content(&cache, tokens) == before, "truncating changed what is left");
            }
            5 if forks.len() < 4 => forks.push((cache.clone(), content(&cache, MOST_TOKENS))),
            6 if !forks.is_empty() => {
                let fork = forks.swap_remove(choices.below(forks.len()));
                let left = content(&cache, MOST_TOKENS);
                forks.push((std::mem::replace(&mut cache, fork.0), left));
            }
            7 => cache = restored(&cache, 1 + choices.below(256)),
            8 => {
                let batch = cache.shape().batch;
                let order: Vec<u32> = (0..batch).map(|_| choices.below(batch) as u32).collect();
                cache.reorder(&order).unwrap();
            }
            9 if cache.tokens() > 0 => {
                let tokens = cache.tokens();
                let keep = choices.below(tokens);
                let drop = choices.below(tokens - keep + 1);
                let before = content(&cache, keep);
                // Sinks stay: to refuse less than these is right.
                let dropped = if cache.shift(Some(keep), drop).is_ok() { drop } else { 0 };
                assert_eq!(cache.tokens(), tokens - dropped);
                assert!(content(&cache, keep) == before, "a shift changed what it keeps");
            }
            _ => attend(&cache),
        }
    }
    for (fork, before) in &forks {
        assert!(content(fork, MOST_TOKENS) == *before, "a fork changed with what it was forked from");
    }
    restored(&cache, 100);
}

fn empty(choices: &mut Choices) -> Option<GearCache> {
    let preset = PRESETS[choices.below(PRESETS.len())];
    let (buffer, sinks, batch, heads) =
        (choices.below(20), choices.below(4), 1 + choices.below(2), 1 + choices.below(2));
    let options = GearOptions {
        preset: Some(preset.into()),
        threads: Some(1),
        buffer_tokens: (buffer > 0 && !preset.starts_with("float")).then_some(buffer as u32),
        sinks: (!preset.starts_with("float")).then_some(sinks as u32),
        ..Default::default()
    };
    let shape = CacheShape { layers: 2, batch, kv_heads: heads, head_dim: HEAD_DIM };
    // Some choices do not go together; to refuse them is right.
    let (key, value) = (options.resolve(Role::Key).ok()?, options.resolve(Role::Value).ok()?);
    GearCache::new(shape, key, value).ok()
}

fn append(cache: &mut GearCache, layer: usize, tokens: usize, seed: usize) {
    let before = cache.layer_tokens(layer).unwrap();
    if before + tokens > MOST_TOKENS {
        return;
    }
    let CacheShape { batch, kv_heads, head_dim, .. } = cache.shape();
    let mut state = 2 * seed as u32 + 1;
    let mut values = || {
        let next = || {
            state = state.wrapping_mul(747_796_405).wrapping_add(2_891_336_453);
            (state >> 16) as f32 / 32_768.0 - 1.0
        };
        std::iter::repeat_with(next).take(batch * kv_heads * tokens * head_dim).collect::<Vec<_>>()
    };
    let (key, value) = (values(), values());
    cache.append(layer, KvSlice::F32(&key), KvSlice::F32(&value), tokens, NEVER).unwrap();
    assert_eq!(cache.layer_tokens(layer).unwrap(), before + tokens);
}

fn attend(cache: &GearCache) {
    let CacheShape { batch, kv_heads, head_dim, .. } = cache.shape();
    if cache.layer_tokens(1).unwrap() == 0 {
        return;
    }
    let query = vec![0.25; batch * kv_heads * head_dim];
    let mut out = vec![0.0; query.len()];
    cache.attend(1, KvSlice::F32(&query), 1, &AttendOptions::new(kv_heads), &mut out, NEVER).unwrap();
    assert!(out.iter().all(|value| value.is_finite()));
}

/// The first `tokens` of every layer, or as many as it has.
fn content(cache: &GearCache, tokens: usize) -> Content {
    let CacheShape { layers, head_dim, .. } = cache.shape();
    let halves = (0..layers).flat_map(|layer| [(layer, Role::Key), (layer, Role::Value)]);
    let visible = |(layer, role)| {
        let tensor = cache.tensor(layer, role).unwrap();
        let all = tensor.decompress(NEVER).unwrap();
        let plane = tensor.tokens() * head_dim;
        let planes = all.chunks(plane.max(1)).flat_map(|plane| &plane[..plane.len().min(tokens * head_dim)]);
        planes.map(|value| value.to_bits()).collect()
    };
    halves.map(visible).collect()
}

fn restored(cache: &GearCache, piece: usize) -> GearCache {
    let about = About { token_ids: Some(vec![1; cache.tokens()]), ..About::default() };
    let mut writer = CacheWriter::cache(cache, about.clone()).unwrap();
    let mut reader = CacheReader::new(None);
    loop {
        let bytes = writer.next_bytes(16 * piece).unwrap();
        if bytes.is_empty() {
            break;
        }
        reader.push(bytes).unwrap();
    }
    let (restored, said) = reader.into_cache().unwrap();
    assert_eq!(said, about);
    assert!(content(&restored, MOST_TOKENS) == content(cache, MOST_TOKENS), "what was restored is not what was saved");
    restored
}
