//! A full buffer becomes a segment, on the device.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg};
use gearkv::{Range, Result};

use crate::error::{driver, option};
use crate::kernels::{CompressArgument, Kernels};
use crate::layer::{DeviceLayer, padded, repeated};
use crate::records::{BLOCK, MOST_CUTS, Template};
use crate::source::{Grouping, Source};

const THREADS: u32 = 256;
const LANES: usize = 32;
/// Shared memory of one outlier at either end of a line, while it is looked for: a number and where it is, twice.
const HEAP_BYTES: usize = 16;

/// What it takes to compress a layer's buffer.
pub(crate) struct Compressor {
    template: Arc<Template>,
    heads: Arc<CudaSlice<u8>>,
    /// Of values: `[planes, tokens]`, where widths are dealt out by their variances, or `[planes, tokens, 2]`, where heads share scales.
    surveyed: CudaSlice<f32>,
    /// A bit for each of the segment's keys, and of its values: whether it is an outlier. Padding counts.
    marks: [CudaSlice<u32>; 2],
    /// Warps that look for outliers in one thread block, and the shared memory of each.
    marking_warps: usize,
    heap_bytes: usize,
    key_group: usize,
    key_channels: usize,
    value_channels: usize,
    /// Whether all heads share a token's scale of values.
    shared_scales: bool,
    /// Where power iteration starts.
    starts: Arc<CudaSlice<f32>>,
    recipes: [[u32; 5]; 2],
    shared: usize,
}

impl Compressor {
    /// Of a layer that is uploaded `times` times over.
    ///
    /// # Errors
    /// `INVALID_OPTION` saying why a device cannot compress it.
    pub fn new(
        kernels: &Kernels,
        stream: &Arc<CudaStream>,
        key: &Source,
        value: &Source,
        times: usize,
    ) -> Result<Self> {
        let template = Template::of(key, value)?;
        let (dim, heads, tokens) = (key.dim(), key.image.shape.heads, template.tokens);
        let channels = |source: &Source| (source.config().group_size as usize).min(dim);
        let (key_group, key_channels) = match Grouping::of(key.config(), key.image.role, tokens) {
            Grouping::Channel { tokens } => (tokens, dim),
            _ => (tokens, channels(key)),
        };
        let shared_scales = Grouping::of(value.config(), value.image.role, tokens) == Grouping::AllHeads;
        let value_channels = if shared_scales { dim } else { channels(value) };
        let of_tokens = |channels: usize| tokens * dim.div_ceil(channels);
        let scales = (tokens.div_ceil(key_group) * template.key_slots)
            .max(of_tokens(key_channels))
            .max(of_tokens(value_channels));
        let units = template.deal.units;
        // As `bench_of` in the kernels has it.
        let [of_keys, of_values] = template.ranks;
        let rank = of_keys.max(of_values);
        let beside = dim.max(BLOCK) + BLOCK + 32 + 2 * (MOST_CUTS + 1);
        let words = tokens * (dim + 1) + 2 * scales + beside + rank * (tokens + dim + tokens.div_ceil(32));
        let order = if units > 0 { 2 * heads * tokens } else { 0 };
        let shared = (8 * heads * units + 4 * words + order + tokens).next_multiple_of(16);
        if shared > kernels.shared_of_block {
            return Err(option(format!(
                "a device does not compress this layer: bufferTokens {tokens} and headDim {dim} take {shared} bytes of shared memory; the GPU has {}",
                kernels.shared_of_block
            )));
        }
        let side = template.sides[0].max(template.sides[1]);
        let heap_bytes = side * HEAP_BYTES;
        let most_warps = kernels.shared_of_block / heap_bytes.max(1);
        if most_warps == 0 {
            return Err(option(format!(
                "a device does not compress this layer: looking for {side} outliers at either end takes {heap_bytes} bytes of shared memory; the GPU has {}",
                kernels.shared_of_block
            )));
        }
        let recipe = |source: &Source, rank: usize| {
            let config = source.config();
            let (small, least_squares) = (u32::from(config.scale_bits == 8), u32::from(config.range == Range::Mse));
            [small, least_squares, rank as u32, config.power_iterations, config.factor_bits]
        };
        let starts = [(key, of_keys), (value, of_values)]
            .map(|(source, rank)| gearkv::power_iteration_starts(heads, dim, rank, source.config().seed));
        let failed = || driver("make room for compressing");
        let planes = key.planes() * times;
        let of_row = if shared_scales { 2 } else { usize::from(units > 0) };
        let words = [dim * tokens.div_ceil(32), tokens * dim.div_ceil(32)];
        let marks = |i: usize| {
            let length = if template.sides[i] > 0 { planes * words[i] } else { 1 };
            stream.alloc_zeros::<u32>(length).map_err(failed())
        };
        Ok(Self {
            heads: Arc::new(repeated(stream, &template.heads, times)?),
            surveyed: stream.alloc_zeros((planes * tokens * of_row).max(1)).map_err(failed())?,
            marks: [marks(0)?, marks(1)?],
            marking_warps: most_warps.min(THREADS as usize / LANES),
            heap_bytes,
            template: Arc::new(template),
            key_group,
            key_channels,
            value_channels,
            shared_scales,
            starts: Arc::new(stream.clone_htod(&padded(starts.concat())).map_err(failed())?),
            recipes: [recipe(key, of_keys), recipe(value, of_values)],
            shared,
        })
    }

