//! Several query positions at once, and sequences of different lengths.

use gearkv::{AttendOptions, GearCache, KvShape, Role};
use gearkv_cuda::{DeviceLayer, Workspace, bf16};

use crate::common::{Device, Numbers, Shape, cache, device, difference, exact_sums, options};
use crate::upload;

fn attended(
    device: &Device,
    layer: &DeviceLayer,
    q: &[f32],
    positions: usize,
    visible: Option<&[u32]>,
    options: &AttendOptions,
) -> Vec<f32> {
    let stream = &device.stream;
    let q = stream.clone_htod(q).expect("memory");
    let mut out = stream.clone_htod(&vec![f32::NAN; q.len()]).expect("memory");
    let mut workspace = Workspace::default();
    match visible {
        Some(visible) => {
            let visible = stream.clone_htod(visible).expect("memory");
            layer.attend_ragged(stream, &mut workspace, &q, positions, &visible, options, &mut out)
        }
        None => layer.attend_chunk(stream, &mut workspace, &q, positions, options, &mut out),
    }
    .expect("attention");
    stream.clone_dtoh(&out).expect("memory")
}

/// What each query of `[batch, query_heads, positions, head_dim]` must get.
fn expected(
    cache: &GearCache,
    q: &[f32],
    positions: usize,
    visible: Option<&[u32]>,
    options: &AttendOptions,
) -> Vec<f32> {
    let KvShape { tokens, head_dim: dim, .. } = cache.tensor(0, Role::Key).expect("a layer").shape();
    let seen = |row: usize| {
        let (item, position) = (row / positions / options.query_heads, row % positions);
        let mut end = if options.causal { tokens - (positions - 1 - position) } else { tokens };
        let mut first = options.window.map_or(0, |window| end.saturating_sub(window));
        if let Some(visible) = visible {
            first = first.max(visible[2 * item] as usize);
            end = end.min(visible[2 * item + 1] as usize);
        }
        first.min(end)..end
    };
    let ranges: Vec<_> = (0..q.len() / dim).map(seen).collect();
    exact_sums(cache, q, positions, &ranges, options)
}

/// How far the device is from what each query must get.
fn off(
    device: &Device,
    layer: &DeviceLayer,
    cache: &GearCache,
    q: &[f32],
    positions: usize,
    how: &AttendOptions,
) -> f32 {
    let got = attended(device, layer, q, positions, None, how);
    difference(&got, &expected(cache, q, positions, None, how))
}

#[test]
fn several_positions_see_no_token_behind_their_own() {
    let Some(device) = device() else { return };
    for (preset, dim) in [("gear-4", 64), ("paper-gear-4", 80), ("uniform-4", 128), ("float16", 64)] {
        let own = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let cache = cache([&own, &own], Shape { batch: 2, heads: 1, dim }, 70, 37, 51);
        let layer = upload(&device, &cache, 0);
        let plain = AttendOptions::new(3);
        for (positions, attention) in [
            (2, AttendOptions { causal: false, ..plain.clone() }),
            (5, AttendOptions { window: Some(9), ..plain.clone() }),
            (7, AttendOptions { window: Some(50), softcap: Some(8.0), ..plain.clone() }),
            (12, plain.clone()),
            (107, AttendOptions::new(1)),
        ] {
            let q = Numbers::new(positions as u64).rows(2 * attention.query_heads * positions, dim);
            let off = off(&device, &layer, &cache, &q, positions, &attention);
            // What is not compressed loses nothing by tiles, as queries are in float32.
            let exact = preset == "float16";
            let tolerance =
                if exact { device.tolerance } else { device.tolerance_of(attention.query_heads * positions) };
            assert!(off <= tolerance, "{preset}, {positions} positions, {attention:?}: off by {off:e}");
        }
    }
}

#[test]
fn sequences_of_different_lengths_see_their_own_tokens() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "paper-gear-4"] {
        let own = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let cache = cache([&own, &own], Shape { batch: 4, heads: 2, dim: 64 }, 140, 20, 52);
        let layer = upload(&device, &cache, 0);
        // Filled up in front, filled up behind, both, and nothing at all.
        let visible = [0, 160, 71, 160, 3, 90, 50, 50];
        for positions in [1, 6] {
            for attention in [AttendOptions::new(8), AttendOptions { window: Some(80), ..AttendOptions::new(8) }] {
                let q = Numbers::new(53).rows(4 * 8 * positions, 64);
                let got = attended(&device, &layer, &q, positions, Some(&visible), &attention);
                let exact = expected(&cache, &q, positions, Some(&visible), &attention);
                for (item, (got, exact)) in
                    got.chunks_exact(got.len() / 4).zip(exact.chunks_exact(got.len() / 4)).enumerate()
                {
                    let off = if item == 3 {
                        got.iter().fold(0.0, |most: f32, x| most.max(x.abs()))
                    } else {
                        difference(got, exact)
                    };
                    let tolerance = device.tolerance_of(4 * positions);
                    assert!(off <= tolerance, "{preset}, {positions} positions, sequence {item}: off by {off:e}");
                }
            }
        }
    }
}

