//! A segment's tiles as attention takes them: with their scales, and queries in the order of their channels.

use std::slice;
use std::sync::Arc;

use crate::backbone::{Grouping, ScaleView, zero_unit};
use crate::simd::{self, KeyScales, KeyTiles, Level, Levels, MOST_TILES, TILE, TileOrder, UnitRun, ValueTiles};
use crate::spread::{ChannelWidths, RowWidths, Widths};

use super::tail::Tail;
use super::tiles::{HeadCodes, MOST_CHANNELS};
use super::{Segment, Tiling};

/// A segment of so many has its scales in few places.
const FEW_TOKENS: usize = 2 * TILE;

/// Neighboring tokens of a segment, as attention comes to them.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    /// The first one within the segment, and how many.
    pub first: usize,
    pub tokens: usize,
    /// Codes that will be read soon.
    pub ahead: &'a [u8],
    /// Where the first token lies in rows of logits or weights.
    pub column: usize,
}

/// What queries and scales look like to the tiles of one head's keys: made anew only where channels have other widths than before.
#[derive(Default)]
pub(crate) struct KeyPlan {
    made_for: MadeFor,
    runs: Vec<UnitRun>,
    /// As many units, of 8 bits.
    run_of_bytes: Option<UnitRun>,
    /// `[rows, head_dim]`, channels in the order of their widths; empty where this is their own.
    ordered: Vec<f32>,
    /// What a step of a channel's zero is, in steps of its codes.
    steps: Vec<f32>,
    /// 2^(bits − 8) of each channel.
    units_of_codes: Vec<f32>,
    tail: Tail,
}

/// What [`KeyPlan::units_of_codes`] is where all codes are of 8 bits.
const ONES: [f32; MOST_CHANNELS] = [1.0; MOST_CHANNELS];

#[derive(Default, PartialEq)]
enum MadeFor {
    #[default]
    Nothing,
    Even(u32),
    /// Where they lie, which is only compared, and of which plane.
    Channels(*const ChannelWidths, usize),
}

impl MadeFor {
    fn of(segment: &Segment, plane: usize) -> Self {
        match &segment.widths {
            Widths::Channels(widths) => Self::Channels(Arc::as_ptr(widths), plane),
            _ => Self::Even(segment.layout.scales.bits),
        }
    }
}

impl KeyPlan {
    /// Forgets what it was made for: to be called before other queries, and before widths that it was made for may be gone.
    pub fn forget(&mut self) {
        self.made_for = MadeFor::Nothing;
    }

    /// Numbers that there is room for.
    pub fn capacity(&self) -> usize {
        self.ordered.capacity()
    }

    /// For the tiles of this segment. `q` is `[rows, head_dim]`.
    pub fn prepare(&mut self, segment: &Segment, plane: usize, q: &[f32]) {
        let wanted = MadeFor::of(segment, plane);
        if wanted == self.made_for {
            return;
        }
        self.made_for = wanted;
        let head = HeadCodes::of(&segment.layout, &segment.widths, plane);
        self.runs.clear();
        self.runs.extend(head.runs());
        self.run_of_bytes = Some(UnitRun::even(8, segment.layout.dim / 4));
        self.steps.clear();
        self.units_of_codes.clear();
        for run in &self.runs {
            let bits = u32::from(run.bits);
            let channels = self.steps.len() + 4 * usize::from(run.units);
            self.steps.resize(channels, zero_unit(bits));
            self.units_of_codes.resize(channels, (1u32 << bits) as f32 / 256.0);
        }
        self.ordered.clear();
        if let Some(order) = segment.channel_order(plane) {
            self.ordered.resize(q.len(), 0.0);
            simd::gather_rows(q, order, &mut self.ordered);
        }
    }

    /// `q` in the order of the channels of the segment that this was prepared for.
    pub fn queries<'b>(&'b self, q: &'b [f32]) -> &'b [f32] {
        if self.ordered.is_empty() { q } else { &self.ordered }
    }
}

