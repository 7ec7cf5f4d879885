//! Decode attention on a layer.

use std::sync::Arc;

use cudarc::driver::{CudaSlice, CudaStream, DevicePtr, DevicePtrMut, LaunchConfig, PushKernelArg};
use gearkv::{AttendOptions, Result};

use crate::element::Element;
use crate::error::{driver, option, shape};
use crate::kernels::AttentionArgument;
use crate::layer::DeviceLayer;
use crate::parts::Parts;
use crate::records::{BLOCK, HEAD_BYTES};

/// Query heads that a thread block does together.
const QUERIES: usize = 4;
const COLUMNS: usize = 8;
const LANES: usize = 32;
/// Warps of a thread block, where shared memory suffices.
const MOST_WARPS: usize = 4;
/// Query heads that a thread block with tiles does together, and warps that do it; from how many on that is faster.
const TILE_QUERIES: usize = 64;
const TILE_WARPS: usize = 4;
const WORTH_A_TILE: usize = 16;
/// Thread blocks that fit a multiprocessor by their registers: of plain kernels and of the others.
const MOST_RESIDENT: [usize; 2] = [4, 2];

/// The same of kernels with tiles, of each size.
const MOST_TILES: [usize; 3] = [3, 3, 2];

/// Which of three kernels has room for so many channels.
fn size_of_kernel(channels: usize) -> usize {
    match channels {
        ..=64 => 0,
        65..=128 => 1,
        _ => 2,
    }
}

/// Memory for intermediate results. One serves any number of layers, one after the other on one stream.
#[derive(Default)]
pub struct Workspace {
    partial: Option<CudaSlice<f32>>,
    softmax: Option<CudaSlice<f32>>,
}

impl Workspace {
    /// Bytes that it takes at present.
    pub fn byte_length(&self) -> usize {
        [&self.partial, &self.softmax].into_iter().flatten().map(|slice| 4 * slice.len()).sum()
    }
}

fn at_least<'a>(
    slot: &'a mut Option<CudaSlice<f32>>,
    stream: &Arc<CudaStream>,
    length: usize,
) -> Result<&'a mut CudaSlice<f32>> {
    let kept = slot.take().filter(|slice| slice.len() >= length);
    let slice = match kept {
        Some(slice) => slice,
        None => stream.alloc_zeros(length).map_err(driver("make room for attention"))?,
    };
    Ok(slot.insert(slice))
}

/// How the work is cut.
struct Plan {
    warps: usize,
    shared: usize,
    splits: usize,
}

impl DeviceLayer {
    /// Whether a layer with such parts can be attended to.
    pub(crate) fn can_attend(&self, parts: &Parts) -> Result<()> {
        self.plan(parts, 1, parts.plain).map(|_| ())
    }

    /// With parts that are the layer's, or that it may come to have.
    fn plan(&self, parts: &Parts, sets: usize, plain: bool) -> Result<Plan> {
        let align = |bytes: usize| bytes.next_multiple_of(16);
        let queries = ((self.dim + 32) * if parts.keys_turned { 2 } else { 1 } + 5) * QUERIES * 4;
        let stage = parts.key_stage + parts.value_stage.max(self.dim * QUERIES * 4);
        let outputs = if plain { 0 } else { self.dim };
        let rows = outputs + parts.key_slots.max(self.dim) + 2 * parts.rank + 2 + if plain { 0 } else { 16 };
        let logits = BLOCK * COLUMNS * 4;
        let room = if plain { logits.max(parts.word_bytes) } else { logits + parts.word_bytes };
        let of_warp = align(stage + room + (parts.key_slots / 8 + rows * QUERIES) * 4 + 2 * HEAD_BYTES + 32);
        let fits = |warps: &usize| queries + warps * of_warp <= self.kernels.shared_of_block;
        let Some(warps) = [MOST_WARPS, 2, 1].into_iter().find(fits) else {
            return Err(option(format!(
                "a block of this layer takes {} bytes of shared memory; the GPU has {}",
                queries + of_warp,
                self.kernels.shared_of_block
            )));
        };
        let shared = queries + warps * of_warp;
        let resident = MOST_RESIDENT[usize::from(!plain)] * MOST_WARPS / warps;
        Ok(Plan { warps, shared, splits: self.splits(parts, shared, resident, warps, sets) })
    }

    /// Runs of a head's blocks: of `sets` sets of queries, by thread blocks with so much shared memory, of which at most `resident` fit a
    /// multiprocessor, `runs` in each.
    fn splits(&self, parts: &Parts, shared: usize, resident: usize, runs: usize, sets: usize) -> usize {
        // A thread block takes 1 KiB beside its own.
        let resident = (self.kernels.shared_of_processor / (shared + 1024)).clamp(1, resident);
        let blocks = parts.fixed + self.waiting().div_ceil(BLOCK);
        splits(blocks, runs, self.batch * self.heads * sets, self.kernels.processors * resident)
    }

