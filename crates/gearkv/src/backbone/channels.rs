//! Scales and codes of one head where consecutive tokens of a channel share a scale.
//!
//! Channels may have codes of different widths (`spread/channels.rs`): then they are brought into the order of these, and scales are
//! `[group][channel]` in that order, under one super-scale.

use super::Coder;
use super::coupling::coupling;
use super::scales::{self, ScaleRecipe, Scales, zero_unit};
use crate::config::Range;
use crate::simd::{self, Grade, Grid, LANES};
use crate::spread::ChannelWidths;

/// Codes of so many tokens are taken at a time where channels make good what others got wrong: their columns stay in the nearest cache.
const COLUMN_TOKENS: usize = 64;

pub(crate) struct ChannelCoder<'a> {
    dim: usize,
    /// Tokens that share a scale.
    group: usize,
    recipe: ScaleRecipe,
    /// Channels, where they are not in their own order.
    order: Option<&'a [u16]>,
    /// Bits of neighbouring channels, and how many they are.
    bands: Vec<(u32, usize)>,
    /// Of each channel its largest code and what a step of its zero is, in its order; rounded up to whole stripes.
    levels: Vec<f32>,
    units: Vec<f32>,
    grid: Grid,
    /// Of each channel in its own order, the largest scale that a group of it asks for.
    most: Vec<f32>,
    /// `[groups, dim]`
    scale: Vec<f32>,
    zero: Vec<f32>,
    coupling: Option<Vec<f32>>,
    /// Rows of a group in the order of the channels.
    ordered: Vec<f32>,
}

impl<'a> ChannelCoder<'a> {
    /// Of `tokens` tokens. `moments` are those of the queries, where channels are to make good what others get wrong.
    pub fn new(
        recipe: ScaleRecipe,
        (tokens, dim): (usize, usize),
        group: usize,
        widths: Option<(&'a ChannelWidths, usize)>,
        moments: Option<&[f32]>,
    ) -> Self {
        let order = widths.map(|(widths, plane)| widths.order(plane));
        let bands = match widths {
            Some((widths, plane)) => widths.bands(plane).map(|band| (band.bits, band.channels)).collect(),
            None => vec![(recipe.bits, dim)],
        };
        let of = |value: fn(u32) -> f32| {
            let mut all = Vec::with_capacity(dim.next_multiple_of(LANES));
            bands.iter().for_each(|&(bits, channels)| all.resize(all.len() + channels, value(bits)));
            all.resize(dim.next_multiple_of(LANES), 1.0);
            all
        };
        let (levels, units) = (of(|bits| ((1u32 << bits) - 1) as f32), of(zero_unit));
        let scales = tokens.div_ceil(group) * dim;
        Self {
            dim,
            group,
            recipe,
            order,
            bands,
            levels,
            units,
            grid: Grid::Float16,
            most: vec![0.0; dim],
            scale: Vec::with_capacity(scales),
            zero: Vec::with_capacity(scales),
            coupling: order.zip(moments).and_then(|(order, moments)| coupling(moments, order)),
            ordered: Vec::new(),
        }
    }

    /// Where channel `i` of the order is in a row.
    fn place(&self, i: usize) -> usize {
        self.order.map_or(i, |order| usize::from(order[i]))
    }

    /// Scales of the next group.
    fn scale_ordered(&mut self, x: &[f32]) {
        let dim = self.dim;
        let least_squares = self.recipe.range == Range::Mse;
        // Rows that do not end with a whole stripe get one.
        let padded = dim.next_multiple_of(LANES);
        let mut whole = Vec::new();
        let x = if padded == dim {
            x
        } else {
            whole.resize(x.len() / dim * padded, 0.0);
            whole
                .chunks_exact_mut(padded)
                .zip(x.chunks_exact(dim))
                .for_each(|(to, from)| to[..dim].copy_from_slice(from));
            &whole
        };
        let (levels, units) = (self.levels.as_chunks::<LANES>().0, self.units.as_chunks::<LANES>().0);
        for (i, (levels, units)) in levels.iter().zip(units).enumerate() {
            let (scale, zero) = simd::stripe_scales(&x[i * LANES..], padded, levels, units, self.grid, least_squares);
            let lanes = LANES.min(dim - i * LANES);
            self.scale.extend_from_slice(&scale[..lanes]);
            self.zero.extend_from_slice(&zero[..lanes]);
        }
        if matches!(self.grid, Grid::Float16) {
            // What rounding took beyond the largest float16 is kept as infinity.
            let first = self.scale.len() - dim;
            for x in self.scale[first..].iter_mut().chain(&mut self.zero[first..]) {
                *x = if x.abs() <= scales::LARGEST_F16 { *x } else { *x * f32::INFINITY };
            }
        }
    }

    /// Codes of rows of group `g`, which may become what is left of them.
    fn code_ordered(&self, g: usize, x: &mut [f32], residual: bool, codes: &mut [u8]) {
        let dim = self.dim;
        let own = g * dim..(g + 1) * dim;
        let (scale, zero) = (&self.scale[own.clone()], &self.zero[own]);
        let Some(coupling) = &self.coupling else {
            simd::quantize_rows(x, scale, zero, &self.levels[..dim], codes, residual);
            return;
        };
        let of_channel = |((&scale, &zero), &levels)| Grade { scale, zero, levels };
        let grades: Vec<Grade> = scale.iter().zip(zero).zip(&self.levels).map(of_channel).collect();
        let mut columns = vec![0.0; COLUMN_TOKENS * dim];
        let mut column_codes = vec![0; columns.len()];
        for (x, codes) in x.chunks_mut(COLUMN_TOKENS * dim).zip(codes.chunks_mut(COLUMN_TOKENS * dim)) {
            let tokens = x.len() / dim;
            let (columns, column_codes) = (&mut columns[..x.len()], &mut column_codes[..x.len()]);
            simd::transpose(x, dim, columns);
            simd::quantize_with_feedback(columns, tokens, &grades, coupling, column_codes);
            for (d, (values, column)) in columns.chunks_exact(tokens).zip(column_codes.chunks_exact(tokens)).enumerate()
            {
                for (t, (&value, &code)) in values.iter().zip(column).enumerate() {
                    codes[t * dim + d] = code;
                    if residual {
                        x[t * dim + d] -= value;
                    }
                }
            }
        }
    }

    /// `f` of the rows in the order of the channels, the result brought back where that is wanted.
    fn in_order(&mut self, rows: &mut [f32], back: bool, f: impl FnOnce(&mut Self, &mut [f32])) {
        let Some(order) = self.order else {
            f(self, rows);
            return;
        };
        let mut ordered = std::mem::take(&mut self.ordered);
        ordered.resize(rows.len(), 0.0);
        simd::gather_rows(rows, order, &mut ordered);
        f(self, &mut ordered);
        if back {
            for (row, ordered) in rows.chunks_exact_mut(self.dim).zip(ordered.chunks_exact(self.dim)) {
                simd::scatter(ordered, order, row);
            }
        }
        self.ordered = ordered;
    }
}

impl Coder for ChannelCoder<'_> {
    fn block_tokens(&self) -> usize {
        self.group
    }

