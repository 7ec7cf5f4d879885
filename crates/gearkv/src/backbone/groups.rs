//! Scales and codes of one head where channels of a token share a scale; and the inverse, for any grouping.

use super::scales::{self, ScaleRecipe, ScaleView, Scales, zero_unit};
use super::{Coder, Grouping, fit};
use crate::config::Range;
use crate::shape::blocks;
use crate::simd::{self, Grid, LowRank, Meaning};

/// Tokens of a block.
const TOKENS: usize = 64;

pub(crate) struct TokenCoder {
    dim: usize,
    /// Channels that share a scale.
    channels: usize,
    recipe: ScaleRecipe,
    /// Whether scales are those that all heads share.
    shared: bool,
    grid: Grid,
    /// The largest scale that a group asks for.
    most: f32,
    /// `[tokens, groups]`
    scale: Vec<f32>,
    zero: Vec<f32>,
    /// Ranges of a block.
    low: Vec<f32>,
    high: Vec<f32>,
}

impl TokenCoder {
    /// Of `tokens` tokens whose scales are their own.
    pub fn new(recipe: ScaleRecipe, (tokens, dim): (usize, usize), channels: usize) -> Self {
        let channels = channels.min(dim);
        let scales = tokens * dim.div_ceil(channels);
        let [scale, zero] = [(); 2].map(|()| Vec::with_capacity(scales));
        let (grid, most, low, high) = (Grid::Float16, 0.0, Vec::new(), Vec::new());
        Self { dim, channels, recipe, shared: false, grid, most, scale, zero, low, high }
    }

    /// Of tokens whose scales all heads share.
    pub fn with(recipe: ScaleRecipe, shared: &Scales, dim: usize) -> Self {
        let mut coder = Self::new(recipe, (shared.len(), dim), dim);
        coder.scale.resize(shared.len(), 0.0);
        coder.zero.resize(shared.len(), 0.0);
        shared.view(recipe.bits, 0, 0..shared.len()).load(0, &mut coder.scale, &mut coder.zero);
        Self { shared: true, ..coder }
    }

    fn ranges(&mut self, rows: &[f32]) {
        let groups = rows.len() / self.dim * self.dim.div_ceil(self.channels);
        self.low.resize(groups, 0.0);
        self.high.resize(groups, 0.0);
        simd::group_ranges(rows, self.dim, self.channels, &mut self.low, &mut self.high);
    }
}

impl Coder for TokenCoder {
    fn block_tokens(&self) -> usize {
        TOKENS
    }

    fn looks(&self) -> bool {
        self.recipe.small && !self.shared
    }

    fn look(&mut self, rows: &[f32]) {
        self.ranges(rows);
        let unit = zero_unit(self.recipe.bits);
        self.most = scales::most_asked_for(&self.low, &self.high, self.recipe.levels(), unit).max(self.most);
    }

    fn decide(&mut self) {
        self.grid = Grid::Small(scales::super_scale_for(self.most));
    }

    fn scale(&mut self, first: usize, rows: &mut [f32]) {
        if self.shared {
            return;
        }
        let groups = self.dim.div_ceil(self.channels);
        self.scale.resize(first * groups + rows.len() / self.dim * groups, 0.0);
        self.zero.resize(self.scale.len(), 0.0);
        if self.recipe.range == Range::Mse {
            let (scale, zero) = (&mut self.scale[first * groups..], &mut self.zero[first * groups..]);
            fit::fit_groups(rows, self.dim, self.channels, self.recipe, self.grid, scale, zero);
            return;
        }
        self.ranges(rows);
        let (levels, unit) = (self.recipe.levels(), zero_unit(self.recipe.bits));
        let (scale, zero) = (&mut self.scale[first * groups..], &mut self.zero[first * groups..]);
        simd::cover(&self.low, &self.high, levels, unit, self.grid, scale, zero);
    }

    fn code(&mut self, first: usize, rows: &mut [f32], residual: bool, codes: &mut [u8]) {
        let groups = self.dim.div_ceil(self.channels);
        let own = first * groups..(first + rows.len() / self.dim) * groups;
        let scales = (&self.scale[own.clone()], &self.zero[own]);
        simd::quantize_groups(rows, (self.dim, self.channels), scales, self.recipe.levels(), codes, residual);
    }

