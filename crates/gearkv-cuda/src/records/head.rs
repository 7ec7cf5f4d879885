//! What all records of one segment and plane share.

use super::parts::{HEAD_BYTES, align, push_halves, push_words};
use crate::source::{FactorA, Plane};

/// What the head of a segment and plane says; see `Head` in the kernels.
pub(super) struct Head<'a> {
    pub(super) mode: u32,
    pub(super) form: u32,
    pub(super) units: usize,
    /// Units of each group of channels.
    pub(super) groups: Vec<usize>,
    pub(super) super_scale: f32,
    pub(super) norm: f32,
    pub(super) back: f32,
    pub(super) widths: [u32; 6],
    pub(super) offset: f32,
    pub(super) turned: bool,
    /// Means of values, turned as their codes are.
    pub(super) turned_means: Vec<f32>,
    /// Of keys: where scales, and what is behind them, start in a record.
    pub(super) scales_at: usize,
    pub(super) rest_at: usize,
    pub(super) order: &'a [u16],
}

impl Head<'_> {
    /// Appends it to `data`, and gives back where it starts, in units of 16 bytes.
    pub(super) fn push(&self, plane: &Plane, rank: usize, has_outliers: bool, data: &mut Vec<u8>) -> usize {
        let start = data.len();
        let groups_at = (HEAD_BYTES + 2 * self.order.len()).next_multiple_of(16);
        let means_at = (groups_at + 2 * self.groups.len()).next_multiple_of(16);
        let factors_at = means_at + 4 * plane.means.len();
        let turned_at = factors_at + 4 * plane.b.len();
        let small_factors = matches!(plane.a, FactorA::Small { .. });
        push_words(data, [self.mode, self.form, self.units as u32, self.groups.len() as u32]);
        push_words(data, [self.super_scale, self.norm, self.back].map(f32::to_bits));
        push_words(data, [rank as u32, u32::from(small_factors), u32::from(has_outliers)]);
        push_words(
            data,
            [if plane.means.is_empty() { 0 } else { means_at as u32 }, factors_at as u32, groups_at as u32],
        );
        push_words(data, self.widths);
        push_words(
            data,
            [
                self.offset.to_bits(),
                u32::from(self.turned),
                self.scales_at as u32,
                self.rest_at as u32,
                turned_at as u32,
            ],
        );
        debug_assert_eq!(data.len() - start, HEAD_BYTES);
        push_halves(data, self.order.iter().copied());
        data.resize(start + groups_at, 0);
        push_halves(data, self.groups.iter().map(|&units| units as u16));
        data.resize(start + means_at, 0);
        push_words(data, plane.means.iter().chain(&plane.b).chain(&self.turned_means).map(|x| x.to_bits()));
        align(data);
        start / 16
    }
}
