//! One layer's keys and values on a device.

use std::sync::Arc;

use cudarc::driver::{
    CudaSlice, CudaStream, DevicePtr, DevicePtrMut, DeviceRepr, LaunchConfig, PushKernelArg, ValidAsZeroBits,
};
use gearkv::{GearTensor, KvShape, Result, Role};

use crate::compress::Compressor;
use crate::element::Element;
use crate::error::{driver, option, shape};
use crate::kernels::{AppendArgument, DecompressArgument, Kernels, LayerArgument};
use crate::pack::{raw_key_width, raw_value_width};
use crate::parts::Parts;
use crate::records::{self, BLOCK, Records};
use crate::source::Source;

/// Keys and values of one layer, of all heads and batch items, in a GPU's memory.
pub struct DeviceLayer {
    pub(crate) kernels: Arc<Kernels>,
    pub(crate) batch: usize,
    pub(crate) heads: usize,
    pub(crate) dim: usize,
    /// `[planes, stride]` descriptors.
    pub(crate) blocks: CudaSlice<u32>,
    pub(crate) stride: usize,
    pub(crate) data: CudaSlice<u8>,
    /// Bytes of it that records take; behind them there is room.
    pub(crate) data_used: usize,
    pub(crate) value_order: CudaSlice<u16>,
    pub(crate) value_range: CudaSlice<u32>,
    pub(crate) key_buffer: CudaSlice<u16>,
    pub(crate) value_buffer: CudaSlice<u16>,
    pub(crate) buffered: usize,
    pub(crate) capacity: usize,
    pub(crate) rotated: bool,
    value_units: usize,
    pub(crate) parts: Parts,
    /// What makes segments of the buffer, or why there are none to be made.
    pub(crate) compressor: std::result::Result<Compressor, String>,
}

impl DeviceLayer {
    /// Uploads a layer's keys and values as they are, with room for `room` tokens more in the buffer.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` where they differ in shape, `INVALID_OPTION` for what a device does not hold (float32, a `headDim` above 256,
    /// many small groups of channels), `BACKEND_UNAVAILABLE` when the device's memory does not suffice.
    pub fn upload(
        kernels: &Arc<Kernels>,
        stream: &Arc<CudaStream>,
        key: &GearTensor,
        value: &GearTensor,
        room: usize,
    ) -> Result<Self> {
        Self::upload_repeated(kernels, stream, key, value, room, 1)
    }

    /// As [`Self::upload`], `times` times over: what decoding several answers to the same prompts starts from. The batch is `times` as
    /// large, each copy has memory of its own.
    ///
    /// # Errors
    /// As [`Self::upload`].
    pub fn upload_repeated(
        kernels: &Arc<Kernels>,
        stream: &Arc<CudaStream>,
        key: &GearTensor,
        value: &GearTensor,
        room: usize,
        times: usize,
    ) -> Result<Self> {
        let KvShape { batch, heads, head_dim: dim, .. } = key.shape();
        let (key, value) = (Source::new(key.image()), Source::new(value.image()));
        let records = records::build(&key, &value)?;
        let buffered = key.image.shape.tokens - records.buffer_first;
        let capacity = (buffered + room).next_multiple_of(BLOCK);
        let (key_buffer, value_buffer) = records::buffers(&key, &value, records.buffer_first, capacity);
        let blocks = repeated_blocks(&records, times)?;
        let upload = || driver("take the layer");
        let data = repeated(stream, &records.data, times)?;
        let compressor = Compressor::new(kernels, stream, &key, &value, times);
        let compressor = match compressor {
            // That the memory does not suffice is no property of the layer.
            Err(error) if error.code() != gearkv::ErrorCode::InvalidOption => return Err(error),
            other => other.map_err(|error| error.to_string()),
        };
        let mut layer = Self {
            kernels: Arc::clone(kernels),
            batch: batch * times,
            heads,
            dim,
            blocks: stream.clone_htod(&padded(blocks)).map_err(upload())?,
            stride: records.fixed,
            data_used: data.len(),
            data,
            value_order: stream.clone_htod(&records.value_order).map_err(upload())?,
            value_range: stream.clone_htod(&[records.value_range.to_bits()]).map_err(upload())?,
            key_buffer: repeated(stream, &key_buffer, times)?,
            value_buffer: repeated(stream, &value_buffer, times)?,
            buffered,
            capacity,
            rotated: value.rotated() && value.config().storage == gearkv::Storage::Gear,
            value_units: records.value_units,
            parts: Parts {
                fixed: records.fixed,
                coded: records.coded,
                buffer_first: records.buffer_first,
                key_stage: records.key_stage,
                value_stage: records.value_stage,
                rank: records.rank,
                key_slots: records.key_slots,
                keys_turned: records.keys_turned,
                plain: records.plain,
                tiled: records.tiled,
                word_bytes: records.word_bytes,
            },
            compressor,
        };
        if let Ok(compressor) = &layer.compressor {
            // Records with all outliers that there may be can take more shared memory than those that are there.
            let mut parts = layer.parts.clone();
            parts.include(compressor.template());
            if let Err(why) = layer.can_attend(&parts) {
                layer.compressor = Err(format!("a device does not compress this layer: {why}"));
            }
        }
        Ok(layer)
    }

