//! `rotated`: the mean of each channel over the segment removed, rows turned by a Hadamard matrix over head_dim, one scale a
//! token and group of channels, and the levels of a Lloyd-Max quantizer, for K and V alike.
//!
//! Turned, the values of a token are nearly normally distributed whatever they were, which is what the levels are made for:
//! `D̂ = rotate(level[code] · scale) + mean`. As the rotation is orthonormal and its own inverse, attention never undoes it token
//! by token: `q·rotate(y) = rotate(q)·y` for keys, and a weighted sum of values is turned back once. The mean adds one constant
//! to a segment's logits, and its multiple by the weights' sum to the output.
//!
//! Outliers count as their channel's mean here; what that leaves is theirs to carry.

use half::f16;

use super::scales::{ScaleRecipe, Scales};
use super::{CodeRows, Grouping, ScaleRoom};
use crate::raw::{f16_bytes, finite_f16};
use crate::simd::{self, LANES, LowRank, Meaning, Stripe};
use crate::spread::RowWidths;

const LARGEST_MEAN: f32 = 127.0;

/// Means of each channel of each head: none where the backbone is another.
pub(crate) enum Means {
    /// `[planes, dim]`
    Wide(Box<[f16]>),
    /// Multiples of `steps` (`[planes]`): `[planes, dim]`.
    Small { steps: Box<[f16]>, multiples: Box<[i8]> },
}

impl Means {
    /// Rounds the means of one head, and leaves what they have become in `mean`.
    fn store(small: bool, mean: &mut [f32]) -> Self {
        if !small {
            let mut wide = vec![f16::ZERO; mean.len()];
            simd::narrow(mean, &mut wide);
            simd::widen(&wide, mean);
            return Self::Wide(wide.into());
        }
        let step = f16::from_f32(simd::largest_magnitude(mean) / LARGEST_MEAN);
        let wide = step.to_f32();
        let multiple =
            |x: f32| if wide > 0.0 { (x / wide).round_ties_even().clamp(-LARGEST_MEAN, LARGEST_MEAN) } else { 0.0 };
        let multiples = mean.iter().map(|&x| multiple(x) as i8).collect();
        mean.iter_mut().for_each(|x| *x = multiple(*x) * wide);
        Self::Small { steps: [step].into(), multiples }
    }

    /// Those of all heads.
    pub fn concat<'a>(parts: impl Iterator<Item = &'a Self> + Clone, small: bool) -> Self {
        let wide = parts.clone().filter_map(|part| match part {
            Self::Wide(means) => Some(&**means),
            Self::Small { .. } => None,
        });
        let narrow = parts.filter_map(|part| match part {
            Self::Wide(_) => None,
            Self::Small { steps, multiples } => Some((&**steps, &**multiples)),
        });
        if small {
            let (steps, multiples): (Vec<_>, Vec<_>) = narrow.unzip();
            Self::Small { steps: steps.concat().into(), multiples: multiples.concat().into() }
        } else {
            Self::Wide(wide.collect::<Vec<_>>().concat().into())
        }
    }

    /// None at all.
    pub fn none() -> Self {
        Self::Wide(Box::default())
    }

    pub fn byte_length(&self) -> usize {
        match self {
            Self::Wide(means) => size_of_val(&**means),
            Self::Small { steps, multiples } => size_of_val(&**steps) + multiples.len(),
        }
    }

    /// Steps where there are any, then means: little-endian.
    pub fn bytes(&self) -> Vec<u8> {
        match self {
            Self::Wide(means) => f16_bytes(means).into_owned(),
            Self::Small { steps, multiples } => [&*f16_bytes(steps), bytemuck::cast_slice(multiples)].concat(),
        }
    }

    /// What [`Self::bytes`] gave; `None` where the length does not fit or a number is not finite.
    pub fn from_bytes(small: bool, planes: usize, dim: usize, bytes: &[u8]) -> Option<Self> {
        if !small {
            return Some(Self::Wide(finite_f16(bytes, planes * dim)?.into()));
        }
        let (steps, multiples) = bytes.split_at_checked(2 * planes)?;
        let steps = finite_f16(steps, planes)?.into();
        (multiples.len() == planes * dim)
            .then(|| Self::Small { steps, multiples: bytemuck::cast_slice(multiples).into() })
    }

    /// Asks for all of them.
    pub fn prefetch(&self) {
        match self {
            Self::Wide(means) => simd::prefetch(means, size_of_val(&**means)),
            Self::Small { steps, multiples } => {
                simd::prefetch(steps, size_of_val(&**steps));
                simd::prefetch(multiples, multiples.len());
            }
        }
    }

    /// Those of one plane.
    pub fn load(&self, plane: usize, out: &mut [f32]) {
        let range = plane * out.len()..(plane + 1) * out.len();
        match self {
            Self::Wide(means) => simd::widen(&means[range], out),
            Self::Small { steps, multiples } => {
                simd::widen_multiples(&multiples[range], steps[plane].to_f32(), out);
            }
        }
    }
}

