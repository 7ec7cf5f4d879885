//! Dealing out bits, each where it takes most of the error away.

/// A step that a unit can take: to its next width.
#[derive(Clone, Copy)]
struct Step {
    /// Error that goes away, for each bit that it costs.
    gain: f64,
    unit: u32,
    /// Which one of the unit's it is.
    at: u32,
    /// Bits.
    cost: usize,
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
    let left = bits.saturating_sub(units.iter().map(|unit| unit.codes * least).sum());
    let mut chosen = vec![0; units.len()];
    if left > 0 {
        let mut steps = Vec::with_capacity(units.len() * (widths.len() - 1));
        for (unit, &Unit { weight, codes }) in units.iter().enumerate() {
            for (at, (width, error)) in widths.windows(2).zip(errors.windows(2)).enumerate() {
                let cost = f64::from(width[1] - width[0]);
                steps.push(Step {
                    gain: weight * (error[0] - error[1]) / (cost * codes.max(1) as f64),
                    unit: unit as u32,
                    at: at as u32,
                    cost: usize::from(width[1] - width[0]) * codes,
                });
            }
        }
        take(&mut steps, left, &mut chosen);
    }
    chosen
}

/// Takes steps in the order of what they gain, each that `left` bits are enough for; returns what is left then. A unit's steps gain ever less and cost
/// ever more, so none is taken without those before it.
fn take(steps: &mut [Step], left: usize, chosen: &mut [usize]) -> usize {
    let (mut steps, mut left) = (steps, left);
    loop {
        // What does not fit any more leaves the bits to a smaller step of another unit.
        let mut fitting = 0;
        for i in 0..steps.len() {
            if steps[i].cost <= left {
                steps.swap(fitting, i);
                fitting += 1;
            }
        }
        steps = &mut steps[..fitting];
        let cost: usize = steps.iter().map(|step| step.cost).sum();
        if cost <= left {
            steps.iter().for_each(|step| chosen[step.unit as usize] += 1);
            return left - cost;
        }
        // Of equal gains the first unit's, so that the result is one and the same everywhere.
        let half = steps.len() / 2;
        steps.select_nth_unstable_by(half, |a, b| {
            b.gain.total_cmp(&a.gain).then(a.unit.cmp(&b.unit)).then(a.at.cmp(&b.at))
        });
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