    /// The same of tiles, where the GPU has enough shared memory for one.
    fn plan_tiles(&self, tiles: usize, wide: bool) -> Option<Plan> {
        let size = size_of_kernel(self.dim);
        let stride = [64, 128, 256][size] + 8;
        // Queries (and what rounding leaves of those in float32) and keys in float16, pairs of values; of each query two limits and a factor, and
        // the limits of all.
        let queries = 2 * TILE_QUERIES * stride * if wide { 2 } else { 1 };
        let tile = queries + 2 * BLOCK * stride + 2 * BLOCK * stride + 12 * TILE_QUERIES + 16;
        // And the records that come next.
        let shared = tile + self.parts.key_stage + self.parts.value_stage;
        (shared <= self.kernels.shared_of_block).then(|| Plan {
            warps: TILE_WARPS,
            shared,
            splits: self.splits(&self.parts, shared, MOST_TILES[size], 1, tiles),
        })
    }

    /// Attention of one query position a batch item over all tokens: `q` and `out` are `[batch, query_heads, 1, head_dim]`. Two
    /// launches, no waiting. With a window, what lies before it is not read. Queries must be finite, which is not checked.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` for wrong lengths and for a layer without tokens, `INVALID_OPTION`, `BACKEND_UNAVAILABLE`.
    pub fn attend<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
        workspace: &mut Workspace,
        q: &impl DevicePtr<T>,
        options: &AttendOptions,
        out: &mut impl DevicePtrMut<T>,
    ) -> Result<()> {
        self.attend_some(stream, workspace, q, 1, None, options, out)
    }

    /// As [`Self::attend`], of the newest `positions` positions at once: `q` and `out` are `[batch, query_heads, positions, head_dim]`, and each
    /// position sees no token behind its own, unless `options` say otherwise. The tokens must have been appended. From 16 queries of a KV head on,
    /// keys and values are brought to float16 once for 64 of them: codes are rounded by it, what is not compressed is not.
    ///
    /// # Errors
    /// As [`Self::attend`]; `SHAPE_MISMATCH` also for no positions, or more than there are tokens.
    pub fn attend_chunk<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
        workspace: &mut Workspace,
        q: &impl DevicePtr<T>,
        positions: usize,
        options: &AttendOptions,
        out: &mut impl DevicePtrMut<T>,
    ) -> Result<()> {
        self.attend_some(stream, workspace, q, positions, None, options, out)
    }

    /// As [`Self::attend_chunk`], for sequences of different lengths in one layer: `visible` is `[batch, 2]`, of each sequence the first position
    /// in sight and the one behind the last. Sequences that are filled up in front, so that all are appended to at the same position, say where they
    /// start, and the number of tokens. It lies on the device and is not checked; a query that sees nothing gets zeros.
    ///
    /// # Errors
    /// As [`Self::attend_chunk`]; `SHAPE_MISMATCH` for a wrong length of `visible`.
    #[expect(clippy::too_many_arguments, reason = "each is what one kernel is given")]
    pub fn attend_ragged<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
        workspace: &mut Workspace,
        q: &impl DevicePtr<T>,
        positions: usize,
        visible: &CudaSlice<u32>,
        options: &AttendOptions,
        out: &mut impl DevicePtrMut<T>,
    ) -> Result<()> {
        if visible.len() != 2 * self.batch {
            return Err(shape(format!("visible has {} numbers; expected {}", visible.len(), 2 * self.batch)));
        }
        self.attend_some(stream, workspace, q, positions, Some(visible), options, out)
    }

    #[expect(clippy::too_many_arguments, reason = "the public methods in one")]
    fn attend_some<T: Element>(
        &self,
        stream: &Arc<CudaStream>,
        workspace: &mut Workspace,
        q: &impl DevicePtr<T>,
        positions: usize,
        visible: Option<&CudaSlice<u32>>,
        options: &AttendOptions,
        out: &mut impl DevicePtrMut<T>,
    ) -> Result<()> {
        options.check(self.heads)?;
        let tokens = self.tokens();
        if tokens == 0 {
            return Err(shape("a query attends to 0 tokens; append the tokens first"));
        }
        if positions == 0 || positions > tokens {
            return Err(shape(format!(
                "{positions} query positions attend to {tokens} tokens; expected 1 to {tokens}"
            )));
        }
        let expected = self.batch * options.query_heads * positions * self.dim;
        for (name, length) in [("the query", q.len()), ("the output", out.len())] {
            if length != expected {
                return Err(shape(format!("{name} has {length} values; expected {expected}")));
            }
        }
        let per_head = options.query_heads / self.heads;
        let sets = (per_head * positions).div_ceil(QUERIES);
        let planes = self.batch * self.heads;
        if planes > 65_535 || sets > 65_535 {
            return Err(option(format!(
                "{planes} heads of all batch items, or {} queries of a head, are too many at once",
                per_head * positions
            )));
        }
        let plain = self.parts.plain && options.softcap.is_none();
        let tiles = (per_head * positions).div_ceil(TILE_QUERIES);
        let worth_it = self.parts.tiled && per_head * positions >= WORTH_A_TILE;
        let of_tiles = if worth_it { self.plan_tiles(tiles, T::KIND == f32::KIND) } else { None };
        let tiled = of_tiles.is_some();
        let plan = match of_tiles {
            Some(plan) => plan,
            None => self.plan(&self.parts, sets, plain)?,
        };
        let slots = planes * sets * plan.splits * QUERIES;
        let partial = at_least(&mut workspace.partial, stream, slots * 2 * self.dim)?;
        let softmax = at_least(&mut workspace.softmax, stream, slots * 2)?;
        let (queries, _queries) = q.device_ptr(stream);
        let (out, _out) = out.device_ptr_mut(stream);
        let (partial, _partial) = partial.device_ptr_mut(stream);
        let (softmax, _softmax) = softmax.device_ptr_mut(stream);
        let (kernels, channels) = match (tiled, plain) {
            (true, _) => (&self.kernels.attend_tile, self.dim),
            (false, true) => (&self.kernels.attend_plain, self.value_channels()),
            (false, false) => (&self.kernels.attend, self.value_channels()),
        };
        let attend = &kernels[size_of_kernel(channels)];
        let split = LaunchConfig {
            grid_dim: (plan.splits as u32, planes as u32, if tiled { tiles } else { sets } as u32),
            block_dim: ((plan.warps * LANES) as u32, 1, 1),
            shared_mem_bytes: plan.shared as u32,
        };
        let (across, along) = (self.dim.next_multiple_of(LANES), 4);
        let join = LaunchConfig {
            grid_dim: ((self.batch * options.query_heads * positions) as u32, 1, 1),
            block_dim: (across as u32, along as u32, 1),
            shared_mem_bytes: ((2 * along * self.dim + plan.splits + along * across / LANES) * 4) as u32,
        };
        let visible = visible.map(|visible| visible.device_ptr(stream));
        let limited = visible.is_some() || positions > 1;
        // Before the first position in sight of any query.
        let before = |window: usize| (tokens + 1).saturating_sub(window + positions);
        self.argument(stream, |layer| {
            let argument = AttentionArgument {
                layer,
                queries,
                out,
                partial,
                softmax,
                query_heads: options.query_heads as u32,
                per_head: per_head as u32,
                visible: visible.as_ref().map_or(0, |(at, _)| *at),
                positions: positions as u32,
                limited: u32::from(limited),
                causal: u32::from(options.causal),
                window: options.window.map_or(0, |window| window.min(u32::MAX as usize)) as u32,
                kind: T::KIND,
                splits: plan.splits as u32,
                first_seen: options.window.map_or(0, before) as u32,
                scale: options.scale.unwrap_or(1.0 / (self.dim as f32).sqrt()),
                softcap: options.softcap.unwrap_or(0.0),
                key_stage: self.parts.key_stage as u32,
                value_stage: self.parts.value_stage as u32,
                rank: self.parts.rank as u32,
                key_slots: self.parts.key_slots as u32,
                keys_turned: u32::from(self.parts.keys_turned),
                plain: u32::from(plain),
                word_bytes: self.parts.word_bytes as u32,
            };
            // SAFETY: lengths were checked above, the intermediate results have room for every split, and the layer's records were
            // made for these kernels.
            unsafe {
                stream.launch_builder(attend).arg(&argument).launch(split)?;
                stream.launch_builder(&self.kernels.combine).arg(&argument).launch(join)
            }
        })
        .map_err(driver("attend"))?;
        Ok(())
    }
}

/// Into how many runs a head's `blocks` are cut, so that the `at_once` thread blocks of the device are all busy until the end.
fn splits(blocks: usize, warps: usize, planes: usize, at_once: usize) -> usize {
    /// Waves of thread blocks that are worth their start.
    const WAVES: usize = 4;
    let most = blocks.div_ceil(warps).min((WAVES * at_once).div_ceil(planes)).max(1);
    let idle = |splits: &usize| {
        let (all, waves) = (planes * splits, (planes * splits).div_ceil(at_once));
        // In thousandths; what starts late counts a little.
        1000 * (waves * at_once - all) / (waves * at_once) + 10 * waves
    };
    (1..=most).min_by_key(idle).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::splits;

    #[test]
    fn a_device_is_filled_and_no_block_is_cut() {
        for planes in [1, 8, 64, 256, 1000] {
            for blocks in [1, 3, 512, 4096] {
                let n = splits(blocks, 4, planes, 396);
                assert!(n <= blocks.div_ceil(4) && n > 0);
                if blocks == 4096 && (8..396).contains(&planes) {
                    let waves = (n * planes).div_ceil(396);
                    assert!(n * planes * 100 >= waves * 396 * 90, "{planes} planes: {n} splits");
                }
            }
        }
    }
}
