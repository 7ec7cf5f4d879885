//! Data that is hard to quantize: under every `gear-*` preset the error stays bounded and is never larger than that of `uniform`
//! codes of the same number of bits.

mod common;

use common::{preset, values};
use gearkv::{Backbone, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role, f16};

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
    let x: Vec<f32> = x.iter().map(|&x| f16::from_f32(x).to_f32()).collect();
    for name in GEAR {
        for role in [Role::Key, Role::Value] {
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
