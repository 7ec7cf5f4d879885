//! Methods of others, beside what the reference implementation measured of them on the same recorded cache.

use std::path::{Path, PathBuf};

use gearkv::{GearOptions, Role};
use gearkv_quality::Fixture;
use gearkv_quality::methods::{Named, find};
use serde_json::Value;

/// The reference divides by a scale that was rounded before, llama.cpp by the scale itself.
const TOLERANCE: f64 = 0.01;
/// Softmax makes more of such differences.
const ATTENTION_TOLERANCE: f64 = 0.06;

fn fixtures() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fixtures")
}

fn fixture() -> Fixture {
    Fixture::read(&fixtures().join("kv_smollm2_135m.safetensors")).unwrap()
}

/// Means over the layers of the errors of keys, values and attention, and of the bits.
fn expected(method: &str) -> [f64; 4] {
    let all: Value = serde_json::from_str(&std::fs::read_to_string(fixtures().join("expected.json")).unwrap()).unwrap();
    let layers = all["expected"][method].as_object().unwrap();
    ["key_rel_fro", "value_rel_fro", "attn_out_rel", "key_bits_per_elem"]
        .map(|field| layers.values().map(|layer| layer[field].as_f64().unwrap()).sum::<f64>() / layers.len() as f64)
}

fn near(what: &str, got: f64, expected: f64, tolerance: f64) {
    println!("{what}: {got}, expected {expected}");
    assert!((got / expected - 1.0).abs() < tolerance, "{what}: {got}, expected {expected}");
}

#[test]
fn codecs_make_the_errors_that_the_reference_makes() {
    let fixture = fixture();
    for (name, reference) in [
        ("q8_0", "llama.cpp-q8_0"),
        ("q5_0", "llama.cpp-q5_0"),
        ("q4_0", "llama.cpp-q4_0"),
        ("int8-g64", "int8-token-g64"),
        ("turboquant-4", "turboquant-mse/4"),
        ("turboquant-3", "turboquant-mse/3"),
        ("turboquant-2", "turboquant-mse/2"),
    ] {
        let Named::Codec(codec) = find(name).unwrap() else { panic!("{name} is no codec") };
        let [key, value, attention, bits] = expected(reference);
        let got = fixture.codec(&*codec).unwrap();
        near(&format!("{name}, keys"), got.key, key, TOLERANCE);
        near(&format!("{name}, values"), got.value, value, TOLERANCE);
        near(&format!("{name}, attention"), got.attention, attention, ATTENTION_TOLERANCE);
        let mut head: Vec<f32> = (0..64).map(|i| (i as f32).sin()).collect();
        near(&format!("{name}, bits"), codec.pass(&mut head) / 64.0, bits, TOLERANCE);
    }
}

#[test]
fn presets_are_measured_in_the_same_way() {
    let options = GearOptions { preset: Some("kivi-4".into()), ..Default::default() };
    let got = fixture().gear(&options.resolve(Role::Key).unwrap(), &options.resolve(Role::Value).unwrap()).unwrap();
    let [key, value, attention, _] = expected("kivi-g64/4");
    near("keys", got.key, key, TOLERANCE);
    near("values", got.value, value, TOLERANCE);
    near("attention", got.attention, attention, ATTENTION_TOLERANCE);
    assert!(find("q3_7").is_err());
}
