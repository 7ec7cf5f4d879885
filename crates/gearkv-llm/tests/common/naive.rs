//! The same models by the formulas, in float64, one token after the other and without a cache.

use std::collections::HashMap;

use super::gguf::{File, TensorData};
use super::tiny::{Features, HEAD_DIM, HEADS, KV_HEADS, LAYERS, WIDTH, features};

type Row = Vec<f64>;

struct Weights(HashMap<String, (usize, Row)>);

fn values(tensor: &TensorData) -> Row {
    match tensor.kind {
        0 => tensor.bytes.as_chunks::<4>().0.iter().map(|b| f64::from(f32::from_le_bytes(*b))).collect(),
        8 => tensor
            .bytes
            .chunks_exact(34)
            .flat_map(|block| {
                let scale = half::f16::from_le_bytes([block[0], block[1]]).to_f64();
                block[2..].iter().map(move |&code| f64::from(code as i8) * scale)
            })
            .collect(),
        kind => panic!("type {kind}"),
    }
}

impl Weights {
    fn vector(&self, name: &str) -> &[f64] {
        &self.0[name].1
    }

    fn multiply(&self, name: &str, x: &[f64]) -> Row {
        let (columns, values) = &self.0[name];
        values.chunks_exact(*columns).map(|row| row.iter().zip(x).map(|(a, b)| a * b).sum()).collect()
    }
}

fn normalize(x: &[f64], weight: &[f64]) -> Row {
    let scale = 1.0 / (x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64 + 1e-5).sqrt();
    x.iter().zip(weight).map(|(x, w)| x * scale * w).collect()
}

fn rotate(head: &mut [f64], position: usize, base: f64, neighbours: bool, factors: Option<&[f64]>) {
    let half = HEAD_DIM / 2;
    for i in 0..half {
        let frequency = base.powf(-2.0 * i as f64 / HEAD_DIM as f64) / factors.map_or(1.0, |f| f[i]);
        let (sin, cos) = (position as f64 * frequency).sin_cos();
        let (a, b) = if neighbours { (2 * i, 2 * i + 1) } else { (i, i + half) };
        (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
    }
}

/// Logits behind each token.
pub fn logits(architecture: &str, file: &File, tokens: &[u32]) -> Vec<Row> {
    let weights = Weights(file.tensors.iter().map(|t| (t.name.clone(), (t.dims[0] as usize, values(t)))).collect());
    let features = features(architecture);
    let gemma = architecture == "gemma3";
    let scale = if gemma { (WIDTH as f64).sqrt() } else { 1.0 };
    let embedding = weights.vector("token_embd.weight");
    let embed = |&token: &u32| embedding[token as usize * WIDTH..][..WIDTH].iter().map(|x| x * scale).collect();
    let mut states: Vec<Row> = tokens.iter().map(embed).collect();
    for layer in 0..LAYERS {
        run_layer(architecture, &weights, features, layer, &mut states);
    }
    let output = if features.own_output { "output.weight" } else { "token_embd.weight" };
    let norm = weights.vector("output_norm.weight");
    states.iter().map(|x| weights.multiply(output, &normalize(x, norm))).collect()
}

fn run_layer(architecture: &str, weights: &Weights, features: Features, layer: usize, states: &mut [Row]) {
    let gemma = architecture == "gemma3";
    let name = |rest: &str| format!("blk.{layer}.{rest}");
    let global = gemma && (layer + 1).is_multiple_of(6);
    let window = features.window.filter(|_| !global).unwrap_or(usize::MAX);
    let base = if gemma && !global { 10_000.0 } else { 5000.0 };
    let factors = features.rope_factors.then(|| weights.vector("rope_freqs.weight"));
    let project = |kind: &str, turns: bool| -> Vec<Vec<Row>> {
        let of = |(position, state): (usize, &Row)| {
            let x = normalize(state, weights.vector(&name("attn_norm.weight")));
            let mut row = weights.multiply(&name(&format!("attn_{kind}.weight")), &x);
            if features.bias {
                row.iter_mut().zip(weights.vector(&name(&format!("attn_{kind}.bias")))).for_each(|(x, b)| *x += b);
            }
            let head = |head: &[f64]| {
                let mut head = head.to_vec();
                if turns {
                    if features.head_norms {
                        head = normalize(&head, weights.vector(&name(&format!("attn_{kind}_norm.weight"))));
                    }
                    rotate(&mut head, position, base, architecture == "llama", factors);
                }
                head
            };
            row.chunks_exact(HEAD_DIM).map(head).collect()
        };
        states.iter().enumerate().map(of).collect()
    };
    let (queries, keys, values) = (project("q", true), project("k", true), project("v", false));
    for (t, state) in states.iter_mut().enumerate() {
        let mut attended = Vec::new();
        for (h, query) in queries[t].iter().enumerate() {
            let kv = h / (HEADS / KV_HEADS);
            let seen = (t + 1).saturating_sub(window)..t + 1;
            let dot = |s: usize| -> f64 { query.iter().zip(&keys[s][kv]).map(|(a, b)| a * b).sum() };
            let exps: Vec<f64> = seen.clone().map(|s| (dot(s) / (HEAD_DIM as f64).sqrt()).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let channel = |d: usize| -> f64 { seen.clone().zip(&exps).map(|(s, e)| e / sum * values[s][kv][d]).sum() };
            attended.extend((0..HEAD_DIM).map(channel));
        }
        let mut out = weights.multiply(&name("attn_output.weight"), &attended);
        if features.out_norms {
            out = normalize(&out, weights.vector(&name("post_attention_norm.weight")));
        }
        state.iter_mut().zip(out).for_each(|(x, y)| *x += y);
        let x = normalize(state, weights.vector(&name("ffn_norm.weight")));
        let gate = weights.multiply(&name("ffn_gate.weight"), &x);
        let up = weights.multiply(&name("ffn_up.weight"), &x);
        let activate = |x: f64| {
            if gemma {
                0.5 * x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            } else {
                x / (1.0 + (-x).exp())
            }
        };
        let hidden: Row = gate.iter().zip(up).map(|(g, u)| activate(*g) * u).collect();
        let mut out = weights.multiply(&name("ffn_down.weight"), &hidden);
        if features.out_norms {
            out = normalize(&out, weights.vector(&name("post_ffw_norm.weight")));
        }
        state.iter_mut().zip(out).for_each(|(x, y)| *x += y);
    }
}
