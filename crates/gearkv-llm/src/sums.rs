//! What is added up over the positions of a continuation.

use crate::eval::{EvalRow, WindowRow};
use crate::layer_errors::LayerSums;
use crate::perplexity::log_sum_exp;
use crate::sampler::likeliest;

/// Of one candidate, in one window or in all.
#[derive(Clone, Default)]
pub(crate) struct Sums {
    pub prompt_bits: f64,
    pub prompt_elements: f64,
    pub decode_bits: f64,
    pub decode_elements: f64,
    pub loss: f64,
    pub positions: usize,
    kl: f64,
    same: usize,
    /// One a layer, where they are wanted.
    pub layers: Vec<LayerSums>,
    /// Of each position, where they are wanted; not of more than one window.
    position_kl: Vec<f32>,
    position_same: Vec<bool>,
}

impl Sums {
    /// One position: log-probabilities on the float16 cache beside logits on the candidate's.
    pub fn look(&mut self, reference: &[f32], logits: &[f32], next: u32, note: bool) {
        let normalizer = log_sum_exp(logits);
        let kl: f64 = reference
            .iter()
            .zip(logits)
            .map(|(p, q)| f64::from(p.exp()) * (f64::from(*p) - (f64::from(*q) - normalizer)))
            .sum();
        let same = likeliest(reference) == likeliest(logits);
        self.kl += kl;
        self.same += usize::from(same);
        self.loss += normalizer - f64::from(logits[next as usize]);
        self.positions += 1;
        if note {
            self.position_kl.push(kl as f32);
            self.position_same.push(same);
        }
    }

    /// Another window.
    pub fn add(&mut self, other: Self) {
        self.prompt_bits += other.prompt_bits;
        self.prompt_elements += other.prompt_elements;
        self.decode_bits += other.decode_bits;
        self.decode_elements += other.decode_elements;
        self.loss += other.loss;
        self.positions += other.positions;
        self.kl += other.kl;
        self.same += other.same;
        self.layers.resize(self.layers.len().max(other.layers.len()), LayerSums::default());
        self.layers.iter_mut().zip(&other.layers).for_each(|(all, layer)| all.add(layer));
    }

    /// Of the tokens that were predicted.
    pub fn perplexity(&self) -> f64 {
        (self.loss / self.positions as f64).exp()
    }

    pub fn row(&self, name: &str) -> EvalRow {
        let positions = self.positions as f64;
        let decode = self.decode_bits / self.decode_elements;
        let layers = || self.layers.iter().map(LayerSums::error).collect();
        EvalRow {
            preset: name.to_owned(),
            bits_per_element: self.prompt_bits / self.prompt_elements,
            decode_bits_per_element: decode.is_finite().then_some(decode),
            kl: self.kl / positions,
            top1: self.same as f64 / positions,
            perplexity: self.perplexity(),
            layers: (!self.layers.is_empty()).then(layers),
        }
    }

    pub fn window_row(&self, name: &str) -> WindowRow {
        let (position_kl, position_same) = (self.position_kl.clone(), self.position_same.clone());
        WindowRow { row: self.row(name), position_kl, position_same }
    }
}
