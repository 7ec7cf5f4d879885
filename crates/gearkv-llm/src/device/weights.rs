//! A model's weights on a device, as the file quantizes them.

use candle_core::quantized::ggml_file::qtensor_from_ggml;
use candle_core::quantized::{GgmlDType, QMatMul};
use candle_core::{Device, Module, Tensor};
use gearkv::Result;

use super::error;
use crate::architecture::Architecture;
use crate::gguf::{Gguf, RawTensor};
use crate::weights::check_finite;

/// Matrices of the same number of columns, stacked. Those of one type are one product, since rows lie one behind the other in a file.
pub(super) struct Product {
    parts: Vec<QMatMul>,
    bytes: usize,
}

impl Product {
    /// Reads matrices of `columns` columns and so many rows each.
    pub fn read(gguf: &mut Gguf, columns: usize, matrices: &[(String, usize)], device: &Device) -> Result<Self> {
        let mut stacked: Vec<RawTensor> = Vec::new();
        for (name, rows) in matrices {
            let tensor = gguf.tensor(name, &[columns, *rows])?;
            check_finite(&tensor)?;
            match stacked.last_mut() {
                Some(last) if last.kind == tensor.kind => {
                    last.dims[1] += rows;
                    last.bytes.extend_from_slice(&tensor.bytes);
                }
                _ => stacked.push(tensor),
            }
        }
        let bytes = stacked.iter().map(bytes_on_device).sum();
        let parts = stacked.into_iter().map(|tensor| {
            let quantized = qtensor_from_ggml(tensor.kind, &tensor.bytes, vec![tensor.dims[1], columns], device);
            quantized.and_then(QMatMul::from_qtensor).map_err(error::device)
        });
        Ok(Self { parts: parts.collect::<Result<_>>()?, bytes })
    }

    /// `x Wᵀ`: `[tokens, rows]` of `[tokens, columns]`.
    pub fn forward(&self, x: &Tensor) -> candle_core::Result<Tensor> {
        match self.parts.as_slice() {
            [only] => only.forward(x),
            parts => {
                let products = parts.iter().map(|part| part.forward(x)).collect::<candle_core::Result<Vec<_>>>()?;
                Tensor::cat(&products, 1)
            }
        }
    }

    pub fn byte_length(&self) -> usize {
        self.bytes
    }
}

/// candle makes float32 of what is not quantized.
fn bytes_on_device(tensor: &RawTensor) -> usize {
    match tensor.kind {
        GgmlDType::F32 | GgmlDType::F16 | GgmlDType::BF16 => 4 * tensor.dims.iter().product::<usize>(),
        _ => tensor.bytes.len(),
    }
}

/// The weights of one transformer layer, as [`crate::layer::Layer`] has them in main memory.
pub(super) struct TensorLayer {
    pub attention_norm: Tensor,
    /// Queries, keys and values, stacked.
    pub projections: Product,
    pub projection_bias: Option<Tensor>,
    pub query_norm: Option<Tensor>,
    pub key_norm: Option<Tensor>,
    pub output: Product,
    pub attention_out_norm: Option<Tensor>,
    pub feed_forward_norm: Tensor,
    /// Gate and up, stacked.
    pub gate_up: Product,
    pub down: Product,
    pub feed_forward_out_norm: Option<Tensor>,
}

/// A vector of `n` values on a device.
pub(super) fn vector(gguf: &mut Gguf, name: &str, n: usize, device: &Device) -> Result<Tensor> {
    Tensor::from_vec(gguf.vector(name, n)?, n, device).map_err(error::device)
}

impl TensorLayer {
    pub fn read(gguf: &mut Gguf, a: &Architecture, layer: usize, device: &Device) -> Result<Self> {
        let name = |rest: &str| format!("blk.{layer}.{rest}");
        let (width, queries, keys) = (a.width, a.heads * a.head_dim, a.kv_heads * a.head_dim);
        let optional = |gguf: &mut Gguf, rest: &str, n: usize| {
            let name = name(rest);
            if gguf.has(&name) { vector(gguf, &name, n, device).map(Some) } else { Ok(None) }
        };
        let projection_bias = if gguf.has(&name("attn_q.bias")) {
            let parts = [("attn_q.bias", queries), ("attn_k.bias", keys), ("attn_v.bias", keys)];
            let parts = parts.map(|(rest, n)| vector(gguf, &name(rest), n, device));
            let parts = parts.into_iter().collect::<Result<Vec<_>>>()?;
            Some(Tensor::cat(&parts, 0).map_err(error::device)?)
        } else {
            None
        };
        let projections = [("attn_q.weight", queries), ("attn_k.weight", keys), ("attn_v.weight", keys)]
            .map(|(rest, n)| (name(rest), n));
        let gate_up = ["ffn_gate.weight", "ffn_up.weight"].map(|rest| (name(rest), a.feed_forward));
        Ok(Self {
            attention_norm: vector(gguf, &name("attn_norm.weight"), width, device)?,
            projections: Product::read(gguf, width, &projections, device)?,
            projection_bias,
            query_norm: optional(gguf, "attn_q_norm.weight", a.head_dim)?,
            key_norm: optional(gguf, "attn_k_norm.weight", a.head_dim)?,
            output: Product::read(gguf, queries, &[(name("attn_output.weight"), width)], device)?,
            attention_out_norm: optional(gguf, "post_attention_norm.weight", width)?,
            feed_forward_norm: vector(gguf, &name("ffn_norm.weight"), width, device)?,
            gate_up: Product::read(gguf, width, &gate_up, device)?,
            down: Product::read(gguf, a.feed_forward, &[(name("ffn_down.weight"), width)], device)?,
            feed_forward_out_norm: optional(gguf, "post_ffw_norm.weight", width)?,
        })
    }

    pub fn byte_length(&self) -> usize {
        [&self.projections, &self.output, &self.gate_up, &self.down].iter().map(|product| product.byte_length()).sum()
    }
}