/// Finds means, scales and codes of one head, in three rounds through blocks of [`BLOCK`] tokens (`[tokens, dim]`, NaN at values that are left
/// out; the last block may have fewer).
pub(crate) struct RotatedCoder<'a> {
    dim: usize,
    channels: usize,
    recipe: ScaleRecipe,
    widths: RowWidths<'a>,
    columns: ColumnMeans,
    mean: Vec<f32>,
    means: Means,
    /// `[tokens, groups]`: as they were fitted, then as they are kept.
    fitted: Vec<f32>,
    scales: Scales,
    /// A block without its mean and turned, `[⌈tokens / 16⌉, dim]`, and its first token.
    turned: Vec<Stripe>,
    turned_from: Option<usize>,
    /// Its tokens as they lie in the lanes, and their widths: those of one width are neighbours.
    order: Vec<u8>,
    bits: Vec<u8>,
}

/// Tokens of a block.
pub(crate) const BLOCK: usize = 4 * LANES;

impl<'a> RotatedCoder<'a> {
    pub fn new(grouping: Grouping, recipe: ScaleRecipe, (tokens, dim): (usize, usize), widths: RowWidths<'a>) -> Self {
        let channels = group_channels(grouping, dim).min(dim);
        Self {
            dim,
            channels,
            recipe,
            widths,
            columns: ColumnMeans::new(dim),
            mean: Vec::new(),
            means: Means::none(),
            fitted: vec![0.0; tokens * dim.div_ceil(channels)],
            scales: Scales::none(recipe.small),
            turned: vec![[0.0; LANES]; tokens.min(BLOCK).div_ceil(LANES) * dim],
            turned_from: None,
            order: Vec::with_capacity(BLOCK),
            bits: Vec::with_capacity(BLOCK),
        }
    }

    /// The first round: means.
    pub fn look(&mut self, rows: &[f32]) {
        self.columns.add(rows);
    }

    /// After the first round.
    pub fn decide_means(&mut self) {
        self.mean = self.columns.means();
        self.means = Means::store(self.recipe.small, &mut self.mean);
    }

    /// The second round: scales of least squared error.
    pub fn scale(&mut self, first: usize, rows: &[f32]) {
        self.turn(first, rows);
        let groups = self.dim.div_ceil(self.channels);
        let mut fitted_scales = std::mem::take(&mut self.fitted);
        for (stripes, (tokens, bits)) in self.stripes() {
            for (first_lane, bits) in runs(bits) {
                for (g, stripes) in stripes.chunks(self.channels).enumerate() {
                    let fitted = simd::fit_levels(stripes, u32::from(bits[0]));
                    for lane in first_lane..first_lane + bits.len() {
                        fitted_scales[(first + usize::from(tokens[lane])) * groups + g] = fitted[lane];
                    }
                }
            }
        }
        self.fitted = fitted_scales;
    }

    /// After the second round.
    pub fn decide_scales(&mut self) {
        self.scales = Scales::of_magnitudes(self.recipe, &self.fitted);
        self.scales.view(self.recipe.bits, 0, 0..self.scales.len()).load_scales(0, &mut self.fitted);
    }

    /// The third round: codes, one byte each.
    pub fn code(&mut self, first: usize, rows: &[f32], codes: &mut [u8]) {
        self.turn(first, rows);
        let groups = self.dim.div_ceil(self.channels);
        let mut scale = vec![[0.0; LANES]; groups];
        for (stripes, (tokens, bits)) in self.stripes() {
            for (lane, &t) in tokens.iter().enumerate() {
                let own = &self.fitted[(first + usize::from(t)) * groups..][..groups];
                scale.iter_mut().zip(own).for_each(|(scale, &own)| scale[lane] = own);
            }
            for (lane, bits) in runs(bits) {
                let tokens = &tokens[lane..lane + bits.len()];
                simd::nearest_codes(stripes, u32::from(bits[0]), self.channels, &scale, (lane, tokens), codes);
            }
        }
    }

