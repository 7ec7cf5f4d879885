//! A segment's tiles as attention takes them: with their scales, and queries in the order of their channels.

use std::slice;
use std::sync::Arc;

use crate::backbone::{Grouping, ScaleView, zero_unit};
use crate::simd::{self, KeyScales, KeyTile, Level, Levels, TILE, TileOrder, UnitRun, ValueTile};
use crate::spread::{ChannelWidths, RowWidths, Widths};

use super::tail::Tail;
use super::tiles::{HeadCodes, MOST_CHANNELS};
use super::{Segment, Tiling};

/// A segment of so many has its scales in few places.
const FEW_TOKENS: usize = 2 * TILE;

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
    scales: Vec<f32>,
    zeros: Vec<f32>,
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
        let wanted = match &segment.widths {
            Widths::Channels(widths) => MadeFor::Channels(Arc::as_ptr(widths), plane),
            _ => MadeFor::Even(segment.layout.scales.bits),
        };
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

/// Memory for the scales and the order of a tile of values.
pub(crate) struct ValuePlan {
    /// The widths that `order` was made for: often those of the next tile, too.
    made_for: ([u8; 4], [u8; TILE / 4]),
    order: TileOrder,
    /// `[groups, 64]`
    scales: Vec<f32>,
    zeros: Vec<f32>,
    /// As they are kept: `[64, groups]`.
    kept: [Vec<f32>; 2],
    tail: Tail,
}

impl Default for ValuePlan {
    fn default() -> Self {
        Self {
            made_for: ([0; 4], [0; TILE / 4]),
            order: TileOrder::even(0),
            scales: Vec::new(),
            zeros: Vec::new(),
            kept: [Vec::new(), Vec::new()],
            tail: Tail::default(),
        }
    }
}

impl Segment {
    /// Whether the tokens from `first` on start a whole tile.
    fn starts_tile(&self, first: usize) -> bool {
        first.is_multiple_of(TILE) && first + TILE <= self.layout.tokens
    }

    /// The tile of keys that starts at `first`, of which `tokens` tokens count, and `q` in the order of its channels; `None` where there is
    /// none, and none is made.
    pub fn key_tile<'a>(
        &'a self,
        plane: usize,
        first: usize,
        tokens: usize,
        ahead: &'a [u8],
        q: &'a [f32],
        plan: &'a mut KeyPlan,
    ) -> Option<(KeyTile<'a>, &'a [f32])> {
        let dim = self.layout.dim;
        let tail = self.is_tail(first, tokens);
        if self.tiling() != Tiling::Keys || !(tail || self.starts_tile(first)) {
            return None;
        }
        let at = first / self.layout.group_tokens() * dim;
        let view = self.scales_of(plane);
        view.prefetch(at + dim, dim);
        let scales = match view {
            ScaleView::Small { grid, scales, zeros } => KeyScales::Small {
                super_scale: grid.super_scale,
                scales: &scales[at..at + dim],
                zeros: &zeros[at..at + dim],
                steps: &plan.steps,
            },
            ScaleView::Wide { .. } => {
                plan.scales.resize(dim, 0.0);
                plan.zeros.resize(dim, 0.0);
                view.load(at, &mut plan.scales, &mut plan.zeros);
                KeyScales::Plain { scales: &plan.scales, zeros: &plan.zeros }
            }
        };
        let q = if plan.ordered.is_empty() { q } else { &plan.ordered };
        let (runs, units, units_of_codes) = if tail {
            let units = plan.tail.keys(self, plane, first, tokens);
            (plan.run_of_bytes.as_slice(), units, &ONES[..dim])
        } else {
            (&*plan.runs, self.tile(plane, first), &*plan.units_of_codes)
        };
        Some((KeyTile { runs, units, ahead, scales, units_of_codes, tokens }, q))
    }

    /// The tile of values that starts at `first`, of which `tokens` tokens count; `None` where there is none, and none is made.
    pub fn value_tile<'a>(
        &'a self,
        level: Level,
        plane: usize,
        (first, tokens): (usize, usize),
        ahead: &'a [u8],
        plan: &'a mut ValuePlan,
    ) -> Option<ValueTile<'a>> {
        let tail = self.is_tail(first, tokens);
        if self.tiling() != Tiling::Values || !(tail || self.starts_tile(first)) {
            return None;
        }
        let dim = self.layout.dim;
        let units = if tail {
            let (units, order) = plan.tail.values(self, plane, first, tokens);
            (plan.order, plan.made_for) = (order, ValuePlan::default().made_for);
            units
        } else {
            self.prepare_order(level, plane, first, plan);
            self.tile(plane, first)
        };
        let groups = match self.layout.grouping {
            Grouping::Token { channels } => dim.div_ceil(channels),
            _ => 1,
        };
        let present = if tail { tokens } else { TILE };
        let view = self.scales_of(plane);
        view.prefetch((first + TILE) * groups, TILE * groups);
        let [scales, zeros] = &mut plan.kept;
        // Of the tokens behind the last one, nothing counts.
        scales.clear();
        scales.resize(groups * TILE, 0.0);
        if self.layout.rotated {
            zeros.clear();
            view.load_scales(first * groups, &mut scales[..groups * present]);
        } else {
            zeros.clear();
            zeros.resize(groups * TILE, 0.0);
            view.load(first * groups, &mut scales[..groups * present], &mut zeros[..groups * present]);
        }
        for (kept, out) in [(&*scales, &mut plan.scales), (&*zeros, &mut plan.zeros)] {
            out.resize(kept.len(), 0.0);
            simd::columns(kept, groups, out);
        }
        let levels = if self.layout.rotated { Levels::Turned } else { Levels::Affine };
        Some(ValueTile { order: &plan.order, levels, units, ahead, scales: &plan.scales, zeros: &plan.zeros })
    }

    /// Makes `plan.order` that of the whole tile that starts at `first`.
    fn prepare_order(&self, level: Level, plane: usize, first: usize, plan: &mut ValuePlan) {
        let mut made_for = ([self.layout.scales.bits as u8; 4], [0; TILE / 4]);
        if let Widths::Tokens(widths) = &self.widths
            && let RowWidths::Each { set, packed } = widths.rows(plane)
        {
            made_for.0 = set;
            made_for.1.copy_from_slice(&packed[first / 4..first / 4 + TILE / 4]);
        }
        if made_for != plan.made_for {
            plan.order = simd::tile_order(level, made_for.0, &made_for.1);
            plan.made_for = made_for;
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