/// Memory for the scales and the orders of tiles of values.
pub(crate) struct ValuePlan {
    /// The widths that each of `orders` was made for, as numbers, which are compared sooner than bytes: often those of the next tiles, too.
    made_for: [(u32, u128); MOST_TILES],
    orders: [TileOrder; MOST_TILES],
    /// `[groups, tiles, 64]`
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// As they are kept, `[tiles, 64, groups]`, where channels have several.
    kept: [Vec<f32>; 2],
    tail: Tail,
}

impl Default for ValuePlan {
    fn default() -> Self {
        Self {
            made_for: [(0, 0); MOST_TILES],
            orders: std::array::from_fn(|_| TileOrder::even(0)),
            scales: Vec::new(),
            zeros: Vec::new(),
            kept: [Vec::new(), Vec::new()],
            tail: Tail::default(),
        }
    }
}

impl Segment {
    /// Whether so many tokens from `first` on are those of whole tiles, the last of them up to any token.
    fn are_whole(&self, first: usize, tokens: usize) -> bool {
        let end = first + tokens.next_multiple_of(TILE);
        first.is_multiple_of(TILE) && end <= self.tiling().whole(self.layout.tokens)
    }

    /// How many tokens of keys from `first` on can be taken together, where they are tiles.
    pub fn key_tiles_together(&self, first: usize) -> usize {
        let group = self.layout.group_tokens();
        // Either each has scales of its own, or all have the same.
        if group == TILE { MOST_TILES * TILE } else { (group - first % group).min(MOST_TILES * TILE) }
    }

