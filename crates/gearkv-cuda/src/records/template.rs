//! What the segments that a device makes of a layer's buffer have in common: heads without scales and means, and how long each part is.

use gearkv::{Backbone, GearConfig, Range, Result, Role};

use super::keys::KeyLayout;
use super::outliers::Entries;
use super::parts::{BLOCK, KEY_UNIT_WORDS, LANES, VALUE_PAIR_WORDS, WEIGHT_BYTES};
use super::spans::segment_cuts;
use super::values::ValueLayout;
use crate::error::option;
use crate::pack::unit_bytes;
use crate::source::{FactorA, Grouping, Plane, Scales, Source, Widths};

/// Blocks that a device makes of one segment at most.
pub(crate) const MOST_CUTS: usize = 16;

/// Widths of values' rows: all have the first, but for the heaviest units, which have the second.
#[derive(Clone, Copy, Default)]
pub(crate) struct Deal {
    pub bits: u8,
    pub more_bits: u8,
    /// Units of rows in a head, and how many of a batch item's get the greater width; 0: none.
    pub units: usize,
    pub raised: usize,
    /// Whether a unit is four rows of a block.
    pub in_fours: bool,
    /// What a unit's weight is multiplied by and divided by.
    pub gain: f64,
    pub gain_over: f64,
}

/// How a device makes segments.
pub(crate) struct Template {
    /// Tokens of a segment.
    pub tokens: usize,
    /// Where its blocks start, and its end.
    pub cuts: Vec<usize>,
    /// `[planes][head of keys, head of values]`
    pub heads: Vec<u8>,
    /// The most bytes that each takes; of records, without entries of outliers.
    pub key_head: usize,
    pub value_head: usize,
    pub key_record: usize,
    pub value_record: usize,
    /// The most bytes of a record of keys, with what outliers there can be, and of one of values, with what there usually are.
    pub key_stage: usize,
    pub value_stage: usize,
    /// Outliers at either end of a line, of keys and of values.
    pub sides: [usize; 2],
    /// Bytes of what a plane's keys and an item's values take.
    pub plane_stride: usize,
    pub item_stride: usize,
    pub key_slots: usize,
    pub word_bytes: usize,
    pub deal: Deal,
    /// Of keys and of values.
    pub ranks: [usize; 2],
    /// Whether plain kernels suffice for the segments.
    pub plain: bool,
    /// See [`crate::parts::Parts`].
    pub tiled: bool,
}

/// One plane's heads.
struct Made {
    key_head: Vec<u8>,
    value_head: Vec<u8>,
    keys: KeyLayout,
}

/// What is not compressed on a device, and why.
fn check(key: &Source, value: &Source) -> Result<()> {
    let (keys, values) = (key.config(), value.config());
    let refuse = |why: String| Err(option(format!("a device does not compress this layer: {why}")));
    for (config, name) in [(keys, "keys"), (values, "values")] {
        if config.storage != gearkv::Storage::Gear {
            return refuse(format!("{name} are not to be compressed"));
        }
        if config.rank_by_need && config.decode_rank != 0 {
            return refuse(format!("heads of {name} share their ranks (rankByNeed)"));
        }
    }
    if keys.backbone == Backbone::Rotated {
        return refuse("keys have backbone \"rotated\"; expected \"kivi\", \"kcvt\" or \"uniform\"".to_owned());
    }
    if values.backbone == Backbone::Kcvt && values.range == Range::Mse {
        return refuse("values have backbone \"kcvt\" with range \"mse\"; expected \"minmax\"".to_owned());
    }
    if (keys.buffer_tokens, keys.sinks, key.settled()) != (values.buffer_tokens, values.sinks, value.settled()) {
        return refuse("keys and values differ in bufferTokens or sinks".to_owned());
    }
    let first = key.image.segments.is_empty();
    if first && keys.mean_bits != 0.0 {
        return refuse("keys with meanBits have their widths from the segment before, and there is none".to_owned());
    }
    if first && key.image.sink_tokens < keys.sinks as usize {
        return refuse("its sinks are not there yet".to_owned());
    }
    Ok(())
}

