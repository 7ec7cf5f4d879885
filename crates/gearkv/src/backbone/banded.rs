//! What codes of channels of different widths stand for, band by band (`spread/channels.rs`).

use super::ScaleRoom;
use super::scales::Scales;
use crate::simd::{self, LowRank, Meaning};
use crate::spread::{Band, ChannelWidths};

/// One head's place among the widths.
#[derive(Clone, Copy)]
pub(crate) struct Head<'a> {
    pub widths: &'a ChannelWidths,
    pub plane: usize,
    /// Tokens that share a scale.
    pub group: usize,
    pub dim: usize,
    /// Where each channel is wanted, if not in the order of their widths.
    pub order: Option<&'a [u16]>,
}

impl Head<'_> {
    fn bands(&self) -> impl Iterator<Item = Band> + use<> {
        self.widths.bands(self.plane)
    }

    /// What codes of one byte each (`[tokens, dim]`, of the tokens from `first` on) stand for, channels being where
    /// they are wanted; and the low-rank part, whose channels are where the codes' are.
    /// `scales` are those of the segment, of which the head's start at `base`.
    #[expect(clippy::too_many_arguments, reason = "what is read, what is added, what is written and its room")]
    pub fn dequantize(
        &self,
        scales: &Scales,
        base: usize,
        codes: &[u8],
        first: usize,
        low_rank: LowRank,
        out: &mut [f32],
        room: &mut ScaleRoom,
    ) {
        let dim = self.dim;
        let end = first + out.len() / dim;
        let ScaleRoom { scale, zero, ordered, .. } = room;
        [&mut *scale, zero, ordered].into_iter().for_each(|values| values.resize(dim, 0.0));
        let mut t = first;
        while t < end {
            let g = t / self.group;
            let stop = ((g + 1) * self.group).min(end);
            for band in self.bands() {
                let own = band.first..band.first + band.channels;
                let view = scales.view(band.bits, self.plane, 0..scales.len());
                view.load(base + g * dim + band.first, &mut scale[own.clone()], &mut zero[own]);
            }
            if let Some(order) = self.order {
                for values in [&mut *scale, zero] {
                    ordered.copy_from_slice(values);
                    simd::scatter(ordered, order, values);
                }
            }
            let part = (t - first) * dim..(stop - first) * dim;
            let meaning = Meaning::Channels { scale, zero };
            simd::expand_rows(&codes[part.clone()], dim, meaning, low_rank.from(t - first), &mut out[part]);
            t = stop;
        }
    }
}
