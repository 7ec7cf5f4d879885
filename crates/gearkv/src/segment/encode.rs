//! Tokens in, [`Segment`] out: outliers are set aside, then codes, then the low-rank of what is left.

use half::f16;

use crate::backbone::{self, HeadScales};
use crate::config::GearConfig;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::lowrank;
use crate::outliers::{self, Outliers};
use crate::parallel;
use crate::shape::Role;
use crate::simd;

use super::{Segment, SegmentLayout};

/// Where a segment's values come from: the input, or the buffer.
pub(crate) trait Rows: Sync {
    /// Fills `out` (`[tokens, head_dim]`) with the segment's rows of plane `batch · heads + head`. All values are finite.
    fn load(&self, plane: usize, out: &mut [f32]);
}

struct EncodedHead {
    codes: Vec<u8>,
    scales: HeadScales,
    factor_a: Vec<f16>,
    factor_b: Vec<f16>,
    /// What codes and low-rank leave of each outlier, in the order of the head's positions.
    outlier_values: Vec<f16>,
}

/// Compresses `layout.tokens` tokens.
pub(crate) fn encode(rows: &dyn Rows, layout: SegmentLayout, config: &GearConfig, cancel: Cancel) -> Result<Segment> {
    let mut codes = Vec::with_capacity(layout.code_bytes());
    let (mut scales, mut zeros) = (Vec::with_capacity(layout.scales()), Vec::with_capacity(layout.scales()));
    let mut factor_a = Vec::with_capacity(layout.factor_a());
    let mut factor_b = Vec::with_capacity(layout.factor_b());
    let mut outlier_indices = Vec::with_capacity(layout.outliers() * layout.index_width().bytes());
    let mut outlier_values = Vec::with_capacity(layout.outliers());
    let starts = lowrank::starts(layout.heads, layout.dim, layout.rank, config.seed);
    for item in 0..layout.batch {
        let encoded = encode_item(rows, item, &starts, &layout, config, cancel)?;
        for head in &encoded.heads {
            codes.extend_from_slice(&head.codes);
            factor_a.extend_from_slice(&head.factor_a);
            factor_b.extend_from_slice(&head.factor_b);
        }
        let scale_sets = encoded.shared_scales.iter().chain(encoded.heads.iter().map(|head| &head.scales));
        for set in scale_sets {
            scales.extend_from_slice(&set.scales);
            zeros.extend_from_slice(&set.zeros);
        }
        for &index in encoded.outliers.iter().flat_map(|lines| &lines.indices) {
            layout.index_width().push(index, &mut outlier_indices);
        }
        push_outlier_values(&layout, &encoded, &mut outlier_values);
    }
    Ok(Segment {
        layout,
        codes: codes.into(),
        scales: scales.into(),
        zeros: zeros.into(),
        factor_a: factor_a.into(),
        factor_b: factor_b.into(),
        outlier_indices: outlier_indices.into(),
        outlier_values: outlier_values.into(),
    })
}

struct EncodedItem {
    heads: Vec<EncodedHead>,
    shared_scales: Option<HeadScales>,
    /// K: one set a head. V: one set.
    outliers: Vec<Outliers>,
}

fn encode_item(
    rows: &dyn Rows,
    item: usize,
    starts: &[f32],
    layout: &SegmentLayout,
    config: &GearConfig,
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
    let shared_scales = backbone::item_scales(layout.grouping, &planes, tokens, dim, layout.bits);

    let encoded = parallel::map_mut(&mut planes, threads, |h, x| {
        let start = &starts[h * layout.rank * dim..(h + 1) * layout.rank * dim];
        let set_aside = SetAside { positions: &positions[h], values: &kept[h] };
        encode_head(x, set_aside, shared_scales.as_ref(), start, layout, config, cancel)
    });
    Ok(EncodedItem { heads: encoded.into_iter().collect::<Result<_>>()?, shared_scales, outliers: found })
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

fn encode_head(
    x: &mut [f32],
    set_aside: SetAside,
    shared: Option<&HeadScales>,
    start: &[f32],
    layout: &SegmentLayout,
    config: &GearConfig,
    cancel: Cancel,
) -> Result<EncodedHead> {
    check(cancel)?;
    let &SegmentLayout { tokens, dim, bits, grouping, rank, .. } = layout;
    let SetAside { positions, values } = set_aside;
    let own = backbone::head_scales(grouping, x, dim, bits);
    let scales = shared.unwrap_or(&own);
    for (&p, &value) in positions.iter().zip(values) {
        x[p as usize] = value;
    }
    let mut codes = vec![0; layout.head_code_bytes()];
    let residual = rank > 0 || !positions.is_empty();
    backbone::quantize_head(grouping, scales, x, dim, bits, residual, &mut codes);
    check(cancel)?;

    let mut left: Vec<f32> = positions.iter().map(|&p| std::mem::replace(&mut x[p as usize], 0.0)).collect();
    let (mut factor_a, mut factor_b) = (vec![f16::ZERO; rank * tokens], vec![f16::ZERO; rank * dim]);
    if rank > 0 {
        let factors = lowrank::power_iteration(x, dim, start, config.power_iterations as usize);
        simd::narrow(&factors.a, &mut factor_a);
        simd::narrow(&factors.b, &mut factor_b);
        for (left, &p) in left.iter_mut().zip(positions) {
            let (t, d) = (p as usize / dim, p as usize % dim);
            for r in 0..rank {
                *left -= factors.a[r * tokens + t] * factors.b[r * dim + d];
            }
        }
    }
    if let Some(at) = left.iter().position(|x| x.abs() > f32::from(f16::MAX)) {
        return Err(GearError::new(
            ErrorCode::OutOfRange,
            format!(
                "an outlier near {} cannot be held: the values beside it span more than float16 does; use preset \"float32\"",
                values[at]
            ),
        ));
    }
    let mut outlier_values = vec![f16::ZERO; left.len()];
    simd::narrow(&left, &mut outlier_values);
    Ok(EncodedHead { codes, scales: own, factor_a, factor_b, outlier_values })
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
