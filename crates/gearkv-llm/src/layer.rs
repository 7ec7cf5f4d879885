//! The weights of one transformer layer.

use gearkv::Result;

use crate::architecture::{Architecture, unsupported};
use crate::gguf::Gguf;
use crate::weights::{Matrix, MatrixBuilder};

/// One layer.
pub(crate) struct Layer {
    pub attention_norm: Vec<f32>,
    /// Queries, keys and values, stacked.
    pub projections: Matrix,
    pub projection_bias: Option<Vec<f32>>,
    pub query_norm: Option<Vec<f32>>,
    pub key_norm: Option<Vec<f32>>,
    pub output: Matrix,
    /// Gemma 3: a norm behind attention, too.
    pub attention_out_norm: Option<Vec<f32>>,
    pub feed_forward_norm: Vec<f32>,
    /// Gate and up, stacked.
    pub gate_up: Matrix,
    pub down: Matrix,
    pub feed_forward_out_norm: Option<Vec<f32>>,
}

const KNOWN: &[&str] = &[
    "attn_norm.weight",
    "attn_q.weight",
    "attn_k.weight",
    "attn_v.weight",
    "attn_q.bias",
    "attn_k.bias",
    "attn_v.bias",
    "attn_q_norm.weight",
    "attn_k_norm.weight",
    "attn_output.weight",
    "post_attention_norm.weight",
    "ffn_norm.weight",
    "ffn_gate.weight",
    "ffn_up.weight",
    "ffn_down.weight",
    "post_ffw_norm.weight",
    // Position factors that some converters repeat in each layer.
    "attn_rot_embd",
    "rope_freqs.weight",
];

/// Outside of layers.
const KNOWN_OUTSIDE: &[&str] = &["token_embd.weight", "output_norm.weight", "output.weight", "rope_freqs.weight"];

/// Tensors that nothing here computes with change what the model means, so they must not be passed over.
pub(crate) fn refuse_unknown(gguf: &Gguf, layers: usize) -> Result<()> {
    let known = |name: &str| {
        let Some((layer, rest)) = name.strip_prefix("blk.").and_then(|rest| rest.split_once('.')) else {
            return KNOWN_OUTSIDE.contains(&name);
        };
        layer.parse::<usize>().is_ok_and(|layer| layer < layers) && KNOWN.contains(&rest)
    };
    match gguf.tensors().map(|(name, _)| name).find(|name| !known(name)) {
        None => Ok(()),
        Some(name) => Err(unsupported(format!("the model has a tensor {name:?}, which this build does not know"))),
    }
}

impl Layer {
    pub fn read(gguf: &mut Gguf, a: &Architecture, layer: usize) -> Result<Self> {
        let name = |rest: &str| format!("blk.{layer}.{rest}");
        let (width, queries, keys) = (a.width, a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let projections = MatrixBuilder::new(width)
            .stack(gguf.tensor(&name("attn_q.weight"), &[width, queries])?)
            .stack(gguf.tensor(&name("attn_k.weight"), &[width, keys])?)
            .stack(gguf.tensor(&name("attn_v.weight"), &[width, keys])?)
            .build()?;
        let projection_bias = if gguf.has(&name("attn_q.bias")) {
            let mut bias = gguf.vector(&name("attn_q.bias"), queries)?;
            bias.extend(gguf.vector(&name("attn_k.bias"), keys)?);
            bias.extend(gguf.vector(&name("attn_v.bias"), keys)?);
            Some(bias)
        } else {
            None
        };
        let gate_up = MatrixBuilder::new(width)
            .stack(gguf.tensor(&name("ffn_gate.weight"), &[width, a.feed_forward])?)
            .stack(gguf.tensor(&name("ffn_up.weight"), &[width, a.feed_forward])?)
            .build()?;
        let down = gguf.tensor(&name("ffn_down.weight"), &[a.feed_forward, width])?;
        let output = gguf.tensor(&name("attn_output.weight"), &[queries, width])?;
        Ok(Self {
            attention_norm: gguf.vector(&name("attn_norm.weight"), width)?,
            projections,
            projection_bias,
            query_norm: gguf.optional_vector(&name("attn_q_norm.weight"), a.head_dim)?,
            key_norm: gguf.optional_vector(&name("attn_k_norm.weight"), a.head_dim)?,
            output: MatrixBuilder::new(queries).stack(output).build()?,
            attention_out_norm: gguf.optional_vector(&name("post_attention_norm.weight"), width)?,
            feed_forward_norm: gguf.vector(&name("ffn_norm.weight"), width)?,
            gate_up,
            down: MatrixBuilder::new(a.feed_forward).stack(down).build()?,
            feed_forward_out_norm: gguf.optional_vector(&name("post_ffw_norm.weight"), width)?,
        })
    }

    pub fn byte_length(&self) -> usize {
        [&self.projections, &self.output, &self.gate_up, &self.down].iter().map(|m| m.byte_length()).sum()
    }
}
