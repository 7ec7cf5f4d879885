//! The scale and zero of least squared error, for sixteen groups at a time.

use multiversion::multiversion;

use super::LANES;
use super::convert::near_f16;
use super::scales::{SmallGrid, rounded_pair};
use super::stripes::Stripe;

/// What scales and zeros are rounded to.
#[derive(Clone, Copy)]
pub enum Grid {
    /// As float16.
    Float16,
    /// 8 bits under this super-scale.
    Small(f32),
}

/// Passes of least squares from each start: codes and fit settle in two or three.
const PASSES: usize = 2;

/// Shares of the range to start from: so many, and of each group which. Few levels are worth clipping more for.
const STARTS: usize = 3;
#[inline(always)]
fn starts(levels: f32) -> [f32; STARTS] {
    if levels <= 7.0 {
        [1.0, 0.85, 0.7]
    } else if levels <= 15.0 {
        [1.0, 0.88, 1.0]
    } else {
        [1.0; STARTS]
    }
}

/// A small zero is rounded down by up to a unit, which must not leave the largest value outside. A unit is 1/32 of the range.
const COVERING: f32 = 32.0 / 31.0;

/// The scale that covers a range, before it is rounded to 8 bits.
#[inline(always)]
pub fn range_scale(spread: f32, levels: f32) -> f32 {
    spread / levels * COVERING
}

/// The scale and zero that cover a range, rounded; an empty one (`low > high`) is a group whose values are all left out.
#[inline(always)]
fn covering(low: f32, high: f32, levels: f32, unit: f32, grid: Grid) -> (f32, f32) {
    let (low, high) = if high >= low { (low, high) } else { (0.0, 0.0) };
    match grid {
        Grid::Float16 => {
            let scale = near_f16((high - low) / levels);
            // A constant group (or one narrower than float16 can say) has only code 0; any positive scale will do.
            (if scale <= 0.0 { 1.0 } else { scale }, near_f16(low))
        }
        Grid::Small(super_scale) => {
            let grid = SmallGrid { super_scale, zero_unit: unit };
            rounded_pair(range_scale(high - low, levels), low, grid, true)
        }
    }
}

/// Scales and zeros that cover each range, rounded to `grid`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn cover(low: &[f32], high: &[f32], levels: f32, unit: f32, grid: Grid, scale: &mut [f32], zero: &mut [f32]) {
    for (((&low, &high), scale), zero) in low.iter().zip(high).zip(scale).zip(zero) {
        (*scale, *zero) = covering(low, high, levels, unit, grid);
    }
}

/// Scales and zeros of sixteen groups: those that cover their ranges or, with `least_squares`, others whose error is smaller. Rounded to `grid`;
/// `units` are the steps of their zeros there. Values are the first [`LANES`] of every `stride`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn stripe_scales(
    values: &[f32],
    stride: usize,
    levels: &Stripe,
    units: &Stripe,
    grid: Grid,
    least_squares: bool,
) -> (Stripe, Stripe) {
    let values = Stripes { values, stride };
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    let mut count = [0.0f32; LANES];
    for x in values.each() {
        for i in 0..LANES {
            least[i] = if x[i] < least[i] { x[i] } else { least[i] };
            most[i] = if x[i] > most[i] { x[i] } else { most[i] };
            count[i] += if x[i].is_nan() { 0.0 } else { 1.0 };
        }
    }
    let (mut scale, mut zero) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        (scale[i], zero[i]) = covering(least[i], most[i], levels[i], units[i], grid);
    }
    if !least_squares {
        return (scale, zero);
    }
    let mut best = error(values, levels, &scale, &zero);
    for start in 0..STARTS {
        let shares: Stripe = std::array::from_fn(|i| starts(levels[i])[start]);
        if start > 0 && shares.iter().all(|&share| share == 1.0) {
            break;
        }
        let (mut s, mut z) = (scale, zero);
        for i in 0..LANES {
            let spread = (most[i] - least[i]) * shares[i];
            if spread > 0.0 {
                s[i] = spread / levels[i];
                z[i] = least[i] + ((most[i] - least[i]) - spread) * 0.5;
            }
        }
        for _ in 0..PASSES {
            improve(values, levels, &count, &mut s, &mut z);
        }
        for i in 0..LANES {
            (s[i], z[i]) = match grid {
                Grid::Float16 => {
                    let rounded = near_f16(s[i]);
                    (if rounded > 0.0 { rounded } else { 1.0 }, near_f16(z[i]))
                }
                Grid::Small(super_scale) => {
                    rounded_pair(s[i], z[i], SmallGrid { super_scale, zero_unit: units[i] }, false)
                }
            };
        }
        let found = error(values, levels, &s, &z);
        for i in 0..LANES {
            // Who has tried the whole range tries nothing else by it.
            let better = found[i] < best[i] && (start == 0 || shares[i] != 1.0);
            best[i] = if better { found[i] } else { best[i] };
            scale[i] = if better { s[i] } else { scale[i] };
            zero[i] = if better { z[i] } else { zero[i] };
        }
    }
    (scale, zero)
}

/// Stripes that begin so many values after each other.
#[derive(Clone, Copy)]
struct Stripes<'a> {
    values: &'a [f32],
    stride: usize,
}