/// Chunks whose queries go through tiles: of every preset, length of a head and way to quantize, across what a thread block holds.
#[test]
fn many_queries_of_every_kind_of_layer() {
    let Some(device) = device() else { return };
    let check = |json: &str, shape: Shape, prompt: usize, positions: usize, attention: &AttendOptions| {
        let own = options(json);
        let cache = cache([&own, &own], shape, prompt, 70, 57);
        let layer = upload(&device, &cache, 0);
        let q = Numbers::new(58).rows(shape.batch * attention.query_heads * positions, shape.dim);
        let off = off(&device, &layer, &cache, &q, positions, attention);
        let tolerance = device.tolerance_of(attention.query_heads / shape.heads * positions);
        assert!(off <= tolerance, "{json}, {positions} positions, headDim {}: off by {off:e}", shape.dim);
        off
    };
    for preset in gearkv::preset_names().iter().filter(|name| **name != "float32") {
        let shape = Shape { batch: 2, heads: 2, dim: 64 };
        check(&format!(r#"{{"preset": "{preset}"}}"#), shape, 150, 9, &AttendOptions::new(4));
    }
    for dim in [40, 72, 96, 128, 200, 256] {
        for preset in ["gear-3", "kivi-4", "paper-gear-2", "float16"] {
            let shape = Shape { batch: 1, heads: 1, dim };
            check(&format!(r#"{{"preset": "{preset}"}}"#), shape, 90, 17, &AttendOptions::new(4));
        }
    }
    let shape = Shape { batch: 1, heads: 2, dim: 64 };
    // Zeros of 8 bits in steps of as many: float16 alone is off by three times as much.
    let off = check(r#"{"preset": "uniform-8", "scaleBits": 8}"#, shape, 150, 21, &AttendOptions::new(6));
    assert!(off <= 2e-3, "zeros of 8 bits: off by {off:e}");
    for json in [
        r#"{"preset": "uniform-4", "groupSize": 16, "rank": 5, "factorBits": 4}"#,
        r#"{"preset": "kivi-4", "bits": 3, "scaleBits": 8, "groupSize": 32}"#,
        r#"{"preset": "kivi-4", "bits": 8, "sparsity": 0.05}"#,
        r#"{"preset": "kcvt-2", "scaleBits": 8}"#,
        r#"{"preset": "gear-4", "meanBits": 1.4}"#,
        r#"{"preset": "gear-4", "meanBits": 6.5, "scaleBits": 16}"#,
        r#"{"preset": "paper-gear-4", "rankByNeed": true}"#,
        // What tiles cannot take apart.
        r#"{"preset": "gear-4", "rank": 3}"#,
        r#"{"preset": "gear-4", "sparsity": 0.02}"#,
        r#"{"preset": "gear-4", "backbone": "rotated"}"#,
    ] {
        check(json, shape, 150, 21, &AttendOptions::new(6));
    }
    // More queries than a thread block holds; none at the end of one; all see all; a window that leaves out whole blocks.
    for (positions, attention) in [
        (70, AttendOptions::new(2)),
        (64, AttendOptions { causal: false, ..AttendOptions::new(4) }),
        (33, AttendOptions { window: Some(40), softcap: Some(20.0), ..AttendOptions::new(4) }),
    ] {
        check(r#"{"preset": "gear-2", "sinks": 11}"#, shape, 300, positions, &attention);
    }
}

/// What lies behind the last token of the buffer is no part of it.
#[test]
fn many_queries_see_nothing_of_tokens_that_were_taken_back() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    let own = options(r#"{"preset": "gear-4"}"#);
    let cache = cache([&own, &own], Shape { batch: 1, heads: 1, dim: 64 }, 90, 11, 60);
    let mut layer = upload(&device, &cache, 64);
    let infinite = stream.clone_htod(&vec![f32::INFINITY; 20 * 64]).expect("memory");
    layer.append::<f32>(stream, &infinite, &infinite, 20).expect("an append");
    assert!(layer.truncate(101));
    let attention = AttendOptions::new(2);
    let q = Numbers::new(61).rows(2 * 13, 64);
    let off = off(&device, &layer, &cache, &q, 13, &attention);
    assert!(off <= device.tolerance_of(26), "off by {off:e}");
}

/// Means that are far larger than what codes stand for, numbers at the end of what float16 reaches, and far from it.
#[test]
fn many_queries_of_large_and_of_small_numbers() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "kivi-4", "uniform-4"] {
        for (of_keys, mean, of_values) in [(4000.0, 40_000.0, 1.0), (1e-3, 0.0, 1e-3), (1e-4, 1e-3, 1e-5)] {
            let own = options(&format!(r#"{{"preset": "{preset}"}}"#));
            let (key, value) = (own.resolve(Role::Key).expect("key"), own.resolve(Role::Value).expect("value"));
            let shape = gearkv::CacheShape { layers: 1, batch: 1, kv_heads: 1, head_dim: 64 };
            let mut cache = GearCache::new(shape, key, value).expect("a cache");
            let mut numbers = Numbers::new(59);
            let rows = numbers.rows(150, 64).into_iter();
            let k: Vec<f32> = rows.map(|x| (x * of_keys).clamp(-65504.0, 65504.0)).collect();
            let v: Vec<f32> = numbers.rows(150, 64).into_iter().map(|x| mean + x * of_values).collect();
            let [k, v] = [&k, &v].map(|x| gearkv::KvSlice::F32(x));
            cache.append(0, k, v, 150, gearkv::NEVER).expect("an append");
            let layer = upload(&device, &cache, 0);
            let attention = AttendOptions::new(2);
            let q: Vec<f32> = numbers.rows(2 * 20, 64).into_iter().map(|x| x / (7.5 * of_keys)).collect();
            let off = off(&device, &layer, &cache, &q, 20, &attention);
            assert!(off <= device.tolerance_of(40), "{preset}, {of_keys} and {of_values}: off by {off:e}");
        }
    }
}

#[test]
fn tensors_in_bfloat16() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    let own = options(r#"{"preset": "gear-4"}"#);
    let shape = Shape { batch: 1, heads: 2, dim: 64 };
    let mut cache = cache([&own, &own], shape, 100, 0, 54);
    let mut layer = upload(&device, &cache, 0);
    let mut numbers = Numbers::new(55);
    let [k, v] = [(); 2].map(|()| numbers.rows(2 * 3, 64).into_iter().map(bf16::from_f32).collect::<Vec<_>>());
    let wide = |x: &[bf16]| x.iter().map(|x| x.to_f32()).collect::<Vec<f32>>();
    cache.hold(0, gearkv::KvSlice::F32(&wide(&k)), gearkv::KvSlice::F32(&wide(&v)), 3).expect("room");
    let [k, v] = [&k, &v].map(|x| stream.clone_htod(x).expect("memory"));
    layer.append::<bf16>(stream, &k, &v, 3).expect("an append");
    let attention = AttendOptions::new(4);
    let q: Vec<bf16> = numbers.rows(4, 64).into_iter().map(bf16::from_f32).collect();
    let mut out = stream.clone_htod(&vec![bf16::NAN; q.len()]).expect("memory");
    let on_device = stream.clone_htod(&q).expect("memory");
    layer.attend::<bf16>(stream, &mut Workspace::default(), &on_device, &attention, &mut out).expect("attention");
    let out = wide(&stream.clone_dtoh(&out).expect("memory"));
    // Half of bfloat16's last place.
    let off = difference(&out, &expected(&cache, &wide(&q), 1, None, &attention));
    assert!(off <= 1.0 / 256.0 + device.tolerance, "off by {off:e}");
}

#[test]
fn positions_that_are_not_there_are_refused() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    let own = options(r#"{"preset": "gear-4"}"#);
    let cache = cache([&own, &own], Shape { batch: 2, heads: 1, dim: 64 }, 5, 0, 56);
    let layer = upload(&device, &cache, 0);
    let attention = AttendOptions::new(1);
    let mut workspace = Workspace::default();
    for positions in [0, 6, 2] {
        let q = stream.alloc_zeros::<f32>(2 * 64 * if positions == 2 { 1 } else { positions.max(1) }).expect("memory");
        let mut out = stream.alloc_zeros::<f32>(q.len()).expect("memory");
        let refused = layer.attend_chunk(stream, &mut workspace, &q, positions, &attention, &mut out);
        assert_eq!(refused.expect_err("an error").code().as_str(), "SHAPE_MISMATCH", "{positions} positions");
    }
    let q = stream.alloc_zeros::<f32>(2 * 64).expect("memory");
    let mut out = stream.alloc_zeros::<f32>(q.len()).expect("memory");
    let visible = stream.alloc_zeros::<u32>(3).expect("memory");
    let refused = layer.attend_ragged(stream, &mut workspace, &q, 1, &visible, &attention, &mut out);
    assert_eq!(refused.expect_err("an error").code().as_str(), "SHAPE_MISMATCH");
}
