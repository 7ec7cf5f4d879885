//! What forks take.

use gearkv::{AttendOptions, CacheShape, GearCache, KvShape, KvSlice, NEVER, Role};

use crate::counting::counted;
use crate::{DIM, common, config};

const LAYERS: usize = 2;
const HEADS: usize = 3;
const PROMPT: usize = 10_000;
const WAITING: usize = 20;
const FORKS: usize = 1000;

fn append(cache: &mut GearCache, tokens: usize, seed: u32) {
    let new = common::values(KvShape::new(1, HEADS, tokens, DIM).unwrap(), seed);
    for layer in 0..LAYERS {
        cache.append(layer, KvSlice::F32(&new), KvSlice::F32(&new), tokens, NEVER).unwrap();
    }
}

/// A prompt, and some tokens that wait in the buffer.
fn cache(prompt: usize) -> GearCache {
    let shape = CacheShape { layers: LAYERS, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let mut cache = GearCache::new(shape, config("gear-4", Role::Key), config("gear-4", Role::Value)).unwrap();
    append(&mut cache, prompt, 1);
    append(&mut cache, WAITING, 2);
    cache
}

fn attend(cache: &GearCache) -> Vec<f32> {
    let q = common::values(KvShape::new(1, HEADS, 1, DIM).unwrap(), 3);
    let mut out = vec![0.0; q.len()];
    cache.attend(1, KvSlice::F32(&q), 1, &AttendOptions::new(HEADS), &mut out, NEVER).unwrap();
    out
}

#[test]
fn a_thousand_forks_cost_about_one_cache() {
    // What a thread keeps for its next work is there before anything is counted.
    attend(&cache(100));
    let (original, one) = counted(|| cache(PROMPT));
    let expected = attend(&original);
    let (mut forks, all) = counted(|| vec![original.clone(); FORKS]);
    assert!(all.live <= one.live / 10, "{FORKS} forks take {} bytes, one cache {}", all.live, one.live);
    assert_eq!(original.shared_byte_length(), original.byte_length());

    let buffer_tokens = config("gear-4", Role::Key).buffer_tokens as usize;
    let ((), grown) = counted(|| append(&mut forks[0], buffer_tokens, 4));
    // What it has for itself now: one segment a tensor, sinks, buffer and headers.
    let own = forks[0].byte_length() - forks[0].shared_byte_length();
    assert!(grown.live <= (own + own / 10) as isize, "{grown:?}, {own} bytes are its own");
    // In float16 the same tokens, those before them in the buffer, and the sinks would take more.
    let float16 = 2 * 2 * LAYERS * HEADS * DIM * (buffer_tokens + WAITING + config("gear-4", Role::Key).sinks as usize);
    assert!(own < float16, "{own} of {float16} bytes");
    assert_eq!(attend(&original), expected);
    assert_eq!(attend(&forks[1]), expected);

    let ((), dropped) = counted(|| drop(original));
    assert!(dropped.live > -one.live / 10, "what forks have is still there: {dropped:?}");
    assert_eq!(attend(&forks[FORKS - 1]), expected);
    let ((), freed) = counted(|| drop(forks));
    assert_eq!(dropped.live + freed.live, -(one.live + all.live + grown.live), "everything was given back");
}

#[test]
fn a_fork_that_did_not_change_stays_shared() {
    let original = cache(300);
    let whole = original.byte_length();
    let mut fork = original.clone();
    fork.truncate(fork.tokens()).unwrap();
    fork.settle(0, NEVER).unwrap();
    assert!(fork.append(0, KvSlice::F32(&[f32::NAN]), KvSlice::F32(&[0.0]), 1, NEVER).is_err());
    assert_eq!((fork.shared_byte_length(), original.shared_byte_length()), (whole, whole));
    fork.reserve(0, 5).unwrap();
    assert!(fork.shared_byte_length() < whole, "room is a fork's own");
    drop(fork);
    assert_eq!(original.shared_byte_length(), 0);
}
