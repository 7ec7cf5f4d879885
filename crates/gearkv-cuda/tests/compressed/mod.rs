//! Segments that the device makes, against those of the core: byte by byte.

use gearkv::{AttendOptions, CacheShape, GearCache, GearOptions, KvSlice, NEVER, Role, f16};
use gearkv_cuda::DeviceLayer;

use crate::common::{Device, Numbers, Shape, device, difference, exact_attention, options};
use crate::{attended, compare, upload};

/// A core's cache and the same layer on the device, which get the same tokens.
struct Pair<'a> {
    device: &'a Device,
    cache: GearCache,
    layer: DeviceLayer,
    numbers: Numbers,
    shape: Shape,
}

impl<'a> Pair<'a> {
    fn new(device: &'a Device, [key, value]: [&GearOptions; 2], shape: Shape, prompt: usize, seed: u64) -> Self {
        let Shape { batch, heads, dim } = shape;
        let (key, value) = (key.resolve(Role::Key).expect("key"), value.resolve(Role::Value).expect("value"));
        let of_cache = CacheShape { layers: 1, batch, kv_heads: heads, head_dim: dim };
        let mut cache = GearCache::new(of_cache, key, value).expect("a cache");
        let mut numbers = Numbers::new(seed);
        let [k, v] = [(); 2].map(|()| numbers.rows(shape.planes() * prompt, dim));
        cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), prompt, NEVER).expect("an append");
        let layer = upload(device, &cache, 0);
        Self { device, cache, layer, numbers, shape }
    }

    /// To the core one by one, to the device all at once.
    fn append(&mut self, tokens: usize) {
        self.append_rows(tokens, |_, _| ());
    }

    fn append_rows(&mut self, tokens: usize, change: impl Fn(usize, &mut [f32])) {
        let (dim, planes) = (self.shape.dim, self.shape.planes());
        let [k, v] = [(); 2].map(|()| {
            let mut rows = self.numbers.rows(planes * tokens, dim);
            rows.chunks_exact_mut(dim).enumerate().for_each(|(i, row)| change(i % tokens, row));
            rows
        });
        for t in 0..tokens {
            let of = |all: &[f32]| -> Vec<f32> {
                all.chunks_exact(tokens * dim).flat_map(|plane| plane[t * dim..(t + 1) * dim].to_vec()).collect()
            };
            self.cache.append(0, KvSlice::F32(&of(&k)), KvSlice::F32(&of(&v)), 1, NEVER).expect("an append");
        }
        let stream = &self.device.stream;
        let [k, v] = [&k, &v].map(|x| stream.clone_htod(x).expect("memory"));
        self.layer.append::<f32>(stream, &k, &v, tokens).expect("an append");
    }

    /// Compresses on the device, and compares all that there is.
    fn settle(&mut self, what: &str) -> usize {
        let taken = self.layer.settle(&self.device.stream).expect(what);
        let uploaded = upload(self.device, &self.cache, 0);
        assert_eq!(self.layer.tokens(), uploaded.tokens(), "{what}");
        same_contents(self.device, &self.layer, &uploaded, what);
        taken
    }

    fn attends(&self, what: &str) {
        let options = AttendOptions::new(2 * self.shape.heads);
        let q = Numbers::new(31).rows(self.shape.batch * options.query_heads, self.shape.dim);
        let off =
            difference(&attended(self.device, &self.layer, &q, &options), &exact_attention(&self.cache, &q, &options));
        assert!(off <= self.device.tolerance, "{what}: off by {off:e}");
    }
}

