//! A layer as the device wants it: heads and records of every block of every plane (`kernels/layout.cuh`).

mod head;
mod keys;
mod outliers;
mod parts;
mod spans;
mod template;
mod values;

use gearkv::{Backbone, GearError, Result, Storage};
use rayon::prelude::*;

use crate::error::option;
use crate::pack::{raw_key_index, raw_key_width, raw_value_index, raw_value_width};
use crate::source::{Plane, Source};
use keys::KeyLayout;
use outliers::{Entries, outliers_of, push_outliers};
pub(crate) use parts::{BLOCK, HEAD_BYTES};
use parts::{
    KEY_UNIT_WORDS, LANES, MOST_KEY_GROUPS, MOST_VALUE_UNITS, NO_CHANNEL, VALUE_PAIR_WORDS, WEIGHT_BYTES, align,
    push_factor,
};
use spans::{Part, Span, spans};
pub(crate) use template::{MOST_CUTS, Template};
use values::ValueLayout;

/// Eight words, as `Block` in the kernels.
pub(crate) type Descriptor = [u32; 8];

/// Everything that is uploaded but the buffer.
pub(crate) struct Records {
    /// `[planes, blocks]`
    pub blocks: Vec<Descriptor>,
    pub data: Vec<u8>,
    /// Blocks of each plane; those whose values are codes come first.
    pub fixed: usize,
    pub coded: usize,
    /// Position of the first token that is in the buffer.
    pub buffer_first: usize,
    /// Which channel of values stands where, filled up to what a kernel reads.
    pub value_order: Vec<u16>,
    pub value_units: usize,
    pub keys_turned: bool,
    /// Whether the plain kernels suffice.
    pub plain: bool,
    /// See [`crate::parts::Parts`].
    pub tiled: bool,
    /// The largest scale of values.
    pub value_range: f32,
    pub key_stage: usize,
    pub value_stage: usize,
    pub rank: usize,
    pub key_slots: usize,
    /// B's registers of the longest record, and room for weights beside them where they need it.
    pub word_bytes: usize,
}

/// The planes' parts of one layer, before they are joined.
struct PlaneRecords {
    blocks: Vec<Descriptor>,
    data: Vec<u8>,
    /// Bytes of the longest record of values, without its outliers.
    value_bytes: usize,
    rank: usize,
    key_slots: usize,
    word_bytes: usize,
}

/// Refuses what a device does not hold.
fn check(key: &Source, value: &Source) -> Result<()> {
    let (key_shape, value_shape) = (key.image.shape, value.image.shape);
    if key_shape != value_shape {
        return Err(GearError::new(
            gearkv::ErrorCode::ShapeMismatch,
            format!("keys are {key_shape:?}, values {value_shape:?}; expected the same shape"),
        ));
    }
    if key.dim() > 256 {
        return Err(option(format!("headDim is {}; a device holds at most 256", key.dim())));
    }
    for source in [key, value] {
        if source.config().storage == Storage::Float32 {
            return Err(option("preset \"float32\" is not held on a device; use \"float16\""));
        }
    }
    let config = key.config();
    if matches!(config.backbone, Backbone::Uniform | Backbone::Rotated) {
        let groups = key.dim().div_ceil(config.group_size as usize);
        if groups > MOST_KEY_GROUPS {
            return Err(option(format!(
                "groupSize {} cuts keys into {groups} groups of channels; a device holds at most {MOST_KEY_GROUPS}",
                config.group_size
            )));
        }
    }
    Ok(())
}

