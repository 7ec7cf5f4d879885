//! Data that is hard to quantize: under every `gear-*` preset the error stays bounded and is never larger than that of `uniform`
//! codes of the same number of bits. The presets of others, which are what they are, stay within their own steps.

mod common;

use common::{attention, preset, values};
use gearkv::{
    AttendOptions, Backbone, CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER,
    Range, Role, f16, preset_names,
};

const GEAR: [&str; 5] = ["gear-4", "gear-3", "gear-2", "gear-l-4", "gear-l-2"];

fn config(name: &str, role: Role) -> GearConfig {
    GearOptions { preset: Some(name.into()), ..Default::default() }.resolve(role).unwrap()
}

/// `uniform` codes of the same number of bits, with the same sinks.
fn uniform(like: &GearConfig) -> GearConfig {
    GearConfig { bits: like.bits, sinks: like.sinks, backbone: Backbone::Uniform, ..preset("uniform-4") }
}

/// The prompt at once, then the last 70 tokens one by one, so that later segments are looked at, too.
fn restored(x: &[f32], shape: KvShape, role: Role, config: GearConfig) -> Vec<f32> {
    let prompt = shape.tokens - 70;
    let tokens = |range: std::ops::Range<usize>| -> Vec<f32> {
        let plane = shape.tokens * shape.head_dim;
        x.chunks_exact(plane)
            .flat_map(|p| p[range.start * shape.head_dim..range.end * shape.head_dim].iter().copied())
            .collect()
    };
    let first = KvShape { tokens: prompt, ..shape };
    let mut tensor = GearTensor::compress(KvSlice::F32(&tokens(0..prompt)), first, role, config, NEVER).unwrap();
    for t in prompt..shape.tokens {
        tensor.append(KvSlice::F32(&tokens(t..t + 1)), 1, NEVER).unwrap();
    }
    tensor.decompress(NEVER).unwrap()
}

/// Root of the sum of squares over the channels that `counts` names.
fn norm(x: impl Iterator<Item = f32>, dim: usize, counts: impl Fn(usize) -> bool) -> f64 {
    let squares = x.enumerate().filter(|(i, _)| counts(i % dim)).map(|(_, x)| f64::from(x) * f64::from(x));
    squares.sum::<f64>().sqrt()
}

/// Both roles of every preset on `x`; errors are compared over all channels and over those that `ordinary` names.
fn check(what: &str, x: &[f32], shape: KvShape, ordinary: impl Fn(usize) -> bool) {
    check_roles(&[Role::Key, Role::Value], what, x, shape, ordinary);
}

fn check_roles(roles: &[Role], what: &str, x: &[f32], shape: KvShape, ordinary: impl Fn(usize) -> bool) {
    let x: Vec<f32> = x.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    for name in GEAR {
        for &role in roles {
            let config = config(name, role);
            let plain = restored(&x, shape, role, uniform(&config));
            let got = restored(&x, shape, role, config);
            assert!(got.iter().all(|x| x.is_finite()), "{what}: {name} {role:?}");
            let error = |y: &[f32], counts: &dyn Fn(usize) -> bool| {
                norm(x.iter().zip(y).map(|(x, y)| x - y), shape.head_dim, counts)
            };
            let size = norm(x.iter().copied(), shape.head_dim, |_| true);
            for (which, counts) in [("all", &(|_| true) as &dyn Fn(usize) -> bool), ("ordinary", &ordinary)] {
                let (gear, uniform) = (error(&got, counts), error(&plain, counts));
                // Half a float16 ulp of everything, for data that both hold all but exactly.
                assert!(
                    gear <= uniform + size / 2048.0,
                    "{what}: {name} {role:?}, {which} channels: {gear}, uniform {uniform}, of {size}"
                );
            }
            assert!(error(&got, &|_| true) <= 0.5 * size, "{what}: {name} {role:?}");
        }
    }
}

#[test]
fn outlier_channels_of_a_hundred_times_the_rest() {
    let shape = KvShape::new(1, 2, 326, 64).unwrap();
    let strong = |d: usize| d % 23 == 5;
    // Of changing sign, and of one sign with a little noise, as keys of real models have both.
    let noise = values(shape, 3);
    let changing: Vec<f32> =
        noise.iter().enumerate().map(|(i, x)| if strong(i % 64) { 100.0 * x.signum() + x } else { *x }).collect();
    let offset: Vec<f32> = noise.iter().enumerate().map(|(i, x)| if strong(i % 64) { 100.0 + x } else { *x }).collect();
    check("±100", &changing, shape, |d| !strong(d));
    check("100", &offset, shape, |d| !strong(d));
}

#[test]
fn constant_channels_and_constant_tensors() {
    let shape = KvShape::new(1, 2, 200, 64).unwrap();
    let noise = values(shape, 5);
    let some: Vec<f32> = noise.iter().enumerate().map(|(i, x)| if i % 64 < 9 { (i % 64) as f32 } else { *x }).collect();
    check("constant channels", &some, shape, |d| d >= 9);
    check("constant", &vec![-3.25; shape.elements()], shape, |_| true);
    check("zero", &vec![0.0; shape.elements()], shape, |_| true);
}