    /// Of a copy of the layer: with scratch memory of its own, and all that does not change in common.
    pub fn fork(&self, stream: &Arc<CudaStream>) -> Result<Self> {
        let failed = || driver("make room for compressing");
        let marks = |i: usize| stream.alloc_zeros::<u32>(self.marks[i].len()).map_err(failed());
        Ok(Self {
            template: Arc::clone(&self.template),
            heads: Arc::clone(&self.heads),
            starts: Arc::clone(&self.starts),
            surveyed: stream.alloc_zeros(self.surveyed.len()).map_err(failed())?,
            marks: [marks(0)?, marks(1)?],
            ..*self
        })
    }

    /// What its segments have in common.
    pub fn template(&self) -> &Template {
        &self.template
    }
}

impl DeviceLayer {
    /// Tokens that a segment made on the device has: the buffer is full when it has as many.
    ///
    /// # Errors
    /// `INVALID_OPTION` saying why the device cannot compress this layer. It can for every preset that compresses: where heads do not share
    /// ranks (`rankByNeed`), keys are not `rotated`, and scales that heads share (`kcvt`) cover their range. Keys with `meanBits` need a segment from
    /// the core to begin with.
    pub fn segment_tokens(&self) -> Result<usize> {
        match &self.compressor {
            Ok(compressor) => Ok(compressor.template.tokens),
            Err(why) => Err(option(why.clone())),
        }
    }

    /// Compresses what waits in the buffer, `bufferTokens` tokens at a time, as long as there are so many; gives the number of tokens that it
    /// took. They become what the core makes of tokens that are appended one by one, bit by bit. Nothing waits for the device; so an outlier that
    /// float16 cannot hold, with which the core refuses a segment, becomes infinite here.
    ///
    /// # Errors
    /// As [`Self::segment_tokens`]; `BACKEND_UNAVAILABLE` when the device's memory does not suffice.
    pub fn settle(&mut self, stream: &Arc<CudaStream>) -> Result<usize> {
        let tokens = self.segment_tokens()?;
        let mut taken = 0;
        while self.waiting() >= tokens {
            self.compress_once(stream)?;
            taken += tokens;
        }
        Ok(taken)
    }

    /// Makes room for segments of `tokens` tokens more, at once instead of little by little.
    ///
    /// # Errors
    /// As [`Self::settle`].
    pub fn reserve_segments(&mut self, stream: &Arc<CudaStream>, tokens: usize) -> Result<()> {
        let segments = tokens.div_ceil(self.segment_tokens()?);
        let Ok(compressor) = &self.compressor else { return Ok(()) };
        let template = &compressor.template;
        let bytes = segments * template.segment_bytes(self.batch, self.heads);
        let blocks = segments * template.blocks();
        self.grow(stream, bytes, blocks)
    }

    /// Room for so many bytes of records and blocks of a plane. What is there moves on the device.
    fn grow(&mut self, stream: &Arc<CudaStream>, bytes: usize, blocks: usize) -> Result<()> {
        let failed = || driver("make room for a segment");
        let needed = self.data_used + bytes;
        if u32::try_from(needed / 16).is_err() {
            return Err(option("the layer is larger than 64 GiB, which is the most that a device holds of one"));
        }
        if needed > self.data.len() {
            // A step reads the whole layer, so copying it once in some segments costs little; room that is not used costs for good.
            let more = (self.data.len() / 32).max(4 * bytes);
            let length = needed.max(self.data.len() + more).next_multiple_of(16);
            let mut data = stream.alloc_zeros::<u8>(length).map_err(failed())?;
            let from = self.data.slice(..self.data_used);
            stream.memcpy_dtod(&from, &mut data.slice_mut(..self.data_used)).map_err(failed())?;
            self.data = data;
        }
        let needed = self.parts.fixed + blocks;
        if needed > self.stride {
            const WORDS: usize = 8;
            let (planes, old, own) = (self.batch * self.heads, self.stride * WORDS, self.parts.fixed * WORDS);
            let stride = needed.max(self.stride + self.stride / 8).next_multiple_of(16);
            let mut all = stream.alloc_zeros::<u32>(planes * stride * WORDS).map_err(failed())?;
            for plane in (0..planes).filter(|_| own > 0) {
                let from = self.blocks.slice(plane * old..plane * old + own);
                let start = plane * stride * WORDS;
                stream.memcpy_dtod(&from, &mut all.slice_mut(start..start + own)).map_err(failed())?;
            }
            (self.blocks, self.stride) = (all, stride);
        }
        Ok(())
    }