/// Bytes of A in a record.
fn factor_bytes(source: &Source, rank: usize) -> usize {
    match (rank, source.config().factor_bits) {
        (0, _) => 0,
        (_, 16) => rank * BLOCK * 2,
        _ => (16 + rank * (BLOCK + 8)).next_multiple_of(16),
    }
}

/// A plane of a segment that nobody has compressed yet.
fn blank(source: &Source, plane: usize, tokens: usize, rank: usize) -> Plane {
    let (config, dim) = (source.config(), source.dim());
    let scales = match config.scale_bits {
        8 => Scales::Small { super_scale: 0.0, scales: Vec::new(), zeros: Vec::new() },
        _ => Scales::Half { scales: Vec::new(), zeros: Vec::new() },
    };
    let a = match config.factor_bits {
        16 => FactorA::Half(Vec::new()),
        _ => FactorA::Small { codes: Vec::new(), scales: Vec::new(), group: 32 },
    };
    Plane {
        grouping: Grouping::of(config, source.image.role, tokens),
        codes: Vec::new(),
        widths: match source.image.role {
            Role::Key => source.last_widths(plane),
            Role::Value => Widths::Even(config.bits as u8),
        },
        places: Vec::new(),
        scales,
        means: if source.rotated() { vec![0.0; dim] } else { Vec::new() },
        rank,
        a,
        b: vec![0.0; rank * dim],
        outliers: Vec::new(),
    }
}

/// Widths of values, as the core deals them out where it knows of no queries (`crates/gearkv/src/spread/tokens.rs`).
fn deal(config: &GearConfig, heads: usize, tokens: usize) -> Result<Deal> {
    let mean = config.mean_bits;
    if mean == 0.0 {
        return Ok(Deal { bits: config.bits as u8, ..Deal::default() });
    }
    let set: [u8; 4] = if mean < 3.0 { [1, 2, 3, 4] } else { [2, 3, 4, 8] };
    let error = |bits: u8| match bits {
        1 => 0.3634,
        2 => 0.1175,
        3 => 0.034_54,
        4 => 0.009_497,
        _ => 0.000_06,
    };
    let below = set.iter().rposition(|&bits| f64::from(bits) <= mean).unwrap_or(0);
    let bits = set[below];
    let Some(&more_bits) = set.get(below + 1) else { return Ok(Deal { bits, ..Deal::default() }) };
    let rows = heads * tokens;
    let in_fours = tokens.is_multiple_of(BLOCK);
    if !in_fours && tokens > BLOCK {
        return Err(option(format!(
            "a device does not compress this layer: bufferTokens is {tokens}; with meanBits {mean} it must be a multiple of {BLOCK}, or less"
        )));
    }
    let codes = if in_fours { 4 } else { 1 };
    let step = usize::from(more_bits - bits);
    let left = ((mean * rows as f64) as usize).saturating_sub(rows * usize::from(bits));
    let raised = (left / (step * codes)).min(rows / codes);
    if raised == 0 {
        return Ok(Deal { bits, ..Deal::default() });
    }
    Ok(Deal {
        bits,
        more_bits,
        units: tokens / codes,
        raised,
        in_fours,
        gain: error(bits) - error(more_bits),
        gain_over: step as f64 * codes as f64,
    })
}

