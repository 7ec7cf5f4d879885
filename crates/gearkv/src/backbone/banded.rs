//! Keys whose channels have codes of different widths: scales, codes and their inverse, band by band (`spread/channels.rs`).
//!
//! Scales of a head are `[group][channel]`, channels in the order of their widths, under one super-scale.

use super::scales::{self, ScaleRecipe, Scales};
use super::{Grouping, ScaleRoom, fit};
use crate::config::Range;
use crate::simd::{self, Grade, Grid, SmallGrid};
use crate::spread::{Band, ChannelWidths};

/// One head's place among the widths.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub widths: &'a ChannelWidths,
    pub plane: usize,
    /// Tokens that share a scale.
    pub group: usize,
    pub dim: usize,
}

fn levels(band: &Band) -> f32 {
    ((1u32 << band.bits) - 1) as f32
}

impl Head<'_> {
    fn bands(&self) -> impl Iterator<Item = Band> + use<> {
        self.widths.bands(self.plane)
    }

    /// A band's columns of `x` (`[tokens, dim]`).
    fn columns(&self, x: &[f32], band: &Band) -> Vec<f32> {
        let order = &self.widths.order(self.plane)[band.first..band.first + band.channels];
        let mut columns = Vec::with_capacity(x.len() / self.dim * band.channels);
        for row in x.chunks_exact(self.dim) {
            columns.extend(order.iter().map(|&channel| row[usize::from(channel)]));
        }
        columns
    }

    /// Scales, `x` being `[tokens, dim]` with NaN at values that are left out.
    pub fn scales(&self, x: &[f32], recipe: ScaleRecipe) -> Scales {
        let (dim, group) = (self.dim, self.group);
        let groups = (x.len() / dim).div_ceil(group);
        let mut bands = Vec::new();
        let mut super_scale = 0.0f32;
        for band in self.bands() {
            let columns = self.columns(x, &band);
            let count = groups * band.channels;
            let (mut min, mut max) = (vec![0.0; count], vec![0.0; count]);
            let ranges = min.chunks_exact_mut(band.channels).zip(max.chunks_exact_mut(band.channels));
            for (rows, (min, max)) in columns.chunks(group * band.channels).zip(ranges) {
                simd::column_range(rows, min, max);
            }
            let recipe = ScaleRecipe { bits: band.bits, ..recipe };
            let grid = scales::grid_for(recipe, &min, &max);
            if let Grid::Small(grid) = grid {
                super_scale = super_scale.max(grid.super_scale);
            }
            bands.push((band, columns, min, max, recipe, grid));
        }
        let mut found = Vec::with_capacity(bands.len());
        for (band, columns, min, max, recipe, grid) in bands {
            let grid = match grid {
                Grid::Float16 => grid,
                Grid::Small(own) => Grid::Small(SmallGrid { super_scale, ..own }),
            };
            let (mut scale, mut zero) = scales::cover(grid, recipe.levels(), &min, &max);
            if recipe.range == Range::Mse {
                let grouping = Grouping::Channel { tokens: group };
                fit::fit_head(grouping, &columns, band.channels, recipe.levels(), grid, &mut scale, &mut zero);
            }
            found.push((band, scales::store(grid, &scale, &zero)));
        }
        Scales::side_by_side(
            &found.iter().map(|(band, scales)| (band.channels, scales)).collect::<Vec<_>>(),
            groups,
            recipe.small,
        )
    }

    /// Codes of `x` (`[tokens, dim]`), band by band. With `residual`, `x` becomes `x − x̂`. `coupling` is that of the channels in
    /// the order of their widths (`backbone/coupling.rs`).
    pub fn quantize(
        &self,
        scales: &Scales,
        x: &mut [f32],
        coupling: Option<&[f32]>,
        residual: bool,
        packed: &mut [u8],
    ) {
        let (dim, tokens) = (self.dim, x.len() / self.dim);
        let order = self.widths.order(self.plane);
        let mut codes = vec![0u8; x.len()];
        for (g, (x, codes)) in x.chunks_mut(self.group * dim).zip(codes.chunks_mut(self.group * dim)).enumerate() {
            let grades = self.grades(scales, g);
            // So many tokens' columns stay in the nearest cache.
            for (x, codes) in x.chunks_mut(64 * dim).zip(codes.chunks_mut(64 * dim)) {
                let rows = x.len() / dim;
                let mut ordered = vec![0.0; x.len()];
                simd::gather_rows(x, order, &mut ordered);
                let mut columns = vec![0.0; x.len()];
                simd::transpose(&ordered, dim, &mut columns);
                let mut column_codes = vec![0; x.len()];
                simd::quantize_with_feedback(&mut columns, rows, &grades, coupling, &mut column_codes);
                for (i, codes_of) in column_codes.chunks_exact(rows).enumerate() {
                    for (t, &code) in codes_of.iter().enumerate() {
                        codes[t * dim + i] = code;
                    }
                }
                if residual {
                    for (i, values) in columns.chunks_exact(rows).enumerate() {
                        let channel = usize::from(order[i]);
                        values.iter().enumerate().for_each(|(t, value)| x[t * dim + channel] -= value);
                    }
                }
            }
        }
        for band in self.bands() {
            let rows: Vec<u8> =
                codes.chunks_exact(dim).flat_map(|row| &row[band.first..band.first + band.channels]).copied().collect();
            let start = tokens * band.bytes_before;
            let packed = &mut packed[start..start + tokens * band.row_bytes()];
            simd::pack_rows(&rows, band.channels, band.bits, packed);
        }
    }

    fn grades(&self, scales: &Scales, g: usize) -> Vec<Grade> {
        let mut grades = Vec::with_capacity(self.dim);
        for band in self.bands() {
            let (mut scale, mut zero) = (vec![0.0; band.channels], vec![0.0; band.channels]);
            scales.view(band.bits, 0, 0..scales.len()).load(g * self.dim + band.first, &mut scale, &mut zero);
            let levels = levels(&band);
            grades.extend(scale.iter().zip(&zero).map(|(&scale, &zero)| Grade { scale, zero, levels }));
        }
        grades
    }

    /// What codes of one byte each (`[tokens, dim]`, of the tokens from `first` on) stand for, channels in the order of their widths.
    /// `scales` are those of the segment, of which the head's start at `base`.
    pub fn dequantize(
        &self,
        scales: &Scales,
        base: usize,
        codes: &[u8],
        first: usize,
        out: &mut [f32],
        room: &mut ScaleRoom,
    ) {
        let dim = self.dim;
        let end = first + out.len() / dim;
        let ScaleRoom { scale, zero, .. } = room;
        scale.resize(dim, 0.0);
        zero.resize(dim, 0.0);
        let mut t = first;
        while t < end {
            let g = t / self.group;
            let stop = ((g + 1) * self.group).min(end);
            for band in self.bands() {
                let own = band.first..band.first + band.channels;
                let view = scales.view(band.bits, self.plane, 0..scales.len());
                view.load(base + g * dim + band.first, &mut scale[own.clone()], &mut zero[own]);
            }
            let part = (t - first) * dim..(stop - first) * dim;
            simd::dequantize_rows(&codes[part.clone()], 8, scale, zero, &mut out[part], dim);
            t = stop;
        }
    }
}
