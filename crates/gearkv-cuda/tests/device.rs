//! A layer on a device against the same layer in the core. Runs on whatever libcuda there is: a GPU's driver, or the stand-in that runs the
//! kernels on the CPU (`scripts/test/cuda.mjs`). Skipped, visibly, where there is none.

mod chunks;
mod common;
mod compressed;
mod mirrored;

use common::{
    CORE_TOLERANCE, DECOMPRESSION_TOLERANCE, Device, Numbers, Shape, cache, device, difference, exact_attention,
    options,
};
use gearkv::{AttendOptions, GearCache, KvSlice, NEVER, Role, f16};
use gearkv_cuda::{DeviceLayer, Workspace};

fn upload(device: &Device, cache: &GearCache, room: usize) -> DeviceLayer {
    let tensor = |role| cache.tensor(0, role).expect("a layer");
    DeviceLayer::upload(&device.kernels, &device.stream, tensor(Role::Key), tensor(Role::Value), room)
        .expect("an upload")
}

fn attended(device: &Device, layer: &DeviceLayer, q: &[f32], options: &AttendOptions) -> Vec<f32> {
    let stream = &device.stream;
    let q = stream.clone_htod(q).expect("memory");
    // What is not written shows.
    let mut out = stream.clone_htod(&vec![f32::NAN; q.len()]).expect("memory");
    layer.attend(stream, &mut Workspace::default(), &q, options, &mut out).expect("attention");
    stream.clone_dtoh(&out).expect("memory")
}

/// What attention must come to; the core agrees as far as it can.
fn expected(cache: &GearCache, q: &[f32], options: &AttendOptions) -> Vec<f32> {
    let exact = exact_attention(cache, q, options);
    let mut of_core = vec![0.0; q.len()];
    cache.attend(0, KvSlice::F32(q), 1, options, &mut of_core, NEVER).expect("attention");
    let off = difference(&of_core, &exact);
    assert!(off <= CORE_TOLERANCE, "the core is off by {off:e}");
    exact
}

/// Compares attention of every grouping and both decompressed tensors.
fn compare(device: &Device, cache: &GearCache, what: &str) {
    let layer = upload(device, cache, 0);
    let shape = layer.shape();
    for group in [1, 4] {
        let options = AttendOptions::new(shape.heads * group);
        let mut numbers = Numbers::new(group as u64 + 7);
        let q = numbers.rows(shape.batch * options.query_heads, shape.head_dim);
        let off = difference(&attended(device, &layer, &q, &options), &expected(cache, &q, &options));
        assert!(off <= device.tolerance, "{what}, {group} query heads a KV head: off by {off:e}");
    }
    for role in [Role::Key, Role::Value] {
        let mut out = device.stream.clone_htod(&vec![f32::NAN; shape.elements()]).expect("memory");
        layer.decompress(&device.stream, role, &mut out).expect("decompression");
        let exact = cache.tensor(0, role).expect("a layer").decompress(NEVER).expect("decompression");
        let off = difference(&device.stream.clone_dtoh(&out).expect("memory"), &exact);
        assert!(off <= DECOMPRESSION_TOLERANCE, "{what}, {role:?}s decompressed: off by {off:e}");
    }
}

#[test]
fn every_preset_attends_and_decompresses_as_the_core_does() {
    let Some(device) = device() else { return };
    for preset in gearkv::preset_names().iter().filter(|name| **name != "float32") {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        // Sinks, a long and some short segments, and a buffer that is partly full.
        let shape = Shape { batch: 2, heads: 2, dim: 64 };
        compare(&device, &cache([&options, &options], shape, 150, 70, 1), preset);
    }
}

/// Segments that begin inside a block, two parts of one, and batch items in another order.
#[test]
fn layers_that_were_shifted_and_reordered() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "kivi-2", "kcvt-4", "paper-gear-4", "float16"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        for (keep, drop) in [(None, 21), (None, 64), (Some(70), 30), (None, 170)] {
            let mut cache = cache([&options, &options], Shape { batch: 2, heads: 2, dim: 64 }, 150, 70, 8);
            cache.shift(keep, drop).expect("a shift");
            cache.reorder(&[1, 0, 1]).expect("an order");
            compare(&device, &cache, &format!("{preset}, {drop} tokens behind {keep:?} dropped"));
        }
    }
}

