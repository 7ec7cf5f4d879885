//! Bits for each layer of a cache (`layerBits`).

use gearkv::{AttendOptions, CacheShape, ErrorCode, GearCache, GearOptions, GearTensor, KvSlice, NEVER, Role};

const SHAPE: CacheShape = CacheShape { layers: 3, batch: 1, kv_heads: 2, head_dim: 64 };
const TOKENS: usize = 260;

fn values(seed: usize) -> Vec<f32> {
    (0..2 * TOKENS * 64)
        .map(|i| ((i * 7919 + seed * 104_729) as f32 * 0.013).sin() * (1.0 + (i % 64) as f32 / 16.0))
        .collect()
}

fn cache(key: &str, value: &str) -> gearkv::Result<GearCache> {
    let resolve = |json: &str, role| GearOptions::from_json(json)?.resolve(role);
    let mut cache = GearCache::new(SHAPE, resolve(key, Role::Key)?, resolve(value, Role::Value)?)?;
    for layer in 0..SHAPE.layers {
        cache.append(layer, KvSlice::F32(&values(1)), KvSlice::F32(&values(2)), TOKENS, NEVER)?;
    }
    Ok(cache)
}

/// Bits of an element of what is compressed: all but the sinks.
fn bits(cache: &GearCache, layer: usize, role: Role) -> f64 {
    let parts = cache.tensor(layer, role).unwrap().parts();
    8.0 * parts.codes as f64 / (2 * (TOKENS - 4) * 64) as f64
}

fn error(cache: &GearCache, layer: usize, role: Role) -> f64 {
    let x = values(if role == Role::Key { 1 } else { 2 });
    let restored = cache.tensor(layer, role).unwrap().decompress(NEVER).unwrap();
    x.iter().zip(restored).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn each_layer_has_the_bits_that_it_is_given_and_keeps_them() {
    let mut cache = cache(r#"{"preset":"gear-3","layerBits":[-1,0,1.25]}"#, r#"{"preset":"gear-3"}"#).unwrap();
    let means = |cache: &GearCache, role| [0, 1, 2].map(|layer| cache.tensor(layer, role).unwrap().config().mean_bits);
    assert_eq!(means(&cache, Role::Key), [2.5, 3.5, 4.75]);
    assert_eq!(means(&cache, Role::Value), [3.25; 3]);
    let keys = [0, 1, 2].map(|layer| bits(&cache, layer, Role::Key));
    assert!((keys[1] - keys[0] - 1.0).abs() < 0.1 && (keys[2] - keys[1] - 1.25).abs() < 0.1, "{keys:?}");
    let errors = [0, 1, 2].map(|layer| error(&cache, layer, Role::Key));
    assert!(errors[0] > 1.5 * errors[1] && errors[1] > 1.5 * errors[2], "{errors:?}");
    // What comes later, too.
    let more = |n: usize| values(3)[..2 * n * 64].to_vec();
    for layer in 0..3 {
        cache.append(layer, KvSlice::F32(&more(64)), KvSlice::F32(&more(64)), 64, NEVER).unwrap();
    }
    assert_eq!(means(&cache, Role::Key), [2.5, 3.5, 4.75]);
    let mut out = vec![0.0; 2 * 64];
    cache.attend(2, KvSlice::F32(&more(1)), 1, &AttendOptions::new(2), &mut out, NEVER).unwrap();
    assert!(out.iter().all(|x| x.is_finite()));
}

#[test]
fn bits_stay_within_what_codes_can_have() {
    let cache =
        cache(r#"{"preset":"gear-2","layerBits":[-7,0,7]}"#, r#"{"preset":"gear-2","layerBits":[7,-7,0]}"#).unwrap();
    let means = |role| [0, 1, 2].map(|layer| cache.tensor(layer, role).unwrap().config().mean_bits);
    assert_eq!((means(Role::Key), means(Role::Value)), ([1.0, 2.75, 8.0], [8.0, 1.0, 2.4]));
}

#[test]
fn a_layer_of_auto_keeps_the_size_that_its_bits_leave_it() {
    let auto = r#"{"preset":"auto","maxBitsPerElement":3.5,"layerBits":[-0.5,0,0.5]}"#;
    let cache = cache(auto, auto).unwrap();
    for (layer, most) in [3.0, 3.5, 4.0].into_iter().enumerate() {
        let bytes: usize =
            [Role::Key, Role::Value].map(|role| cache.tensor(layer, role).unwrap().parts().total()).into_iter().sum();
        let taken = 8.0 * bytes as f64 / (4 * TOKENS * 64) as f64;
        assert!(taken <= most && taken > most - 0.25, "layer {layer}: {taken} bits of {most}");
    }
}

#[test]
fn what_does_not_fit_is_refused() {
    let refused = |key: &str, part: &str| {
        let error = cache(key, "{}").err().unwrap();
        assert_eq!(error.code(), ErrorCode::InvalidOption);
        assert!(error.to_string().contains(part), "{error}");
    };
    refused(r#"{"layerBits":[0.5]}"#, "layerBits has 1 numbers; expected one for each of the cache's 3 layers");
    refused(r#"{"layerBits":[0.5,0,8]}"#, "layerBits of layer 2 is 8; expected -7 to 7");
    refused(r#"{"preset":"kivi-4","layerBits":[0,0,0]}"#, "no meanBits");
    refused(r#"{"preset":"float16","layerBits":[0,0,0]}"#, "layerBits is given");
    let config = GearOptions::from_json(r#"{"layerBits":[1]}"#).unwrap().resolve(Role::Key).unwrap();
    let error = GearTensor::new(1, 2, 64, Role::Key, config).err().unwrap();
    assert!(error.to_string().contains("a tensor has no layers"), "{error}");
}
