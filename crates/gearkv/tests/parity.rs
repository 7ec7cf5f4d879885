//! Parity with the reference implementation on a real model's cache (`fixtures/expected.json`; its `rules` say how each
//! value was made). Prints the table with `cargo test --release -p gearkv --test parity -- --nocapture`.

use std::collections::BTreeMap;
use std::path::PathBuf;

use gearkv::{
    AttendOptions, Backbone, CacheShape, GearCache, GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role,
    f16,
};
use safetensors::SafeTensors;
use serde_json::Value;

/// Allowed relative difference of an error where nothing is random.
const DETERMINISTIC_TOLERANCE: f64 = 0.001;
/// Allowed relative difference of an error where power iteration starts from random numbers.
const POWER_ITERATION_TOLERANCE: f64 = 0.02;
/// Bits per element must be the same to the precision that the reference prints.
const BITS_TOLERANCE: f64 = 5e-4;

/// Passes after which power iteration has reached what an SVD gives.
const CONVERGED: u32 = 64;

const LAYERS: [usize; 4] = [0, 10, 20, 29];
const HEADS: usize = 3;
const TOKENS: usize = 512;
const DIM: usize = 64;
const QUERY_HEADS: usize = 9;
const QUERIES: usize = 32;
const SCALE: f32 = 0.125;

struct Layer {
    key: Vec<f16>,
    value: Vec<f16>,
    query: Vec<f32>,
    exact: Vec<f32>,
}

fn fixture(name: &str) -> Vec<u8> {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../../fixtures").join(name);
    std::fs::read(&path).unwrap_or_else(|e| panic!("{}: {e}", path.display()))
}

fn attend_all(key: &GearTensor, value: &GearTensor, query: &[f32]) -> Vec<f32> {
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let cache = GearCache::from_tensors(shape, vec![(key.clone(), value.clone())]).unwrap();
    let options = AttendOptions { scale: Some(SCALE), causal: false, ..AttendOptions::new(QUERY_HEADS) };
    let mut out = vec![0.0; query.len()];
    cache.attend(0, KvSlice::F32(query), QUERIES, &options, &mut out, NEVER).unwrap();
    out
}

fn compress(values: &[f16], role: Role, config: &GearConfig) -> GearTensor {
    let shape = KvShape::new(1, HEADS, TOKENS, DIM).unwrap();
    GearTensor::compress(KvSlice::F16(values), shape, role, config.clone(), NEVER).unwrap()
}

fn uncompressed() -> GearConfig {
    GearOptions { preset: Some("float32".into()), ..Default::default() }.resolve(Role::Key).unwrap()
}

fn layers() -> Vec<Layer> {
    let bytes = fixture("kv_smollm2_135m.safetensors");
    let file = SafeTensors::deserialize(&bytes).unwrap();
    let read = |name: String| -> Vec<f16> {
        file.tensor(&name).unwrap().data().chunks_exact(2).map(|b| f16::from_le_bytes([b[0], b[1]])).collect()
    };
    let float32 = uncompressed();
    LAYERS
        .iter()
        .map(|layer| {
            let key = read(format!("layer.{layer}.key"));
            let value = read(format!("layer.{layer}.value"));
            let query: Vec<f32> = read(format!("layer.{layer}.query")).iter().map(|x| x.to_f32()).collect();
            let exact =
                attend_all(&compress(&key, Role::Key, &float32), &compress(&value, Role::Value, &float32), &query);
            Layer { key, value, query, exact }
        })
        .collect()
}

fn relative_error(exact: impl Iterator<Item = f32> + Clone, got: impl Iterator<Item = f32>) -> f64 {
    let norm: f64 = exact.clone().map(|x| f64::from(x).powi(2)).sum();
    let left: f64 = exact.zip(got).map(|(x, y)| (f64::from(x) - f64::from(y)).powi(2)).sum();
    (left / norm).sqrt()
}

/// Whether the reference solves a method's low-rank by an exact SVD, which converged power iteration equals in the error of
/// K and V. What attention makes of it depends on the order of nearly equal singular vectors, and is not compared.
fn is_svd(method: &str) -> bool {
    method.ends_with("/svd")
}

