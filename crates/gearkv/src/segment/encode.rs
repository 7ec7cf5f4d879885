//! Tokens in, [`Segment`] out: outliers are set aside, then codes, then the low-rank of what is left.

use std::sync::Arc;

use half::f16;

use crate::backbone::banded::Head as Banded;
use crate::backbone::coupling::{Metric, coupling};
use crate::backbone::rotated::{self, Means};
use crate::backbone::{self, CodeRows, ScaleRoom, Scales};
use crate::config::GearConfig;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::factors::{FactorLayout, Factors};
use crate::lowrank::{self, Pair};
use crate::need::Need;
use crate::outliers::{self, Outliers};
use crate::parallel;
use crate::ranks::Ranks;
use crate::shape::Role;
use crate::simd;
use crate::spread::{ChannelWidths, RowWidths, Widths};

use super::widths::ItemWidths;
use super::{Segment, SegmentLayout, SegmentParts};

/// Where a segment's values come from: the input, or the buffer.
pub(crate) trait Rows: Sync {
    /// Fills `out` (`[tokens, head_dim]`) with the segment's rows of plane `batch · heads + head`. All values are finite.
    fn load(&self, plane: usize, out: &mut [f32]);
}

struct EncodedHead {
    codes: Vec<u8>,
    scales: Scales,
    means: Means,
    factors: Factors,
    /// What codes and low-rank leave of each outlier, in the order of the head's positions.
    outlier_values: Vec<f16>,
}

/// What is known beside the values.
#[derive(Clone, Copy, Default)]
pub(crate) struct Guidance<'a> {
    /// What attention needs of these tokens.
    pub need: Option<Need<'a>>,
    /// Widths to have, where they fit: those of the segment before.
    pub widths: Option<&'a Widths>,
}