/// Records of a layer.
pub(crate) fn build(key: &Source, value: &Source) -> Result<Records> {
    check(key, value)?;
    let buffer_first = key.settled().max(value.settled());
    let spans = spans(key, value, buffer_first);
    let layout = ValueLayout::of(value)?;
    let key_starts: Vec<_> = (0..key.image.segments.len()).map(|segment| key.code_starts(segment)).collect();
    let value_starts: Vec<_> = (0..value.image.segments.len()).map(|segment| value.code_starts(segment)).collect();
    let planes = key.planes();
    let read = |plane: usize| {
        let keys = key_starts.iter().enumerate().map(|(segment, starts)| key.plane(segment, plane, starts[plane]));
        let values =
            value_starts.iter().enumerate().map(|(segment, starts)| value.plane(segment, plane, starts[plane]));
        (keys.collect::<Vec<_>>(), values.collect::<Vec<_>>())
    };
    let largest = (0..planes)
        .into_par_iter()
        .map(|plane| {
            let scales = value_starts.iter().enumerate().map(|(segment, _)| value.scales_of(segment, plane).largest());
            scales.fold(0.0f32, f32::max)
        })
        .reduce(|| 0.0, f32::max);
    let parts: Vec<PlaneRecords> = (0..planes)
        .into_par_iter()
        .map(|plane| {
            let (keys, values) = read(plane);
            plane_records(key, value, plane, &keys, &values, &spans, &layout)
        })
        .collect();

    // Nothing starts at 0, so that 0 can stand for nothing.
    let mut data = vec![0; 16];
    let mut blocks = Vec::with_capacity(planes * spans.len());
    let (mut value_bytes, mut rank, mut key_slots, mut word_bytes) = (0, 0, 0, 0);
    for part in parts {
        let base = u32::try_from(data.len() / 16).map_err(|_| too_large())?;
        u32::try_from((data.len() + part.data.len()) / 16).map_err(|_| too_large())?;
        blocks.extend(part.blocks.into_iter().map(|[key, value, kb, vb, kh, vh, first, tokens]| {
            let moved = |at: u32, bytes: u32| if bytes == 0 { 0 } else { at + base };
            [key + base, value + base, kb, vb, moved(kh, kb), moved(vh, vb), first, tokens]
        }));
        data.extend_from_slice(&part.data);
        value_bytes = value_bytes.max(part.value_bytes);
        rank = rank.max(part.rank);
        key_slots = key_slots.max(part.key_slots);
        word_bytes = word_bytes.max(part.word_bytes);
    }
    let stage = |i: usize| blocks.iter().map(|block: &Descriptor| block[i] as usize).max().unwrap_or(0);
    // A line of values is as long whatever the segment's tokens.
    let usual = Entries::of(value.outliers_per_side(0), key.dim()).usual_bytes(key.image.shape.heads);
    let (key_stage, value_stage) = (stage(2), stage(3).min(value_bytes + usual));
    let mut value_order = layout.order;
    value_order.resize(64 * MOST_VALUE_UNITS, NO_CHANNEL);
    let coded = spans.iter().filter(|span| matches!(span.value, Part::Coded { .. })).count();
    Ok(Records {
        blocks,
        data,
        fixed: spans.len(),
        coded,
        buffer_first,
        value_order,
        value_units: layout.units,
        keys_turned: key.rotated(),
        plain: is_plain(key, value, &spans),
        tiled: is_tiled(key, value),
        value_range: largest,
        key_stage,
        value_stage,
        rank,
        key_slots,
        word_bytes,
    })
}

/// Whether nothing is compressed; or keys are channels with scales of 8 bits, values levels with such scales, nothing else is there, and
/// both are raw where one is.
fn is_plain(key: &Source, value: &Source, spans: &[Span]) -> bool {
    let raw = |part: Part| matches!(part, Part::Raw { .. });
    let bare = |source: &Source| {
        source.config().scale_bits == 8
            && source.config().sparsity == 0.0
            && source.image.segments.iter().all(|segment| segment.rank == 0)
    };
    let of_channels = matches!(key.config().backbone, Backbone::Kivi | Backbone::Kcvt);
    let fits = bare(key) && bare(value) && of_channels && value.rotated();
    spans.iter().all(|span| raw(span.key) == raw(span.value) && (fits || raw(span.key)))
}

/// Whether keys are not turned, and turned values have neither outliers nor low-rank.
fn is_tiled(key: &Source, value: &Source) -> bool {
    let coded = |source: &Source| source.config().storage == Storage::Gear;
    let bare = |segment: &gearkv::SegmentImage| segment.rank == 0 && value.outliers_per_side(segment.tokens) == 0;
    !(coded(key) && key.rotated()) && (!(coded(value) && value.rotated()) || value.image.segments.iter().all(bare))
}

fn too_large() -> GearError {
    option("the layer is larger than 64 GiB, which is the most that a device holds of one")
}

