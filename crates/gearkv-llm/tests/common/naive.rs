//! The same models by the formulas, in float64, one token after the other and without a cache.

use std::collections::HashMap;
use std::f64::consts::PI;

use candle_core::Device;
use candle_core::quantized::ggml_file::qtensor_from_ggml;

use super::gguf::{File, KINDS, TensorData};
use super::tiny::{Scaling, Shape};

type Row = Vec<f64>;

struct Weights(HashMap<String, (usize, Row)>);

/// As candle reads them.
pub fn values(tensor: &TensorData) -> Row {
    let kind = KINDS.iter().find(|(_, number)| *number == tensor.kind).unwrap().0;
    let dims = tensor.dims.iter().rev().map(|&n| n as usize).collect();
    let read = qtensor_from_ggml(kind, &tensor.bytes, dims, &Device::Cpu).unwrap();
    let values: Vec<f32> = read.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    values.into_iter().map(f64::from).collect()
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

/// How far each pair turns from one position to the next, and what it is stretched by.
struct Turns {
    frequencies: Row,
    stretch: f64,
    neighbours: bool,
}

impl Turns {
    fn of(shape: &Shape, local: bool) -> Self {
        let half = shape.head_dim / 2;
        let base = f64::from(shape.local_base.filter(|_| local).unwrap_or(shape.base));
        let frequency = |i: usize| {
            let factor = shape.rope_factors.as_ref().map_or(1.0, |factors| f64::from(factors[i]));
            base.powf(-(i as f64) / half as f64) / factor
        };
        let mut frequencies: Row = (0..half).map(frequency).collect();
        let mut stretch = 1.0;
        match shape.scaling.filter(|_| !local) {
            None => {}
            Some(Scaling::Linear(factor)) => frequencies.iter_mut().for_each(|f| *f /= f64::from(factor)),
            Some(Scaling::Yarn(factor, positions)) => {
                let factor = f64::from(factor);
                // The pair that makes so many turns within the positions of the training.
                let pair = |turns: f64| half as f64 * (positions as f64 / (2.0 * PI * turns)).ln() / base.ln();
                let low = pair(32.0).floor().max(0.0);
                let high = pair(1.0).ceil().min(shape.head_dim as f64 - 1.0);
                for (i, frequency) in frequencies.iter_mut().enumerate() {
                    let slow = ((i as f64 - low) / (high - low).max(0.001)).clamp(0.0, 1.0);
                    *frequency = *frequency / factor * slow + *frequency * (1.0 - slow);
                }
                stretch = 1.0 + 0.1 * factor.ln();
            }
        }
        Self { frequencies, stretch, neighbours: shape.architecture == "llama" }
    }

    fn turn(&self, head: &mut [f64], position: usize) {
        let half = self.frequencies.len();
        for (i, frequency) in self.frequencies.iter().enumerate() {
            let (sin, cos) = (position as f64 * frequency).sin_cos();
            let (sin, cos) = (sin * self.stretch, cos * self.stretch);
            let (a, b) = if self.neighbours { (2 * i, 2 * i + 1) } else { (i, i + half) };
            (head[a], head[b]) = (head[a] * cos - head[b] * sin, head[a] * sin + head[b] * cos);
        }
    }
}

/// Logits behind each token.
pub fn logits(shape: &Shape, file: &File, tokens: &[u32]) -> Vec<Row> {
    let weights = Weights(file.tensors.iter().map(|t| (t.name.clone(), (t.dims[0] as usize, values(t)))).collect());
    let width = shape.width;
    let scale = if shape.architecture == "gemma3" { (width as f64).sqrt() } else { 1.0 };
    let embedding = weights.vector("token_embd.weight");
    let embed = |&token: &u32| embedding[token as usize * width..][..width].iter().map(|x| x * scale).collect();
    let mut states: Vec<Row> = tokens.iter().map(embed).collect();
    for layer in 0..shape.layers {
        run_layer(shape, &weights, layer, &mut states);
    }
    let output = if shape.own_output { "output.weight" } else { "token_embd.weight" };
    let norm = weights.vector("output_norm.weight");
    states.iter().map(|x| weights.multiply(output, &normalize(x, norm))).collect()
}

fn run_layer(shape: &Shape, weights: &Weights, layer: usize, states: &mut [Row]) {
    let name = |rest: &str| format!("blk.{layer}.{rest}");
    let window = shape.layer_window(layer);
    let turns = Turns::of(shape, window.is_some() && shape.local_base.is_some());
    let project = |kind: &str, is_turned: bool| -> Vec<Vec<Row>> {
        let of = |(position, state): (usize, &Row)| {
            let x = normalize(state, weights.vector(&name("attn_norm.weight")));
            let mut row = weights.multiply(&name(&format!("attn_{kind}.weight")), &x);
            if shape.bias {
                row.iter_mut().zip(weights.vector(&name(&format!("attn_{kind}.bias")))).for_each(|(x, b)| *x += b);
            }
            let head = |head: &[f64]| {
                let mut head = head.to_vec();
                if is_turned {
                    if shape.head_norms {
                        head = normalize(&head, weights.vector(&name(&format!("attn_{kind}_norm.weight"))));
                    }
                    turns.turn(&mut head, position);
                }
                head
            };
            row.chunks_exact(shape.head_dim).map(head).collect()
        };
        states.iter().enumerate().map(of).collect()
    };
    // Gemma 3 27B has a scalar of its own (`query_pre_attn_scalar`): width by heads.
    let is_27b = shape.architecture == "gemma3" && shape.layers == 62;
    let scalar = if is_27b { shape.width as f64 / shape.heads as f64 } else { shape.head_dim as f64 };
    let (queries, keys, values) = (project("q", true), project("k", true), project("v", false));
    for (t, state) in states.iter_mut().enumerate() {
        let mut attended = Vec::new();
        for (h, query) in queries[t].iter().enumerate() {
            let kv = h / (shape.heads / shape.kv_heads);
            let seen = (t + 1).saturating_sub(window.unwrap_or(usize::MAX))..t + 1;
            let dot = |s: usize| -> f64 { query.iter().zip(&keys[s][kv]).map(|(a, b)| a * b).sum() };
            let exps: Vec<f64> = seen.clone().map(|s| (dot(s) / scalar.sqrt()).exp()).collect();
            let sum: f64 = exps.iter().sum();
            let channel = |d: usize| -> f64 { seen.clone().zip(&exps).map(|(s, e)| e / sum * values[s][kv][d]).sum() };
            attended.extend((0..shape.head_dim).map(channel));
        }
        let mut out = weights.multiply(&name("attn_output.weight"), &attended);
        if shape.out_norms {
            out = normalize(&out, weights.vector(&name("post_attention_norm.weight")));
        }
        state.iter_mut().zip(out).for_each(|(x, y)| *x += y);
        let x = normalize(state, weights.vector(&name("ffn_norm.weight")));
        let gate = weights.multiply(&name("ffn_gate.weight"), &x);
        let up = weights.multiply(&name("ffn_up.weight"), &x);
        let activate = |x: f64| {
            if shape.architecture == "gemma3" {
                0.5 * x * (1.0 + ((2.0 / PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh())
            } else {
                x / (1.0 + (-x).exp())
            }
        };
        let hidden: Row = gate.iter().zip(up).map(|(g, u)| activate(*g) * u).collect();
        let mut out = weights.multiply(&name("ffn_down.weight"), &hidden);
        if shape.out_norms {
            out = normalize(&out, weights.vector(&name("post_ffw_norm.weight")));
        }
        state.iter_mut().zip(out).for_each(|(x, y)| *x += y);
    }
}
