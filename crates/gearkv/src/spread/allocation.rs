//! Dealing out bits, each where it takes most of the error away.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// A step that a unit can take: to its next width.
struct Step {
    /// Error that goes away, for each bit that it costs.
    gain: f64,
    unit: usize,
}

impl PartialEq for Step {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Step {}

impl PartialOrd for Step {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Step {
    /// Of equal gains the first unit's, so that the result is one and the same everywhere.
    fn cmp(&self, other: &Self) -> Ordering {
        self.gain.total_cmp(&other.gain).then(other.unit.cmp(&self.unit))
    }
}

/// A unit whose codes have one width.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    /// Its error, before it is divided by what a width gains.
    pub weight: f64,
    /// Codes in it, for each of the segment's tokens or rows.
    pub codes: usize,
}

/// The index of each unit's width in `widths` (ascending), `errors` being the error that is left at each, and falling ever
/// more slowly. Every unit has the first width at least; no more than `bits` bits are dealt out beyond what that takes.
pub(super) fn deal(units: &[Unit], widths: &[u8], errors: &[f64], bits: usize) -> Vec<usize> {
    let least = usize::from(widths[0]);
    let mut left = bits.saturating_sub(units.iter().map(|unit| unit.codes * least).sum());
    let step = |unit: usize, at: usize| {
        let cost = f64::from(widths[at + 1] - widths[at]);
        Step {
            gain: units[unit].weight * (errors[at] - errors[at + 1]) / (cost * units[unit].codes.max(1) as f64),
            unit,
        }
    };
    let mut chosen = vec![0; units.len()];
    let mut heap: BinaryHeap<Step> =
        if widths.len() > 1 { (0..units.len()).map(|unit| step(unit, 0)).collect() } else { BinaryHeap::new() };
    while let Some(Step { unit, .. }) = heap.pop() {
        let at = chosen[unit];
        let cost = usize::from(widths[at + 1] - widths[at]) * units[unit].codes;
        // What does not fit any more leaves the bits to a smaller step of another unit.
        if cost > left {
            continue;
        }
        left -= cost;
        chosen[unit] = at + 1;
        if at + 2 < widths.len() {
            heap.push(step(unit, at + 1));
        }
    }
    chosen
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [u8; 4] = [1, 2, 3, 4];
    const ERRORS: [f64; 4] = [1.0, 0.25, 0.0625, 0.015_625];

    fn units(weights: &[f64]) -> Vec<Unit> {
        weights.iter().map(|&weight| Unit { weight, codes: 8 }).collect()
    }

    #[test]
    fn bits_go_where_they_take_most_away_and_never_beyond_the_budget() {
        let chosen = deal(&units(&[1.0, 100.0, 1.0, 1e-9]), &WIDTHS, &ERRORS, 8 * 8);
        assert_eq!(
            chosen,
            [1, 3, 0, 0],
            "one bit for each, three more for the heaviest, and what is left for the next"
        );
        for bits in 0..200 {
            let chosen = deal(&units(&[3.0, 0.1, 7.0, 2.0]), &WIDTHS, &ERRORS, bits);
            let spent: usize = chosen.iter().map(|&at| usize::from(WIDTHS[at]) * 8).sum();
            assert!(spent <= bits.max(32));
        }
    }

    #[test]
    fn equal_units_get_equal_widths_but_for_what_does_not_come_out_even() {
        assert_eq!(deal(&units(&[1.0; 4]), &WIDTHS, &ERRORS, 4 * 8 * 3), [2; 4]);
        assert_eq!(deal(&units(&[1.0; 4]), &WIDTHS, &ERRORS, 4 * 8 * 3 + 17), [3, 3, 2, 2]);
    }

    #[test]
    fn nothing_to_weigh_still_ends() {
        assert_eq!(deal(&units(&[0.0; 2]), &WIDTHS, &ERRORS, 1000), [3, 3]);
        assert!(deal(&[], &WIDTHS, &ERRORS, 10).is_empty());
    }
}