    fn finish(self: Box<Self>) -> Scales {
        if self.shared {
            return Scales::none(self.recipe.small);
        }
        scales::store(self.grid, &self.scale, &self.zero, &[zero_unit(self.recipe.bits)])
    }
}

/// Scales that all heads of a batch item share, a token each: `rows` fills in a block of all heads, `[heads, tokens, dim]`, given its first
/// token and how many tokens it has.
pub(crate) fn item_scales(
    (heads, tokens, dim): (usize, usize, usize),
    recipe: ScaleRecipe,
    mut rows: impl FnMut(usize, usize, &mut [f32]),
) -> Scales {
    let (mut low, mut high) = (vec![f32::INFINITY; tokens], vec![f32::NEG_INFINITY; tokens]);
    let mut block = vec![0.0; heads * TOKENS.min(tokens) * dim];
    for (first, count) in blocks(tokens, TOKENS) {
        let block = &mut block[..heads * count * dim];
        rows(first, count, block);
        let (mut lows, mut highs) = (vec![0.0; heads * count], vec![0.0; heads * count]);
        simd::group_ranges(block, dim, dim, &mut lows, &mut highs);
        for (i, (lo, hi)) in lows.into_iter().zip(highs).enumerate() {
            let t = first + i % count;
            // Of zeros of either sign the first stays, wherever this runs.
            low[t] = if lo < low[t] { lo } else { low[t] };
            high[t] = if hi > high[t] { hi } else { high[t] };
        }
    }
    let (levels, unit) = (recipe.levels(), zero_unit(recipe.bits));
    let grid = if recipe.small {
        Grid::Small(scales::super_scale_for(scales::most_asked_for(&low, &high, levels, unit)))
    } else {
        Grid::Float16
    };
    let (mut scale, mut zero) = (vec![0.0; tokens], vec![0.0; tokens]);
    if recipe.range != Range::Mse {
        simd::cover(&low, &high, levels, unit, grid, &mut scale, &mut zero);
    } else {
        for (first, count) in blocks(tokens, TOKENS) {
            let block = &mut block[..heads * count * dim];
            rows(first, count, block);
            let own = first..first + count;
            fit::fit_tokens(block, (count, dim), recipe, grid, &mut scale[own.clone()], &mut zero[own]);
        }
    }
    scales::store(grid, &scale, &zero, &[unit])
}

/// Rows of one head whose codes, from token `first` on, are at hand; scales are the whole head's.
#[derive(Clone, Copy)]
pub(crate) struct CodeRows<'a> {
    pub grouping: Grouping,
    pub scales: ScaleView<'a>,
    pub first: usize,
    pub dim: usize,
}

/// Memory for scales, zeros and widths.
#[derive(Default)]
pub(crate) struct ScaleRoom {
    pub scale: Vec<f32>,
    pub zero: Vec<f32>,
    pub ordered: Vec<f32>,
    pub bits: Vec<u8>,
}

/// `x̂` of as many tokens as `out` (`[tokens, dim]`) holds, and the low-rank part. `codes` are theirs, one byte each.
pub(crate) fn dequantize(rows: CodeRows, codes: &[u8], low_rank: LowRank, out: &mut [f32], room: &mut ScaleRoom) {
    let CodeRows { grouping, scales, first, dim } = rows;
    let ScaleRoom { scale, zero, .. } = room;
    let tokens = out.len() / dim;
    if let Grouping::Channel { tokens: group } = grouping {
        scale.resize(dim, 0.0);
        zero.resize(dim, 0.0);
        let mut t = 0;
        while t < tokens {
            let g = (first + t) / group;
            let stop = ((g + 1) * group - first).min(tokens);
            scales.load(g * dim, scale, zero);
            let (part, meaning) = (t * dim..stop * dim, Meaning::Channels { scale, zero });
            simd::expand_rows(&codes[part.clone()], dim, meaning, low_rank.from(t), &mut out[part]);
            t = stop;
        }
        return;
    }
    let channels = match grouping {
        Grouping::Token { channels } => channels.min(dim),
        _ => dim,
    };
    let groups = dim.div_ceil(channels);
    scale.resize(tokens * groups, 0.0);
    zero.resize(tokens * groups, 0.0);
    scales.load(first * groups, scale, zero);
    simd::expand_rows(codes, dim, Meaning::Groups { channels, scale, zero }, low_rank, out);
}
