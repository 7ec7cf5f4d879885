//! Channels of keys in the order of their widths.
//!
//! A head's channels are sorted, the widest first, so that those of one width are a band of neighbours. Codes are held band by
//! band, each a matrix `[tokens, channels of the band]` of its own. Queries are brought into the same order instead of the
//! keys being brought back.

use super::allocation::{Unit, deal};
use super::{HEADER_BYTES, NUMBER_BYTES};
use crate::items::picked;

/// What a channel can have, the widest first.
const WIDTHS: [u8; 6] = [8, 6, 4, 3, 2, 1];
const ASCENDING: [u8; 6] = [1, 2, 3, 4, 6, 8];

/// Channels get their widths eight at a time, whose codes are whole bytes.
const UNIT: usize = 8;

/// The most channels that a head may have where widths differ: what an index of 16 bits reaches.
pub(crate) const MAX_CHANNELS: usize = u16::MAX as usize;

/// Widths of the channels of all planes.
#[derive(Debug, PartialEq)]
pub(crate) struct ChannelWidths {
    dim: usize,
    /// Channels, those of the widest codes first: `[planes, dim]`.
    order: Box<[u16]>,
    /// How many have each of [`WIDTHS`]: `[planes]`.
    counts: Box<[[u16; WIDTHS.len()]]>,
    /// Bytes of a token's codes in all planes before each, and in all of them: `[planes + 1]`.
    rows: Box<[usize]>,
}

/// Neighbouring channels of one width.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Band {
    pub bits: u32,
    /// Its first channel, in the order of widths.
    pub first: usize,
    pub channels: usize,
    /// Bytes of a token's codes in the bands before it.
    pub bytes_before: usize,
}

impl Band {
    /// Bytes of a token's codes.
    pub fn row_bytes(&self) -> usize {
        crate::simd::row_bytes(self.channels, self.bits)
    }
}

impl ChannelWidths {
    /// Widths of the heads of one batch item: `mean_bits` on the average, where `weights` (`[heads, dim]`) is each channel's squared
    /// range times what an error there weighs.
    pub fn dealt(weights: &[f64], dim: usize, mean_bits: f64) -> Self {
        let mut units = Vec::new();
        let mut orders = Vec::new();
        for head in weights.chunks_exact(dim) {
            let mut order: Vec<u16> = (0..dim).map(|channel| channel as u16).collect();
            order.sort_by(|&a, &b| head[usize::from(b)].total_cmp(&head[usize::from(a)]).then(a.cmp(&b)));
            for unit in order.chunks(UNIT) {
                let weight = unit.iter().map(|&channel| head[usize::from(channel)]).sum();
                units.push(Unit { weight, codes: unit.len() as u8 });
            }
            orders.push(order);
        }
        // A step is the range by the number of steps; what one bit leaves is not far from what no step at all would.
        let errors = ASCENDING.map(|bits| f64::from((1u32 << bits) - 1).powi(-2));
        let chosen = deal(units.into_iter(), &ASCENDING, &errors, (mean_bits * weights.len() as f64) as usize);
        let mut bits = vec![0; weights.len()];
        let per_head = dim.div_ceil(UNIT);
        for (head, order) in orders.iter().enumerate() {
            for (unit, channels) in order.chunks(UNIT).enumerate() {
                for &channel in channels {
                    bits[head * dim + usize::from(channel)] = ASCENDING[usize::from(chosen[head * per_head + unit])];
                }
            }
        }
        Self::of_bits(&bits, dim)
    }

    fn of_bits(bits: &[u8], dim: usize) -> Self {
        let mut order = Vec::with_capacity(bits.len());
        let mut counts = Vec::with_capacity(bits.len() / dim);
        let mut rows = vec![0];
        for plane in bits.chunks_exact(dim) {
            let mut count = [0; WIDTHS.len()];
            let mut bytes = 0;
            for (count, width) in count.iter_mut().zip(WIDTHS) {
                let start = order.len();
                order.extend((0..dim).filter(|&channel| plane[channel] == width).map(|channel| channel as u16));
                *count = (order.len() - start) as u16;
                bytes += crate::simd::row_bytes(order.len() - start, u32::from(width));
            }
            counts.push(count);
            rows.push(rows[rows.len() - 1] + bytes);
        }
        Self { dim, order: order.into(), counts: counts.into(), rows: rows.into() }
    }

