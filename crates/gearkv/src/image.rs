//! A tensor taken apart into plain byte sections, and put together again from sections that nobody vouches for.

use std::borrow::Cow;
use std::sync::Arc;

use crate::backbone::Scales;
use crate::backbone::rotated::Means;
use crate::config::{GearConfig, MAX_SEGMENT_TOKENS, Storage};
use crate::error::{GearError, Result};
use crate::factors::Factors;
use crate::items::picked;
use crate::ranks::Ranks;
use crate::raw::{RawTokens, f16_bytes, finite_f16};
use crate::segment::{self, Segment, SegmentLayout, SegmentParts};
use crate::shape::{KvShape, Role};
use crate::spread::{ChannelWidths, TokenWidths, Widths};
use crate::tensor::{GearTensor, SegmentView};

/// Everything that a tensor consists of. Arrays are little-endian bytes.
pub struct TensorImage<'a> {
    /// Keys or values.
    pub role: Role,
    /// Its shape, all tokens counted.
    pub shape: KvShape,
    /// Its configuration.
    pub config: GearConfig,
    /// Tokens among the sinks.
    pub sink_tokens: usize,
    /// `[sink_tokens, batch, heads, head_dim]`, float16 (float32 under that preset).
    pub sinks: Cow<'a, [u8]>,
    /// Tokens in the buffer.
    pub buffer_tokens: usize,
    /// As `sinks`.
    pub buffer: Cow<'a, [u8]>,
    /// Between sinks and buffer, in token order.
    pub segments: Vec<SegmentImage<'a>>,
}

/// Everything that a segment consists of.
pub struct SegmentImage<'a> {
    /// Tokens compressed together.
    pub tokens: usize,
    /// How many of them, from the first on, no longer count.
    pub hidden: usize,
    /// How many of those behind these still count.
    pub visible: usize,
    /// Rank of the low-rank part; with `rankByNeed`, of a head on the average.
    pub rank: usize,
    /// Packed codes.
    pub codes: Cow<'a, [u8]>,
    /// Super-scales where there are any, all scales, all zeros, then means and widths where there are any.
    pub scales: Cow<'a, [u8]>,
    /// With `rankByNeed` the ranks of all heads; all factors A, all factors B, then the scales of both where there are any.
    pub factors: Cow<'a, [u8]>,
    /// Indices of outliers.
    pub outlier_indices: Cow<'a, [u8]>,
    /// Values of outliers, float16.
    pub outlier_values: Cow<'a, [u8]>,
}

impl GearTensor {
    /// Its image, borrowing what it can.
    pub fn image(&self) -> TensorImage<'_> {
        let segments = self.segments().iter().map(|view| {
            let image = SegmentImage { hidden: view.hidden(), visible: view.visible(), ..segment_image(&view.segment) };
            match view.items() {
                None => image,
                Some(items) => with_items(image, &view.segment, items),
            }
        });
        TensorImage {
            role: self.role(),
            shape: self.shape(),
            config: self.config().clone(),
            sink_tokens: self.sinks().tokens(),
            sinks: self.sinks().bytes(),
            buffer_tokens: self.buffer().tokens(),
            buffer: self.buffer().bytes(),
            segments: segments.collect(),
        }
    }

    /// The tensor that an image describes. Every length, index and number is checked.
    ///
    /// # Errors
    /// `CORRUPT_DATA` saying which part does not fit.
    pub fn from_image(image: TensorImage<'_>) -> Result<Self> {
        let TensorImage { role, shape, config, sink_tokens, sinks, buffer_tokens, buffer, segments } = image;
        let as_corrupt = |e: GearError| GearError::corrupt(format!("damaged tensor: {e}"));
        let shape = KvShape::new(shape.batch, shape.heads, shape.tokens, shape.head_dim).map_err(as_corrupt)?;
        let gear = config.storage == Storage::Gear;
        let mut tensor = Self::new(shape.batch, shape.heads, shape.head_dim, role, config).map_err(as_corrupt)?;
        let most_sinks = if gear { tensor.config().sinks as usize } else { 0 };
        let most_buffered = if gear { tensor.config().buffer_tokens as usize - 1 } else { shape.tokens };
        let counts_fit = sink_tokens <= most_sinks
            && buffer_tokens <= most_buffered
            && (gear || segments.is_empty())
            && (sink_tokens == most_sinks || (segments.is_empty() && (buffer_tokens == 0 || !gear)));
        let visible = segments.iter().try_fold(sink_tokens, |n, s| n.checked_add(s.visible));
        if !counts_fit || visible.and_then(|n| n.checked_add(buffer_tokens)) != Some(shape.tokens) {
            return Err(GearError::corrupt("damaged tensor: its parts do not add up to its tokens"));
        }
        load_raw(tensor.raw_mut().0, &sinks, sink_tokens, "sinks")?;
        load_raw(tensor.raw_mut().1, &buffer, buffer_tokens, "buffer")?;
        for segment in segments {
            let view = load_segment(&tensor, &segment)?;
            tensor.push_segment(view);
        }
        Ok(tensor)
    }
}

