//! A whole cache that the core holds and a device attends to.

use gearkv::{AttendOptions, CacheShape, GearCache, KvSlice, NEVER, Role, f16};
use gearkv_cuda::{Device, DeviceCache, DeviceLayer, Otherwise};

use crate::common::{Device as Shared, Numbers, Shape, device, difference, exact_sums, options};
use crate::compressed::same_contents;

const SHAPE: Shape = Shape { batch: 2, heads: 2, dim: 64 };
const QUERY_HEADS: usize = 4;

fn empty(json: &str) -> GearCache {
    let Shape { batch, heads, dim } = SHAPE;
    let options = options(json);
    let [key, value] = [Role::Key, Role::Value].map(|role| options.resolve(role).expect(json));
    GearCache::new(CacheShape { layers: 2, batch, kv_heads: heads, head_dim: dim }, key, value).expect(json)
}

/// A mirrored cache, the core's alone beside it, and where their tokens come from.
struct Both {
    mirrored: DeviceCache,
    core: GearCache,
    numbers: Numbers,
    tolerance: f32,
}

impl Both {
    fn new(json: &str) -> Option<Self> {
        let shared = device()?;
        let core = empty(json);
        let mirrored = DeviceCache::new(&core, Device::first().expect("a device"), Otherwise::Fail).expect(json);
        Some(Self { mirrored, core, numbers: Numbers::new(51), tolerance: shared.tolerance })
    }

    fn rows(&mut self, tokens: usize) -> Vec<f32> {
        self.numbers.rows(SHAPE.planes() * tokens, SHAPE.dim)
    }

    fn append(&mut self, layer: usize, tokens: usize) {
        let (k, v) = (self.rows(tokens), self.rows(tokens));
        let [k, v] = [&k, &v].map(|x| KvSlice::F32(x));
        self.core.append(layer, k, v, tokens, NEVER).expect("an append");
        self.mirrored.append(layer, k, v, tokens, None, NEVER).expect("an append");
    }

    /// Attends on both, and compares what is on the device with an upload of what the core has.
    fn check(&mut self, layer: usize, positions: usize, what: &str) {
        let shape = self.core.shape();
        let how = AttendOptions::new(QUERY_HEADS);
        let q = self.numbers.rows(shape.batch * QUERY_HEADS * positions, SHAPE.dim);
        let mut out = vec![f32::NAN; q.len()];
        self.mirrored.attend(layer, KvSlice::F32(&q), positions, &how, &mut out, NEVER).expect(what);
        let tokens = self.core.layer_tokens(layer).expect("a layer");
        let seen: Vec<_> = (0..q.len() / SHAPE.dim).map(|row| 0..tokens + 1 - positions + row % positions).collect();
        let layer_alone = GearCache::from_tensors(
            CacheShape { layers: 1, ..shape },
            vec![(self.tensor(layer, Role::Key), self.tensor(layer, Role::Value))],
        );
        let exact = exact_sums(&layer_alone.expect("a cache"), &q, positions, &seen, &how);
        let off = difference(&out, &exact);
        assert!(off <= self.tolerance, "{what}: off by {off:e}");
        let on_device = self.mirrored.device_layer(layer).expect("what was attended to is on the device");
        self.same_as_uploaded(layer, &on_device, what);
    }

    fn tensor(&self, layer: usize, role: Role) -> gearkv::GearTensor {
        self.core.tensor(layer, role).expect("a layer").clone()
    }

    fn same_as_uploaded(&self, layer: usize, on_device: &DeviceLayer, what: &str) {
        let shared: Shared = device().expect("a device");
        let (key, value) = (self.tensor(layer, Role::Key), self.tensor(layer, Role::Value));
        let uploaded = DeviceLayer::upload(&shared.kernels, &shared.stream, &key, &value, 0).expect("an upload");
        assert_eq!(on_device.tokens(), uploaded.tokens(), "{what}");
        same_contents(&shared, on_device, &uploaded, what);
    }
}

