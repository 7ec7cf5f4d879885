//! Tokens in, [`Segment`] out: outliers are set aside, then codes, then the low-rank of what is left.

use std::sync::Arc;

use half::f16;

use crate::backbone::rotated::Means;
use crate::backbone::{self, Grouping, Scales};
use crate::config::GearConfig;
use crate::error::{Cancel, Result, check};
use crate::factors::Factors;
use crate::lowrank;
use crate::need::Need;
use crate::outliers::{self, Outliers};
use crate::parallel;
use crate::ranks::Ranks;
use crate::shape::{Role, blocks};
use crate::simd::TILE;
use crate::spread::{ChannelWidths, Widths};

use super::head::{HeadPlan, QuantizedHead};
use super::source::Source;
use super::tiles::HeadCodes;
use super::widths::ItemWidths;
use super::{Segment, SegmentLayout, SegmentParts};

/// Where a segment's values come from: the input, or the buffer.
pub(crate) trait Rows: Sync {
    /// Fills `out` (`[tokens, head_dim]`) with the segment's rows of plane `batch · heads + head` from token `first` on. All values are finite.
    fn load(&self, plane: usize, first: usize, out: &mut [f32]);
}

/// What is known beside the values.
#[derive(Clone, Copy, Default)]
pub(crate) struct Guidance<'a> {
    /// What attention needs of these tokens.
    pub need: Option<Need<'a>>,
    /// Widths to have, where they fit: those of the segment before.
    pub widths: Option<&'a Widths>,
}

impl<'a> Guidance<'a> {
    /// Widths of the segment before, where this one is to have them.
    fn inherited(&self, layout: &SegmentLayout) -> Option<&'a Arc<ChannelWidths>> {
        match self.widths {
            Some(Widths::Channels(widths)) if layout.mean_bits != 0.0 && !layout.rotated => Some(widths),
            _ => None,
        }
    }
}

/// What all heads of a batch item have in common, found before any of them is quantized.
struct Item {
    widths: ItemWidths,
    shared_scales: Option<Scales>,
    /// K: one set a head. V: one set.
    outliers: Vec<Outliers>,
    /// Of each head: `token · dim + channel`, in the order in which they are stored.
    positions: Vec<Vec<u32>>,
}

/// Compresses `layout.tokens` tokens.
pub(crate) fn encode(
    rows: &dyn Rows,
    layout: SegmentLayout,
    config: &GearConfig,
    guidance: Guidance,
    cancel: Cancel,
) -> Result<Segment> {
    let &SegmentLayout { batch, heads, tokens, dim, .. } = &layout;
    let inherited = guidance.inherited(&layout);
    let items = (0..batch).map(|item| survey(rows, item, &layout, config, guidance, cancel));
    let mut items = items.collect::<Result<Vec<Item>>>()?;
    let widths = match inherited {
        Some(inherited) => Widths::Channels(Arc::clone(inherited)),
        None => {
            let dealt = items.iter_mut().map(|item| std::mem::replace(&mut item.widths, ItemWidths::Even));
            ItemWidths::join(dealt.collect(), &layout)
        }
    };

    let starts = lowrank::starts(heads, dim, layout.most_rank(), config.seed);
    let start_length = layout.most_rank() * dim;
    let plan = |plane: usize| HeadPlan {
        plane,
        positions: &items[plane / heads].positions[plane % heads],
        widths: &widths,
        shared: items[plane / heads].shared_scales.as_ref(),
        start: &starts[plane % heads * start_length..(plane % heads + 1) * start_length],
        moments: guidance.need.map(|need| need.moments(plane)),
    };
    let mut codes = vec![0; widths.code_bytes(tokens, layout.code_bytes())].into_boxed_slice();
    let mut parts = codes_of_heads(&mut codes, &layout, &widths);
    let quantized = parallel::map_mut(&mut parts, config.threads, |plane, codes| {
        plan(plane).quantize(rows, &layout, config, codes, cancel)
    });
    let mut quantized = quantized.into_iter().collect::<Result<Vec<QuantizedHead>>>()?;
    let mut ranks = Vec::new();
    if layout.rank_by_need {
        for item in quantized.chunks_mut(heads) {
            let gains: Vec<Vec<f32>> = item.iter_mut().map(|head| std::mem::take(&mut head.gains)).collect();
            ranks.extend(Ranks::deal(&gains, layout.rank));
        }
    }
    let finished = parallel::map_mut(&mut quantized, config.threads, |plane, head| {
        let rank = ranks.get(plane).map_or(layout.rank, |&rank| usize::from(rank));
        head.finish(plan(plane).positions, &layout, rank)
    });
    let finished = finished.into_iter().collect::<Result<Vec<(Factors, Vec<f16>)>>>()?;

    let mut outlier_indices = Vec::with_capacity(layout.outliers() * layout.index_width().bytes());
    let mut outlier_values = Vec::with_capacity(layout.outliers());
    for (item, finished) in items.iter().zip(finished.chunks(heads)) {
        for &index in item.outliers.iter().flat_map(|lines| &lines.indices) {
            layout.index_width().push(index, &mut outlier_indices);
        }
        push_outlier_values(&layout, item, finished, &mut outlier_values);
    }
    let scale_sets = items.iter().zip(quantized.chunks(heads)).flat_map(|(item, heads)| match &item.shared_scales {
        Some(shared) => vec![shared],
        None => heads.iter().map(|head| &head.scales).collect(),
    });
    let means = quantized.iter().map(|head| &head.means);
    Ok(Segment::new(SegmentParts {
        layout,
        scales: Scales::concat(scale_sets, layout.scales.small),
        means: if layout.rotated { Means::concat(means, layout.scales.small) } else { Means::none() },
        ranks: if layout.rank_by_need { Ranks::ByNeed(ranks.into()) } else { Ranks::Even(layout.rank) },
        factors: Factors::concat(finished.iter().map(|(factors, _)| factors), layout.factor_bits.into()),
        outlier_indices: outlier_indices.into(),
        outlier_values: outlier_values.into(),
        widths,
        codes,
    }))
}

