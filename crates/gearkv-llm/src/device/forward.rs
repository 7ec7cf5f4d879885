//! A chunk of new tokens through one layer, and behind the last one to logits.

use candle_core::Tensor;
use candle_nn::ops::rms_norm;
use gearkv::{Cancel, Result};

use super::caches::{LayerCaches, NewTokens};
use super::error;
use super::model::TensorWeights;
use super::rotation::TensorRotation;
use super::weights::TensorLayer;
use crate::architecture::{Architecture, Gate};

/// New tokens that go through a layer together.
pub(super) struct Chunk {
    pub rows: usize,
    pub rotation: TensorRotation,
    pub local_rotation: Option<TensorRotation>,
    /// `[rows, width]`
    pub states: Tensor,
}

/// Logits of states behind the last layer, `[tokens, vocabulary]`.
pub(super) fn logits(weights: &TensorWeights, states: &Tensor) -> Result<Vec<f32>> {
    let normed = rms_norm(states, &weights.norm, weights.architecture.epsilon);
    normed
        .and_then(|normed| weights.output.forward(&normed))
        .and_then(|logits| logits.flatten_all()?.to_vec1())
        .map_err(error::device)
}

/// One layer at work.
pub(super) struct Step<'a> {
    pub architecture: &'a Architecture,
    pub layer: &'a TensorLayer,
    pub index: usize,
}

impl Step<'_> {
    /// The chunk's states behind this layer; the caches have its keys and values then.
    pub fn forward(&self, chunk: &Chunk, caches: &mut dyn LayerCaches, cancel: Cancel) -> Result<Tensor> {
        let [queries, keys, values] = self.projected(chunk).map_err(error::device)?;
        let options = self.architecture.attend_options(self.index);
        let new = NewTokens { queries: &queries, keys: &keys, values: &values, count: chunk.rows, options };
        let attended = caches.attend(self.index, &new, cancel)?;
        self.behind(chunk, &attended).map_err(error::device)
    }

    /// Queries, keys and values, `[heads, rows, head_dim]`, at their positions.
    fn projected(&self, chunk: &Chunk) -> candle_core::Result<[Tensor; 3]> {
        let (a, layer) = (self.architecture, self.layer);
        let x = rms_norm(&chunk.states, &layer.attention_norm, a.epsilon)?;
        let mut all = layer.projections.forward(&x)?;
        if let Some(bias) = &layer.projection_bias {
            all = all.broadcast_add(bias)?;
        }
        let rotation = match (&chunk.local_rotation, a.layer_window(self.index)) {
            (Some(local), Some(_)) => local,
            _ => &chunk.rotation,
        };
        let all = all.reshape((chunk.rows, a.heads + 2 * a.kv_heads, a.head_dim))?.transpose(0, 1)?;
        let turned = |first: usize, heads: usize, norm: &Option<Tensor>| {
            let heads = all.narrow(0, first, heads)?;
            let heads = match norm {
                Some(norm) => rms_norm(&heads.contiguous()?, norm, a.epsilon)?,
                None => heads,
            };
            rotation.turn(&heads)
        };
        Ok([
            turned(0, a.heads, &layer.query_norm)?,
            turned(a.heads, a.kv_heads, &layer.key_norm)?,
            all.narrow(0, a.heads + a.kv_heads, a.kv_heads)?.contiguous()?,
        ])
    }

    /// Adds attention, and the feed-forward network.
    fn behind(&self, chunk: &Chunk, attended: &Tensor) -> candle_core::Result<Tensor> {
        let (a, layer) = (self.architecture, self.layer);
        let normed = |x: Tensor, norm: &Option<Tensor>| match norm {
            Some(norm) => rms_norm(&x, norm, a.epsilon),
            None => Ok(x),
        };
        let attended = attended.transpose(0, 1)?.contiguous()?.reshape((chunk.rows, a.heads * a.head_dim))?;
        let states = (&chunk.states + normed(layer.output.forward(&attended)?, &layer.attention_out_norm)?)?;
        let gate_up = layer.gate_up.forward(&rms_norm(&states, &layer.feed_forward_norm, a.epsilon)?)?;
        let gate = gate_up.narrow(1, 0, a.feed_forward)?;
        let gate = match a.gate {
            Gate::Silu => gate.silu()?,
            Gate::Gelu => gate.gelu()?,
        };
        let hidden = (gate * gate_up.narrow(1, a.feed_forward, a.feed_forward)?)?;
        states + normed(layer.down.forward(&hidden)?, &layer.feed_forward_out_norm)?
    }
}