fn segment_image(segment: &Segment) -> SegmentImage<'_> {
    SegmentImage {
        tokens: segment.tokens(),
        hidden: 0,
        visible: segment.tokens(),
        rank: segment.layout.rank,
        codes: segment.row_codes(),
        scales: Cow::Owned([segment.scales.bytes(), segment.means.bytes(), segment.widths.bytes()].concat()),
        factors: Cow::Owned([segment.ranks.bytes(), &segment.factors.bytes()].concat()),
        outlier_indices: Cow::Borrowed(&segment.outlier_indices),
        outlier_values: f16_bytes(&segment.outlier_values),
    }
}

/// The same of some batch items, as if they had been compressed alone.
fn with_items<'a>(image: SegmentImage<'a>, segment: &Segment, items: &[u32]) -> SegmentImage<'a> {
    let layout = &segment.layout;
    let mut codes = Vec::new();
    items.iter().for_each(|&item| codes.extend_from_slice(&image.codes[segment.item_codes(item as usize)]));
    // Of each of these arrays, one after the other, every item has as many bytes as another.
    let pick = |bytes: &[u8], arrays: &[usize]| {
        let (mut all, mut rest) = (Vec::new(), bytes);
        for &length in arrays {
            let array;
            (array, rest) = rest.split_at(length);
            all.extend_from_slice(&picked(array, layout.batch, length / layout.batch, items));
        }
        Cow::Owned(all)
    };
    SegmentImage {
        codes: Cow::Owned(codes),
        scales: pick(&image.scales, &scale_arrays(layout)),
        factors: pick(&image.factors, &factor_arrays(layout)),
        outlier_indices: pick(&image.outlier_indices, &[image.outlier_indices.len()]),
        outlier_values: pick(&image.outlier_values, &[image.outlier_values.len()]),
        ..image
    }
}

fn load_raw(raw: &mut RawTokens, bytes: &[u8], tokens: usize, what: &str) -> Result<()> {
    if raw.load(bytes, tokens) {
        Ok(())
    } else {
        Err(GearError::corrupt(format!("damaged tensor: its {what} are not {tokens} tokens of finite numbers")))
    }
}

/// Bytes of widths, where codes have widths of their own.
fn width_bytes(layout: &SegmentLayout) -> usize {
    match (layout.mean_bits != 0.0, layout.rotated) {
        (false, _) => 0,
        (true, false) => layout.planes() * layout.dim,
        (true, true) => layout.planes() * layout.tokens.div_ceil(4),
    }
}

/// Bytes of super-scales, scales, zeros, steps of means, means and widths.
fn scale_arrays(layout: &SegmentLayout) -> [usize; 6] {
    let (small, planes) = (layout.scales.small, layout.planes());
    let number = if small { 1 } else { 2 };
    let mean = if layout.rotated { number * planes * layout.dim } else { 0 };
    [
        if small { 2 * layout.scale_sets() } else { 0 },
        number * layout.scale_count(),
        number * layout.zero_count(),
        if small && layout.rotated { 2 * planes } else { 0 },
        mean,
        width_bytes(layout),
    ]
}

/// Bytes of ranks by need, A, B, and the scales of A and of B.
fn factor_arrays(layout: &SegmentLayout) -> [usize; 5] {
    let factors = layout.factors();
    let number = if factors.bits == 16 { 2 } else { 1 };
    let scales = if factors.bits == 16 { 0 } else { 2 * factors.rows };
    let ranks = if layout.rank_by_need { layout.planes() } else { 0 };
    [ranks, factors.rows * factors.row_bytes(), number * factors.rows * factors.dim, scales * factors.groups(), scales]
}

