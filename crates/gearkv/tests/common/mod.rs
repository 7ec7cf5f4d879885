//! Inputs and a plain reference attention, shared by the integration tests.
#![allow(dead_code, reason = "each test binary uses its part")]

use gearkv::{AttendOptions, GearConfig, GearOptions, KvShape, Role, f16};

/// Values with a few strong channels, as real keys have, exactly representable in float16.
pub fn values(shape: KvShape, seed: u32) -> Vec<f32> {
    let mut state = seed.wrapping_mul(0x9E37_79B9) | 1;
    (0..shape.elements())
        .map(|i| {
            state ^= state << 13;
            state ^= state >> 17;
            state ^= state << 5;
            let noise = (state >> 8) as f32 / (1 << 24) as f32 - 0.5;
            let channel = i % shape.head_dim;
            let strength = if channel % 17 == 3 { 12.0 } else { 1.0 };
            f16::from_f32(noise * strength + (channel as f32 * 0.9).sin()).to_f32()
        })
        .collect()
}

pub fn preset(name: &str) -> GearConfig {
    preset_for(name, Role::Key)
}

pub fn value_preset(name: &str) -> GearConfig {
    preset_for(name, Role::Value)
}

pub fn preset_for(name: &str, role: Role) -> GearConfig {
    GearOptions { preset: Some(name.into()), ..Default::default() }.resolve(role).unwrap()
}

/// No preset has these.
pub const BY_NEED: &str = "ranks by need";

/// As [`preset_for`], and what no preset has.
pub fn config_for(name: &str, role: Role) -> GearConfig {
    if name != BY_NEED {
        return preset_for(name, role);
    }
    let options = r#"{"preset":"kivi-2","rank":3,"decodeRank":2,"factorBits":4,"sparsity":0.02,"rankByNeed":true}"#;
    GearOptions::from_json(options).unwrap().resolve(role).unwrap()
}

/// `softmax(q Kᵀ · scale) V` in float64, straight from the definition.
pub fn attention(
    key: &[f32],
    value: &[f32],
    kv: KvShape,
    query: &[f32],
    queries: usize,
    options: &AttendOptions,
) -> Vec<f32> {
    let dim = kv.head_dim;
    let scale = options.scale.map_or(1.0 / (dim as f64).sqrt(), f64::from);
    let per_kv = options.query_heads / kv.heads;
    let mut out = Vec::new();
    for row in 0..kv.batch * options.query_heads * queries {
        let (i, head, item) = (row % queries, row / queries % options.query_heads, row / queries / options.query_heads);
        let plane = item * kv.heads + head / per_kv;
        let q = &query[row * dim..(row + 1) * dim];
        let end = if options.causal { kv.tokens - queries + i + 1 } else { kv.tokens };
        let first = options.window.map_or(0, |window| end.saturating_sub(window));
        let row_of = |x: &'_ [f32], t: usize| x[(plane * kv.tokens + t) * dim..][..dim].to_vec();
        let logits: Vec<f64> = (first..end)
            .map(|t| {
                let dot: f64 = q.iter().zip(row_of(key, t)).map(|(a, b)| f64::from(*a) * f64::from(b)).sum();
                let logit = dot * scale;
                options.softcap.map_or(logit, |cap| f64::from(cap) * (logit / f64::from(cap)).tanh())
            })
            .collect();
        let most = logits.iter().copied().fold(f64::NEG_INFINITY, f64::max);
        let weights: Vec<f64> = logits.iter().map(|x| (x - most).exp()).collect();
        let sum: f64 = weights.iter().sum();
        let mut gathered = vec![0.0; dim];
        for (t, weight) in (first..end).zip(&weights) {
            for (gathered, v) in gathered.iter_mut().zip(row_of(value, t)) {
                *gathered += weight / sum * f64::from(v);
            }
        }
        out.extend(gathered.into_iter().map(|x| x as f32));
    }
    out
}

/// Largest difference relative to the largest magnitude of `exact`.
pub fn largest_difference(exact: &[f32], got: &[f32]) -> f32 {
    assert_eq!(exact.len(), got.len());
    let magnitude = exact.iter().fold(1e-30f32, |most, x| most.max(x.abs()));
    exact.iter().zip(got).fold(0.0f32, |most, (x, y)| most.max((x - y).abs())) / magnitude
}