    /// A second layer that goes on from here, with memory of its own: what is on the device is copied there.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` when the device's memory does not suffice.
    pub fn fork(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        fn copied<T: DeviceRepr>(stream: &Arc<CudaStream>, slice: &CudaSlice<T>) -> Result<CudaSlice<T>> {
            stream.clone_dtod(slice).map_err(driver("make room for a fork"))
        }
        let compressor = match &self.compressor {
            Ok(compressor) => Ok(compressor.fork(stream)?),
            Err(why) => Err(why.clone()),
        };
        Ok(Self {
            kernels: Arc::clone(&self.kernels),
            blocks: copied(stream, &self.blocks)?,
            data: copied(stream, &self.data)?,
            value_order: copied(stream, &self.value_order)?,
            value_range: copied(stream, &self.value_range)?,
            key_buffer: copied(stream, &self.key_buffer)?,
            value_buffer: copied(stream, &self.value_buffer)?,
            parts: self.parts.clone(),
            compressor,
            ..*self
        })
    }

    /// Its present shape.
    pub fn shape(&self) -> KvShape {
        KvShape { batch: self.batch, heads: self.heads, tokens: self.tokens(), head_dim: self.dim }
    }

    /// Number of tokens.
    pub fn tokens(&self) -> usize {
        self.parts.buffer_first + self.buffered
    }

    /// Tokens that wait in the buffer, uncompressed.
    pub fn waiting(&self) -> usize {
        self.buffered
    }

    /// Bytes that it takes in the device's memory.
    pub fn byte_length(&self) -> usize {
        4 * self.blocks.len()
            + self.data.len()
            + 2 * (self.value_order.len() + self.key_buffer.len() + self.value_buffer.len())
    }

    /// Bytes that attention reads: all of it but what is still free.
    pub fn bytes_read(&self) -> usize {
        let (planes, free) = (self.batch * self.heads, self.capacity - self.buffered);
        let width = raw_key_width(self.dim) + raw_value_width(self.dim);
        let unused = self.data.len() - self.data_used + 4 * 8 * planes * (self.stride - self.parts.fixed);
        self.byte_length() - unused - 2 * planes * free * width
    }

    /// Channels of values, padding counted, as the kernels are named.
    pub(crate) fn value_channels(&self) -> usize {
        (self.value_units * 64).max(raw_value_width(self.dim).next_multiple_of(64))
    }

