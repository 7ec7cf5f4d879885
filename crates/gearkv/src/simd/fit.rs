//! The scale and zero of least squared error, for sixteen groups at a time.

use multiversion::multiversion;

use super::LANES;
use super::convert::rounded_to_f16;
use super::scales::{SmallGrid, rounded_pair};

/// One value of each of sixteen groups; NaN where a value is left out or there is no group.
pub(crate) type Stripe = [f32; LANES];

/// What scales and zeros are rounded to.
#[derive(Clone, Copy)]
pub(crate) enum Grid {
    Float16,
    Small(SmallGrid),
}

/// Passes of least squares from each start: codes and fit settle in two or three.
const PASSES: usize = 2;

/// Shares of the range to start from. Few levels are worth clipping more for.
fn starts(levels: f32) -> &'static [f32] {
    if levels <= 7.0 {
        &[1.0, 0.85, 0.7]
    } else if levels <= 15.0 {
        &[1.0, 0.88]
    } else {
        &[1.0]
    }
}

/// Improves `scale` and `zero`, which cover the groups' ranges and are rounded to `grid` already. The result is rounded, too,
/// and its error is never larger.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn fit_stripe(values: &[Stripe], levels: f32, grid: Grid, scale: &mut Stripe, zero: &mut Stripe) {
    let (mut least, mut most) = ([f32::INFINITY; LANES], [f32::NEG_INFINITY; LANES]);
    for x in values {
        for i in 0..LANES {
            least[i] = if x[i] < least[i] { x[i] } else { least[i] };
            most[i] = if x[i] > most[i] { x[i] } else { most[i] };
        }
    }
    let mut best = error(values, levels, scale, zero);
    for share in starts(levels) {
        let (mut s, mut z) = (*scale, *zero);
        for i in 0..LANES {
            let spread = (most[i] - least[i]) * share;
            if spread > 0.0 {
                s[i] = spread / levels;
                z[i] = least[i] + ((most[i] - least[i]) - spread) * 0.5;
            }
        }
        for _ in 0..PASSES {
            improve(values, levels, &mut s, &mut z);
        }
        for i in 0..LANES {
            (s[i], z[i]) = match grid {
                Grid::Float16 => {
                    let rounded = rounded_to_f16(s[i]);
                    (if rounded > 0.0 { rounded } else { 1.0 }, rounded_to_f16(z[i]))
                }
                Grid::Small(grid) => rounded_pair(s[i], z[i], grid, false),
            };
        }
        let found = error(values, levels, &s, &z);
        for i in 0..LANES {
            let better = found[i] < best[i];
            best[i] = if better { found[i] } else { best[i] };
            scale[i] = if better { s[i] } else { scale[i] };
            zero[i] = if better { z[i] } else { zero[i] };
        }
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
fn improve(values: &[Stripe], levels: f32, scale: &mut Stripe, zero: &mut Stripe) {
    let mut inverse = [0.0; LANES];
    for i in 0..LANES {
        inverse[i] = 1.0 / scale[i];
    }
    let (mut n, mut c1, mut c2, mut y1, mut cy) =
        ([0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES], [0.0f32; LANES]);
    for x in values {
        for i in 0..LANES {
            // Distances from the present zero, which keeps the sums small.
            let there = !x[i].is_nan();
            let y = if there { x[i] - zero[i] } else { 0.0 };
            let c = code(y, inverse[i], levels);
            n[i] += if there { 1.0 } else { 0.0 };
            c1[i] += c;
            c2[i] += c * c;
            y1[i] += y;
            cy[i] += c * y;
        }
    }
    for i in 0..LANES {
        let share = 1.0 / n[i];
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
fn error(values: &[Stripe], levels: f32, scale: &Stripe, zero: &Stripe) -> Stripe {
    let mut inverse = [0.0; LANES];
    for i in 0..LANES {
        inverse[i] = 1.0 / scale[i];
    }
    let mut sum = [0.0f32; LANES];
    for x in values {
        for i in 0..LANES {
            let c = code(x[i] - zero[i], inverse[i], levels);
            let off = x[i] - (c * scale[i] + zero[i]);
            sum[i] += if x[i].is_nan() { 0.0 } else { off * off };
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stripe_of(values: &[f32]) -> Vec<Stripe> {
        values
            .iter()
            .map(|&x| std::array::from_fn(|i| if i % 3 == 2 { f32::NAN } else { x * (1.0 + i as f32) }))
            .collect()
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
        let values = stripe_of(&bell);
        let (lo, hi) = (bell[0], bell[62]);
        let mut scale: Stripe = std::array::from_fn(|i| rounded_to_f16((hi - lo) * (1.0 + i as f32) / 3.0));
        let mut zero: Stripe = std::array::from_fn(|i| rounded_to_f16(lo * (1.0 + i as f32)));
        let before = error(&values, 3.0, &scale, &zero);
        fit_stripe(&values, 3.0, Grid::Float16, &mut scale, &mut zero);
        let after = error(&values, 3.0, &scale, &zero);
        for i in 0..LANES {
            if i % 3 == 2 {
                assert_eq!((before[i], after[i]), (0.0, 0.0));
            } else {
                assert!(after[i] < 0.8 * before[i], "lane {i}: {} became {}", before[i], after[i]);
            }
        }
    }
}