    fn compress_once(&mut self, stream: &Arc<CudaStream>) -> Result<()> {
        let (planes, kernels) = (self.batch * self.heads, Arc::clone(&self.kernels));
        let Ok(compressor) = &self.compressor else { return Ok(()) };
        let bytes = compressor.template.segment_bytes(self.batch, self.heads);
        let blocks = compressor.template.blocks();
        self.grow(stream, bytes, blocks)?;
        let Ok(compressor) = &mut self.compressor else { return Ok(()) };
        let template = &compressor.template;
        let mut cuts = [0; MOST_CUTS + 1];
        cuts.iter_mut().zip(&template.cuts).for_each(|(cut, &token)| *cut = token as u32);
        let deal = template.deal;
        let launch = |grid: (u32, u32, u32), threads: u32, shared: usize| LaunchConfig {
            grid_dim: grid,
            block_dim: (threads, 1, 1),
            shared_mem_bytes: shared as u32,
        };
        let [of_keys, of_values] = template.sides;
        let lines = if of_keys > 0 { planes * self.dim } else { 0 }
            + if of_values > 0 { self.batch * template.tokens } else { 0 };
        let failed = || driver("compress");
        {
            let (key_buffer, _key_buffer) = self.key_buffer.device_ptr_mut(stream);
            let (value_buffer, _value_buffer) = self.value_buffer.device_ptr_mut(stream);
            let (value_order, _value_order) = self.value_order.device_ptr(stream);
            let (blocks_at, _blocks) = self.blocks.device_ptr_mut(stream);
            let (data, _data) = self.data.device_ptr_mut(stream);
            let (value_range, _value_range) = self.value_range.device_ptr_mut(stream);
            let (templates, _templates) = compressor.heads.device_ptr(stream);
            let (surveyed, _surveyed) = compressor.surveyed.device_ptr_mut(stream);
            let [key_marks, value_marks] = &mut compressor.marks;
            let (key_marks, _key_marks) = key_marks.device_ptr_mut(stream);
            let (value_marks, _value_marks) = value_marks.device_ptr_mut(stream);
            let (starts, _starts) = compressor.starts.device_ptr(stream);
            let layer = self.parts.argument(
                (planes, self.heads, self.dim, self.stride),
                (self.buffered, self.capacity, self.rotated),
                [blocks_at, data, key_buffer, value_buffer, value_order, value_range],
            );
            let argument = CompressArgument {
                layer,
                templates,
                surveyed,
                key_marks,
                value_marks,
                starts,
                value_range,
                blocks: blocks_at,
                data,
                gain: deal.gain,
                gain_over: deal.gain_over,
                tokens: template.tokens as u32,
                blocks_made: blocks as u32,
                cuts,
                at: (self.data_used / 16) as u32,
                plane_stride: (template.plane_stride / 16) as u32,
                values_at: (planes * template.plane_stride / 16) as u32,
                item_stride: (template.item_stride / 16) as u32,
                key_head_bytes: template.key_head as u32,
                value_head_bytes: template.value_head as u32,
                key_bytes: template.key_record as u32,
                value_bytes: template.value_record as u32,
                key_group: compressor.key_group as u32,
                key_channels: compressor.key_channels as u32,
                value_channels: compressor.value_channels as u32,
                shared_scales: u32::from(compressor.shared_scales),
                recipes: compressor.recipes,
                value_bits: u32::from(deal.bits),
                value_more_bits: u32::from(deal.more_bits),
                units: deal.units as u32,
                raised: deal.raised as u32,
                in_fours: u32::from(deal.in_fours),
                key_slots: template.key_slots as u32,
                heads: self.heads as u32,
                sides: template.sides.map(|side| side as u32),
            };
            // SAFETY: there is room for the segment's records and blocks, the buffer has all of its tokens, and templates were made for these
            // kernels.
            unsafe {
                if lines > 0 {
                    let warps = compressor.marking_warps;
                    let (grid, shared) = (lines.div_ceil(warps), warps * compressor.heap_bytes);
                    let config = launch((grid as u32, 1, 1), (warps * LANES) as u32, shared);
                    stream.launch_builder(&kernels.mark).arg(&argument).launch(config).map_err(failed())?;
                }
                if deal.raised > 0 || compressor.shared_scales {
                    let config = launch((planes as u32, 1, 1), THREADS, compressor.shared);
                    stream.launch_builder(&kernels.survey).arg(&argument).launch(config).map_err(failed())?;
                }
                let config = launch((planes as u32, 2, 1), THREADS, compressor.shared);
                stream.launch_builder(&kernels.compress).arg(&argument).launch(config).map_err(failed())?;
                if self.buffered > template.tokens {
                    let config = launch((planes as u32, 1, 1), THREADS, 0);
                    stream.launch_builder(&kernels.move_up).arg(&argument).launch(config).map_err(failed())?;
                }
            }
        }
        self.data_used += bytes;
        self.buffered -= template.tokens;
        self.parts.include(template);
        Ok(())
    }
}