impl Template {
    /// Of a layer whose buffer, when it is full, becomes a segment.
    ///
    /// # Errors
    /// `INVALID_OPTION` saying why a device cannot do that.
    pub fn of(key: &Source, value: &Source) -> Result<Self> {
        check(key, value)?;
        let (heads, planes) = (key.image.shape.heads, key.planes());
        let tokens = key.config().buffer_tokens as usize;
        let cuts = segment_cuts(&[key, value], tokens);
        if cuts.len() > MOST_CUTS + 1 {
            return Err(option(format!(
                "a device does not compress this layer: bufferTokens {tokens} and groupSize {} make {} blocks; expected {MOST_CUTS} at most",
                key.config().group_size,
                cuts.len() - 1
            )));
        }
        let deal = deal(value.config(), heads, tokens)?;
        let ranks = [key, value].map(|source| (source.config().decode_rank as usize).min(tokens).min(source.dim()));
        let sides = [key, value].map(|source| source.outliers_per_side(tokens));
        let layout = ValueLayout::of(value)?;
        let made: Vec<Made> = (0..planes)
            .map(|plane| {
                let (mut key_head, mut value_head) = (Vec::new(), Vec::new());
                let of_keys = blank(key, plane, tokens, ranks[0]);
                let keys = KeyLayout::of(key, &of_keys);
                keys.head(key, &of_keys).push(&of_keys, ranks[0], sides[0] > 0, &mut key_head);
                let of_values = blank(value, plane, tokens, ranks[1]);
                // Whether a head of values has any outliers is known when they are found.
                layout.head(&of_values).push(&of_values, ranks[1], false, &mut value_head);
                Made { key_head, value_head, keys }
            })
            .collect();
        let most = |f: &dyn Fn(&Made) -> usize| made.iter().map(f).max().unwrap_or(0);
        let (key_head, value_head) = (most(&|made| made.key_head.len()), most(&|made| made.value_head.len()));
        let key_slots = most(&|made| made.keys.order.len());
        let mut all = Vec::with_capacity(planes * (key_head + value_head));
        for (plane, made) in made.iter().enumerate() {
            all.extend_from_slice(&made.key_head);
            all.resize(plane * (key_head + value_head) + key_head, 0);
            all.extend_from_slice(&made.value_head);
            all.resize((plane + 1) * (key_head + value_head), 0);
        }
        // The longest block; where widths differ, either has a tile that is not full.
        let longest = cuts.windows(2).map(|pair| pair[1] - pair[0]).max().unwrap_or(0);
        let slots = if deal.raised > 0 { (longest + 14) / 8 * 8 } else { longest.next_multiple_of(8) };
        let bits = deal.bits.max(deal.more_bits);
        let kinds = if value.rotated() { 1 } else { 2 };
        let scale_bytes = value.config().scale_bits as usize / 8;
        let value_record = 16
            + if deal.raised > 0 { slots.next_multiple_of(16) } else { 0 }
            + slots / 8 * layout.units * unit_bytes(bits)
            + (slots * layout.units * kinds * scale_bytes).next_multiple_of(16)
            + factor_bytes(value, ranks[1]);
        let key_record = most(&|made| made.keys.record_bytes()) + factor_bytes(key, ranks[0]);
        let dim = key.dim();
        let [of_keys, of_values] = [Entries::of(sides[0], BLOCK), Entries::of(sides[1], dim)];
        let blocks = cuts.len() - 1;
        let (key_room, value_room) = (key_record + of_keys.room(), value_record + of_values.room());
        let pairs = slots / 2;
        let weights = if pairs > LANES { WEIGHT_BYTES } else { 0 };
        let of_channels = matches!(key.config().backbone, Backbone::Kivi | Backbone::Kcvt);
        let small = key.config().scale_bits == 8 && value.config().scale_bits == 8;
        Ok(Self {
            tokens,
            cuts,
            heads: all,
            key_head,
            value_head,
            key_record: key_room,
            value_record: value_room,
            key_stage: key_record + of_keys.most_bytes(longest, dim),
            value_stage: value_record + of_values.usual_bytes(heads),
            sides,
            plane_stride: (key_head + value_head + blocks * key_room + of_keys.bytes(dim)).next_multiple_of(16),
            item_stride: (heads * blocks * value_room + of_values.bytes(tokens)).next_multiple_of(16),
            key_slots,
            word_bytes: (key_slots / 8 * KEY_UNIT_WORDS).max(layout.units * pairs * VALUE_PAIR_WORDS + weights),
            deal,
            tiled: !value.rotated() || (ranks[1] == 0 && sides[1] == 0),
            plain: of_channels && value.rotated() && small && ranks == [0, 0] && sides == [0, 0],
            ranks,
        })
    }

    /// Blocks of a segment.
    pub fn blocks(&self) -> usize {
        self.cuts.len() - 1
    }

    /// Bytes of a segment of `batch` items of `heads` heads.
    pub fn segment_bytes(&self, batch: usize, heads: usize) -> usize {
        batch * (heads * self.plane_stride + self.item_stride)
    }
}