    /// What codes (`[tokens, dim]`, one byte each) leave of rows.
    pub fn subtract(&self, first: usize, codes: &[u8], rows: &mut [f32]) {
        let scales = self.scales.view(self.recipe.bits, 0, 0..self.scales.len());
        let of = CodeRows { grouping: Grouping::Token { channels: self.channels }, scales, first, dim: self.dim };
        let mut backbone = vec![0.0; rows.len()];
        let (own, mean, room) = ((codes, self.widths), Some(&*self.mean), &mut ScaleRoom::default());
        dequantize(of, own, mean, LowRank::NONE, &mut backbone, room);
        rows.iter_mut().zip(&backbone).for_each(|(x, backbone)| *x -= backbone);
    }

    /// The stripes of a block that was turned, and tokens and widths in their lanes.
    fn stripes(&self) -> impl Iterator<Item = (&[Stripe], (&[u8], &[u8]))> {
        self.turned.chunks_exact(self.dim).zip(self.order.chunks(LANES).zip(self.bits.chunks(LANES)))
    }

    pub fn finish(self) -> (Scales, Means) {
        (self.scales, self.means)
    }

    /// Brings a block without its mean and turned into `turned`.
    fn turn(&mut self, first: usize, rows: &[f32]) {
        if self.turned_from == Some(first) {
            return;
        }
        let tokens = rows.len() / self.dim;
        self.order.clear();
        self.order.extend(0..tokens as u8);
        self.bits.clear();
        self.bits.extend((first..first + tokens).map(|t| self.widths.of(t) as u8));
        if self.bits.iter().any(|&bits| bits != self.bits[0]) {
            self.order.sort_by_key(|&t| std::cmp::Reverse(self.bits[usize::from(t)]));
            self.bits.sort_unstable_by_key(|&bits| std::cmp::Reverse(bits));
        }
        for (stripes, tokens) in self.turned.chunks_exact_mut(self.dim).zip(self.order.chunks(LANES)) {
            simd::turned_stripes(rows, &self.mean, tokens, stripes);
        }
        self.turned_from = Some(first);
    }
}

/// Neighbouring lanes of one width: the first of them, and their widths.
fn runs(bits: &[u8]) -> impl Iterator<Item = (usize, &[u8])> {
    let mut lane = 0;
    bits.chunk_by(|a, b| a == b).map(move |run| {
        lane += run.len();
        (lane - run.len(), run)
    })
}

/// Means of columns over what is not left out, taken from block after block of rows.
pub(crate) struct ColumnMeans {
    sums: Vec<f32>,
    counts: Vec<f32>,
}

impl ColumnMeans {
    pub fn new(dim: usize) -> Self {
        Self { sums: vec![0.0; dim], counts: vec![0.0; dim] }
    }

    pub fn add(&mut self, rows: &[f32]) {
        simd::add_columns(rows, &mut self.sums, &mut self.counts);
    }

    pub fn means(&self) -> Vec<f32> {
        let mean = |(sum, &count): (&f32, &f32)| if count > 0.0 { sum / count } else { 0.0 };
        self.sums.iter().zip(&self.counts).map(mean).collect()
    }
}

/// Turned rows without their mean, as many as `out` (`[tokens, dim]`) holds; with it, turned back and the mean added. Then the low-rank part.
/// `codes` are of one byte each; widths are the whole head's.
pub(crate) fn dequantize(
    rows: CodeRows,
    (codes, widths): (&[u8], RowWidths),
    mean: Option<&[f32]>,
    low_rank: LowRank,
    out: &mut [f32],
    ScaleRoom { scale, bits, .. }: &mut ScaleRoom,
) {
    let CodeRows { grouping, scales, first, dim } = rows;
    let (tokens, channels) = (out.len() / dim, group_channels(grouping, dim).min(dim));
    let groups = dim.div_ceil(channels);
    scale.resize(tokens * groups, 0.0);
    scales.load_scales(first * groups, scale);
    bits.clear();
    bits.extend((first..first + tokens).map(|t| widths.of(t) as u8));
    simd::expand_rows(codes, dim, Meaning::Turned { channels, scale, bits, mean }, low_rank, out);
}

fn group_channels(grouping: Grouping, dim: usize) -> usize {
    match grouping {
        Grouping::Token { channels } => channels,
        _ => dim,
    }
}