#[test]
fn every_length_of_a_head_and_of_a_context() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "gear-2", "paper-gear-4"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        for dim in [64, 80, 96, 128, 192, 256] {
            let shape = Shape { batch: 1, heads: 2, dim };
            compare(&device, &cache([&options, &options], shape, 90, 3, 2), &format!("{preset}, headDim {dim}"));
        }
        for tokens in [1, 3, 5, 63, 64, 65, 68, 69, 127, 200] {
            let shape = Shape { batch: 1, heads: 1, dim: 64 };
            let what = format!("{preset}, {tokens} tokens");
            compare(&device, &cache([&options, &options], shape, tokens, 0, 3), &what);
            compare(&device, &cache([&options, &options], shape, 1, tokens - 1, 3), &format!("{what}, one by one"));
        }
    }
}

#[test]
fn every_way_to_quantize() {
    let Some(device) = device() else { return };
    let both = [
        r#"{"preset": "kivi-4", "bits": 3, "scaleBits": 8}"#,
        r#"{"preset": "kivi-4", "bits": 8, "groupSize": 32}"#,
        r#"{"preset": "kivi-2", "groupSize": 20, "bufferTokens": 33}"#,
        r#"{"preset": "uniform-4", "bits": 3, "scaleBits": 8, "groupSize": 32}"#,
        r#"{"preset": "uniform-8", "groupSize": 20}"#,
        r#"{"preset": "kcvt-4", "scaleBits": 8, "range": "mse"}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "bits": 4, "groupSize": 64}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "bits": 3, "groupSize": 32, "scaleBits": 16}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "bits": 2}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "bits": 8}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "meanBits": 2.5}"#,
        r#"{"preset": "gear-4", "backbone": "rotated", "meanBits": 5}"#,
        r#"{"preset": "gear-4", "rank": 3, "decodeRank": 2, "sparsity": 0.03}"#,
        r#"{"preset": "gear-3", "rank": 2, "factorBits": 8}"#,
        r#"{"preset": "gear-2", "rank": 5, "factorBits": 16, "scaleBits": 16}"#,
        r#"{"preset": "paper-gear-4", "scaleBits": 8, "factorBits": 4, "rank": 7, "decodeRank": 1}"#,
        r#"{"preset": "paper-gear-4", "rank": 0, "decodeRank": 0, "factorBits": 8}"#,
        r#"{"preset": "paper-gear-4", "rankByNeed": true}"#,
        r#"{"preset": "gear-4", "rank": 2, "decodeRank": 1, "factorBits": 8, "rankByNeed": true}"#,
    ];
    for json in both {
        let options = options(json);
        compare(&device, &cache([&options, &options], Shape { batch: 2, heads: 2, dim: 64 }, 140, 67, 4), json);
    }
    // Widths of channels under a backbone whose groups are whole segments; keys and values that differ in everything.
    let keys = options(r#"{"preset": "gear-4", "backbone": "kcvt", "meanBits": 3.1, "sinks": 7}"#);
    let values = options(r#"{"preset": "paper-gear-2", "bufferTokens": 20}"#);
    compare(&device, &cache([&keys, &values], Shape { batch: 1, heads: 2, dim: 96 }, 133, 50, 5), "mixed");
    compare(
        &device,
        &cache([&values, &keys_as_values()], Shape { batch: 1, heads: 2, dim: 96 }, 133, 50, 5),
        "mixed, turned",
    );
}

fn keys_as_values() -> gearkv::GearOptions {
    options(r#"{"preset": "gear-2", "sinks": 7}"#)
}

#[test]
fn widths_that_queries_dealt_out() {
    let Some(device) = device() else { return };
    let (batch, heads, dim, tokens) = (1, 2, 64, 200);
    for preset in ["gear-4", "gear-3", "gear-2"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let mut cache = cache([&options, &options], Shape { batch, heads, dim }, 0, 0, 6);
        let mut numbers = Numbers::new(8);
        let (k, v) = (numbers.rows(heads * tokens, dim), numbers.rows(heads * tokens, dim));
        let q = numbers.rows(2 * heads * tokens, dim);
        let attention = AttendOptions::new(2 * heads);
        let [k, v, q] = [&k, &v, &q].map(|x| KvSlice::F32(x));
        cache.append_with_queries(0, k, v, tokens, q, &attention, NEVER).expect("an append");
        compare(&device, &cache, preset);
    }
}

#[test]
fn windows_softcaps_scales_and_many_query_heads() {
    let Some(device) = device() else { return };
    let options = options(r#"{"preset": "gear-3"}"#);
    let cache = cache([&options, &options], Shape { batch: 2, heads: 2, dim: 64 }, 300, 20, 9);
    let layer = upload(&device, &cache, 0);
    for query_heads in [2, 6, 8, 14] {
        let q = Numbers::new(10).rows(2 * query_heads, 64);
        let plain = AttendOptions::new(query_heads);
        for attention in [
            AttendOptions { window: Some(1), ..plain.clone() },
            AttendOptions { window: Some(17), ..plain.clone() },
            AttendOptions { window: Some(129), ..plain.clone() },
            AttendOptions { window: Some(1000), ..plain.clone() },
            AttendOptions { softcap: Some(3.0), scale: Some(0.3), ..plain.clone() },
            AttendOptions { causal: false, ..plain.clone() },
        ] {
            let off = difference(&attended(&device, &layer, &q, &attention), &expected(&cache, &q, &attention));
            assert!(off <= device.tolerance, "{attention:?}: off by {off:e}");
        }
    }
}

#[test]
fn tokens_are_appended_and_the_buffer_grows() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    for (preset, prompt) in [("gear-4", 100), ("gear-4", 0), ("float16", 30), ("kivi-2", 2)] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let shape = Shape { batch: 2, heads: 2, dim: 80 };
        let mut cache = cache([&options, &options], shape, prompt, 0, 11);
        let mut layer = upload(&device, &cache, 1);
        let mut numbers = Numbers::new(12);
        for tokens in [1, 1, 62, 1, 130, 7] {
            let [k, v] = [(); 2].map(|()| numbers.rows(shape.planes() * tokens, shape.dim));
            // Held, the core keeps them in float16, too.
            cache.hold(0, KvSlice::F32(&k), KvSlice::F32(&v), tokens).expect("room");
            if tokens == 62 {
                let half = |x: &[f32]| stream.clone_htod(&x.iter().map(|&x| f16::from_f32(x)).collect::<Vec<_>>());
                layer
                    .append::<f16>(stream, &half(&k).expect("memory"), &half(&v).expect("memory"), tokens)
                    .expect("room");
            } else {
                let (k, v) = (stream.clone_htod(&k).expect("memory"), stream.clone_htod(&v).expect("memory"));
                layer.append::<f32>(stream, &k, &v, tokens).expect("room");
            }
            assert_eq!(layer.tokens(), cache.layer_tokens(0).expect("a layer"));
            let attention = AttendOptions::new(2);
            let q = numbers.rows(2 * attention.query_heads, shape.dim);
            let off = difference(&attended(&device, &layer, &q, &attention), &expected(&cache, &q, &attention));
            assert!(off <= device.tolerance, "{preset}, {} tokens: off by {off:e}", layer.tokens());
        }
    }
}

#[test]
fn queries_and_outputs_in_float16() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    let options = options(r#"{"preset": "gear-4"}"#);
    let cache = cache([&options, &options], Shape { batch: 1, heads: 2, dim: 128 }, 130, 5, 13);
    let layer = upload(&device, &cache, 0);
    let attention = AttendOptions::new(8);
    let q: Vec<f16> = Numbers::new(14).rows(8, 128).into_iter().map(f16::from_f32).collect();
    let mut out = stream.clone_htod(&vec![f16::NAN; q.len()]).expect("memory");
    let on_device = stream.clone_htod(&q).expect("memory");
    layer.attend::<f16>(stream, &mut Workspace::default(), &on_device, &attention, &mut out).expect("attention");
    let out: Vec<f32> = stream.clone_dtoh(&out).expect("memory").into_iter().map(f16::to_f32).collect();
    let wide: Vec<f32> = q.into_iter().map(f16::to_f32).collect();
    // Half of float16's last place, and what float32 outputs may be off by.
    assert!(difference(&out, &expected(&cache, &wide, &attention)) <= 1.0 / 2048.0 + device.tolerance);
}

#[test]
fn one_prompt_for_several_answers() {
    let Some(device) = device() else { return };
    let options = options(r#"{"preset": "gear-4"}"#);
    let cache = cache([&options, &options], Shape { batch: 1, heads: 2, dim: 64 }, 80, 5, 15);
    let tensor = |role| cache.tensor(0, role).expect("a layer");
    let (key, value) = (tensor(Role::Key), tensor(Role::Value));
    let layer = DeviceLayer::upload_repeated(&device.kernels, &device.stream, key, value, 0, 3).expect("an upload");
    assert_eq!(layer.shape().batch, 3);
    let attention = AttendOptions::new(4);
    let q = Numbers::new(16).rows(3 * 4, 64);
    let out = attended(&device, &layer, &q, &attention);
    for (q, out) in q.chunks_exact(4 * 64).zip(out.chunks_exact(4 * 64)) {
        assert!(difference(out, &expected(&cache, q, &attention)) <= device.tolerance);
    }
}

#[test]
fn a_warp_that_goes_through_many_segments() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "gear-2", "kivi-2", "paper-gear-4", "float16"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        // A prompt of three blocks, six segments of one, and a buffer: four warps share them.
        let cache = cache([&options, &options], Shape { batch: 1, heads: 2, dim: 64 }, 190, 6 * 64 + 20, 21);
        let tensor = |role| cache.tensor(0, role).expect("a layer");
        let (key, value) = (tensor(Role::Key), tensor(Role::Value));
        let (kernels, copies) = (&device.kernels, device.copies);
        let layer = DeviceLayer::upload_repeated(kernels, &device.stream, key, value, 0, copies).expect("an upload");
        let attention = AttendOptions::new(8);
        let q = Numbers::new(22).rows(8, 64);
        let out = attended(&device, &layer, &q.repeat(copies), &attention);
        let expected = expected(&cache, &q, &attention);
        for out in out.chunks_exact(8 * 64) {
            let off = difference(out, &expected);
            assert!(off <= device.tolerance, "{preset}: off by {off:e}");
        }
    }
}

#[test]
fn tokens_that_were_truncated_are_not_seen() {
    let Some(device) = device() else { return };
    for preset in ["gear-3", "paper-gear-2"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        for tokens in [3, 40, 100, 199] {
            let mut cache = cache([&options, &options], Shape { batch: 1, heads: 2, dim: 64 }, 150, 60, 17);
            cache.truncate(tokens).expect("a shorter cache");
            compare(&device, &cache, &format!("{preset}, truncated to {tokens}"));
        }
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    let gear = options("{}");
    let shape = Shape { batch: 1, heads: 2, dim: 64 };
    let good = cache([&gear, &gear], shape, 10, 0, 18);
    let mut layer = upload(&device, &good, 0);
    let code = |result: gearkv::Result<()>| result.expect_err("an error").code().as_str();
    let (short, mut out) =
        (stream.clone_htod(&[0.0f32; 63]).expect("memory"), stream.alloc_zeros::<f32>(128).expect("memory"));
    let mut workspace = Workspace::default();
    assert_eq!(code(layer.attend(stream, &mut workspace, &short, &AttendOptions::new(2), &mut out)), "SHAPE_MISMATCH");
    let q = stream.alloc_zeros::<f32>(128).expect("memory");
    assert_eq!(code(layer.attend(stream, &mut workspace, &q, &AttendOptions::new(3), &mut out)), "SHAPE_MISMATCH");
    let window = AttendOptions { window: Some(0), ..AttendOptions::new(2) };
    assert_eq!(code(layer.attend(stream, &mut workspace, &q, &window, &mut out)), "INVALID_OPTION");
    assert_eq!(code(layer.append::<f32>(stream, &q, &short, 1)), "SHAPE_MISMATCH");
    assert_eq!(code(layer.decompress(stream, Role::Key, &mut out)), "SHAPE_MISMATCH");
    let empty = upload(&device, &cache([&gear, &gear], shape, 0, 0, 19), 0);
    assert_eq!(code(empty.attend(stream, &mut workspace, &q, &AttendOptions::new(2), &mut out)), "SHAPE_MISMATCH");
    for (json, dim) in [
        (r#"{"preset": "float32"}"#, 64),
        (r#"{"preset": "kivi-4", "groupSize": 16}"#, 128),
        (r#"{"preset": "gear-4"}"#, 264),
        (r#"{"preset": "uniform-4", "groupSize": 2}"#, 64),
    ] {
        let options = options(json);
        let cache = cache([&options, &options], Shape { batch: 1, heads: 1, dim }, 5, 0, 20);
        let tensor = |role| cache.tensor(0, role).expect("a layer");
        let upload = DeviceLayer::upload(&device.kernels, stream, tensor(Role::Key), tensor(Role::Value), 0);
        assert_eq!(upload.err().map(|error| error.code().as_str()), Some("INVALID_OPTION"), "{json}");
    }
}
