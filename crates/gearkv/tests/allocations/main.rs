//! What `append`, `attend`, `compress` and forks allocate.

mod counting;
mod forks;

#[path = "../common/mod.rs"]
mod common;

use counting::counted;
use gearkv::{
    AttendOptions, CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Parts, Role,
    f16,
};

const HEADS: usize = 2;
const DIM: usize = 64;
const PRESETS: [&str; 9] =
    ["gear-4", "gear-3", "gear-2", "gear-l-4", "kivi-4", "kcvt-4", "paper-gear-4", "float16", "float32"];

fn config(preset: &str, role: Role) -> GearConfig {
    let options = GearOptions { preset: Some(preset.into()), threads: Some(1), ..Default::default() };
    options.resolve(role).unwrap()
}

/// A cache with a prompt whose length is no multiple of anything.
fn cache(preset: &str) -> GearCache {
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let mut cache = GearCache::new(shape, config(preset, Role::Key), config(preset, Role::Value)).unwrap();
    let prompt = tokens(301, 1);
    cache.append(0, KvSlice::F32(&prompt), KvSlice::F32(&prompt), 301, NEVER).unwrap();
    cache
}

fn tokens(count: usize, seed: u32) -> Vec<f32> {
    common::values(KvShape::new(1, HEADS, count, DIM).unwrap(), seed)
}

fn parts(cache: &GearCache) -> [Parts; 2] {
    [Role::Key, Role::Value].map(|role| cache.tensor(0, role).unwrap().parts())
}

/// What segments take, without the header of each.
fn arrays(cache: &GearCache) -> usize {
    parts(cache).iter().map(|parts| parts.codes + parts.scales + parts.low_rank + parts.sparse).sum()
}

fn headers(cache: &GearCache) -> usize {
    parts(cache).iter().map(|parts| parts.headers).sum()
}

/// How queries come, and what of them is asked for.
#[derive(Clone, Copy, Debug)]
enum Asking {
    Float32,
    Float16,
    /// With a window and softcap.
    Narrow,
}

fn attend(cache: &GearCache, asking: Asking, per_head: usize, wide: &[f32], half: &[f16], out: &mut [f32]) {
    let mut options = AttendOptions::new(HEADS * per_head);
    let n = HEADS * per_head * DIM;
    let q = match asking {
        Asking::Float16 => KvSlice::F16(&half[..n]),
        _ => KvSlice::F32(&wide[..n]),
    };
    if matches!(asking, Asking::Narrow) {
        (options.window, options.softcap) = (Some(100), Some(20.0));
    }
    cache.attend(0, q, 1, &options, &mut out[..n], NEVER).unwrap();
}

/// One token more, with or without its queries.
fn append(cache: &mut GearCache, new: &[f32], queries: Option<&[f32]>) {
    let kv = KvSlice::F32(new);
    match queries {
        None => cache.append(0, kv, kv, 1, NEVER).unwrap(),
        Some(q) => {
            let options = AttendOptions::new(q.len() / DIM);
            cache.append_with_queries(0, kv, kv, 1, KvSlice::F32(q), &options, NEVER).unwrap();
        }
    }
}

#[test]
fn decoding_allocates_nothing_until_a_segment_is_made() {
    const PER_HEAD: [usize; 3] = [1, 4, 9];
    const WARM_UP: usize = 150;
    const STEPS: usize = 300;
    /// Two lists of at most 64 segments, which grow by doubling.
    const LONGER_LIST: usize = 2 * 32 * 2 * size_of::<usize>();
    for (preset, with_queries) in PRESETS.map(|preset| (preset, false)).into_iter().chain([("gear-4", true)]) {
        let mut cache = cache(preset);
        let new = tokens(1, 7);
        let wide = common::values(KvShape::new(1, HEADS * 9, 1, DIM).unwrap(), 3);
        let half: Vec<f16> = wide.iter().map(|&x| f16::from_f32(x)).collect();
        let mut out = vec![0.0; wide.len()];
        let (mut segments, mut growths) = (0, 0);
        for step in 0..WARM_UP + STEPS {
            let (before, had) = (headers(&cache), arrays(&cache));
            let ((), appended) = counted(|| append(&mut cache, &new, with_queries.then_some(&*wide)));
            let made_segment = headers(&cache) > before;
            let ((), attended) = counted(|| {
                for per_head in PER_HEAD {
                    for asking in [Asking::Float32, Asking::Float16, Asking::Narrow] {
                        attend(&cache, asking, per_head, &wide, &half, &mut out);
                    }
                }
            });
            if step < WARM_UP {
                continue;
            }
            assert_eq!((attended.calls, attended.peak), (0, 0), "{preset}, step {step}: attend");
            if made_segment {
                segments += 1;
                // What stays is the segment: its arrays and its header, and at times a list of segments that has become longer.
                let kept = (arrays(&cache) - had) + (headers(&cache) - before);
                assert!(
                    appended.live <= (kept + LONGER_LIST) as isize,
                    "{preset}: {appended:?} for a segment of {kept} bytes"
                );
            } else if appended.calls > 0 {
                growths += 1;
            }
        }
        match preset {
            // All that is kept of these is one array for keys and one for values, which grow by an eighth.
            "float16" | "float32" => assert!(segments == 0 && growths <= STEPS / (301 / 8) + 1, "{growths} growths"),
            _ => assert!(segments >= STEPS / 64 && growths == 0, "{preset}: {segments} segments, {growths} growths"),
        }
    }
}

/// A prompt of many tokens goes through block by block: what is compressed meanwhile is never there a second time.
#[test]
fn compressing_takes_what_it_keeps_and_a_tenth_of_input_and_output() {
    let shape = KvShape::new(1, 8, 4096, 64).unwrap();
    let wide = common::values(shape, 5);
    let half: Vec<f16> = wide.iter().map(|&x| f16::from_f32(x)).collect();
    for preset in PRESETS {
        for role in [Role::Key, Role::Value] {
            for input in [KvSlice::F32(&wide), KvSlice::F16(&half)] {
                let (tensor, counts) =
                    counted(|| GearTensor::compress(input, shape, role, config(preset, role), NEVER).unwrap());
                let taken = match input {
                    KvSlice::F32(x) => size_of_val(x),
                    KvSlice::F16(x) => size_of_val(x),
                };
                let kept = tensor.byte_length();
                // Outliers, ranks and scales of whole columns need a head's values, and what of them is left over.
                let most = match preset {
                    "kcvt-4" | "paper-gear-4" => kept + 2 * size_of_val(&*wide) / shape.heads,
                    _ => kept + (taken + kept) / 10,
                };
                assert!(
                    counts.peak <= most as isize,
                    "{preset} {role:?} of {taken} bytes, {kept} kept: {} at a time, at most {most} are expected",
                    counts.peak
                );
                assert!(counts.live <= (kept + kept / 50) as isize, "{preset} {role:?}: {} of {kept}", counts.live);
            }
        }
    }
}