#[test]
fn tiny_and_huge_magnitudes() {
    let shape = KvShape::new(1, 1, 200, 64).unwrap();
    let noise = values(shape, 7);
    let largest = noise.iter().fold(0.0f32, |most, x| most.max(x.abs()));
    for magnitude in [1e-5, 1e-3, 100.0, 65_000.0] {
        let x: Vec<f32> = noise.iter().map(|x| x / largest * magnitude).collect();
        check(&format!("magnitude {magnitude}"), &x, shape, |_| true);
    }
    // Channels over eight orders of magnitude.
    let x: Vec<f32> = noise.iter().enumerate().map(|(i, x)| x / largest * 10f32.powi((i % 8) as i32 - 4)).collect();
    check("mixed magnitudes", &x, shape, |_| true);
}

#[test]
fn a_sink_of_a_hundred_times_the_rest_among_the_first_tokens_and_behind_them() {
    let shape = KvShape::new(1, 2, 264, 64).unwrap();
    let noise = values(shape, 9);
    for sink in [0, 3, 100] {
        let token = |i: usize| i / 64 % shape.tokens;
        let x: Vec<f32> =
            noise.iter().enumerate().map(|(i, x)| if token(i) == sink { 100.0 * x } else { *x }).collect();
        check(&format!("token {sink}"), &x, shape, |_| true);
    }
}

#[test]
fn one_head_of_256_channels_and_head_dims_that_are_no_power_of_two() {
    for (heads, dim) in [(1, 256), (2, 80), (2, 96), (1, 21)] {
        let shape = KvShape::new(1, heads, 264, dim).unwrap();
        check(&format!("head_dim {dim}"), &values(shape, 11), shape, |_| true);
    }
}

/// Two whole segments of the greatest length, and what is left.
#[test]
fn a_hundred_and_thirty_thousand_tokens() {
    let shape = KvShape::new(1, 1, 131_072, 32).unwrap();
    let noise = values(shape, 13);
    check("128k tokens", &noise, shape, |_| true);
    // Keys that turn with their positions: no two stretches of the text have the same range.
    let angle = |i: usize| (i / 32) as f32 * 1e-4 * (1.0 + (i % 32) as f32);
    let turning: Vec<f32> = noise.iter().enumerate().map(|(i, x)| x + 2.0 * angle(i).sin()).collect();
    check_roles(&[Role::Key], "128k turning tokens", &turning, shape, |_| true);
}

#[test]
fn attention_over_a_hundred_and_thirty_thousand_tokens() {
    let shape = KvShape::new(1, 1, 131_072, 32).unwrap();
    let (keys, tokens) = (values(shape, 15), values(shape, 17));
    let query: Vec<f32> = values(KvShape { tokens: 1, ..shape }, 19).iter().map(|x| x * 2.0).collect();
    let options = AttendOptions::new(1);
    let exact = attention(&keys, &tokens, shape, &query, 1, &options);
    for name in GEAR {
        let cache = CacheShape { layers: 1, batch: 1, kv_heads: 1, head_dim: shape.head_dim };
        let mut cache = GearCache::new(cache, config(name, Role::Key), config(name, Role::Value)).unwrap();
        cache.append(0, KvSlice::F32(&keys), KvSlice::F32(&tokens), shape.tokens, NEVER).unwrap();
        let mut got = vec![0.0; query.len()];
        cache.attend(0, KvSlice::F32(&query), 1, &options, &mut got, NEVER).unwrap();
        let left = norm(exact.iter().zip(&got).map(|(x, y)| x - y), 1, |_| true);
        let size = norm(exact.iter().copied(), 1, |_| true);
        println!("{name}: {left} of {size}");
        assert!(left <= 0.1 * size, "{name}: {left} of {size}");
    }
}

/// No value of any preset moves by more than a step of the widest range that a group can have, or two where low-rank adds to it; with
/// a range of least squared error, which may leave the ends out, by no more than the range.
#[test]
fn every_preset_stays_within_its_steps() {
    let shape = KvShape::new(1, 1, 264, 256).unwrap();
    let noise = values(shape, 21);
    let token = |i: usize| i / 256;
    let hard: [(&str, Vec<f32>); 5] = [
        ("noise", noise.clone()),
        ("±100", noise.iter().enumerate().map(|(i, x)| if i % 23 == 5 { 100.0 * x.signum() } else { *x }).collect()),
        ("sink", noise.iter().enumerate().map(|(i, x)| if token(i) == 0 { 100.0 * x } else { *x }).collect()),
        ("constant", vec![-3.25; shape.elements()]),
        ("huge", noise.iter().map(|x| x * 8e3).collect()),
    ];
    for name in preset_names() {
        for (role, (what, x)) in
            [Role::Key, Role::Value].into_iter().flat_map(|role| hard.iter().map(move |x| (role, x)))
        {
            let config = config(name, role);
            let levels = f32::from((1u16 << config.bits) - 1);
            let steps = if config.range == Range::Mse { levels } else { 1.0 + f32::from(u8::from(config.rank > 0)) };
            let (least, most) = x.iter().fold((0.0f32, 0.0f32), |(least, most), &x| (least.min(x), most.max(x)));
            let got = restored(x, shape, role, config);
            let moved = x.iter().zip(&got).fold(0.0f32, |moved, (x, y)| moved.max((x - y).abs()));
            // Scales, zeros and factors are rounded to float16.
            let bound = (most - least) * (steps / levels + 1.0 / 256.0);
            assert!(moved <= bound, "{what}: {name} {role:?} moved by {moved}, at most {bound}");
        }
    }
}