    /// The layer as kernels get it; the guards keep its slices in use until they are dropped.
    pub(crate) fn argument<R>(&self, stream: &CudaStream, f: impl FnOnce(LayerArgument) -> R) -> R {
        let (blocks, _blocks) = self.blocks.device_ptr(stream);
        let (data, _data) = self.data.device_ptr(stream);
        let (key_buffer, _key_buffer) = self.key_buffer.device_ptr(stream);
        let (value_buffer, _value_buffer) = self.value_buffer.device_ptr(stream);
        let (value_order, _value_order) = self.value_order.device_ptr(stream);
        let (value_range, _value_range) = self.value_range.device_ptr(stream);
        f(self.parts.argument(
            (self.batch * self.heads, self.heads, self.dim, self.stride),
            (self.buffered, self.capacity, self.rotated),
            [blocks, data, key_buffer, value_buffer, value_order, value_range],
        ))
    }

    /// Appends `tokens` tokens to the buffer, in one launch; `k` and `v` are `[batch, heads, tokens, head_dim]`. They stay there in
    /// float16: what is not finite or beyond float16's reach is not noticed.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for wrong lengths, `BACKEND_UNAVAILABLE` when the buffer has to grow and the device's memory does not suffice.
    pub fn append<T: Element>(
        &mut self,
        stream: &Arc<CudaStream>,
        k: &impl DevicePtr<T>,
        v: &impl DevicePtr<T>,
        tokens: usize,
    ) -> Result<()> {
        let planes = self.batch * self.heads;
        let expected = planes * tokens * self.dim;
        for (name, length) in [("k", k.len()), ("v", v.len())] {
            if length != expected {
                return Err(shape(format!("{name} has {length} values; expected {expected} for {tokens} tokens")));
            }
        }
        if tokens == 0 {
            return Ok(());
        }
        let blocks = u32::try_from(expected.div_ceil(256))
            .map_err(|_| option(format!("{tokens} tokens at once are too many")))?;
        self.reserve(stream, tokens)?;
        let (dim, buffered, capacity) = (self.dim as u32, self.buffered as u32, self.capacity as u32);
        {
            let (keys, _keys) = k.device_ptr(stream);
            let (values, _values) = v.device_ptr(stream);
            let (key_buffer, _key_buffer) = self.key_buffer.device_ptr_mut(stream);
            let (value_buffer, _value_buffer) = self.value_buffer.device_ptr_mut(stream);
            let argument = AppendArgument {
                keys,
                values,
                key_buffer,
                value_buffer,
                planes: planes as u32,
                dim,
                tokens: tokens as u32,
                buffered,
                capacity,
                kind: T::KIND,
            };
            let config = LaunchConfig { grid_dim: (blocks, 1, 1), block_dim: (256, 1, 1), shared_mem_bytes: 0 };
            // SAFETY: lengths were checked above, and there is room for `tokens` tokens behind those in the buffer.
            unsafe { stream.launch_builder(&self.kernels.append).arg(&argument).launch(config) }
                .map_err(driver("append"))?;
        }
        self.buffered += tokens;
        Ok(())
    }

    /// Forgets every token from `tokens` on, where these all wait in the buffer; says whether they do. Otherwise nothing is changed.
    pub fn truncate(&mut self, tokens: usize) -> bool {
        let fits = (self.parts.buffer_first..=self.tokens()).contains(&tokens);
        if fits {
            self.buffered = tokens - self.parts.buffer_first;
        }
        fits
    }

    /// Makes room for `tokens` tokens in the buffer, at once instead of little by little. What is in the buffer moves on the device.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` when the device's memory does not suffice.
    pub fn reserve(&mut self, stream: &Arc<CudaStream>, tokens: usize) -> Result<()> {
        let needed = self.buffered + tokens;
        if needed <= self.capacity {
            return Ok(());
        }
        // Grows by an eighth at least, as the core's does.
        let capacity = needed.max(self.capacity + self.capacity / 8).next_multiple_of(BLOCK);
        let planes = self.batch * self.heads;
        let grown = |old: &CudaSlice<u16>, width: usize| -> Result<CudaSlice<u16>> {
            let failed = || driver("make the buffer larger");
            let mut new = stream.alloc_zeros::<u16>(planes * capacity * width).map_err(failed())?;
            let held = self.capacity * width;
            for plane in (0..planes).filter(|_| held > 0) {
                let from = old.slice(plane * held..(plane + 1) * held);
                let start = plane * capacity * width;
                stream.memcpy_dtod(&from, &mut new.slice_mut(start..start + held)).map_err(failed())?;
            }
            Ok(new)
        };
        let (keys, values) =
            (grown(&self.key_buffer, raw_key_width(self.dim))?, grown(&self.value_buffer, raw_value_width(self.dim))?);
        (self.key_buffer, self.value_buffer, self.capacity) = (keys, values, capacity);
        Ok(())
    }