    fn looks(&self) -> bool {
        self.recipe.small
    }

    fn look(&mut self, rows: &[f32]) {
        let (mut low, mut high) = (vec![0.0; self.dim], vec![0.0; self.dim]);
        simd::column_range(rows, &mut low, &mut high);
        for i in 0..self.dim {
            let at = self.place(i);
            if high[at] >= low[at] {
                let asked = scales::asked_for(low[at], high[at], self.levels[i], self.units[i]);
                self.most[at] = self.most[at].max(asked);
            }
        }
    }

    fn decide(&mut self) {
        let mut super_scale = 0.0f32;
        let mut first = 0;
        for &(_, channels) in &self.bands {
            let most = (first..first + channels).map(|i| self.most[self.place(i)]).fold(0.0, f32::max);
            super_scale = super_scale.max(scales::super_scale_for(most));
            first += channels;
        }
        self.grid = Grid::Small(super_scale);
    }

    fn scale(&mut self, _: usize, rows: &mut [f32]) {
        self.in_order(rows, false, |coder, x| coder.scale_ordered(x));
    }

    fn code(&mut self, first: usize, rows: &mut [f32], residual: bool, codes: &mut [u8]) {
        let g = first / self.group;
        self.in_order(rows, residual, |coder, x| coder.code_ordered(g, x, residual, codes));
    }

    fn scale_and_code(&mut self, first: usize, rows: &mut [f32], codes: &mut [u8]) {
        let g = first / self.group;
        self.in_order(rows, false, |coder, x| {
            coder.scale_ordered(x);
            coder.code_ordered(g, x, false, codes);
        });
    }

    fn finish(self: Box<Self>) -> Scales {
        scales::store(self.grid, &self.scale, &self.zero, &self.units[..self.dim])
    }
}