/// Outliers, scales that heads share and widths: what it takes all heads of an item to find.
fn survey(
    rows: &dyn Rows,
    item: usize,
    layout: &SegmentLayout,
    config: &GearConfig,
    guidance: Guidance,
    cancel: Cancel,
) -> Result<Item> {
    let &SegmentLayout { heads, tokens, dim, .. } = layout;
    let per_side = layout.per_line() / 2;
    let mut outliers = Vec::new();
    if per_side > 0 {
        outliers = match layout.role {
            Role::Key => parallel::map(heads, config.threads, |h| {
                let mut source = Source::new(rows, item * heads + h, tokens, dim, true);
                outliers::of_columns(source.all(), dim, per_side)
            }),
            Role::Value => {
                let mut found = Outliers::with_room(2 * per_side, tokens);
                let mut block = Vec::new();
                for (first, count) in blocks(tokens, TILE) {
                    block.resize(heads * count * dim, 0.0);
                    load_all_heads(rows, item * heads, first, count * dim, &mut block);
                    outliers::of_tokens(&block, count, dim, &mut found);
                }
                vec![found]
            }
        };
        check(cancel)?;
    }
    let positions: Vec<Vec<u32>> = (0..heads).map(|h| positions_of_head(&outliers, h, layout)).collect();
    let shared_scales = (layout.grouping == Grouping::TokenAllHeads).then(|| {
        backbone::item_scales((heads, tokens, dim), layout.scales, |first, count, block| {
            load_all_heads(rows, item * heads, first, count * dim, block);
            for (positions, rows) in positions.iter().zip(block.chunks_exact_mut(count * dim)) {
                for p in positions.iter().map(|&p| p as usize).filter(|p| (first..first + count).contains(&(p / dim))) {
                    rows[p - first * dim] = f32::NAN;
                }
            }
        })
    });
    let mut widths = ItemWidths::Even;
    if guidance.inherited(layout).is_none() && layout.mean_bits != 0.0 {
        let weights = parallel::map(heads, config.threads, |h| {
            let mut source = Source::new(rows, item * heads + h, tokens, dim, !positions[h].is_empty());
            source.leave_out(&positions[h]);
            ItemWidths::weights(&mut source, item * heads + h, layout, guidance.need)
        })
        .concat();
        check(cancel)?;
        widths = ItemWidths::deal(&weights, layout, guidance.need.is_none());
    }
    Ok(Item { widths, shared_scales, outliers, positions })
}

/// A block of all heads of an item, `[heads, length]`.
fn load_all_heads(rows: &dyn Rows, first_plane: usize, first: usize, length: usize, block: &mut [f32]) {
    for (h, out) in block.chunks_exact_mut(length).enumerate() {
        rows.load(first_plane + h, first, out);
    }
}

/// Where the codes of each head lie.
fn codes_of_heads<'a>(codes: &'a mut [u8], layout: &SegmentLayout, widths: &Widths) -> Vec<&'a mut [u8]> {
    let mut left = codes;
    let split = |plane| {
        let bytes = HeadCodes::of(layout, widths, plane).bytes(layout.dim, layout.tokens);
        let (own, rest) = std::mem::take(&mut left).split_at_mut(bytes);
        left = rest;
        own
    };
    (0..layout.planes()).map(split).collect()
}

/// Positions `token · dim + channel` of head `h`'s outliers, in the order in which they are stored.
fn positions_of_head(found: &[Outliers], h: usize, layout: &SegmentLayout) -> Vec<u32> {
    let dim = layout.dim as u32;
    match (layout.role, found) {
        (_, []) => Vec::new(),
        (Role::Key, _) => {
            let set = &found[h];
            let lines = set.indices.chunks_exact(set.per_line.max(1)).enumerate();
            lines.flat_map(|(d, line)| line.iter().map(move |&t| t * dim + d as u32)).collect()
        }
        (Role::Value, _) => {
            let set = &found[0];
            let own = h as u32 * dim..(h as u32 + 1) * dim;
            let lines = set.indices.chunks_exact(set.per_line.max(1)).enumerate();
            lines
                .flat_map(|(t, line)| line.iter().map(move |&i| (t as u32, i)))
                .filter(|(_, i)| own.contains(i))
                .map(|(t, i)| t * dim + (i - own.start))
                .collect()
        }
    }
}

fn push_outlier_values(layout: &SegmentLayout, item: &Item, heads: &[(Factors, Vec<f16>)], out: &mut Vec<f16>) {
    match (layout.role, &item.outliers[..]) {
        (Role::Key, _) => heads.iter().for_each(|(_, values)| out.extend_from_slice(values)),
        (Role::Value, []) => {}
        (Role::Value, [outliers, ..]) => {
            // Each head has its values in token order; a token's line goes through the heads in order.
            let mut next = vec![0; layout.heads];
            for &index in &outliers.indices {
                let h = index as usize / layout.dim;
                out.push(heads[h].1[next[h]]);
                next[h] += 1;
            }
        }
    }
}