fn plane_records(
    key: &Source,
    value: &Source,
    plane: usize,
    keys: &[Plane],
    values: &[Plane],
    spans: &[Span],
    layout: &ValueLayout,
) -> PlaneRecords {
    let dim = key.dim();
    let mut data = Vec::new();
    let (mut longest, mut rank, mut key_slots, mut word_bytes) = (0, 0, 0, 0);
    let key_layouts: Vec<KeyLayout> = keys.iter().map(|plane| KeyLayout::of(key, plane)).collect();
    let mut key_heads = Vec::new();
    for (plane, layout) in keys.iter().zip(&key_layouts) {
        let own = plane.rank;
        key_heads.push(layout.head(key, plane).push(plane, own, !plane.outliers.is_empty(), &mut data));
        rank = rank.max(own);
        key_slots = key_slots.max(layout.order.len());
        word_bytes = word_bytes.max(layout.order.len() / 8 * KEY_UNIT_WORDS);
    }
    let mut value_heads = Vec::new();
    for plane in values {
        let own = plane.rank;
        value_heads.push(layout.head(plane).push(plane, own, !plane.outliers.is_empty(), &mut data));
        rank = rank.max(own);
    }
    let mut blocks = Vec::with_capacity(spans.len());
    for span in spans {
        let tokens = span.tokens;
        let key_at = data.len() / 16;
        let (mut key_bytes, mut key_head) = (0, 0);
        match span.key {
            Part::Raw { buffer, first } => {
                push_raw(key, plane, buffer, first, tokens, raw_key_width(dim), 16, raw_key_index, &mut data);
            }
            Part::Coded { segment, first } => {
                let (from, image) = (&keys[segment], &key.image.segments[segment]);
                key_layouts[segment].push(from, dim, first, tokens, &mut data);
                push_factor(from, image.tokens, from.rank, first, tokens, &mut data);
                if !from.outliers.is_empty() {
                    push_outliers(&outliers_of(&from.outliers, first, tokens, true), BLOCK, &mut data);
                }
                align(&mut data);
                (key_bytes, key_head) = (data.len() - key_at * 16, key_heads[segment]);
            }
        }
        let value_at = data.len() / 16;
        let (mut value_bytes, mut value_head) = (0, 0);
        match span.value {
            Part::Raw { buffer, first } => {
                push_raw(value, plane, buffer, first, tokens, raw_value_width(dim), 8, raw_value_index, &mut data);
            }
            Part::Coded { segment, first } => {
                let (from, image) = (&values[segment], &value.image.segments[segment]);
                let pairs = layout.push(from, dim, first, tokens, &mut data);
                let weights = if pairs > LANES { WEIGHT_BYTES } else { 0 };
                word_bytes = word_bytes.max(layout.units * pairs * VALUE_PAIR_WORDS + weights);
                push_factor(from, image.tokens, from.rank, first, tokens, &mut data);
                longest = longest.max(data.len() - value_at * 16);
                if !from.outliers.is_empty() {
                    push_outliers(&outliers_of(&from.outliers, first, tokens, false), dim, &mut data);
                }
                align(&mut data);
                (value_bytes, value_head) = (data.len() - value_at * 16, value_heads[segment]);
            }
        }
        // A plane's share of a layer is far below what 32 bits of 16 bytes reach; the layer as a whole is checked.
        blocks.push(
            [key_at, value_at, key_bytes, value_bytes, key_head, value_head, span.first, tokens].map(|x| x as u32),
        );
    }
    PlaneRecords { blocks, data, value_bytes: longest, rank, key_slots, word_bytes }
}

/// Tokens in float16, in whole tiles of `tile` tokens.
#[expect(clippy::too_many_arguments, reason = "keys and values differ in where things stand, and in nothing else")]
fn push_raw(
    source: &Source,
    plane: usize,
    buffer: bool,
    first: usize,
    tokens: usize,
    width: usize,
    tile: usize,
    index: fn(usize, usize, usize) -> usize,
    data: &mut Vec<u8>,
) {
    let start = data.len();
    data.resize(start + tokens.next_multiple_of(tile) * width * 2, 0);
    for t in 0..tokens {
        for (channel, half) in source.raw_row(buffer, first + t, plane).into_iter().enumerate() {
            let at = start + 2 * index(t, channel, source.dim());
            data[at..at + 2].copy_from_slice(&half.to_le_bytes());
        }
    }
    align(data);
}

/// The buffers of a layer with room for `capacity` tokens: `[planes, capacity, width]`.
pub(crate) fn buffers(key: &Source, value: &Source, buffer_first: usize, capacity: usize) -> (Vec<u16>, Vec<u16>) {
    let dim = key.dim();
    let fill = |source: &Source, width: usize, index: fn(usize, usize, usize) -> usize| {
        let mut halves = vec![0; source.planes() * capacity * width];
        let skipped = buffer_first - source.settled();
        let tokens = source.image.buffer_tokens - skipped;
        for (plane, halves) in halves.chunks_exact_mut((capacity * width).max(1)).enumerate() {
            for t in 0..tokens {
                let row = source.raw_row(true, skipped + t, plane);
                row.into_iter().enumerate().for_each(|(channel, half)| halves[index(t, channel, dim)] = half);
            }
        }
        halves
    };
    (fill(key, raw_key_width(dim), raw_key_index), fill(value, raw_value_width(dim), raw_value_index))
}