/// Compares what two layers hold, byte by byte.
pub fn same_contents(device: &Device, made: &DeviceLayer, uploaded: &DeviceLayer, what: &str) {
    let [made, expected] = [made, uploaded].map(|layer| layer.contents(&device.stream).expect("contents"));
    assert_eq!(made.len(), expected.len());
    for (plane, (made, expected)) in made.iter().zip(&expected).enumerate() {
        assert_eq!(made.len(), expected.len(), "{what}: blocks of plane {plane}");
        for (i, (made, expected)) in made.iter().zip(expected).enumerate() {
            let at = |part: &str, made: &[u8], expected: &[u8]| {
                assert_eq!(made.len(), expected.len(), "{what}: {part}, plane {plane}, block {i}: bytes");
                let off = made.iter().zip(expected).position(|(a, b)| a != b);
                assert_eq!(off, None, "{what}: {part} of {} bytes, plane {plane}, block {i}", made.len());
            };
            assert_eq!(
                (made.first, made.tokens),
                (expected.first, expected.tokens),
                "{what}: plane {plane}, block {i}"
            );
            at("head of keys", &made.key_head, &expected.key_head);
            at("keys", &made.key, &expected.key);
            at("head of values", &made.value_head, &expected.value_head);
            at("values", &made.value, &expected.value);
        }
    }
}

/// `gear-l-*` differ from `gear-*` in name only; `kcvt-*` have another buffer.
const COMPRESSED: [&str; 12] = [
    "gear-4",
    "gear-3",
    "gear-2",
    "paper-gear-4",
    "paper-gear-2",
    "paper-gear-l-4",
    "paper-gear-l-2",
    "kivi-4",
    "kivi-2",
    "uniform-8",
    "uniform-4",
    "uniform-2",
];

#[test]
fn segments_of_every_preset_are_the_cores() {
    let Some(device) = device() else { return };
    for preset in COMPRESSED {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 2, heads: 2, dim: 64 }, 90, 41);
        pair.append(63);
        assert_eq!(pair.settle(preset), 0, "{preset}");
        // One segment, then three at once and some tokens behind them.
        pair.append(1);
        assert_eq!(pair.settle(preset), 64, "{preset}");
        pair.attends(preset);
        pair.append(3 * 64 + 21);
        assert_eq!(pair.settle(preset), 3 * 64, "{preset}");
        pair.attends(preset);
        pair.append(43);
        pair.settle(preset);
        compare_decompressed(&pair, preset);
    }
}

/// What both hold, decompressed; and that what the core knows of itself is left as it was.
fn compare_decompressed(pair: &Pair, what: &str) {
    compare(pair.device, &pair.cache, what);
    for role in [Role::Key, Role::Value] {
        let mut out = pair.device.stream.alloc_zeros(pair.layer.shape().elements()).expect("memory");
        pair.layer.decompress(&pair.device.stream, role, &mut out).expect("decompression");
        let exact = pair.cache.tensor(0, role).expect("a layer").decompress(NEVER).expect("decompression");
        assert!(difference(&pair.device.stream.clone_dtoh(&out).expect("memory"), &exact) <= 1e-6, "{what}, {role:?}s");
    }
}

#[test]
fn segments_of_every_length_of_a_head() {
    let Some(device) = device() else { return };
    for (preset, dims) in [
        ("gear-4", &[80, 96, 128, 192, 256][..]),
        ("gear-2", &[72, 128]),
        ("kivi-4", &[80, 256]),
        ("paper-gear-4", &[72, 128, 256]),
        ("uniform-4", &[96, 128]),
    ] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        for &dim in dims {
            let what = format!("{preset}, headDim {dim}");
            let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 1, heads: 2, dim }, 70, 42);
            pair.append(64);
            assert_eq!(pair.settle(&what), 64, "{what}");
            pair.attends(&what);
        }
    }
}

