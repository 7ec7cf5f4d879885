//! Trellis-coded quantization (as VVC's "dependent quantization"): the cheapest path through four states, for many channels side
//! by side.
//!
//! Values come in units of half a step. States 0 and 1 use quantizer 0, whose points are the even numbers 2*k*; states 2 and 3 use
//! quantizer 1, whose points are zero and the odd numbers 2*k* − sgn *k*. The parity of the code *k* picks the next state
//! ([`NEXT_STATE`]). So any path has the rate of a step and nearly the distortion of half of it.

use multiversion::multiversion;

use super::LANES;

/// `[state][parity of the code]`.
pub const NEXT_STATE: [[u8; 2]; 4] = [[0, 2], [2, 0], [1, 3], [3, 1]];

/// The nearest whole number, halves to even, for magnitudes below 2²²: an addition that every machine does alike.
const TO_WHOLE: f32 = 12_582_912.0;

/// Beyond this nothing is told apart; steps are chosen so that nothing is.
const LARGEST: f32 = 2_097_152.0;

/// Costs grow with every token; they are brought back before they are large enough to be coarse.
const RENORMALIZE_EVERY: usize = 256;

#[inline(always)]
fn whole(x: f32) -> f32 {
    (x + TO_WHOLE) - TO_WHOLE
}

/// Towards zero by `threshold`, which is what a cost of bits that grows with the magnitude comes to; and within bounds.
#[inline(always)]
fn shrunk(x: f32, threshold: f32) -> f32 {
    let magnitude = x.abs() - threshold;
    let magnitude = if magnitude > 0.0 { magnitude } else { 0.0 };
    let magnitude = if magnitude < LARGEST { magnitude } else { LARGEST };
    if x < 0.0 { -magnitude } else { magnitude }
}

/// The nearest point of each set: quantizer 0 with an even and with an odd code, quantizer 1 with an even and with an odd code.
#[inline(always)]
fn nearest(x: f32) -> [f32; 4] {
    let even = 4.0 * whole(x * 0.25);
    let odd = 4.0 * whole((x - 2.0) * 0.25) + 2.0;
    let magnitude = x.abs();
    let three = 4.0 * whole((magnitude + 1.0) * 0.25) - 1.0;
    let three = if three < 3.0 { 3.0 } else { three };
    let three = if magnitude < 1.5 { 0.0 } else { three };
    let one = 4.0 * whole((magnitude - 1.0) * 0.25) + 1.0;
    let one = if one < 1.0 { 1.0 } else { one };
    let sign = if x < 0.0 { -1.0 } else { 1.0 };
    [even, odd, sign * three, sign * one]
}

/// Memory that a caller keeps from one call to the next.
#[derive(Default)]
pub struct TrellisRoom {
    /// `[tokens, lanes]`: for each state, which of its two predecessors was cheaper; then the path's quantizer and parity.
    steps: Vec<u8>,
}

/// Codes of `x`, `[tokens, lanes]` in half steps with `lanes` a multiple of [`LANES`]; every lane starts in state 0. `thresholds`,
/// `[lanes]`, is what magnitudes are made smaller by before a point is chosen. Writes `codes` and `odd` (the code's quantizer, 0
/// or 1), both `[tokens, lanes]`.
pub fn trellis_codes(x: &[f32], thresholds: &[f32], codes: &mut [i32], odd: &mut [u8], room: &mut TrellisRoom) {
    room.steps.clear();
    room.steps.resize(x.len(), 0);
    for block in 0..thresholds.len() / LANES {
        let mut state = forward(x, thresholds, block, &mut room.steps);
        backward(thresholds.len(), block, &mut state, &mut room.steps);
    }
    choose(x, thresholds, &room.steps, codes, odd);
}

/// Costs of all paths of one block of lanes; the state of the cheapest for each lane.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn forward(x: &[f32], thresholds: &[f32], block: usize, steps: &mut [u8]) -> [u8; LANES] {
    let width = thresholds.len();
    let first = block * LANES;
    let Some(threshold) = thresholds[first..].first_chunk::<LANES>() else { return [0; LANES] };
    let mut costs = [[f32::MAX / 4.0; LANES]; 4];
    costs[0] = [0.0; LANES];
    for (t, (x, steps)) in x.chunks_exact(width).zip(steps.chunks_exact_mut(width)).enumerate() {
        let (Some(x), Some(steps)) = (x[first..].first_chunk::<LANES>(), steps[first..].first_chunk_mut::<LANES>())
        else {
            break;
        };
        for i in 0..LANES {
            let value = shrunk(x[i], threshold[i]);
            let points = nearest(value);
            let d = points.map(|point| (value - point) * (value - point));
            let [c0, c1, c2, c3] = [costs[0][i], costs[1][i], costs[2][i], costs[3][i]];
            // Each state can be reached from two, by codes of one parity each.
            let (a0, b0) = (c0 + d[0], c1 + d[1]);
            let (a1, b1) = (c2 + d[2], c3 + d[3]);
            let (a2, b2) = (c0 + d[1], c1 + d[0]);
            let (a3, b3) = (c2 + d[3], c3 + d[2]);
            costs[0][i] = if b0 < a0 { b0 } else { a0 };
            costs[1][i] = if b1 < a1 { b1 } else { a1 };
            costs[2][i] = if b2 < a2 { b2 } else { a2 };
            costs[3][i] = if b3 < a3 { b3 } else { a3 };
            steps[i] = u8::from(b0 < a0) | u8::from(b1 < a1) << 1 | u8::from(b2 < a2) << 2 | u8::from(b3 < a3) << 3;
        }
        if t % RENORMALIZE_EVERY == RENORMALIZE_EVERY - 1 {
            let least = costs[0];
            for cost in &mut costs {
                for i in 0..LANES {
                    cost[i] -= least[i];
                }
            }
        }
    }
    let mut best = [0; LANES];
    for i in 0..LANES {
        for state in 1..4 {
            if costs[state][i] < costs[usize::from(best[i])][i] {
                best[i] = state as u8;
            }
        }
    }
    best
}

