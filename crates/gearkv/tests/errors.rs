//! Every way in which a call can be refused, and that a refused call changes nothing.

mod common;

use common::{preset, value_preset, values};
use gearkv::{
    AttendOptions, Backbone, CacheShape, ErrorCode, GearCache, GearError, GearOptions, GearTensor, KvShape, KvSlice,
    NEVER, Role, f16,
};

fn options(json: &str) -> Result<gearkv::GearConfig, GearError> {
    GearOptions::from_json(json).and_then(|o| o.resolve(Role::Key))
}

#[track_caller]
fn refused<T>(result: Result<T, GearError>, code: ErrorCode, words: &[&str]) {
    let Err(error) = result else { panic!("expected {code:?}") };
    assert_eq!(error.code(), code, "{error}");
    for word in words {
        assert!(error.to_string().contains(word), "{error:?} does not say {word:?}");
    }
}

#[test]
fn options_that_cannot_be_are_refused() {
    let bad = ErrorCode::InvalidOption;
    refused(options(r#"{"bits": 5}"#), bad, &["bits is 5", "2, 3, 4 or 8"]);
    refused(options(r#"{"preset": "gear-9"}"#), bad, &["gear-9", "gear-4"]);
    refused(options(r#"{"bitz": 4}"#), bad, &["bitz"]);
    refused(options(r#"{"sparsity": 0.7}"#), bad, &["0.7", "0.5"]);
    refused(options(r#"{"groupSize": 0}"#), bad, &["groupSize is 0"]);
    refused(options(r#"{"rank": 1000}"#), bad, &["rank is 1000"]);
    refused(options(r#"{"bufferTokens": 0}"#), bad, &["bufferTokens"]);
    refused(options(r#"{"powerIterations": 0}"#), bad, &["powerIterations"]);
    refused(options(r#"{"backbone": "rotary"}"#), bad, &["rotary"]);
    refused(options(r#"{"preset": "float16", "bits": 4}"#), bad, &["bits", "float16"]);
    refused(options("[]"), bad, &["options", "object"]);
    refused(options("{garbage"), bad, &["options"]);
    refused(Role::parse("query"), bad, &["query", "key"]);
}

#[test]
fn every_preset_resolves_and_validates() {
    for name in gearkv::preset_names() {
        preset(name).validate().unwrap();
    }
    assert_eq!(options("{}").unwrap(), preset("gear-4"));
}

#[test]
fn shapes_that_do_not_fit_are_refused() {
    let bad = ErrorCode::ShapeMismatch;
    refused(KvShape::new(0, 1, 1, 1), bad, &["batch is 0"]);
    refused(KvShape::new(1, 1, 1, 0), bad, &["headDim is 0"]);
    refused(KvShape::new(usize::MAX, 2, 2, 2), bad, &["batch"]);
    refused(KvShape::new(2_000_000_000, 2_000_000_000, 2_000_000_000, 64), bad, &["larger"]);
    let shape = KvShape::new(1, 2, 3, 4).unwrap();
    let short = vec![0.0; 23];
    let compressed = GearTensor::compress(KvSlice::F32(&short), shape, Role::Key, preset("gear-4"), NEVER);
    refused(compressed, bad, &["23 values", "24"]);
    let x = values(shape, 1);
    let mut tensor = GearTensor::compress(KvSlice::F32(&x), shape, Role::Key, preset("gear-4"), NEVER).unwrap();
    refused(tensor.decompress_into(&mut [0.0; 3], NEVER), bad, &["output"]);
    refused(tensor.truncate(4), bad, &["truncate(4)", "3 tokens"]);
    refused(tensor.append(KvSlice::F32(&x), 2, NEVER), bad, &["24 values", "16"]);
    refused(tensor.append(KvSlice::F32(&[]), usize::MAX, NEVER), bad, &["larger"]);
}

#[test]
fn values_that_are_not_finite_are_named_by_position_and_change_nothing() {
    let shape = KvShape::new(2, 2, 3, 4).unwrap();
    let mut tensor = GearTensor::new(2, 2, 4, Role::Key, preset("gear-4")).unwrap();
    for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
        let mut x = values(shape, 5);
        x[((2 + 1) * 3 + 2) * 4 + 3] = bad;
        let position = "[batch 1, head 1, token 2, channel 3]";
        refused(tensor.append(KvSlice::F32(&x), 3, NEVER), ErrorCode::NotFinite, &[position]);
        let half: Vec<f16> = x.iter().map(|&v| f16::from_f32(v)).collect();
        refused(tensor.append(KvSlice::F16(&half), 3, NEVER), ErrorCode::NotFinite, &[position]);
    }
    let mut x = values(shape, 5);
    x[5] = 70_000.0;
    refused(tensor.append(KvSlice::F32(&x), 3, NEVER), ErrorCode::OutOfRange, &["70000", "channel 1", "float32"]);
    assert_eq!(tensor.tokens(), 0);
    let mut wide = GearTensor::new(2, 2, 4, Role::Key, preset("float32")).unwrap();
    wide.append(KvSlice::F32(&x), 3, NEVER).unwrap();
    assert_eq!(wide.decompress(NEVER).unwrap(), x);
}

#[test]
fn values_that_are_not_finite_can_be_replaced() {
    let config = options(r#"{"preset": "float16", "nonFinite": "replace"}"#).unwrap();
    let x = [f32::NAN, f32::INFINITY, f32::NEG_INFINITY, 1e9, 2.0, -1.0];
    let shape = KvShape::new(1, 1, 1, 6).unwrap();
    let tensor = GearTensor::compress(KvSlice::F32(&x), shape, Role::Value, config, NEVER).unwrap();
    assert_eq!(tensor.decompress(NEVER).unwrap(), [0.0, 65504.0, -65504.0, 65504.0, 2.0, -1.0]);
}

#[test]
fn the_whole_range_of_float16_is_compressed_or_refused() {
    let shape = KvShape::new(1, 1, 100, 3).unwrap();
    for name in gearkv::preset_names() {
        let x: Vec<f32> = (0..300).map(|i| if i % 2 == 0 { 65504.0 } else { -65504.0 }).collect();
        let result = GearTensor::compress(KvSlice::F32(&x), shape, Role::Key, preset(name), NEVER);
        match result {
            Ok(tensor) => assert!(tensor.decompress(NEVER).unwrap().iter().all(|v| v.is_finite()), "{name}"),
            Err(error) => assert_eq!(error.code(), ErrorCode::OutOfRange, "{name}"),
        }
    }
}

fn cache() -> GearCache {
    let shape = CacheShape { layers: 2, batch: 1, kv_heads: 2, head_dim: 8 };
    GearCache::new(shape, preset("gear-4"), value_preset("gear-4")).unwrap()
}

#[test]
fn a_cache_refuses_what_does_not_fit_and_stays_as_it_was() {
    let bad = ErrorCode::ShapeMismatch;
    let mut cache = cache();
    let x = values(KvShape::new(1, 2, 5, 8).unwrap(), 2);
    let mut with_nan = x.clone();
    with_nan[7] = f32::NAN;
    refused(cache.append(2, KvSlice::F32(&x), KvSlice::F32(&x), 5, NEVER), bad, &["layer is 2", "0 to 1"]);
    // The key alone would be fine; the value is not, so neither is kept.
    let result = cache.append(0, KvSlice::F32(&x), KvSlice::F32(&with_nan), 5, NEVER);
    refused(result, ErrorCode::NotFinite, &["token 0, channel 7"]);
    assert_eq!(cache.layer_tokens(0).unwrap(), 0);
    cache.append(0, KvSlice::F32(&x), KvSlice::F32(&x), 5, NEVER).unwrap();
    assert_eq!((cache.layer_tokens(0).unwrap(), cache.tokens()), (5, 0));
    refused(cache.truncate(1), bad, &["truncate(1)"]);
    refused(
        GearCache::new(CacheShape { layers: 0, ..cache.shape() }, preset("gear-4"), value_preset("gear-4")),
        bad,
        &["layers is 0"],
    );

    let q = vec![0.1; 4 * 8];
    let mut out = vec![0.0; 4 * 8];
    let mut attend = |layer: usize, q: &[f32], queries: usize, options: &AttendOptions| {
        cache.attend(layer, KvSlice::F32(q), queries, options, &mut out, NEVER)
    };
    let usual = AttendOptions::new(4);
    attend(0, &q, 1, &usual).unwrap();
    refused(attend(1, &q, 1, &usual), bad, &["append the tokens first"]);
    refused(attend(0, &q, 2, &usual), bad, &["query holds 32"]);
    refused(attend(0, &q, 1, &AttendOptions::new(3)), bad, &["queryHeads is 3", "2 KV heads"]);
    refused(attend(0, &q, 1, &AttendOptions::new(0)), bad, &["queryHeads is 0"]);
    let option = ErrorCode::InvalidOption;
    refused(attend(0, &q, 1, &AttendOptions { scale: Some(f32::NAN), ..usual.clone() }), option, &["scale"]);
    refused(attend(0, &q, 1, &AttendOptions { softcap: Some(0.0), ..usual.clone() }), option, &["softcap"]);
    refused(attend(0, &q, 1, &AttendOptions { window: Some(0), ..usual.clone() }), option, &["window"]);
    let window = AttendOptions { window: Some(3), causal: false, ..usual.clone() };
    refused(attend(0, &q, 1, &window), option, &["causal"]);
    let mut infinite = q.clone();
    infinite[9] = f32::INFINITY;
    refused(attend(0, &infinite, 1, &usual), ErrorCode::NotFinite, &["head 1, query 0, channel 1"]);
    let infinite: Vec<f16> = infinite.iter().map(|&x| f16::from_f32(x)).collect();
    let mut half_out = vec![0.0; 4 * 8];
    let result = cache.attend(0, KvSlice::F16(&infinite), 1, &usual, &mut half_out, NEVER);
    refused(result, ErrorCode::NotFinite, &["head 1, query 0, channel 1"]);
    refused(AttendOptions::from_json(r#"{"queryHeads": 4, "casual": true}"#), option, &["casual"]);
    refused(AttendOptions::from_json("{}"), option, &["queryHeads"]);
}

#[test]
fn work_that_is_stopped_changes_nothing() {
    let shape = KvShape::new(1, 2, 200, 8).unwrap();
    let x = values(shape, 2);
    let stop: gearkv::Cancel = &|| true;
    let aborted = ErrorCode::Aborted;
    refused(GearTensor::compress(KvSlice::F32(&x), shape, Role::Key, preset("gear-4"), stop), aborted, &["request"]);
    let mut cache = cache();
    refused(cache.append(0, KvSlice::F32(&x), KvSlice::F32(&x), 200, stop), aborted, &[]);
    assert_eq!(cache.layer_tokens(0).unwrap(), 0);
    cache.append(0, KvSlice::F32(&x), KvSlice::F32(&x), 200, NEVER).unwrap();
    let mut out = vec![0.0; 4 * 8];
    let q = out.clone();
    refused(cache.attend(0, KvSlice::F32(&q), 1, &AttendOptions::new(4), &mut out, stop), aborted, &[]);
    refused(cache.tensor(0, Role::Key).unwrap().decompress(stop), aborted, &[]);
}

#[test]
fn a_fork_goes_its_own_way() {
    let shape = KvShape::new(1, 2, 100, 8).unwrap();
    let x = values(shape, 3);
    let mut cache = cache();
    for layer in 0..2 {
        cache.append(layer, KvSlice::F32(&x), KvSlice::F32(&x), 100, NEVER).unwrap();
    }
    let before = cache.tensor(0, Role::Key).unwrap().decompress(NEVER).unwrap();
    let mut fork = cache.clone();
    fork.truncate(10).unwrap();
    fork.append(0, KvSlice::F32(&x), KvSlice::F32(&x), 100, NEVER).unwrap();
    assert_eq!((cache.tokens(), fork.layer_tokens(0).unwrap()), (100, 110));
    assert_eq!(cache.tensor(0, Role::Key).unwrap().decompress(NEVER).unwrap(), before);
    cache.clear();
    assert_eq!((cache.tokens(), fork.tokens()), (0, 10));
}

#[test]
fn damaged_images_are_refused() {
    let shape = KvShape::new(1, 2, 130, 64).unwrap();
    let x = values(shape, 4);
    type Damage = fn(&mut gearkv::TensorImage<'_>);
    let damages: &[Damage] = &[
        |i| i.shape.tokens += 1,
        |i| i.shape.heads = 0,
        |i| i.shape.batch = usize::MAX,
        |i| i.config.bits = 7,
        |i| i.config.scale_bits = 24 - i.config.scale_bits,
        |i| i.config.scale_bits = 4,
        |i| i.config.factor_bits = if i.config.factor_bits == 4 { 16 } else { 4 },
        |i| i.config.factor_bits = 2,
        |i| i.config.backbone = Backbone::Kcvt,
        |i| i.config.mean_bits = 17.0 - i.config.mean_bits,
        |i| i.config.sinks = 100,
        |i| i.sink_tokens = usize::MAX,
        |i| i.buffer_tokens += 1,
        |i| i.buffer.to_mut().truncate(1),
        |i| i.sinks.to_mut()[..2].copy_from_slice(&[0xFF, 0xFF]),
        |i| i.segments[0].visible = usize::MAX,
        |i| i.segments[0].visible = 0,
        |i| i.segments[0].tokens = usize::MAX,
        |i| i.segments[0].rank += 100,
        |i| i.segments[0].codes.to_mut().push(0),
        |i| i.segments[0].scales.to_mut().push(0),
        |i| i.segments[0].scales.to_mut().clear(),
        |i| i.segments[0].scales.to_mut()[..2].copy_from_slice(&[0x00, 0x7C]),
        |i| i.segments[0].factors.to_mut().clear(),
        |i| i.config.rank_by_need = !i.config.rank_by_need,
        |i| {
            let end = i.segments[0].factors.len();
            i.segments[0].factors.to_mut()[end - 2..].copy_from_slice(&[0x00, 0xFC]);
        },
        |i| i.segments[0].outlier_values.to_mut().clear(),
        |i| i.segments[0].outlier_indices.to_mut().iter_mut().for_each(|b| *b = 255),
        |i| i.segments.clear(),
    ];
    for (options, role) in [
        (r#"{"preset":"paper-gear-2","sinks":4}"#, Role::Value),
        (r#"{"preset":"gear-2","sparsity":0.02,"rank":2}"#, Role::Key),
        (r#"{"preset":"gear-2","sparsity":0.02,"rank":2}"#, Role::Value),
        (r#"{"preset":"gear-2","sparsity":0.02,"bits":3,"rank":2}"#, Role::Key),
        (r#"{"preset":"gear-2","sparsity":0.02,"bits":2,"rank":2}"#, Role::Value),
        (r#"{"preset":"gear-2","sparsity":0.02,"scaleBits":16,"rank":2}"#, Role::Value),
        (r#"{"preset":"gear-2","sparsity":0.02,"rank":2,"rankByNeed":true}"#, Role::Key),
    ] {
        let config = GearOptions::from_json(options).unwrap().resolve(role).unwrap();
        let mut tensor = GearTensor::new(1, 2, 64, role, config).unwrap();
        tensor.append(KvSlice::F32(&x), 130, NEVER).unwrap();
        tensor.append(KvSlice::F32(&x[..2 * 30 * 64]), 30, NEVER).unwrap();
        for (n, damage) in damages.iter().enumerate() {
            let mut image = tensor.image();
            damage(&mut image);
            match GearTensor::from_image(image) {
                Err(error) => {
                    assert_eq!(error.code(), ErrorCode::CorruptData, "{options} {role:?}, damage {n}: {error}")
                }
                Ok(_) => panic!("{options} {role:?}: damage {n} was not noticed"),
            }
        }
        GearTensor::from_image(tensor.image()).unwrap();
    }
}