#[test]
fn segments_of_every_way_to_quantize() {
    let Some(device) = device() else { return };
    for json in [
        r#"{"preset": "kivi-4", "bits": 3, "scaleBits": 8}"#,
        r#"{"preset": "kivi-4", "bits": 8, "groupSize": 32}"#,
        r#"{"preset": "kivi-2", "groupSize": 20, "bufferTokens": 33}"#,
        r#"{"preset": "kivi-4", "groupSize": 32, "range": "mse"}"#,
        r#"{"preset": "uniform-4", "bits": 3, "scaleBits": 8, "groupSize": 32}"#,
        r#"{"preset": "uniform-4", "range": "mse", "scaleBits": 8}"#,
        r#"{"preset": "uniform-2", "range": "mse"}"#,
        r#"{"preset": "uniform-8", "groupSize": 20}"#,
        r#"{"preset": "gear-4", "bufferTokens": 128, "sinks": 9}"#,
        r#"{"preset": "gear-3", "bufferTokens": 128}"#,
        r#"{"preset": "gear-3", "bufferTokens": 40}"#,
        r#"{"preset": "gear-2", "scaleBits": 16}"#,
        r#"{"preset": "gear-4", "bufferTokens": 10, "groupSize": 32}"#,
        r#"{"preset": "gear-4", "decodeRank": 2}"#,
        r#"{"preset": "gear-3", "decodeRank": 1, "factorBits": 8, "bufferTokens": 40}"#,
        r#"{"preset": "gear-4", "meanBits": 0, "bits": 8, "decodeRank": 5, "factorBits": 16}"#,
        r#"{"preset": "uniform-4", "decodeRank": 3, "factorBits": 4, "bufferTokens": 90}"#,
        r#"{"preset": "kcvt-4"}"#,
        r#"{"preset": "kcvt-2", "scaleBits": 8, "bufferTokens": 70}"#,
    ] {
        let options = options(json);
        let prompt = if json.contains("128") { 140 } else { 75 };
        let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 2, heads: 3, dim: 64 }, prompt, 43);
        pair.append(140);
        assert!(pair.settle(json) > 0, "{json}");
        pair.attends(json);
    }
    // Keys and values that differ in all but their buffers; wide and narrow rows of values.
    for (key, value) in [
        (r#"{"preset": "uniform-4"}"#, r#"{"preset": "gear-3", "sinks": 0}"#),
        (r#"{"preset": "gear-4", "sparsity": 0.02, "sinks": 0}"#, r#"{"preset": "kivi-4"}"#),
        (r#"{"preset": "kivi-4"}"#, r#"{"preset": "gear-4", "sparsity": 0.02, "sinks": 0}"#),
        (r#"{"preset": "gear-4", "backbone": "kcvt", "meanBits": 3.1}"#, r#"{"preset": "gear-4", "meanBits": 5}"#),
        (r#"{"preset": "gear-4", "meanBits": 0, "bits": 4}"#, r#"{"preset": "gear-4", "meanBits": 0, "bits": 8}"#),
        (r#"{"preset": "gear-4", "meanBits": 1.5}"#, r#"{"preset": "gear-4", "meanBits": 1.6}"#),
        (r#"{"preset": "gear-4", "meanBits": 7}"#, r#"{"preset": "kivi-2", "sinks": 4}"#),
    ] {
        let what = format!("{key} and {value}");
        let mut pair =
            Pair::new(&device, [&options(key), &options(value)], Shape { batch: 2, heads: 2, dim: 96 }, 75, 44);
        pair.append(130);
        assert_eq!(pair.settle(&what), 128, "{what}");
        pair.attends(&what);
    }
}

#[test]
fn segments_with_outliers() {
    let Some(device) = device() else { return };
    // In several blocks of a segment, in short segments, of every backbone, many and few.
    for json in [
        r#"{"preset": "paper-gear-4", "bufferTokens": 192, "sinks": 5}"#,
        r#"{"preset": "paper-gear-2", "bufferTokens": 50, "groupSize": 20}"#,
        r#"{"preset": "paper-gear-4", "sparsity": 0.3, "decodeRank": 0}"#,
        r#"{"preset": "paper-gear-4", "sparsity": 0.5, "groupSize": 32}"#,
        r#"{"preset": "paper-gear-2", "range": "mse", "scaleBits": 8, "factorBits": 8}"#,
        r#"{"preset": "paper-gear-4", "backbone": "uniform", "groupSize": 32, "factorBits": 4}"#,
        r#"{"preset": "uniform-4", "sparsity": 0.03, "range": "mse"}"#,
        r#"{"preset": "gear-4", "sparsity": 0.02, "decodeRank": 2}"#,
        r#"{"preset": "gear-3", "sparsity": 0.05, "bufferTokens": 128, "scaleBits": 16}"#,
        r#"{"preset": "gear-4", "meanBits": 0, "bits": 2, "sparsity": 0.01, "decodeRank": 3}"#,
        r#"{"preset": "kivi-4", "sparsity": 0.01, "bufferTokens": 20}"#,
        r#"{"preset": "kcvt-4", "sparsity": 0.05, "decodeRank": 2, "bufferTokens": 64}"#,
        r#"{"preset": "kcvt-2", "sparsity": 0.02, "scaleBits": 8}"#,
    ] {
        let options = options(json);
        let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 2, heads: 3, dim: 64 }, 200, 50);
        pair.append(2 * 64 + 64 + 10);
        assert!(pair.settle(json) > 0, "{json}");
        pair.attends(json);
        compare_decompressed(&pair, json);
    }
}

/// All outliers of values in one head of four: more than shared memory has room for. From the prompt, and made on the device.
#[test]
fn segments_whose_outliers_fall_to_one_head() {
    let Some(device) = device() else { return };
    for json in
        [r#"{"preset": "paper-gear-4", "sparsity": 0.1}"#, r#"{"preset": "gear-4", "sparsity": 0.1, "decodeRank": 1}"#]
    {
        let own = options(json);
        let mut pair = Pair::new(&device, [&own, &own], Shape { batch: 2, heads: 4, dim: 64 }, 0, 64);
        for tokens in [70, 64, 70] {
            let (dim, planes) = (pair.shape.dim, pair.shape.planes());
            let [k, v] = [(); 2].map(|()| {
                let mut rows = pair.numbers.rows(planes * tokens, dim);
                rows.iter_mut()
                    .enumerate()
                    .for_each(|(i, x)| *x *= if i / (tokens * dim) % 4 == 2 { 40.0 } else { 1.0 });
                rows
            });
            pair.cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), tokens, NEVER).expect("an append");
            if tokens == 64 {
                let stream = &device.stream;
                let [k, v] = [&k, &v].map(|x| stream.clone_htod(x).expect("memory"));
                pair.layer.append::<f32>(stream, &k, &v, tokens).expect("an append");
                assert_eq!(pair.settle(json), 64, "{json}");
            } else {
                pair.layer = upload(&device, &pair.cache, 0);
            }
            compare_decompressed(&pair, json);
            // Four queries at a time, and in tiles.
            for query_heads in [32, 64] {
                let options = AttendOptions::new(query_heads);
                let rows = Numbers::new(65).rows(2 * query_heads, dim).into_iter();
                let q: Vec<f32> = rows.map(|x| x / 40.0).collect();
                let exact = exact_attention(&pair.cache, &q, &options);
                let off = difference(&attended(&device, &pair.layer, &q, &options), &exact);
                let tolerance = device.tolerance_of(query_heads / 4);
                assert!(off <= tolerance, "{json}, {query_heads} query heads: off by {off:e}");
            }
        }
    }
}

type Change = (&'static str, fn(usize, &mut [f32]));

#[test]
fn segments_of_what_is_hard_to_quantize() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "gear-3", "paper-gear-4", "kivi-4", "kcvt-4", "uniform-4"] {
        let options = options(&format!(r#"{{"preset": "{preset}", "bufferTokens": 64}}"#));
        let change: [Change; 6] = [
            ("zeros", |_, row| row.fill(0.0)),
            ("zeros of either sign", |t, row| {
                row.iter_mut().enumerate().for_each(|(i, x)| *x = if (t + i / 3) % 2 == 0 { 0.0 } else { -0.0 })
            }),
            ("one value", |_, row| row.fill(1.25)),
            ("channels of zeros", |_, row| row[..24].fill(0.0)),
            ("large values", |_, row| row.iter_mut().for_each(|x| *x = (*x * 900.0).clamp(-65504.0, 65504.0))),
            ("small values", |t, row| row.iter_mut().for_each(|x| *x *= if t % 2 == 0 { 1e-5 } else { 1e-7 })),
        ];
        let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 1, heads: 2, dim: 64 }, 70, 45);
        for (what, change) in change {
            pair.append_rows(64, change);
            assert_eq!(pair.settle(&format!("{preset}, {what}")), 64);
        }
        pair.attends(preset);
    }
}

#[test]
fn a_layer_that_begins_on_the_device_and_one_that_is_there_several_times() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    for preset in ["kivi-4", "uniform-4"] {
        let options = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let mut pair = Pair::new(&device, [&options, &options], Shape { batch: 1, heads: 2, dim: 64 }, 0, 46);
        // Scales that are far larger than all before do not overflow what tensor cores are given.
        for factor in [1e-4, 1e-3, 1.0] {
            pair.append_rows(64, |_, row| row.iter_mut().for_each(|x| *x *= factor));
            assert_eq!(pair.settle(preset), 64);
            pair.attends(preset);
        }
        pair.append(22);
        pair.attends(preset);
    }
    let options = options(r#"{"preset": "gear-3"}"#);
    let shape = Shape { batch: 1, heads: 2, dim: 64 };
    let cache = crate::common::cache([&options, &options], shape, 70, 0, 47);
    let tensor = |role| cache.tensor(0, role).expect("a layer");
    let (key, value) = (tensor(Role::Key), tensor(Role::Value));
    let mut layer = DeviceLayer::upload_repeated(&device.kernels, stream, key, value, 0, 3).expect("an upload");
    layer.reserve_segments(stream, 1000).expect("room");
    layer.reserve(stream, 64).expect("room");
    let room = layer.byte_length();
    let rows = Numbers::new(48).rows(2 * 64, 64);
    let half: Vec<f16> = rows.repeat(3).into_iter().map(f16::from_f32).collect();
    let half = stream.clone_htod(&half).expect("memory");
    layer.append::<f16>(stream, &half, &half, 64).expect("an append");
    assert_eq!(layer.settle(stream).expect("a segment"), 64);
    let contents = layer.contents(stream).expect("contents");
    assert_eq!(contents[0][2..], contents[2][2..]);
    assert_eq!(contents[1], contents[5]);
    assert_eq!(layer.byte_length(), room, "room was made before");
}

#[test]
fn forks_of_a_layer_go_their_own_ways() {
    let Some(device) = device() else { return };
    for preset in ["gear-4", "paper-gear-4"] {
        let own = options(&format!(r#"{{"preset": "{preset}"}}"#));
        let mut first = Pair::new(&device, [&own, &own], Shape { batch: 1, heads: 2, dim: 64 }, 70, 62);
        first.append(50);
        let layer = first.layer.fork(&device.stream).expect("a fork");
        assert_eq!(layer.byte_length(), first.layer.byte_length());
        let (cache, numbers, shape) = (first.cache.clone(), Numbers::new(63), first.shape);
        let mut second = Pair { device: &device, cache, layer, numbers, shape };
        // Both fill the buffer and compress it, with different tokens.
        for pair in [&mut first, &mut second] {
            pair.append(30);
            assert_eq!(pair.settle(preset), 64, "{preset}");
        }
        for pair in [&first, &second] {
            pair.attends(preset);
        }
        drop(first);
        second.append(70);
        assert_eq!(second.settle(preset), 64, "{preset}, alone");
        second.attends(preset);
    }
}

#[test]
fn what_a_device_does_not_compress_says_why() {
    let Some(device) = device() else { return };
    for (json, prompt, why) in [
        (r#"{"preset": "paper-gear-l-4", "rankByNeed": true}"#, 70, "share their ranks"),
        (r#"{"preset": "kcvt-4", "range": "mse"}"#, 70, "kcvt"),
        (r#"{"preset": "float16"}"#, 70, "not to be compressed"),
        (r#"{"preset": "gear-4", "backbone": "rotated"}"#, 70, "rotated"),
        (r#"{"preset": "gear-4"}"#, 10, "segment before"),
        (r#"{"preset": "gear-3", "bufferTokens": 100}"#, 200, "multiple"),
        (r#"{"preset": "kivi-4", "bufferTokens": 64, "groupSize": 2}"#, 70, "blocks"),
        (r#"{"preset": "kivi-4", "bufferTokens": 8192}"#, 10, "blocks"),
        (r#"{"preset": "kivi-4", "bufferTokens": 1024}"#, 10, "shared memory"),
    ] {
        let options = options(json);
        let key = options.resolve(Role::Key).expect("key");
        let value = if json.contains("\"groupSize\": 2}") {
            crate::common::options(r#"{"preset": "kivi-4"}"#).resolve(Role::Value).expect("value")
        } else {
            options.resolve(Role::Value).expect("value")
        };
        let of_cache = CacheShape { layers: 1, batch: 1, kv_heads: 2, head_dim: 64 };
        let mut cache = GearCache::new(of_cache, key, value).expect("a cache");
        let rows = Numbers::new(49).rows(2 * prompt, 64);
        cache.append(0, KvSlice::F32(&rows), KvSlice::F32(&rows), prompt.min(9), NEVER).err();
        let cache = if prompt > 10 {
            cache.append(0, KvSlice::F32(&rows), KvSlice::F32(&rows), prompt, NEVER).expect("an append");
            cache
        } else {
            cache
        };
        let mut layer = upload(&device, &cache, 0);
        let error = layer.settle(&device.stream).expect_err(json);
        assert_eq!(error.code().as_str(), "INVALID_OPTION");
        assert!(error.to_string().contains(why), "{json}: {error}");
    }
}

#[test]
fn what_a_device_does_not_compress_the_core_does() {
    let Some(device) = device() else { return };
    let stream = &device.stream;
    for preset in [r#"{"preset": "paper-gear-4", "rankByNeed": true}"#, r#"{"preset": "kcvt-4", "range": "mse"}"#] {
        let own = options(preset);
        let shape = Shape { batch: 2, heads: 2, dim: 64 };
        let mut pair = Pair::new(&device, [&own, &own], shape, 70, 61);
        let tensor = |role| pair.cache.tensor(0, role).expect("a layer").clone();
        let (mut key, mut value) = (tensor(Role::Key), tensor(Role::Value));
        let full = key.config().buffer_tokens as usize;
        pair.append(full - 1);
        let settle = |pair: &mut Pair, key: &mut _, value: &mut _| {
            pair.layer.settle_on_host(stream, key, value, NEVER).expect("tokens of the core")
        };
        assert_eq!(settle(&mut pair, &mut key, &mut value), 0, "{preset}");
        assert_eq!(key.tokens(), pair.layer.tokens());
        pair.append(1);
        assert_eq!(settle(&mut pair, &mut key, &mut value), full, "{preset}");
        assert_eq!((pair.layer.waiting(), key.tokens()), (0, pair.layer.tokens()));
        pair.append(3);
        pair.attends(preset);
        // One by one or together: the same segment.
        let exact = pair.cache.tensor(0, Role::Key).expect("a layer").decompress(NEVER).expect("decompression");
        settle(&mut pair, &mut key, &mut value);
        assert_eq!(key.decompress(NEVER).expect("decompression"), exact, "{preset}");
        key.truncate(60).expect("a shorter tensor");
        let refused = pair.layer.settle_on_host(stream, &mut key, &mut value, NEVER);
        assert_eq!(refused.expect_err("an error").code().as_str(), "SHAPE_MISMATCH");
    }
}
