//! Which threads work, and that nothing else depends on it.

mod common;

use std::collections::HashSet;
use std::sync::Mutex;
use std::thread::{self, ThreadId};

use common::values;
use gearkv::{AttendOptions, CacheShape, GearCache, GearConfig, GearOptions, KvShape, KvSlice, Role, default_threads};

const HEADS: usize = 6;
const DIM: usize = 64;
const TOKENS: usize = 700;

fn config(preset: &str, role: Role, threads: u32) -> GearConfig {
    let options = GearOptions { preset: Some(preset.into()), threads: Some(threads), ..Default::default() };
    options.resolve(role).unwrap()
}

/// What a prompt, some more tokens and attention to them come to, and the threads that asked whether to go on.
fn run(preset: &str, threads: u32, queries: usize) -> (Vec<f32>, HashSet<ThreadId>) {
    let seen = Mutex::new(HashSet::new());
    let cancel = || {
        seen.lock().unwrap().insert(thread::current().id());
        false
    };
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let [key, value] = [Role::Key, Role::Value].map(|role| config(preset, role, threads));
    let mut cache = GearCache::new(shape, key, value).unwrap();
    for tokens in [TOKENS, 1, 70] {
        let x = values(KvShape::new(1, HEADS, tokens, DIM).unwrap(), tokens as u32);
        cache.append(0, KvSlice::F32(&x), KvSlice::F32(&x), tokens, &cancel).unwrap();
    }
    let q = values(KvShape::new(1, 2 * HEADS, queries, DIM).unwrap(), 5);
    let mut out = vec![0.0; q.len()];
    cache.attend(0, KvSlice::F32(&q), queries, &AttendOptions::new(2 * HEADS), &mut out, &cancel).unwrap();
    for role in [Role::Key, Role::Value] {
        out.extend(cache.tensor(0, role).unwrap().decompress(&cancel).unwrap());
    }
    (out, seen.into_inner().unwrap())
}

#[test]
fn one_thread_is_the_calling_one_and_results_are_the_same_on_any_number() {
    for preset in ["gear-4", "gear-2", "paper-gear-4", "kcvt-4", "float16"] {
        for queries in [1, 20] {
            let (alone, threads) = run(preset, 1, queries);
            assert_eq!(threads, HashSet::from([thread::current().id()]), "{preset}");
            for threads in [2, 3, 7, 0] {
                let (together, seen) = run(preset, threads, queries);
                assert!(alone.iter().zip(&together).all(|(a, b)| a.to_bits() == b.to_bits()), "{preset}, {threads}");
                let most = if threads == 0 { default_threads() } else { threads as usize };
                // Checks between the parallel parts are the calling thread's.
                let others = seen.iter().filter(|id| **id != thread::current().id()).count();
                assert!((1..=most).contains(&others), "{preset}: {others} threads, {most} asked for");
            }
        }
    }
}

#[test]
fn by_default_there_are_no_more_threads_than_the_process_may_use() {
    assert!((1..=thread::available_parallelism().unwrap().get()).contains(&default_threads()));
}
