//! Rotary position embedding of tensors.

use candle_core::{Device, Result, Tensor};
use candle_nn::rotary_emb::{rope, rope_i};

use crate::rope::{Pairing, RopeConfig, Rotation};

/// Sines and cosines of a run of positions, on a device.
pub(super) struct TensorRotation {
    pairing: Pairing,
    dim: usize,
    cos: Tensor,
    sin: Tensor,
}

impl TensorRotation {
    pub fn new(config: &RopeConfig, first: usize, positions: usize, device: &Device) -> Result<Self> {
        let half = config.dim / 2;
        let (cos, sin): (Vec<f32>, Vec<f32>) = Rotation::new(config, first, positions).turns().iter().copied().unzip();
        let table = |values: Vec<f32>| Tensor::from_vec(values, (positions, half), device);
        Ok(Self { pairing: config.pairing, dim: config.dim, cos: table(cos)?, sin: table(sin)? })
    }

    /// `[heads, positions, head_dim]`, turned; channels beyond the rotation's stay.
    pub fn turn(&self, heads: &Tensor) -> Result<Tensor> {
        let channels = heads.dim(2)?;
        let turned = heads.narrow(2, 0, self.dim)?.contiguous()?.unsqueeze(0)?;
        let turned = match self.pairing {
            Pairing::Neighbours => rope_i(&turned, &self.cos, &self.sin)?,
            Pairing::Halves => rope(&turned, &self.cos, &self.sin)?,
        };
        let turned = turned.squeeze(0)?;
        if self.dim == channels {
            return Ok(turned);
        }
        // What candle joins along the last axis does not lie in that order.
        Tensor::cat(&[&turned, &heads.narrow(2, self.dim, channels - self.dim)?], 2)?.contiguous()
    }
}
