//! Records of values.

use gearkv::Result;

use super::head::Head;
use super::parts::{
    BLOCK, HALF, LEVELS, MOST_VALUE_UNITS, NO_CHANNEL, SMALL, TOKEN, align, fine_offset, group_channels, padded_groups,
    push_scale, push_words, super_scale,
};
use crate::error::option;
use crate::pack::{Place, put_code, put_level, unit_bytes};
use crate::source::{Grouping, Plane, Scales, Source, Widths};

/// How values are laid out: the same in all planes of a layer.
pub(super) struct ValueLayout {
    pub(super) order: Vec<u16>,
    pub(super) units: usize,
    /// The group of channels of each unit, and how many there are.
    pub(super) groups: Vec<usize>,
    pub(super) mode: u32,
    pub(super) widths: [u32; 6],
}

impl ValueLayout {
    pub(super) fn of(source: &Source) -> Result<Self> {
        let (dim, config) = (source.dim(), source.config());
        let group = group_channels(Grouping::of(config, source.image.role, 1), dim);
        let (order, units) = padded_groups(dim, group, 64);
        let groups: Vec<usize> = units.iter().enumerate().flat_map(|(g, &n)| vec![g; n]).collect();
        if groups.len() > MOST_VALUE_UNITS {
            return Err(option(format!(
                "groupSize {group} with headDim {dim} cuts values into {} runs of up to 64 channels; a device holds at most {MOST_VALUE_UNITS}",
                groups.len()
            )));
        }
        let bits = config.bits;
        let widths = match (source.rotated(), config.mean_bits) {
            (true, mean) if mean != 0.0 => {
                if mean < 3.0 {
                    [1, 2, 3, 4, 0, 0]
                } else {
                    [2, 3, 4, 8, 0, 0]
                }
            }
            _ => [bits, 0, 0, 0, 0, 0],
        };
        let mode = if source.rotated() { LEVELS } else { TOKEN };
        Ok(Self { order, units: groups.len(), groups, mode, widths })
    }

    /// Norms of values are the layer's (`value_range`), not a head's.
    pub(super) fn head<'a>(&'a self, plane: &Plane) -> Head<'a> {
        Head {
            mode: self.mode,
            form: if matches!(plane.scales, Scales::Small { .. }) { SMALL } else { HALF },
            units: self.units,
            groups: Vec::new(),
            super_scale: super_scale(&plane.scales),
            norm: 0.0,
            back: 0.0,
            widths: self.widths,
            offset: fine_offset(8),
            turned: self.mode == LEVELS,
            turned_means: turned(&plane.means),
            scales_at: 0,
            rest_at: 0,
            order: &self.order,
        }
    }

    /// Gives the pairs of tokens that the record has, padding counted.
    pub(super) fn push(&self, plane: &Plane, dim: usize, first: usize, tokens: usize, record: &mut Vec<u8>) -> usize {
        // Tokens of one width are brought together, and filled up to whole tiles.
        let mut slots: Vec<Option<usize>> = Vec::new();
        let mut tiles = [0u8; 4];
        for (tiles, &width) in tiles.iter_mut().zip(&self.widths).filter(|(_, width)| **width != 0) {
            let has = |t: &usize| match &plane.widths {
                Widths::Tokens(widths) => u32::from(widths[first + t]) == width,
                _ => true,
            };
            let before = slots.len();
            slots.extend((0..tokens).filter(has).map(Some));
            slots.resize(slots.len().next_multiple_of(8), None);
            *tiles = ((slots.len() - before) / 8) as u8;
        }
        let in_order = slots.iter().enumerate().all(|(slot, token)| token.is_none_or(|token| token == slot));
        let start = record.len();
        record.extend_from_slice(&tiles);
        // Where scales and what is behind them start is filled in below.
        push_words(record, [u32::from(!in_order), 0, 0]);
        if !in_order {
            record.extend(slots.iter().map(|token| token.unwrap_or(BLOCK) as u8));
            align(record);
        }
        let mut tile = 0;
        for (count, &width) in tiles.iter().zip(&self.widths) {
            let bits = width as u8;
            for slots in slots[tile * 8..(tile + usize::from(*count)) * 8].chunks_exact(8) {
                for channels in self.order.chunks_exact(64) {
                    let start = record.len();
                    record.resize(start + unit_bytes(bits), 0);
                    let bytes = &mut record[start..];
                    for (t, token) in slots.iter().enumerate() {
                        let Some(token) = token else { continue };
                        let row = &plane.codes[(first + token) * dim..(first + token + 1) * dim];
                        for (i, &channel) in channels.iter().enumerate().filter(|(_, channel)| **channel != NO_CHANNEL)
                        {
                            let code = row[usize::from(channel)];
                            let put = if self.mode == LEVELS { put_level } else { put_code };
                            put(bytes, bits, Place::of_value(t, i), code);
                        }
                    }
                }
            }
            tile += usize::from(*count);
        }
        let scales_at = record.len() - start;
        let per_token = match plane.grouping {
            Grouping::AllHeads => 1,
            grouping => dim.div_ceil(group_channels(grouping, dim)),
        };
        for slots in slots.chunks_exact(8) {
            for &group in &self.groups {
                let at = |token: &Option<usize>| token.map(|token| (first + token) * per_token + group);
                slots.iter().for_each(|token| push_scale(&plane.scales, false, at(token), record));
                if self.mode == TOKEN {
                    slots.iter().for_each(|token| push_scale(&plane.scales, true, at(token), record));
                }
            }
        }
        align(record);
        for (at, value) in [(8, scales_at), (12, record.len() - start)] {
            record[start + at..start + at + 4].copy_from_slice(&(value as u32).to_le_bytes());
        }
        slots.len() / 2
    }
}

/// A row turned by the Hadamard matrix, cut into powers of two, the largest first.
fn turned(row: &[f32]) -> Vec<f32> {
    let mut out = row.to_vec();
    let mut rest = &mut out[..];
    while !rest.is_empty() {
        let length = 1usize << rest.len().ilog2();
        let (block, after) = rest.split_at_mut(length);
        let mut step = 1;
        while step < length {
            for pair in block.chunks_exact_mut(2 * step) {
                let (low, high) = pair.split_at_mut(step);
                for (low, high) in low.iter_mut().zip(high) {
                    (*low, *high) = (*low + *high, *low - *high);
                }
            }
            step *= 2;
        }
        block.iter_mut().for_each(|x| *x /= (length as f32).sqrt());
        rest = after;
    }
    out
}