impl<'a> Stripes<'a> {
    #[inline(always)]
    fn each(self) -> impl Iterator<Item = &'a Stripe> {
        self.values.chunks(self.stride).filter_map(|row| row.first_chunk())
    }
}

#[inline(always)]
fn code(distance: f32, inverse: f32, levels: f32) -> f32 {
    /// Adding 2²³ to a float in `[0, 2²³)` and taking it away rounds it to a whole number.
    const ROUNDING: f32 = 8_388_608.0;
    let v = distance * inverse;
    let v = if v > 0.0 { v } else { 0.0 };
    let v = if v < levels { v } else { levels };
    (v + ROUNDING) - ROUNDING
}

/// Least squares of scale and zero for the codes that they give.
#[inline(always)]
fn improve(values: Stripes, levels: &Stripe, count: &Stripe, scale: &mut Stripe, zero: &mut Stripe) {
    let mut inverse = [0.0; LANES];
    for i in 0..LANES {
        inverse[i] = 1.0 / scale[i];
    }
    let (mut c1, mut c2, mut y1, mut cy) = ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for x in values.each() {
        for i in 0..LANES {
            // Distances from the present zero, which keeps the sums small.
            let y = if x[i].is_nan() { 0.0 } else { x[i] - zero[i] };
            let c = code(y, inverse[i], levels[i]);
            c1[i] += c;
            c2[i] += c * c;
            y1[i] += y;
            cy[i] += c * y;
        }
    }
    for i in 0..LANES {
        let share = 1.0 / count[i];
        let variance = c2[i] - c1[i] * c1[i] * share;
        let slope = (cy[i] - c1[i] * y1[i] * share) / variance;
        let moved = zero[i] + (y1[i] - slope * c1[i]) * share;
        // Without values, or with one code only, there is nothing to fit.
        let usable = variance > 0.0 && slope > 0.0 && slope < f32::INFINITY && moved.abs() < f32::INFINITY;
        scale[i] = if usable { slope } else { scale[i] };
        zero[i] = if usable { moved } else { zero[i] };
    }
}

/// Squared errors.
#[inline(always)]
fn error(values: Stripes, levels: &Stripe, scale: &Stripe, zero: &Stripe) -> Stripe {
    let mut inverse = [0.0; LANES];
    for i in 0..LANES {
        inverse[i] = 1.0 / scale[i];
    }
    let mut sum = [0.0f32; LANES];
    for x in values.each() {
        for i in 0..LANES {
            let c = code(x[i] - zero[i], inverse[i], levels[i]);
            let off = x[i] - (c * scale[i] + zero[i]);
            sum[i] += if x[i].is_nan() { 0.0 } else { off * off };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripes_of(values: &[f32]) -> Vec<f32> {
        let lane = |x: f32, i: usize| if i % 3 == 2 { f32::NAN } else { x * (1.0 + i as f32) };
        values.iter().flat_map(|&x| (0..LANES).map(move |i| lane(x, i))).collect()
    }

    #[test]
    fn a_far_value_is_clipped_where_that_pays_and_what_is_left_out_does_not_count() {
        // Bell-shaped, so that the ends are thin.
        let bell: Vec<f32> = (1..64)
            .map(|i| {
                let p = i as f32 / 64.0;
                (p / (1.0 - p)).ln()
            })
            .collect();
        let values = stripes_of(&bell);
        let (levels, units) = ([3.0; LANES], [3.0 / 32.0; LANES]);
        for grid in [Grid::Float16, Grid::Small(8.0)] {
            let all = Stripes { values: &values, stride: LANES };
            let [before, after] = [false, true].map(|least_squares| {
                let (scale, zero) = stripe_scales(&values, LANES, &levels, &units, grid, least_squares);
                error(all, &levels, &scale, &zero)
            });
            for i in 0..LANES {
                if i % 3 == 2 {
                    assert_eq!((before[i], after[i]), (0.0, 0.0));
                } else {
                    assert!(after[i] < 0.8 * before[i], "lane {i}: {} became {}", before[i], after[i]);
                }
            }
        }
    }

    #[test]
    fn groups_side_by_side_get_what_each_gets_alone() {
        let mut values: Vec<f32> =
            (0..40 * LANES).map(|i| (i as f32 * 0.77).sin() * (1.0 + (i % LANES) as f32)).collect();
        values[3] = 20.0;
        let levels: Stripe = std::array::from_fn(|i| [255.0, 63.0, 15.0, 7.0, 3.0, 1.0][i * 6 / LANES]);
        let units = levels.map(|levels| levels / 32.0);
        let (scale, zero) = stripe_scales(&values, LANES, &levels, &units, Grid::Small(16.0), true);
        for i in 0..LANES {
            let alone: Vec<f32> = values.chunks(LANES).flat_map(|row| [row[i]; LANES]).collect();
            let all = ([levels[i]; LANES], [units[i]; LANES]);
            let (s, z) = stripe_scales(&alone, LANES, &all.0, &all.1, Grid::Small(16.0), true);
            assert_eq!((scale[i], zero[i]), (s[i], z[i]), "lane {i}");
        }
    }
}