    /// Those of several batch items, one after the other.
    pub fn concat(items: &[Self], dim: usize) -> Self {
        Self::of_bits(&items.iter().flat_map(Self::bytes).collect::<Vec<_>>(), dim)
    }

    /// Those of some batch items, of `heads` heads each.
    pub fn picked(&self, items: &[u32], heads: usize) -> Self {
        Self::of_bits(&picked(&self.bytes(), self.planes() / heads, heads * self.dim, items), self.dim)
    }

    /// What [`Self::bytes`] gave; `None` where the length does not fit or a width is none.
    pub fn from_bytes(planes: usize, dim: usize, bytes: &[u8]) -> Option<Self> {
        let fits = bytes.len() == planes * dim && bytes.iter().all(|bits| WIDTHS.contains(bits));
        fits.then(|| Self::of_bits(bytes, dim))
    }

    /// Of each channel: `[planes, dim]`.
    pub fn bytes(&self) -> Vec<u8> {
        let mut bits = vec![0; self.order.len()];
        for plane in 0..self.planes() {
            for band in self.bands(plane) {
                for &channel in &self.order(plane)[band.first..band.first + band.channels] {
                    bits[plane * self.dim + usize::from(channel)] = band.bits as u8;
                }
            }
        }
        bits
    }

    pub fn planes(&self) -> usize {
        self.counts.len()
    }

    pub fn byte_length(&self) -> usize {
        HEADER_BYTES + size_of_val(&*self.order) + size_of_val(&*self.counts) + NUMBER_BYTES * self.rows.len()
    }

    /// A plane's channels in the order of their widths.
    pub fn order(&self, plane: usize) -> &[u16] {
        &self.order[plane * self.dim..(plane + 1) * self.dim]
    }

    /// A plane's bands, none of them empty.
    pub fn bands(&self, plane: usize) -> impl Iterator<Item = Band> + use<> {
        let (mut first, mut bytes_before) = (0, 0);
        self.counts[plane].into_iter().zip(WIDTHS).filter(|(count, _)| *count > 0).map(move |(count, bits)| {
            let band = Band { bits: u32::from(bits), first, channels: usize::from(count), bytes_before };
            first += band.channels;
            bytes_before += band.row_bytes();
            band
        })
    }

    /// Bytes of a token's codes in the planes before this one.
    pub fn row_bytes_before(&self, plane: usize) -> usize {
        self.rows[plane]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn channels_that_weigh_more_have_wider_codes_and_the_budget_is_kept() {
        for dim in [1, 5, 8, 21, 64, 80] {
            for mean in [1.0, 2.0, 2.75, 4.0, 8.0] {
                let weights: Vec<f64> = (0..2 * dim).map(|i| 2f64.powi(i as i32 * 7 % 13)).collect();
                let widths = ChannelWidths::dealt(&weights, dim, mean);
                let bits = widths.bytes();
                let sum: usize = bits.iter().map(|&b| usize::from(b)).sum();
                assert!(sum as f64 <= mean * bits.len() as f64, "dim {dim}, mean {mean}: {sum} bits");
                assert!(
                    dim < 64 || sum as f64 > (mean - 0.25) * bits.len() as f64,
                    "dim {dim}, mean {mean}: {sum} bits"
                );
                assert_eq!(ChannelWidths::from_bytes(2, dim, &bits).as_ref(), Some(&widths));
                for plane in 0..2 {
                    let ordered: Vec<u8> =
                        widths.order(plane).iter().map(|&c| bits[plane * dim + usize::from(c)]).collect();
                    assert!(ordered.is_sorted_by(|a, b| a >= b));
                    let bands: Vec<Band> = widths.bands(plane).collect();
                    assert_eq!(bands.iter().map(|band| band.channels).sum::<usize>(), dim);
                    let bytes = bands.last().map_or(0, |band| band.bytes_before + band.row_bytes());
                    assert_eq!(bytes, widths.row_bytes_before(plane + 1) - widths.row_bytes_before(plane));
                }
            }
        }
    }

    #[test]
    fn widths_that_are_none_are_refused() {
        assert!(ChannelWidths::from_bytes(1, 4, &[1, 2, 3, 5]).is_none());
        assert!(ChannelWidths::from_bytes(1, 4, &[1, 2, 3]).is_none());
    }
}