#[test]
fn a_cache_on_a_device_holds_what_the_core_holds() {
    // The second: whether the device compresses its buffer itself.
    let short = |preset| format!(r#"{{"preset": "{preset}", "bufferTokens": 16}}"#);
    for (json, settles) in [
        (short("gear-4"), true),
        (short("gear-2"), true),
        (short("kivi-4"), true),
        (short("paper-gear-4"), true),
        (short("kcvt-4"), true),
        (r#"{"preset": "kcvt-4", "range": "mse", "bufferTokens": 16}"#.to_owned(), false),
        (r#"{"preset": "float16"}"#.to_owned(), true),
    ] {
        let preset = json.as_str();
        let Some(mut both) = Both::new(preset) else { return };
        both.append(0, 40);
        both.check(0, 3, preset);
        both.append(1, 1);
        both.check(1, 1, preset);
        // A segment from the buffer, for which gear-* need one before: it is uploaded anew at most here.
        for _ in 0..17 {
            both.append(0, 1);
        }
        both.check(0, 1, preset);
        let before = both.mirrored.uploads();
        for step in 0..40 {
            both.append(0, 1);
            if step % 13 == 0 {
                both.check(0, 1, preset);
            }
        }
        both.check(0, 2, preset);
        assert_eq!(both.mirrored.uploads() == before, settles, "{preset}: whether it was uploaded anew");
        // A run that fills the buffer and leaves some in it; then one that is a prompt.
        both.append(0, 20);
        both.check(0, 1, preset);
        both.append(0, 50);
        both.check(0, 1, preset);
        assert_eq!(both.mirrored.host().byte_length(), both.core.byte_length(), "{preset}");
        assert!(both.mirrored.device_byte_length() > 0);
    }
}

#[test]
fn tokens_are_taken_back_and_batch_items_reordered() {
    let Some(mut both) = Both::new(r#"{"preset": "gear-4", "bufferTokens": 16}"#) else { return };
    for layer in 0..2 {
        both.append(layer, 30);
        both.append(layer, 9);
        both.check(layer, 1, "at first");
    }
    // From the buffer, and from a segment.
    for (tokens, stays) in [(36, true), (36, true), (20, false)] {
        let before = both.mirrored.uploads();
        both.core.truncate(tokens).expect("a shorter cache");
        both.mirrored.truncate(tokens).expect("a shorter cache");
        both.check(0, 1, "truncated");
        assert_eq!(both.mirrored.uploads() == before, stays, "to {tokens}");
    }
    both.append(0, 17);
    both.append(1, 17);
    both.check(0, 1, "after that");
    both.core.shift(None, 6).expect("a shift");
    both.mirrored.change(|host| host.shift(None, 6)).expect("a shift");
    both.check(0, 1, "shifted");
    both.core.reorder(&[1, 1]).expect("an order");
    both.mirrored.change(|host| host.reorder(&[1, 1])).expect("an order");
    both.check(1, 1, "reordered");
    assert!(both.mirrored.truncate(1000).is_err());
    both.check(1, 1, "as it was");
}

#[test]
fn forks_go_their_own_ways() {
    let Some(mut both) = Both::new(r#"{"preset": "gear-4", "bufferTokens": 16}"#) else { return };
    both.append(0, 30);
    both.check(0, 1, "at first");
    let mut fork = Both {
        mirrored: both.mirrored.clone(),
        core: both.core.clone(),
        numbers: Numbers::new(52),
        tolerance: both.tolerance,
    };
    fork.check(0, 1, "the fork, as it was");
    assert_eq!(fork.mirrored.uploads(), 1);
    fork.append(0, 3);
    fork.check(0, 1, "the fork");
    assert_eq!(fork.mirrored.uploads(), 2);
    both.append(0, 1);
    both.check(0, 1, "the original");
    assert_eq!(both.mirrored.uploads(), 1);
}

#[test]
fn queries_and_what_is_mended_and_chosen_are_the_cores() {
    let Some(mut both) = Both::new(r#"{"preset": "gear-4", "bufferTokens": 16}"#) else { return };
    let how = AttendOptions::new(QUERY_HEADS);
    for tokens in [40, 5, 11, 1] {
        let (k, v) = (both.rows(tokens), both.rows(tokens));
        let q = both.numbers.rows(SHAPE.batch * QUERY_HEADS * tokens, SHAPE.dim);
        let [k, v, q] = [&k, &v, &q].map(|x| KvSlice::F32(x));
        both.core.append_with_queries(0, k, v, tokens, q, &how, NEVER).expect("an append");
        both.mirrored.append(0, k, v, tokens, Some((q, &how)), NEVER).expect("an append");
        both.check(0, 1, "with queries");
    }
    let Some(mut both) = Both::new(r#"{"preset": "kivi-4", "bufferTokens": 16, "nonFinite": "replace"}"#) else {
        return;
    };
    both.append(0, 20);
    both.check(0, 1, "before");
    let (mut k, v) = (both.rows(1), both.rows(1));
    (k[3], k[70]) = (f32::NAN, f32::NEG_INFINITY);
    let [k, v] = [&k, &v].map(|x| KvSlice::F32(x));
    both.core.append(0, k, v, 1, NEVER).expect("an append");
    both.mirrored.append(0, k, v, 1, None, NEVER).expect("an append");
    both.same_as_uploaded_when_there();
    let Some(mut both) = Both::new(r#"{"preset": "auto", "maxBitsPerElement": 6, "bufferTokens": 16}"#) else { return };
    for tokens in [3, 12, 1, 1, 20, 1, 16] {
        both.append(0, tokens);
        both.check(0, 1, "auto");
    }
}

impl Both {
    /// What was mended is on the device as the core has it.
    fn same_as_uploaded_when_there(&mut self) {
        let how = AttendOptions::new(QUERY_HEADS);
        let q = self.numbers.rows(SHAPE.batch * QUERY_HEADS, SHAPE.dim);
        let mut out = vec![f32::NAN; q.len()];
        self.mirrored.attend(0, KvSlice::F32(&q), 1, &how, &mut out, NEVER).expect("attention");
        assert!(out.iter().all(|x| x.is_finite()));
    }
}

#[test]
fn float16_in_and_what_is_wrong() {
    let Some(mut both) = Both::new(r#"{"preset": "gear-3", "bufferTokens": 16}"#) else { return };
    for tokens in [33, 4, 9] {
        let half = |x: Vec<f32>| x.into_iter().map(f16::from_f32).collect::<Vec<_>>();
        let (k, v) = (half(both.rows(tokens)), half(both.rows(tokens)));
        let [k, v] = [&k, &v].map(|x| KvSlice::F16(x));
        both.core.append(0, k, v, tokens, NEVER).expect("an append");
        both.mirrored.append(0, k, v, tokens, None, NEVER).expect("an append");
        both.check(0, 1, "float16");
    }
    let how = AttendOptions::new(QUERY_HEADS);
    let q: Vec<f16> = both.numbers.rows(SHAPE.batch * QUERY_HEADS, SHAPE.dim).into_iter().map(f16::from_f32).collect();
    let wide: Vec<f32> = q.iter().map(|x| x.to_f32()).collect();
    let mut outs = [vec![0.0; q.len()], vec![0.0; q.len()]];
    for (q, out) in [KvSlice::F16(&q), KvSlice::F32(&wide)].into_iter().zip(&mut outs) {
        both.mirrored.attend(0, q, 1, &how, out, NEVER).expect("attention");
    }
    assert_eq!(outs[0], outs[1]);
    // Refused as the core refuses it, and nothing is changed.
    let nan = vec![f32::NAN; wide.len()];
    for (q, positions) in [(&nan, 1), (&wide, 2)] {
        let codes = [
            both.core.attend(0, KvSlice::F32(q), positions, &how, &mut outs[0], NEVER).err(),
            both.mirrored.attend(0, KvSlice::F32(q), positions, &how, &mut outs[1], NEVER).err(),
        ];
        assert!(codes[0].is_some());
        assert_eq!(codes[0].as_ref().map(ToString::to_string), codes[1].as_ref().map(ToString::to_string));
    }
    let bad = both.rows(1).into_iter().map(|_| f32::INFINITY).collect::<Vec<_>>();
    assert!(both.mirrored.append(0, KvSlice::F32(&bad), KvSlice::F32(&bad), 1, None, NEVER).is_err());
    both.check(0, 1, "as it was");
    // More queries than tokens, which see all of them: the core's.
    let all = AttendOptions { causal: false, ..how };
    both.append(1, 1);
    let q = both.numbers.rows(SHAPE.batch * QUERY_HEADS * 3, SHAPE.dim);
    let mut out = vec![f32::NAN; q.len()];
    both.mirrored.attend(1, KvSlice::F32(&q), 3, &all, &mut out, NEVER).expect("attention");
    assert!(out.iter().all(|x| x.is_finite()));
}

#[test]
fn what_a_device_does_not_hold_stays_where_it_is() {
    let Some(_) = device() else { return };
    let first = || Device::first().expect("a device");
    let refused = DeviceCache::new(&empty(r#"{"preset": "float32"}"#), first(), Otherwise::Core).err();
    assert_eq!(refused.map(|error| error.code().as_str()), Some("INVALID_OPTION"));
}