/// Compresses `layout.tokens` tokens.
pub(crate) fn encode(
    rows: &dyn Rows,
    layout: SegmentLayout,
    config: &GearConfig,
    guidance: Guidance,
    cancel: Cancel,
) -> Result<Segment> {
    let mut codes = Vec::new();
    let mut outlier_indices = Vec::with_capacity(layout.outliers() * layout.index_width().bytes());
    let mut outlier_values = Vec::with_capacity(layout.outliers());
    let starts = lowrank::starts(layout.heads, layout.dim, layout.most_rank(), config.seed);
    let mut items = Vec::with_capacity(layout.batch);
    let mut widths = Vec::with_capacity(layout.batch);
    for item in 0..layout.batch {
        let mut encoded = encode_item(rows, item, &starts, &layout, config, guidance, cancel)?;
        widths.push(std::mem::replace(&mut encoded.widths, ItemWidths::Even));
        encoded.heads.iter().for_each(|head| codes.extend_from_slice(&head.codes));
        for &index in encoded.outliers.iter().flat_map(|lines| &lines.indices) {
            layout.index_width().push(index, &mut outlier_indices);
        }
        push_outlier_values(&layout, &encoded, &mut outlier_values);
        items.push(encoded);
    }
    let scale_sets = items.iter().flat_map(|item| match &item.shared_scales {
        Some(shared) => vec![shared],
        None => item.heads.iter().map(|head| &head.scales).collect(),
    });
    let heads = items.iter().flat_map(|item| &item.heads);
    let (means, factors) = (heads.clone().map(|head| &head.means), heads.map(|head| &head.factors));
    Ok(Segment::new(SegmentParts {
        layout,
        row_codes: &codes,
        widths: match guidance.inherited(&layout) {
            Some(inherited) => Widths::Channels(Arc::clone(inherited)),
            None => ItemWidths::join(widths, &layout),
        },
        scales: Scales::concat(scale_sets, layout.scales.small),
        means: if layout.rotated { Means::concat(means, layout.scales.small) } else { Means::none() },
        ranks: match layout.rank_by_need {
            true => Ranks::ByNeed(items.iter().flat_map(|item| &item.ranks).copied().collect()),
            false => Ranks::Even(layout.rank),
        },
        factors: Factors::concat(factors, layout.factor_bits),
        outlier_indices: outlier_indices.into(),
        outlier_values: outlier_values.into(),
    }))
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

struct EncodedItem {
    widths: ItemWidths,
    /// Of its heads, where they have them by need.
    ranks: Vec<u8>,
    heads: Vec<EncodedHead>,
    shared_scales: Option<Scales>,
    /// K: one set a head. V: one set.
    outliers: Vec<Outliers>,
}

fn encode_item(
    rows: &dyn Rows,
    item: usize,
    starts: &[f32],
    layout: &SegmentLayout,
    config: &GearConfig,
    guidance: Guidance,
    cancel: Cancel,
) -> Result<EncodedItem> {
    let &SegmentLayout { heads, tokens, dim, .. } = layout;
    let threads = config.threads;
    let mut planes = parallel::map(heads, threads, |h| {
        let mut x = vec![0.0; tokens * dim];
        rows.load(item * heads + h, &mut x);
        x
    });
    check(cancel)?;

    let per_side = layout.per_line / 2;
    let found: Vec<Outliers> = match layout.role {
        Role::Key => parallel::map(heads, threads, |h| outliers::of_columns(&planes[h], dim, per_side)),
        Role::Value => vec![outliers::of_tokens(&planes, dim, tokens, per_side)],
    };
    check(cancel)?;

    let positions: Vec<Vec<u32>> = (0..heads).map(|h| positions_of_head(&found, h, layout)).collect();
    let kept: Vec<Vec<f32>> =
        planes.iter_mut().zip(&positions).map(|(x, p)| backbone::exclude_from_range(x, p)).collect();
    let shared_scales = backbone::item_scales(layout.grouping, &planes, tokens, dim, layout.scales);

    let inherited = guidance.inherited(layout);
    let widths = match inherited {
        Some(_) => ItemWidths::Even,
        None => ItemWidths::deal(&planes, item, layout, guidance.need),
    };
    let start_length = layout.most_rank() * dim;
    let quantized = parallel::map_mut(&mut planes, threads, |h, x| {
        let head = HeadPlan {
            set_aside: SetAside { positions: &positions[h], values: &kept[h] },
            start: &starts[h * start_length..(h + 1) * start_length],
            shared: shared_scales.as_ref(),
            codes: match (&widths, inherited) {
                (_, Some(widths)) => Codes::Banded(widths, item * heads + h),
                (ItemWidths::Channels(widths), None) => Codes::Banded(widths, h),
                (ItemWidths::Tokens(widths), None) => Codes::Rows(widths.rows(h)),
                (ItemWidths::Even, None) => Codes::Rows(RowWidths::Even(layout.scales.bits)),
            },
            moments: guidance.need.map(|need| need.moments(item * heads + h)),
        };
        quantize_head(x, &head, layout, config, cancel)
    });
    let mut quantized: Vec<QuantizedHead> = quantized.into_iter().collect::<Result<_>>()?;
    let mut ranks = Vec::new();
    if layout.rank_by_need {
        let gains: Vec<Vec<f32>> = quantized.iter_mut().map(|head| std::mem::take(&mut head.gains)).collect();
        ranks = Ranks::deal(&gains, layout.rank);
    }
    let finished = parallel::map_mut(&mut quantized, threads, |h, head| {
        let rank = ranks.get(h).map_or(layout.rank, |&rank| usize::from(rank));
        head.finish(SetAside { positions: &positions[h], values: &kept[h] }, layout, rank)
    });
    let heads = quantized.into_iter().zip(finished).map(|(QuantizedHead { codes, scales, means, .. }, finished)| {
        finished.map(|(factors, outlier_values)| EncodedHead { codes, scales, means, factors, outlier_values })
    });
    let heads = heads.collect::<Result<_>>()?;
    Ok(EncodedItem { widths, ranks, heads, shared_scales, outliers: found })
}

/// Positions `token · dim + channel` of head `h`'s outliers, in the order in which they are stored.
fn positions_of_head(found: &[Outliers], h: usize, layout: &SegmentLayout) -> Vec<u32> {
    let dim = layout.dim as u32;
    match layout.role {
        Role::Key => {
            let set = &found[h];
            let lines = set.indices.chunks_exact(set.per_line.max(1)).enumerate();
            lines.flat_map(|(d, line)| line.iter().map(move |&t| t * dim + d as u32)).collect()
        }
        Role::Value => {
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

/// The outliers of one head: positions `token · dim + channel`, and what stood there.
#[derive(Clone, Copy)]
struct SetAside<'a> {
    positions: &'a [u32],
    values: &'a [f32],
}

/// Puts the outliers back where they stood.
fn restore(x: &mut [f32], set_aside: SetAside) {
    for (&p, &value) in set_aside.positions.iter().zip(set_aside.values) {
        x[p as usize] = value;
    }
}

/// How the codes of a head lie.
#[derive(Clone, Copy)]
enum Codes<'a> {
    /// Row by row.
    Rows(RowWidths<'a>),
    /// Band by band, by the widths of this plane of them.
    Banded(&'a ChannelWidths, usize),
}

/// All that is known about a head beside its values.
struct HeadPlan<'a> {
    set_aside: SetAside<'a>,
    /// Where power iteration starts.
    start: &'a [f32],
    /// Scales that all heads share.
    shared: Option<&'a Scales>,
    codes: Codes<'a>,
    /// `E[q qᵀ]`
    moments: Option<&'a [f32]>,
}

impl HeadPlan<'_> {
    /// Codes, scales and means. `x` becomes what they leave, where that is asked for; until then NaN stands where values are left
    /// out.
    fn quantize(&self, x: &mut [f32], layout: &SegmentLayout, residual: bool) -> (Vec<u8>, Scales, Means) {
        let &SegmentLayout { tokens, dim, grouping, .. } = layout;
        match self.codes {
            Codes::Banded(widths, plane) => {
                let head = Banded { widths, plane, group: layout.group_tokens(), dim };
                let scales = head.scales(x, layout.scales);
                restore(x, self.set_aside);
                // An outlier is no error that others could make good.
                let moments = self.moments.filter(|_| self.set_aside.positions.is_empty());
                let coupling = moments.and_then(|moments| coupling(moments, widths.order(plane)));
                let bytes = tokens * (widths.row_bytes_before(plane + 1) - widths.row_bytes_before(plane));
                let mut codes = vec![0; bytes];
                head.quantize(&scales, x, coupling.as_deref(), residual, &mut codes);
                (codes, scales, Means::none())
            }
            Codes::Rows(widths) if layout.rotated => {
                let bytes = (0..tokens).map(|t| simd::row_bytes(dim, widths.of(t))).sum();
                let mut codes = vec![0; bytes];
                let (scales, means) = rotated::encode_head(grouping, x, dim, layout.scales, widths, &mut codes);
                restore(x, self.set_aside);
                if residual {
                    let mut backbone = vec![0.0; x.len()];
                    let mut mean = vec![0.0; dim];
                    let view = scales.view(layout.scales.bits, 0, 0..scales.len());
                    let rows = CodeRows { grouping, scales: view, first: 0, dim };
                    rotated::turned_rows(rows, &codes, widths, &mut backbone, &mut ScaleRoom::default());
                    means.load(0, &mut mean);
                    rotated::turn_back(&mut backbone, &mean);
                    x.iter_mut().zip(&backbone).for_each(|(x, backbone)| *x -= backbone);
                }
                (codes, scales, means)
            }
            Codes::Rows(_) => {
                let bits = layout.scales.bits;
                let mut codes = vec![0; layout.head_code_bytes()];
                let own = backbone::head_scales(grouping, x, dim, layout.scales);
                let scales = self.shared.unwrap_or(&own);
                restore(x, self.set_aside);
                let view = scales.view(bits, 0, 0..scales.len());
                backbone::quantize_head(grouping, view, x, dim, bits, residual, &mut codes);
                (codes, own, Means::none())
            }
        }
    }

    /// The low-rank part of what is left, as its queries see it where they are known; and what each of its ranks takes away.
    fn approximate(&self, x: &[f32], layout: &SegmentLayout, config: &GearConfig) -> (Pair, Vec<f32>) {
        let passes = config.power_iterations as usize;
        let moments = if layout.role == Role::Key { self.moments } else { None };
        match moments.and_then(|moments| Metric::new(moments, layout.dim)) {
            Some(metric) => {
                let mut pair = lowrank::power_iteration(&metric.apply(x), layout.dim, self.start, passes);
                let gains = pair.squares(layout.dim);
                metric.restore(&mut pair.b);
                (pair, gains)
            }
            None => {
                let pair = lowrank::power_iteration(x, layout.dim, self.start, passes);
                let gains = pair.squares(layout.dim);
                (pair, gains)
            }
        }
    }
}

/// A head between its codes and its factors: how many ranks it gets may depend on the other heads.
struct QuantizedHead {
    codes: Vec<u8>,
    scales: Scales,
    means: Means,
    /// As many ranks as the head can get.
    pair: Pair,
    /// What each rank takes away.
    gains: Vec<f32>,
    /// What codes leave of each outlier, in the order of the head's positions.
    left: Vec<f32>,
}

fn quantize_head(
    x: &mut [f32],
    head: &HeadPlan,
    layout: &SegmentLayout,
    config: &GearConfig,
    cancel: Cancel,
) -> Result<QuantizedHead> {
    check(cancel)?;
    let has_rank = layout.rank > 0;
    let positions = head.set_aside.positions;
    let (codes, scales, means) = head.quantize(x, layout, has_rank || !positions.is_empty());
    check(cancel)?;
    let left = positions.iter().map(|&p| std::mem::replace(&mut x[p as usize], 0.0)).collect();
    let (pair, gains) = if has_rank { head.approximate(x, layout, config) } else { Default::default() };
    Ok(QuantizedHead { codes, scales, means, pair, gains, left })
}

impl QuantizedHead {
    /// Rounds the first `rank` ranks, and the outliers to what codes and these leave of them.
    fn finish(&mut self, set_aside: SetAside, layout: &SegmentLayout, rank: usize) -> Result<(Factors, Vec<f16>)> {
        let &SegmentLayout { tokens, dim, .. } = layout;
        let Self { pair, left, .. } = self;
        pair.a.truncate(rank * tokens);
        pair.b.truncate(rank * dim);
        let factors = Factors::store(&FactorLayout { rows: rank, ..layout.factors() }, pair);
        for (left, &p) in left.iter_mut().zip(set_aside.positions) {
            let (t, d) = (p as usize / dim, p as usize % dim);
            for r in 0..rank {
                *left -= pair.a[r * tokens + t] * pair.b[r * dim + d];
            }
        }
        if let Some(at) = left.iter().position(|x| x.abs() > f32::from(f16::MAX)) {
            return Err(GearError::new(
                ErrorCode::OutOfRange,
                format!(
                    "an outlier near {} cannot be held: the values beside it span more than float16 does; use preset \"float32\"",
                    set_aside.values[at]
                ),
            ));
        }
        let mut outlier_values = vec![f16::ZERO; left.len()];
        simd::narrow(left, &mut outlier_values);
        Ok((factors, outlier_values))
    }
}

fn push_outlier_values(layout: &SegmentLayout, item: &EncodedItem, out: &mut Vec<f16>) {
    match layout.role {
        Role::Key => item.heads.iter().for_each(|head| out.extend_from_slice(&head.outlier_values)),
        Role::Value => {
            // Each head has its values in token order; a token's line goes through the heads in order.
            let mut next = vec![0; layout.heads];
            for &index in &item.outliers[0].indices {
                let h = index as usize / layout.dim;
                out.push(item.heads[h].outlier_values[next[h]]);
                next[h] += 1;
            }
        }
    }
}
