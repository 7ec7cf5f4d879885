//! Dealing out bits, each where it takes most of the error away.

/// A step that a unit can take: to its next width.
#[derive(Clone, Copy)]
struct Step {
    /// Error that goes away, for each bit that it costs.
    gain: f64,
    /// Bits.
    cost: u32,
    /// The unit's index, times [`MOST_STEPS`], and which one of its steps this is.
    which: u32,
}

/// No unit has more steps: sets have six widths at most.
const MOST_STEPS: usize = 8;

impl Step {
    fn unit(&self) -> usize {
        self.which as usize / MOST_STEPS
    }
}

/// A unit whose codes have one width.
#[derive(Clone, Copy)]
pub(super) struct Unit {
    /// Its error, before it is divided by what a width gains.
    pub weight: f64,
    /// Codes in it, for each of the segment's tokens or rows.
    pub codes: u8,
}

/// The index of each unit's width in `widths` (ascending), `errors` being the error that is left at each, and falling ever
/// more slowly. Every unit has the first width at least; no more than `bits` bits are dealt out beyond what that takes.
pub(super) fn deal(units: impl ExactSizeIterator<Item = Unit>, widths: &[u8], errors: &[f64], bits: usize) -> Vec<u8> {
    let mut chosen = vec![0; units.len()];
    let mut steps = Vec::with_capacity(units.len() * (widths.len() - 1));
    let mut least = 0;
    for (unit, Unit { weight, codes }) in units.enumerate() {
        least += usize::from(codes) * usize::from(widths[0]);
        for (at, (width, error)) in widths.windows(2).zip(errors.windows(2)).enumerate() {
            let more = width[1] - width[0];
            steps.push(Step {
                gain: weight * (error[0] - error[1]) / (f64::from(more) * f64::from(codes.max(1))),
                cost: u32::from(more) * u32::from(codes),
                which: (unit * MOST_STEPS + at) as u32,
            });
        }
    }
    take(&mut steps, bits.saturating_sub(least), &mut chosen);
    chosen
}

/// Takes steps in the order of what they gain, each that `left` bits are enough for; returns what is left then. A unit's steps gain ever less and cost
/// ever more, so none is taken without those before it.
fn take(steps: &mut [Step], left: usize, chosen: &mut [u8]) -> usize {
    let (mut steps, mut left) = (steps, left);
    loop {
        // What does not fit any more leaves the bits to a smaller step of another unit.
        let mut fitting = 0;
        for i in 0..steps.len() {
            if steps[i].cost as usize <= left {
                steps.swap(fitting, i);
                fitting += 1;
            }
        }
        steps = &mut steps[..fitting];
        let cost: usize = steps.iter().map(|step| step.cost as usize).sum();
        if cost <= left {
            steps.iter().for_each(|step| chosen[step.unit()] += 1);
            return left - cost;
        }
        // Of equal gains the first unit's, so that the result is one and the same everywhere.
        let half = steps.len() / 2;
        steps.select_nth_unstable_by(half, |a, b| b.gain.total_cmp(&a.gain).then(a.which.cmp(&b.which)));
        let (first, rest) = std::mem::take(&mut steps).split_at_mut(half);
        left = take(first, left, chosen);
        steps = rest;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WIDTHS: [u8; 4] = [1, 2, 3, 4];
    const ERRORS: [f64; 4] = [1.0, 0.25, 0.0625, 0.015_625];

    fn units(weights: &[f64]) -> impl ExactSizeIterator<Item = Unit> {
        weights.iter().map(|&weight| Unit { weight, codes: 8 })
    }

    #[test]
    fn bits_go_where_they_take_most_away_and_never_beyond_the_budget() {
        let chosen = deal(units(&[1.0, 100.0, 1.0, 1e-9]), &WIDTHS, &ERRORS, 8 * 8);
        assert_eq!(
            chosen,
            [1, 3, 0, 0],
            "one bit for each, three more for the heaviest, and what is left for the next"
        );
        for bits in 0..200 {
            let chosen = deal(units(&[3.0, 0.1, 7.0, 2.0]), &WIDTHS, &ERRORS, bits);
            let spent: usize = chosen.iter().map(|&at| usize::from(WIDTHS[usize::from(at)]) * 8).sum();
            assert!(spent <= bits.max(32));
        }
    }

    #[test]
    fn equal_units_get_equal_widths_but_for_what_does_not_come_out_even() {
        assert_eq!(deal(units(&[1.0; 4]), &WIDTHS, &ERRORS, 4 * 8 * 3), [2; 4]);
        assert_eq!(deal(units(&[1.0; 4]), &WIDTHS, &ERRORS, 4 * 8 * 3 + 17), [3, 3, 2, 2]);
    }

    #[test]
    fn nothing_to_weigh_still_ends() {
        assert_eq!(deal(units(&[0.0; 2]), &WIDTHS, &ERRORS, 1000), [3, 3]);
        assert!(deal(units(&[]), &WIDTHS, &ERRORS, 10).is_empty());
    }
}
