//! Records of keys.

use super::head::Head;
use super::parts::{
    BLOCK, CHANNEL, FLOAT, HALF, LEVELS, NO_CHANNEL, RANGE_BITS, SMALL, TOKEN, align, exponent_above, fine_offset,
    group_channels, padded_groups, power_of_two, push_halves, push_scale, push_words, super_scale,
};
use crate::pack::{Place, level, put_key_code, put_level, unit_bytes};
use crate::source::{Grouping, Plane, Scales, Source, Widths, bands, small_scale, sorted};

/// How a plane of keys is laid out.
pub(super) struct KeyLayout {
    pub(super) order: Vec<u16>,
    /// Widths and units, the widest first.
    pub(super) bands: Vec<(u8, usize)>,
    /// Of each group of channels, where tokens have scales.
    pub(super) groups: Vec<usize>,
    pub(super) mode: u32,
    pub(super) form: u32,
}

impl KeyLayout {
    /// How a plane is laid out: an even number of units, the last of which may be padding.
    pub(super) fn of(source: &Source, plane: &Plane) -> Self {
        let mut layout = Self::packed(source, plane);
        if !(layout.order.len() / 8).is_multiple_of(2) {
            layout.order.resize(layout.order.len() + 8, NO_CHANNEL);
            layout.bands.iter_mut().last().into_iter().for_each(|(_, units)| *units += 1);
            layout.groups.iter_mut().last().into_iter().for_each(|units| *units += 1);
        }
        layout
    }

    fn packed(source: &Source, plane: &Plane) -> Self {
        let dim = source.dim();
        let form = if matches!(plane.scales, Scales::Small { .. }) { SMALL } else { HALF };
        match plane.grouping {
            Grouping::Channel { .. } => {
                let bits = match &plane.widths {
                    Widths::Channels(bits) => bits.clone(),
                    _ => vec![source.config().bits as u8; dim],
                };
                let sorted = sorted(&bits);
                let (mut order, mut units, mut first) = (Vec::new(), Vec::new(), 0);
                for (width, count) in bands(&bits) {
                    order.extend(sorted[first..first + count].iter().map(|&channel| channel as u16));
                    order.resize(order.len().next_multiple_of(8), NO_CHANNEL);
                    units.push((width, count.div_ceil(8)));
                    first += count;
                }
                Self { order, bands: units, groups: Vec::new(), mode: CHANNEL, form }
            }
            Grouping::Token { .. } | Grouping::AllHeads => {
                let group = group_channels(plane.grouping, dim);
                let (order, groups) = padded_groups(dim, group, 8);
                // Rows of different widths share units here: as bytes, with scales and zeros in float32.
                let (bits, mode, form) = match (&plane.widths, source.rotated()) {
                    (Widths::Tokens(_), _) => (8, TOKEN, FLOAT),
                    (_, true) => (source.config().bits as u8, LEVELS, form),
                    _ => (source.config().bits as u8, TOKEN, form),
                };
                Self { bands: vec![(bits, groups.iter().sum())], order, groups, mode, form }
            }
        }
    }