    /// The tiles of a run of keys, and `q` in the order of their channels; `None` where there are none, and none is made.
    pub fn key_tiles<'a>(
        &'a self,
        plane: usize,
        run: Run<'a>,
        q: &'a [f32],
        plan: &'a mut KeyPlan,
    ) -> Option<(KeyTiles<'a>, &'a [f32])> {
        let Run { first, tokens, ahead, column } = run;
        let tail = self.is_tail(first, tokens);
        if self.tiling() != Tiling::Keys || !(tail || self.are_whole(first, tokens)) {
            return None;
        }
        let KeyPlan { runs, run_of_bytes, ordered, steps, units_of_codes, tail: room, .. } = plan;
        let (runs, units, units_of_codes) = if tail {
            let units = room.keys(self, plane, first, tokens);
            (run_of_bytes.as_slice(), units, &ONES[..self.layout.dim])
        } else {
            (&**runs, self.tiles(plane, first, tokens), &**units_of_codes)
        };
        let scales = self.key_scales(plane, first, tokens, steps);
        let q = if ordered.is_empty() { q } else { ordered };
        // A tail's codes are of fewer bits than they take.
        let reach_far = !tail;
        Some((KeyTiles { runs, units, ahead, scales, units_of_codes, reach_far, tokens, column }, q))
    }

    /// The codes of the whole tiles of so many tokens.
    fn tiles(&self, plane: usize, first: usize, tokens: usize) -> &[u8] {
        let end = first + tokens.next_multiple_of(TILE);
        &self.codes[self.tile_start(plane, first)..self.tile_start(plane, end)]
    }

    /// Scales of the groups of so many tokens from `first` on; those behind them are asked for.
    fn key_scales<'a>(&'a self, plane: usize, first: usize, tokens: usize, steps: &'a [f32]) -> KeyScales<'a> {
        let (dim, group) = (self.layout.dim, self.layout.group_tokens());
        let (start, end) = (first / group * dim, (first + tokens).div_ceil(group) * dim);
        let view = self.scales_of(plane);
        view.prefetch(end, end - start);
        match view {
            ScaleView::Small { grid, scales, zeros } => KeyScales::Small {
                super_scale: grid.super_scale,
                scales: &scales[start..end],
                zeros: &zeros[start..end],
                steps,
            },
            ScaleView::Wide { scales, zeros } => {
                KeyScales::Wide { scales: &scales[start..end], zeros: &zeros[start..end] }
            }
        }
    }

    /// The tiles of values that a run of blocks starts with, orders and scales being made in `plan`; `None` where there are none.
    pub fn value_tiles<'a>(
        &'a self,
        level: Level,
        plane: usize,
        run: Run<'a>,
        plan: &'a mut ValuePlan,
    ) -> Option<ValueTiles<'a>> {
        let Run { first, tokens, ahead, column } = run;
        if self.tiling() != Tiling::Values {
            return None;
        }
        let tail = self.is_tail(first, tokens);
        if !(tail || self.are_whole(first, tokens)) {
            return None;
        }
        let count = tokens.div_ceil(TILE);
        if !tail {
            self.prepare_orders(level, plane, first, count, plan);
        }
        let ValuePlan { made_for, orders, scales, zeros, kept, tail: room } = plan;
        let units = if tail {
            let (units, order) = room.values(self, plane, first, tokens);
            (orders[0], made_for[0]) = (order, Default::default());
            units
        } else {
            self.tiles(plane, first, tokens)
        };
        self.value_scales(plane, first, tokens, (scales, zeros), kept);
        let levels = if self.layout.rotated { Levels::Turned } else { Levels::Affine };
        Some(ValueTiles { orders: &orders[..count], levels, units, ahead, scales, zeros, tokens, column })
    }

    /// Scales (and zeros, where there are any) of so many tokens from `first` on, `[groups, tiles, 64]`; those behind them are asked for.
    fn value_scales(
        &self,
        plane: usize,
        first: usize,
        tokens: usize,
        (scales, zeros): (&mut Vec<f32>, &mut Vec<f32>),
        [kept_scales, kept_zeros]: &mut [Vec<f32>; 2],
    ) {
        let groups = match self.layout.grouping {
            Grouping::Token { channels } => self.layout.dim.div_ceil(channels),
            _ => 1,
        };
        let view = self.scales_of(plane);
        view.prefetch((first + tokens) * groups, tokens * groups);
        let rotated = self.layout.rotated;
        let (own, all) = (tokens * groups, tokens.next_multiple_of(TILE) * groups);
        let (to_scales, to_zeros) =
            if groups == 1 { (&mut *scales, &mut *zeros) } else { (&mut *kept_scales, &mut *kept_zeros) };
        for (to, all) in [(&mut *to_scales, all), (&mut *to_zeros, if rotated { 0 } else { all })] {
            to.resize(all, 0.0);
            // Of the tokens behind the last one, nothing counts.
            to.iter_mut().skip(own).for_each(|x| *x = 0.0);
        }
        if rotated {
            view.load_scales(first * groups, &mut to_scales[..own]);
        } else {
            view.load(first * groups, &mut to_scales[..own], &mut to_zeros[..own]);
        }
        if groups > 1 {
            for (kept, out) in [(kept_scales, scales), (kept_zeros, zeros)] {
                out.resize(kept.len(), 0.0);
                simd::columns(kept, groups, out);
            }
        }
    }

    /// Makes `plan.orders` those of so many whole tiles from the one on that starts at `first`.
    fn prepare_orders(&self, level: Level, plane: usize, first: usize, count: usize, plan: &mut ValuePlan) {
        let mut set = [self.layout.scales.bits as u8; 4];
        let mut each = None;
        if let Widths::Tokens(widths) = &self.widths
            && let RowWidths::Each { set: widths, packed } = widths.rows(plane)
        {
            set = widths;
            each = packed[first / 4..].as_chunks::<{ TILE / 4 }>().0.into();
        }
        for (t, (order, made)) in plan.orders.iter_mut().zip(&mut plan.made_for).enumerate().take(count) {
            let packed = each.map_or([0; TILE / 4], |each: &[[u8; TILE / 4]]| each[t]);
            let wanted = (u32::from_le_bytes(set), u128::from_le_bytes(packed));
            if wanted != *made {
                order.become_of(level, set, &packed);
                *made = wanted;
            }
        }
    }

    /// Asks for its header.
    pub fn prefetch_header(&self) {
        simd::prefetch(slice::from_ref(self), size_of::<Self>());
    }

    /// Asks for all that it has beside codes, where that is little. Reads its header.
    pub fn prefetch_arrays(&self) {
        if self.layout.tokens <= FEW_TOKENS {
            self.widths.prefetch();
            self.scales.prefetch();
            self.means.prefetch();
        }
    }

    /// The codes from token `first` of one head on.
    pub fn codes_from(&self, plane: usize, first: usize) -> &[u8] {
        match self.tiling() {
            Tiling::Rows => &[],
            _ => &self.codes[self.tile_start(plane, first)..],
        }
    }
}
