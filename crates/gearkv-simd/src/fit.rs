//! The scale and zero of least squared error, for sixteen groups at a time.

use multiversion::multiversion;

use super::LANES;
use super::convert::near_f16;
use super::level::level;
use super::range::one_where_known;
use super::scales::{SmallGrid, rounded_pair};
use super::stripes::Stripe;
use super::vector::{Vector, kernel};

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
pub fn stripe_scales(
    values: &[f32],
    stride: usize,
    levels: &Stripe,
    units: &Stripe,
    grid: Grid,
    least_squares: bool,
) -> (Stripe, Stripe) {
    let values = Stripes { values, stride };
    if least_squares {
        fitted(level(), values, levels, units, grid)
    } else {
        covered(level(), values, levels, units, grid)
    }
}

kernel!(
    fn covered(values: Stripes, levels: &Stripe, units: &Stripe, grid: Grid) -> (Stripe, Stripe) = cover_stripes
);
kernel!(
    fn fitted(values: Stripes, levels: &Stripe, units: &Stripe, grid: Grid) -> (Stripe, Stripe) = fit_stripes
);

#[inline(always)]
unsafe fn cover_stripes<V: Vector>(values: Stripes, levels: &Stripe, units: &Stripe, grid: Grid) -> (Stripe, Stripe) {
    // SAFETY: as the caller vouches for.
    let (least, most) = unsafe { ranges::<V>(values) };
    covering_stripes(&least, &most, levels, units, grid)
}

#[inline(always)]
fn covering_stripes(least: &Stripe, most: &Stripe, levels: &Stripe, units: &Stripe, grid: Grid) -> (Stripe, Stripe) {
    let (mut scale, mut zero) = ([0.0; LANES], [0.0; LANES]);
    for i in 0..LANES {
        (scale[i], zero[i]) = covering(least[i], most[i], levels[i], units[i], grid);
    }
    (scale, zero)
}

#[inline(always)]
unsafe fn fit_stripes<V: Vector>(values: Stripes, levels: &Stripe, units: &Stripe, grid: Grid) -> (Stripe, Stripe) {
    // SAFETY: as the caller vouches for.
    unsafe {
        let (least, most) = ranges::<V>(values);
        let count = counts::<V>(values);
        let first = covering_stripes(&least, &most, levels, units, grid);
        let number = values.each().count() as f32;
        let known = (&least, &most, &count);
        // WebAssembly is downloaded: once is enough there.
        if !cfg!(target_arch = "wasm32") && count.iter().all(|&count| count == number) {
            refine::<V, true>(values, (levels, units, grid), known, first)
        } else {
            refine::<V, false>(values, (levels, units, grid), known, first)
        }
    }
}

/// Smallest and largest values, and
#[inline(always)]
unsafe fn ranges<V: Vector>(values: Stripes) -> (Stripe, Stripe) {
    // SAFETY: stripes are as long as a register.
    unsafe {
        let (mut least, mut most) = (V::every(f32::INFINITY), V::every(f32::NEG_INFINITY));
        for x in values.each() {
            let x = V::floats(x.as_ptr());
            (least, most) = (V::smaller(x, least), V::larger(x, most));
        }
        (stripe::<V>(least), stripe::<V>(most))
    }
}

/// how many there are that are not left out.
#[inline(always)]
unsafe fn counts<V: Vector>(values: Stripes) -> Stripe {
    // SAFETY: stripes are as long as a register.
    unsafe {
        let mut count = V::every(0.0);
        for x in values.each() {
            count = V::plus(count, one_where_known::<V>(V::floats(x.as_ptr())));
        }
        stripe::<V>(count)
    }
}

#[inline(always)]
unsafe fn stripe<V: Vector>(x: V::Floats) -> Stripe {
    let mut stripe = [0.0; LANES];
    // SAFETY: a stripe is as long as a register.
    unsafe { V::put(x, stripe.as_mut_ptr()) };
    stripe
}