    /// All keys or all values, `[batch, heads, tokens, head_dim]`, into `out`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when `out` does not hold exactly `shape().elements()` values.
    pub fn decompress(&self, stream: &Arc<CudaStream>, role: Role, out: &mut impl DevicePtrMut<f32>) -> Result<()> {
        const TOGETHER: usize = 16;
        let elements = self.shape().elements();
        if out.len() != elements {
            return Err(shape(format!("the output has {} values; expected {elements}", out.len())));
        }
        if elements == 0 {
            return Ok(());
        }
        let blocks = self.parts.fixed + self.buffered.div_ceil(BLOCK);
        let planes = self.batch * self.heads;
        if planes > 65_535 {
            return Err(option(format!("{planes} heads of all batch items together are too many at once")));
        }
        let (out, _out) = out.device_ptr_mut(stream);
        let config = LaunchConfig {
            grid_dim: (blocks as u32, planes as u32, 1),
            block_dim: (128, 1, 1),
            shared_mem_bytes: ((TOGETHER * self.dim + BLOCK) * 4) as u32,
        };
        self.argument(stream, |layer| {
            let (of_keys, tokens) = (u32::from(role == Role::Key), self.tokens() as u32);
            let argument = DecompressArgument { layer, out, of_keys, tokens };
            // SAFETY: the output has room for every token, and the layer's records were made for these kernels.
            unsafe { stream.launch_builder(&self.kernels.decompress).arg(&argument).launch(config) }
        })
        .map_err(driver("decompress"))?;
        Ok(())
    }
}

/// Blocks of all copies, each with its own place in the data.
fn repeated_blocks(records: &Records, times: usize) -> Result<Vec<u32>> {
    let stride = records.data.len() / 16;
    if u32::try_from(stride * times).is_err() {
        return Err(option("the layer is larger than 64 GiB, which is the most that a device holds of one"));
    }
    let mut words = Vec::with_capacity(records.blocks.len() * times * 8);
    for copy in 0..times {
        let base = (copy * stride) as u32;
        for &[key, value, key_bytes, value_bytes, key_head, value_head, first, tokens] in &records.blocks {
            let moved = |head: u32| if head == 0 { 0 } else { head + base };
            words.extend([
                key + base,
                value + base,
                key_bytes,
                value_bytes,
                moved(key_head),
                moved(value_head),
                first,
                tokens,
            ]);
        }
    }
    Ok(words)
}

/// A slice on the device is never empty.
pub(crate) fn padded<T: Default>(mut values: Vec<T>) -> Vec<T> {
    if values.is_empty() {
        values.push(T::default());
    }
    values
}

/// `times` copies, one behind the other.
pub(crate) fn repeated<T: DeviceRepr + ValidAsZeroBits>(
    stream: &Arc<CudaStream>,
    values: &[T],
    times: usize,
) -> Result<CudaSlice<T>> {
    let failed = || driver("take the layer");
    let mut all = stream.alloc_zeros::<T>((values.len() * times).max(1)).map_err(failed())?;
    if !values.is_empty() {
        for copy in 0..times {
            stream
                .memcpy_htod(values, &mut all.slice_mut(copy * values.len()..(copy + 1) * values.len()))
                .map_err(failed())?;
        }
    }
    Ok(all)
}
