//! What waits in the buffer, compressed by the core: for what the device does not compress itself.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream};
use gearkv::{Cancel, GearTensor, KvSlice, Result, f16};

use crate::error::{driver, shape};
use crate::layer::DeviceLayer;
use crate::pack::{raw_key_index, raw_key_width, raw_value_index, raw_value_width};

impl DeviceLayer {
    /// Appends to the core's tensors the tokens that they do not have yet, so that they hold all that this layer holds, and uploads them anew where
    /// they have compressed what waited in the buffer; gives the number of tokens that left it. `key` and `value` are those that were uploaded, and
    /// grow by this call alone. Waits for the device, and copies the buffer and the layer: once for every full buffer, for what [`Self::settle`]
    /// does not do. On an error nothing is changed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for tensors that are not this layer's; what the core says of tokens that it does not take (`NOT_FINITE`, `OUT_OF_RANGE`,
    /// `ABORTED`); as [`Self::upload`].
    pub fn settle_on_host(
        &mut self,
        stream: &Arc<CudaStream>,
        key: &mut GearTensor,
        value: &mut GearTensor,
        cancel: Cancel,
    ) -> Result<usize> {
        let own = self.shape();
        for tensor in [&*key, &*value] {
            let there = tensor.shape();
            if (there.batch, there.heads, there.head_dim) != (own.batch, own.heads, own.head_dim)
                || there.tokens != key.tokens()
                || there.tokens > own.tokens
                || own.tokens - there.tokens > self.waiting()
            {
                return Err(shape(format!(
                    "the tensors are {there:?}, the layer is {own:?}; expected those that it was uploaded from"
                )));
            }
        }
        let missing = own.tokens - key.tokens();
        let (mut next_key, mut next_value) = (key.clone(), value.clone());
        if missing > 0 {
            let k = self.newest(stream, &self.key_buffer, raw_key_width(self.dim), raw_key_index, missing)?;
            let v = self.newest(stream, &self.value_buffer, raw_value_width(self.dim), raw_value_index, missing)?;
            next_key.append(KvSlice::F16(&k), missing, cancel)?;
            next_value.append(KvSlice::F16(&v), missing, cancel)?;
        }
        let left = next_key.image().buffer_tokens.min(next_value.image().buffer_tokens);
        let taken = self.waiting().saturating_sub(left);
        if taken > 0 {
            let kernels = Arc::clone(&self.kernels);
            *self = Self::upload(&kernels, stream, &next_key, &next_value, self.capacity.saturating_sub(left))?;
        }
        (*key, *value) = (next_key, next_value);
        Ok(taken)
    }

    /// The newest tokens of a buffer, `[batch, heads, tokens, head_dim]`.
    fn newest(
        &self,
        stream: &Arc<CudaStream>,
        buffer: &CudaSlice<u16>,
        width: usize,
        index: fn(usize, usize, usize) -> usize,
        tokens: usize,
    ) -> Result<Vec<f16>> {
        let all = stream.clone_dtoh(buffer).map_err(driver("give back its buffer"))?;
        let planes = all.chunks_exact((self.capacity * width).max(1)).take(self.batch * self.heads);
        let rows = planes.flat_map(|plane| {
            let of_token = move |t: usize| (0..self.dim).map(move |c| f16::from_bits(plane[index(t, c, self.dim)]));
            (self.waiting() - tokens..self.waiting()).flat_map(of_token)
        });
        Ok(rows.collect())
    }
}