/// Scales and zeros, then means and widths where there are any.
fn load_scales(layout: &SegmentLayout, bytes: &[u8]) -> Option<(Scales, Means, Widths)> {
    let &SegmentLayout { tokens, mean_bits, .. } = layout;
    let (bytes, widths) = bytes.split_at_checked(bytes.len().checked_sub(width_bytes(layout))?)?;
    let widths = match (mean_bits != 0.0, layout.rotated) {
        (false, _) => Widths::Even,
        (true, false) => Widths::Channels(Arc::new(ChannelWidths::from_bytes(layout.planes(), layout.dim, widths)?)),
        (true, true) => {
            Widths::Tokens(Arc::new(TokenWidths::from_bytes(layout.planes(), tokens, layout.dim, mean_bits, widths)?))
        }
    };
    let (small, planes, dim) = (layout.scales.small, layout.planes(), layout.dim);
    let [_, _, _, mean_steps, means, _] = scale_arrays(layout);
    let (scales, means) = bytes.split_at_checked(bytes.len().checked_sub(mean_steps + means)?)?;
    let means = if layout.rotated { Means::from_bytes(small, planes, dim, means)? } else { Means::none() };
    let (sets, count, zero_count) = (layout.scale_sets(), layout.scale_count(), layout.zero_count());
    Some((Scales::from_bytes(small, sets, count, zero_count, scales)?, means, widths))
}

/// Ranks by need, where heads have them, and factors.
fn load_factors(layout: &SegmentLayout, bytes: &[u8]) -> Option<(Ranks, Factors)> {
    let [ranks, ..] = factor_arrays(layout);
    let (ranks, factors) = bytes.split_at_checked(ranks)?;
    let ranks = if layout.rank_by_need {
        Ranks::from_bytes(ranks, layout.heads, layout.rank, layout.most_rank())?
    } else {
        Ranks::Even(layout.rank)
    };
    Some((ranks, Factors::from_bytes(&layout.factors(), factors)?))
}

fn load_segment(tensor: &GearTensor, image: &SegmentImage<'_>) -> Result<SegmentView> {
    let KvShape { batch, heads, head_dim, .. } = tensor.shape();
    let SegmentImage { tokens, hidden, visible, rank, .. } = *image;
    let there = tokens.checked_sub(hidden).is_some_and(|behind| (1..=behind).contains(&visible));
    if tokens > MAX_SEGMENT_TOKENS || !there {
        return Err(GearError::corrupt(format!(
            "damaged segment: {visible} of {tokens} tokens visible behind {hidden} hidden ones"
        )));
    }
    // A segment of one token less than this shape was checked for can still be too large; codes are the smallest part.
    let fits = batch.checked_mul(heads).and_then(|n| n.checked_mul(head_dim)).and_then(|n| n.checked_mul(tokens));
    if fits.and_then(|n| n.checked_mul(8)).is_none_or(|n| n > isize::MAX as usize) {
        return Err(GearError::corrupt("damaged segment: larger than this machine can address"));
    }
    let layout = SegmentLayout::new(tensor.config(), tensor.role(), batch, heads, tokens, head_dim, rank);
    let wrong = |what: &str| GearError::corrupt(format!("damaged segment: its {what} do not fit its shape"));
    if layout.rank != rank {
        return Err(wrong("ranks"));
    }
    let (scales, means, widths) = load_scales(&layout, &image.scales).ok_or_else(|| wrong("scales"))?;
    if image.codes.len() != widths.code_bytes(tokens, layout.code_bytes()) {
        return Err(wrong("codes"));
    }
    let (ranks, factors) = load_factors(&layout, &image.factors).ok_or_else(|| wrong("factors"))?;
    let values = finite_f16(&image.outlier_values, layout.outliers()).ok_or_else(|| wrong("outlier values"))?;
    let width = layout.index_width();
    if image.outlier_indices.len() != layout.outliers() * width.bytes() {
        return Err(wrong("outlier indices"));
    }
    for line in 0..layout.batch * layout.lines_per_item() {
        let mut least = 0;
        for i in line * layout.per_line()..(line + 1) * layout.per_line() {
            let index = width.get(&image.outlier_indices, i);
            if index < least || index >= layout.line_length() {
                return Err(wrong("outlier indices"));
            }
            least = index + 1;
        }
    }
    let segment = Segment::new(SegmentParts {
        codes: segment::held(&layout, &widths, image.codes.as_ref(), tensor.config().threads),
        layout,
        widths: tensor.shared_widths(widths),
        scales,
        means,
        ranks,
        factors,
        outlier_indices: image.outlier_indices.as_ref().into(),
        outlier_values: values.into(),
    });
    Ok(SegmentView::new(segment).part(hidden, visible))
}