    pub(super) fn head<'a>(&'a self, source: &Source, plane: &Plane) -> Head<'a> {
        let exponent = if self.mode == CHANNEL { exponent_above(plane.scales.largest()) } else { 0 };
        let mut widths = [0; 6];
        for (word, (bits, units)) in widths.iter_mut().zip(&self.bands) {
            *word = u32::from(*bits) << 16 | *units as u32;
        }
        Head {
            mode: self.mode,
            form: self.form,
            units: self.order.len() / 8,
            groups: self.groups.clone(),
            super_scale: super_scale(&plane.scales),
            norm: power_of_two(RANGE_BITS - exponent),
            back: power_of_two(exponent - RANGE_BITS),
            widths,
            offset: fine_offset(self.bands[0].0),
            turned: source.rotated(),
            turned_means: Vec::new(),
            scales_at: self.code_bytes(),
            rest_at: self.record_bytes(),
            order: &self.order,
        }
    }

    /// Of a record of codes and scales.
    pub(super) fn record_bytes(&self) -> usize {
        self.code_bytes() + self.scale_bytes()
    }

    fn code_bytes(&self) -> usize {
        self.bands.iter().map(|&(bits, units)| unit_bytes(bits) * units).sum()
    }

    fn scale_bytes(&self) -> usize {
        let of_one = [1, 2, 4][self.form as usize];
        if self.mode == CHANNEL {
            return 4 * self.order.len();
        }
        let kinds = if self.mode == TOKEN { 2 } else { 1 };
        (self.groups.len() * BLOCK * kinds * of_one).next_multiple_of(16)
    }

    /// Codes and scales of tokens `first..first + tokens` of a plane.
    pub(super) fn push(&self, plane: &Plane, dim: usize, first: usize, tokens: usize, record: &mut Vec<u8>) {
        let mut unit = 0;
        for &(bits, units) in &self.bands {
            for _ in 0..units {
                let start = record.len();
                record.resize(start + unit_bytes(bits), 0);
                let bytes = &mut record[start..];
                for (i, &channel) in self.order[unit * 8..unit * 8 + 8].iter().enumerate() {
                    if channel == NO_CHANNEL {
                        continue;
                    }
                    for t in 0..tokens {
                        let code = plane.codes[(first + t) * dim + usize::from(channel)];
                        match (self.mode, &plane.widths) {
                            (LEVELS, _) if bits < 8 => put_level(bytes, bits, Place::of_key(t, i), code),
                            (TOKEN, Widths::Tokens(widths)) => {
                                let byte = match widths[first + t] {
                                    8 => code,
                                    width => (level(width, code) + 128) as u8,
                                };
                                put_key_code(bytes, bits, Place::of_key(t, i), byte);
                            }
                            _ => put_key_code(bytes, bits, Place::of_key(t, i), code),
                        }
                    }
                }
                unit += 1;
            }
        }
        if self.mode == CHANNEL {
            self.push_channel_scales(plane, dim, first, record);
        } else {
            self.push_token_scales(plane, dim, first, tokens, record);
        }
    }

    /// Of each pair of channels, two scales and two zeros.
    fn push_channel_scales(&self, plane: &Plane, dim: usize, first: usize, record: &mut Vec<u8>) {
        let Grouping::Channel { tokens: group } = plane.grouping else { return };
        for pair in self.order.chunks_exact(2) {
            let at = |i: usize| (first / group) * dim + plane.places[usize::from(pair[i])];
            for zeros in [false, true] {
                for (i, &channel) in pair.iter().enumerate() {
                    let there = channel != NO_CHANNEL;
                    push_channel_scale(&plane.scales, zeros, there.then(|| at(i)), record);
                }
            }
        }
    }

    /// Of each group, 64 scales, then 64 zeros where there are any.
    fn push_token_scales(&self, plane: &Plane, dim: usize, first: usize, tokens: usize, record: &mut Vec<u8>) {
        let per_token = self.groups.len();
        debug_assert_eq!(per_token, dim.div_ceil(group_channels(plane.grouping, dim)));
        for group in 0..per_token {
            let at = |t: usize| (t < tokens).then(|| (first + t) * per_token + group);
            if let (FLOAT, Widths::Tokens(widths)) = (self.form, &plane.widths) {
                let scale = |t: usize| at(t).map_or(0.0, |i| plane.scales.scale(i));
                push_words(record, (0..BLOCK).map(|t| (scale(t) / 128.0).to_bits()));
                let offset = |t: usize| if at(t).is_some() && widths[first + t] == 8 { fine_offset(8) } else { -1.0 };
                push_words(record, (0..BLOCK).map(|t| (scale(t) * offset(t)).to_bits()));
                continue;
            }
            (0..BLOCK).for_each(|t| push_scale(&plane.scales, false, at(t), record));
            if self.mode == TOKEN {
                (0..BLOCK).for_each(|t| push_scale(&plane.scales, true, at(t), record));
            }
        }
        align(record);
    }
}

/// The `at`-th scale or zero; nothing stands for 0. Those of 8 bits as the upper half of a float32, which holds them exactly: scales
/// without the super-scale, zeros in their own steps.
fn push_channel_scale(scales: &Scales, zero: bool, at: Option<usize>, record: &mut Vec<u8>) {
    let upper = |x: f32| (x.to_bits() >> 16) as u16;
    let half = match (scales, at) {
        (_, None) => 0,
        (Scales::Small { scales, .. }, Some(at)) if !zero => upper(small_scale(scales[at])),
        (Scales::Small { zeros, .. }, Some(at)) => upper(f32::from(zeros[at] as i8)),
        (Scales::Half { scales, zeros }, Some(at)) => {
            if zero {
                zeros[at]
            } else {
                scales[at]
            }
        }
    };
    push_halves(record, [half]);
}
