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
    println!("{FORKS} forks take {} bytes, one cache of {PROMPT} tokens {}", all.live, one.live);
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

/// What is compressed is never copied; without compression all of a layer is one buffer.
#[test]
fn a_fork_that_gets_a_token_copies_sinks_and_buffer_of_its_layer_and_no_segment() {
    for preset in ["gear-4", "kivi-2", "paper-gear-4", "float16"] {
        let shape = CacheShape { layers: LAYERS, batch: 1, kv_heads: HEADS, head_dim: DIM };
        let mut original = GearCache::new(shape, config(preset, Role::Key), config(preset, Role::Value)).unwrap();
        append(&mut original, 2000, 1);
        append(&mut original, WAITING, 2);
        let mut fork = original.clone();
        let new = common::values(KvShape::new(1, HEADS, 1, DIM).unwrap(), 3);
        let ((), one) = counted(|| fork.append(0, KvSlice::F32(&new), KvSlice::F32(&new), 1, NEVER).unwrap());
        let row = 2 * HEADS * DIM;
        // The list of segments, and what both tensors keep beside arrays; the room of a buffer grows by an eighth.
        let most = match preset {
            "float16" => 2 * (2000 + WAITING + 1) * row * 9 / 8,
            _ => 2 * (4 + 2 * (WAITING + 1)) * row + 2048,
        };
        println!("{preset}: one token more takes {} of {} bytes", one.live, original.byte_length());
        assert!(one.live <= most as isize, "{preset}: {one:?}, at most {most} are expected");
    }
}

/// A shift frees what it leaves nothing of, at once.
#[test]
fn a_shift_gives_memory_back() {
    for preset in ["gear-4", "kivi-2", "float16"] {
        let shape = CacheShape { layers: LAYERS, batch: 1, kv_heads: HEADS, head_dim: DIM };
        let mut cache = GearCache::new(shape, config(preset, Role::Key), config(preset, Role::Value)).unwrap();
        (0..2000).for_each(|token| append(&mut cache, 1, token));
        let bytes = cache.byte_length();
        let ((), shifted) = counted(|| cache.shift(None, 1000).unwrap());
        println!("{preset}: {bytes} bytes, {} after 1000 of 2000 tokens were dropped", cache.byte_length());
        // Nearly half, but for the segment that the cut goes through.
        assert!(cache.byte_length() < bytes * 6 / 10, "{preset}: {} of {bytes} bytes", cache.byte_length());
        assert!(-shifted.live > (bytes * 4 / 10) as isize, "{preset}: {shifted:?} of {bytes} bytes");
    }
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