/// The configuration of a reference method, and whether low-rank is part of it; `None` where no backbone here covers it.
/// Where the reference takes an exact SVD, power iteration goes on until it has converged to it.
fn configuration(method: &str) -> Option<(GearConfig, bool)> {
    let parts: Vec<&str> = method.split('/').collect();
    let (prefix, rest) = match parts[0] {
        "gear" | "gear-l" | "gear-s" => (parts[0], &parts[1..]),
        _ => ("", &parts[..]),
    };
    let (backbone, group_size) = match rest[0] {
        "uniform-token-g64" => (Backbone::Uniform, 64),
        "kcvt" => (Backbone::Kcvt, 64),
        "kivi-g64" => (Backbone::Kivi, 64),
        "kivi-g32" => (Backbone::Kivi, 32),
        _ => return None,
    };
    let rank = rest.iter().find_map(|part| part.strip_prefix('r')?.parse().ok()).unwrap_or(0);
    let options = GearOptions {
        preset: Some("paper-gear-4".into()),
        bits: Some(rest[1].parse().unwrap()),
        backbone: Some(backbone),
        group_size: Some(group_size),
        rank: Some(rank),
        power_iterations: Some(if is_svd(method) { CONVERGED } else { 3 }),
        sparsity: Some(if prefix == "gear" || prefix == "gear-s" { 0.02 } else { 0.0 }),
        ..Default::default()
    };
    Some((options.resolve(Role::Key).unwrap(), rank > 0))
}

struct Measured {
    key_error: f64,
    value_error: f64,
    attention_error: f64,
    key_bits: f64,
    value_bits: f64,
}

fn measure(layer: &Layer, config: &GearConfig) -> Measured {
    let (key, value) = (compress(&layer.key, Role::Key, config), compress(&layer.value, Role::Value, config));
    // The reference rounds what it gives back to float16, and attends to that.
    let restored = |tensor: &GearTensor| -> Vec<f16> {
        tensor.decompress(NEVER).unwrap().iter().map(|&x| f16::from_f32(x)).collect()
    };
    let (restored_key, restored_value) = (restored(&key), restored(&value));
    let error =
        |exact: &[f16], got: &[f16]| relative_error(exact.iter().map(|x| x.to_f32()), got.iter().map(|x| x.to_f32()));
    let bits = |tensor: &GearTensor| tensor.parts().without_headers() as f64 * 8.0 / tensor.shape().elements() as f64;
    let float32 = uncompressed();
    let attended = attend_all(
        &compress(&restored_key, Role::Key, &float32),
        &compress(&restored_value, Role::Value, &float32),
        &layer.query,
    );
    Measured {
        key_error: error(&layer.key, &restored_key),
        value_error: error(&layer.value, &restored_value),
        attention_error: relative_error(layer.exact.iter().copied(), attended.iter().copied()),
        key_bits: bits(&key),
        value_bits: bits(&value),
    }
}

#[test]
fn errors_and_sizes_are_those_of_the_reference() {
    let expected: Value = serde_json::from_slice(&fixture("expected.json")).unwrap();
    let methods: BTreeMap<String, Value> = serde_json::from_value(expected["expected"].clone()).unwrap();
    let layers = layers();
    let (mut covered, mut failures) = (0, Vec::new());
    println!("{:38} {:>9} {:>9} {:>9} {:>9} {:>7} {:>7}", "method", "layer", "K", "V", "attention", "K bits", "V bits");
    for (method, by_layer) in &methods {
        let Some((config, random)) = configuration(method) else { continue };
        covered += 1;
        let tolerance = if random { POWER_ITERATION_TOLERANCE } else { DETERMINISTIC_TOLERANCE };
        for (layer, number) in layers.iter().zip(LAYERS) {
            let got = measure(layer, &config);
            let reference = &by_layer[format!("layer.{number}")];
            let mut compare = |name: &str, got: f64, tolerance: f64, relative: bool| {
                let expected = reference[name].as_f64().unwrap();
                let off = if relative { got / expected - 1.0 } else { got - expected };
                if off.abs() > tolerance {
                    failures
                        .push(format!("{method} layer {number} {name}: {got}, reference {expected} (off by {off:.5})"));
                }
                off
            };
            let k = compare("key_rel_fro", got.key_error, tolerance, true);
            let v = compare("value_rel_fro", got.value_error, tolerance, true);
            let attention_tolerance = if is_svd(method) { f64::INFINITY } else { tolerance };
            let a = compare("attn_out_rel", got.attention_error, attention_tolerance, true);
            compare("key_bits_per_elem", got.key_bits, BITS_TOLERANCE, false);
            compare("value_bits_per_elem", got.value_bits, BITS_TOLERANCE, false);
            println!(
                "{method:38} {number:>9} {:>+8.3}% {:>+8.3}% {:>+8.3}% {:>7.4} {:>7.4}",
                k * 100.0,
                v * 100.0,
                a * 100.0,
                got.key_bits,
                got.value_bits
            );
        }
    }
    assert_eq!(covered, 79, "methods of the reference that the backbones here cover");
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
}
