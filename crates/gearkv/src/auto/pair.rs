//! One stock of bytes for the keys and the values of a layer.
//!
//! Where queries are known, both errors are measured in what they do to attention's output, to first order: with weights `p`, an
//! error `e` of a value moves it by `p e`, and one of a key by `p (q·e) (v − o)`. Where they are not, relative errors are
//! added up, and keys weigh so much more that the fixed presets' split is about the best for a layer like most.

use crate::config::GearConfig;
use crate::error::{Cancel, Result};
use crate::need::Survey;
use crate::parallel;
use crate::tensor::GearTensor;

use super::choice::{LEAST, Limit, MOST, STEP, Scaled, down, explore, fit_bytes};
use super::trial::{Candidate, Run, Sample, TokenWeights, Trial};

/// Weight of a token that no query looked at, as a share of the mean: later ones may.
const LEAST_WEIGHT: f32 = 0.1;

/// What a squared relative error of keys weighs beside one of values where no query is known.
const KEY_WEIGHT: f64 = 6.0;

/// Bits that go from values to keys or back, tried from large to small.
const SHIFTS: [f64; 3] = [0.5, 0.25, 0.125];
/// The most of them: what the queries of one moment say is a hint, not the truth.
const FURTHEST: f64 = 1.0;

/// Configurations of a layer's keys and values that share what both may take; `None` where they do not choose together for a size.
///
/// # Errors
/// `ABORTED`.
pub(crate) fn share(
    key: &GearTensor,
    value: &GearTensor,
    survey: Option<&Survey>,
    cancel: Cancel,
) -> Result<Option<(GearConfig, GearConfig)>> {
    let sized =
        |tensor: &GearTensor| tensor.is_undecided() && tensor.is_full() && tensor.config().max_bits_per_element != 0.0;
    let ((key_rows, tokens), (value_rows, value_tokens)) = (key.first_run(), value.first_run());
    if !sized(key) || !sized(value) || tokens != value_tokens {
        return Ok(None);
    }
    let limits = [key.byte_limit(tokens), value.byte_limit(tokens)];
    let runs = [key.run(&key_rows, tokens, survey), value.run(&value_rows, tokens, survey)];
    let configs = [key.config(), value.config()];
    let samples = [0, 1].map(|side| Sample::of(&runs[side], configs[side].threads));
    let small = [0, 1].map(|side| samples[side].as_ref().map_or(runs[side], |sample| sample.run(&runs[side])));
    let weights = token_weights(&small[0], &small[1], configs[0].threads);
    let [key_weights, value_weights] = match weights {
        Some([key, value]) => [Some(key), Some(value)],
        None => [None, None],
    };
    let from_buffer = key.comes_from_buffer(tokens);
    let trials = [
        Trial { run: small[0], config: configs[0], from_buffer, weights: key_weights, cancel },
        Trial { run: small[1], config: configs[1], from_buffer, weights: value_weights, cancel },
    ];
    let chosen = split(&trials, &runs, limits)?;

    // Keys take what was meant for them, values all that keys left.
    let whole = [0, 1].map(|side| Trial { run: runs[side], weights: None, ..trials[side] });
    let both = limits[0] + limits[1];
    let least = whole[1].bytes(Candidate { mean_bits: LEAST, ..chosen[1] })?;
    let keys =
        if whole[0].bytes(chosen[0])? + least > both { fit_bytes(&whole[0], chosen[0], limits[0])? } else { chosen[0] };
    let values = fit_bytes(&whole[1], chosen[1], both - whole[0].bytes(keys)?)?;
    Ok(Some((keys.of(configs[0]), values.of(configs[1]))))
}

/// How much a token's error weighs in attention's output, in keys and in values.
fn token_weights(keys: &Run, values: &Run, threads: u32) -> Option<[TokenWeights; 2]> {
    let need = keys.need?;
    let (tokens, dim) = (values.tokens, values.dim);
    let found = parallel::map(values.planes(), threads, |plane| {
        let looked = need.weights(plane, tokens);
        let mean = looked.iter().sum::<f32>() / tokens.max(1) as f32;
        let of_values: Vec<f32> = looked.iter().map(|w| w + LEAST_WEIGHT * mean).collect();
        let mut rows = vec![0.0; tokens * dim];
        values.rows.load(plane, &mut rows);
        let mut middle = vec![0.0f32; dim];
        let total = of_values.iter().sum::<f32>().max(f32::MIN_POSITIVE);
        for (row, w) in rows.chunks_exact(dim).zip(&of_values) {
            middle.iter_mut().zip(row).for_each(|(middle, x)| *middle += w / total * x);
        }
        let scale = need.scale() * need.scale();
        let distance =
            |row: &[f32]| row.iter().zip(&middle).map(|(x, middle)| (x - middle) * (x - middle)).sum::<f32>();
        let of_keys = rows.chunks_exact(dim).zip(&of_values).map(|(row, w)| w * scale * distance(row)).collect();
        (of_keys, of_values)
    });
    let (of_keys, of_values): (TokenWeights, TokenWeights) = found.into_iter().unzip();
    Some([of_keys, of_values])
}

/// What the fixed presets give keys beyond values, for so many bits on the average of both.
fn usual_lead(mean: f64) -> f64 {
    if mean < 3.0 { 0.35 } else { 0.25 }
}

/// The candidates of keys and values whose errors add up to the least.
fn split(trials: &[Trial; 2], runs: &[Run; 2], limits: [f64; 2]) -> Result<[Candidate; 2]> {
    let scaled = [Scaled::new(&trials[0], &runs[0]), Scaled::new(&trials[1], &runs[1])];
    let usual = usual_lead(scaled[0].bits(limits[0] + limits[1]) / 2.0) / 2.0;
    let lead = scaled[0].bytes_of(usual);
    let limits = [limits[0] + lead, limits[1] - lead];
    let start = [
        explore(&trials[0], &scaled[0], Limit::Bytes(limits[0]))?,
        explore(&trials[1], &scaled[1], Limit::Bytes(limits[1]))?,
    ];
    let weights = if trials[0].weights.is_some() {
        [1.0, 1.0]
    } else {
        [KEY_WEIGHT / trials[0].norm().max(f64::MIN_POSITIVE), 1.0 / trials[1].norm().max(f64::MIN_POSITIVE)]
    };
    let error = |shift: f64| -> Result<Option<f64>> {
        let mut sum = 0.0;
        for (side, shift) in [shift, -shift].into_iter().enumerate() {
            let mean_bits = start[side].mean_bits + shift;
            if shift.abs() > FURTHEST || !(LEAST..=MOST).contains(&mean_bits) {
                return Ok(None);
            }
            sum += weights[side] * trials[side].outcome(Candidate { mean_bits, ..start[side] })?.error;
        }
        Ok(Some(sum))
    };
    let mut best = (0.0, error(0.0)?.unwrap_or(f64::INFINITY));
    for shift in SHIFTS {
        for sign in [1.0, -1.0] {
            // On as long as it gets better.
            while let Some(sum) = error(best.0 + sign * shift)? {
                if sum >= best.1 {
                    break;
                }
                best = (best.0 + sign * shift, sum);
            }
        }
    }
    debug_assert!(best.0 % STEP == 0.0);
    Ok([0, 1].map(|side| {
        let shift = if side == 0 { best.0 } else { -best.0 };
        Candidate { mean_bits: down(start[side].mean_bits + shift), ..start[side] }
    }))
}