/// From the last token to the first: each token's quantizer and parity take the place of its decisions.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn backward(width: usize, block: usize, state: &mut [u8; LANES], steps: &mut [u8]) {
    let first = block * LANES;
    for steps in steps.chunks_exact_mut(width).rev() {
        let Some(steps) = steps[first..].first_chunk_mut::<LANES>() else { break };
        for i in 0..LANES {
            let (low, high) = (state[i] & 1, state[i] >> 1);
            let mask = (1 + low) * (1 + 3 * high);
            let second = u8::from(steps[i] & mask != 0);
            // Predecessors of states 0 and 2 are 0 and 1, of states 1 and 3 they are 2 and 3.
            state[i] = 2 * low + second;
            steps[i] = 2 * low + (second ^ high);
        }
    }
}

/// The code that each step of the path stands for.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn choose(x: &[f32], thresholds: &[f32], steps: &[u8], codes: &mut [i32], odd: &mut [u8]) {
    let width = thresholds.len();
    let rows = x.chunks_exact(width).zip(steps.chunks_exact(width));
    let out = codes.chunks_exact_mut(width).zip(odd.chunks_exact_mut(width));
    for ((x, steps), (codes, odd)) in rows.zip(out) {
        for i in 0..width {
            let points = nearest(shrunk(x[i], thresholds[i]));
            let even_quantizer = if steps[i] & 1 == 0 { points[0] } else { points[1] };
            let odd_quantizer = if steps[i] & 1 == 0 { points[2] } else { points[3] };
            let sign = if odd_quantizer > 0.0 {
                1.0
            } else if odd_quantizer < 0.0 {
                -1.0
            } else {
                0.0
            };
            let twice = if steps[i] & 2 == 0 { even_quantizer } else { odd_quantizer + sign };
            codes[i] = (twice * 0.5) as i32;
            odd[i] = steps[i] >> 1;
        }
    }
}

/// The point of a code in half steps. What damaged bytes say may be any number, so that nothing here may overflow.
#[inline(always)]
pub fn point(code: i32, odd: u8) -> i32 {
    code.wrapping_mul(2).wrapping_sub(i32::from(odd) * code.signum())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All paths of a short sequence.
    fn cheapest(x: &[f32]) -> f32 {
        fn from(x: &[f32], state: usize) -> f32 {
            let Some((&value, rest)) = x.split_first() else { return 0.0 };
            let odd = u8::from(state >= 2);
            (-6..=6)
                .map(|code: i32| {
                    let off = value - point(code, odd) as f32;
                    off * off + from(rest, usize::from(NEXT_STATE[state][(code & 1) as usize]))
                })
                .fold(f32::MAX, f32::min)
        }
        from(x, 0)
    }

    #[test]
    fn points_of_any_codes_are_numbers() {
        assert_eq!([point(3, 0), point(3, 1), point(-3, 1), point(0, 1)], [6, 5, -5, 0]);
        assert_eq!((point(i32::MAX, 0), point(i32::MIN, 1)), (-2, 1));
    }

    #[test]
    fn the_path_is_the_cheapest_of_all_and_its_quantizers_follow_from_its_codes() {
        let tokens = 4;
        let mut seed = 1u32;
        let x: Vec<f32> = (0..tokens * LANES)
            .map(|_| {
                seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (seed >> 8) as f32 / (1 << 24) as f32 * 12.0 - 6.0
            })
            .collect();
        let (mut codes, mut odd) = (vec![0; x.len()], vec![0; x.len()]);
        trellis_codes(&x, &[0.0; LANES], &mut codes, &mut odd, &mut TrellisRoom::default());
        for lane in 0..LANES {
            let mut state = 0u8;
            let mut cost = 0.0;
            for t in 0..tokens {
                let at = t * LANES + lane;
                assert_eq!(odd[at], state >> 1);
                let off = x[at] - point(codes[at], odd[at]) as f32;
                cost += off * off;
                state = NEXT_STATE[usize::from(state)][(codes[at] & 1) as usize];
            }
            let values: Vec<f32> = (0..tokens).map(|t| x[t * LANES + lane]).collect();
            assert!((cost - cheapest(&values)).abs() < 1e-4, "lane {lane}: {cost} {}", cheapest(&values));
        }
    }
}