/// What has a smaller error than a scale and zero that cover the range. `WHOLE`: no value is left out.
#[inline(always)]
unsafe fn refine<V: Vector, const WHOLE: bool>(
    values: Stripes,
    (levels, units, grid): (&Stripe, &Stripe, Grid),
    (least, most, count): (&Stripe, &Stripe, &Stripe),
    (mut scale, mut zero): (Stripe, Stripe),
) -> (Stripe, Stripe) {
    // SAFETY: as the caller vouches for.
    let mut best = unsafe { error::<V, WHOLE>(values, levels, &scale, &zero) };
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
            // SAFETY: as the caller vouches for.
            unsafe { improve::<V, WHOLE>(values, levels, count, &mut s, &mut z) };
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
        // SAFETY: as the caller vouches for.
        let found = unsafe { error::<V, WHOLE>(values, levels, &s, &z) };
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
unsafe fn code<V: Vector>(distance: V::Floats, inverse: V::Floats, levels: V::Floats) -> V::Floats {
    /// Adding 2²³ to a float in `[0, 2²³)` and taking it away rounds it to a whole number.
    const ROUNDING: f32 = 8_388_608.0;
    // SAFETY: nothing but registers.
    unsafe {
        let v = V::smaller(V::larger(V::times(distance, inverse), V::every(0.0)), levels);
        V::minus(V::plus(v, V::every(ROUNDING)), V::every(ROUNDING))
    }
}

/// Least squares of scale and zero for the codes that they give.
#[inline(always)]
unsafe fn improve<V: Vector, const WHOLE: bool>(
    values: Stripes,
    levels: &Stripe,
    count: &Stripe,
    scale: &mut Stripe,
    zero: &mut Stripe,
) {
    let inverse = scale.map(|scale| 1.0 / scale);
    // SAFETY: stripes are as long as a register.
    let [c1, c2, y1, cy] = unsafe {
        let (inverse, levels, zero) =
            (V::floats(inverse.as_ptr()), V::floats(levels.as_ptr()), V::floats(zero.as_ptr()));
        let [mut c1, mut c2, mut y1, mut cy] = [V::every(0.0); 4];
        for x in values.each() {
            // Distances from the present zero, which keeps the sums small.
            let y = V::minus(V::floats(x.as_ptr()), zero);
            let y = if WHOLE { y } else { V::known(y) };
            let c = code::<V>(y, inverse, levels);
            c1 = V::plus(c1, c);
            c2 = V::plus(c2, V::times(c, c));
            y1 = V::plus(y1, y);
            cy = V::plus(cy, V::times(c, y));
        }
        [stripe::<V>(c1), stripe::<V>(c2), stripe::<V>(y1), stripe::<V>(cy)]
    };
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
unsafe fn error<V: Vector, const WHOLE: bool>(
    values: Stripes,
    levels: &Stripe,
    scale: &Stripe,
    zero: &Stripe,
) -> Stripe {
    let inverse = scale.map(|scale| 1.0 / scale);
    // SAFETY: stripes are as long as a register.
    unsafe {
        let (inverse, levels) = (V::floats(inverse.as_ptr()), V::floats(levels.as_ptr()));
        let (scale, zero) = (V::floats(scale.as_ptr()), V::floats(zero.as_ptr()));
        let mut sum = V::every(0.0);
        for x in values.each() {
            let x = V::floats(x.as_ptr());
            let c = code::<V>(V::minus(x, zero), inverse, levels);
            let off = V::minus(x, V::plus(V::times(c, scale), zero));
            let off = if WHOLE { off } else { V::known(off) };
            sum = V::plus(sum, V::times(off, off));
        }
        stripe::<V>(sum)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels as every_level;

    kernel!(
        fn squared_error(values: Stripes, levels: &Stripe, scale: &Stripe, zero: &Stripe) -> Stripe = error_of_some
    );

    #[inline(always)]
    unsafe fn error_of_some<V: Vector>(values: Stripes, levels: &Stripe, scale: &Stripe, zero: &Stripe) -> Stripe {
        // SAFETY: as the caller vouches for.
        unsafe { error::<V, false>(values, levels, scale, zero) }
    }

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
                squared_error(level(), all, &levels, &scale, &zero)
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

    #[test]
    fn every_instruction_set_fits_alike() {
        for missing in [false, true] {
            let mut x: Vec<f32> = (0..64 * 48).map(|i| (i as f32 * 0.77).sin() * (1.0 + (i % 7) as f32)).collect();
            if missing {
                x.iter_mut().skip(5).step_by(11).for_each(|x| *x = f32::NAN);
                x.iter_mut().skip(3).step_by(48).for_each(|x| *x = f32::NAN);
            }
            let levels: Stripe = std::array::from_fn(|i| [255.0, 63.0, 15.0, 7.0, 3.0, 1.0][i * 6 / LANES]);
            let units = levels.map(|levels| levels / 32.0);
            let values = Stripes { values: &x, stride: 48 };
            for grid in [Grid::Float16, Grid::Small(16.0)] {
                let found: Vec<_> = every_level()
                    .into_iter()
                    .flat_map(|level| {
                        [fitted(level, values, &levels, &units, grid), covered(level, values, &levels, &units, grid)]
                    })
                    .collect();
                for (i, pair) in found.iter().enumerate() {
                    assert_eq!(pair, &found[i % 2]);
                }
            }
        }
    }
}
