//! One stock of bytes for the keys and the values of a layer.
//!
//! The split of the fixed presets is where it starts. Where queries are known, errors are measured in what they do to attention's
//! output, to first order: with weights `p`, an error `e` of a value moves it by `p e`, and one of a key by `p (q·e) (v − o)`.
//! Then bits are moved to where they take more of that away. Where no query is known the split stays.

use crate::config::GearConfig;
use crate::error::{Cancel, Result};
use crate::need::Survey;
use crate::parallel;
use crate::tensor::GearTensor;

use super::choice::{LEAST, Limit, MOST, Scaled, explore, fit_bytes, most_bits};
use super::trial::{Candidate, Run, Sample, TokenWeights, Trial};

/// Weight of a token that no query looked at, as a share of the mean: later ones may.
const LEAST_WEIGHT: f32 = 0.1;

/// Bits that go from values to keys or back in a step, and how many steps at most: what the queries of one moment say is a hint, not
/// the truth.
const SHIFT: f64 = 0.125;
const SHIFTS: u32 = 6;

/// What a change must leave of the estimated error to be believed: fixed presets were chosen by what models answer.
const GAIN: f64 = 0.92;

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
    let whole = [0, 1].map(|side| Trial { run: runs[side], weights: None, ..trials[side] });
    let both = limits[0] + limits[1];
    let usual = usual_split(&whole, both)?;
    let [keys, values] = improved(&trials, &runs, usual)?;
    if [keys, values] == usual {
        return Ok(Some((keys.of(configs[0]), values.of(configs[1]))));
    }
    let least = whole[1].bytes(Candidate { mean_bits: LEAST, ..values })?;
    let keys = if whole[0].bytes(keys)? + least > both { usual[0] } else { keys };
    let values = fit_bytes(&whole[1], values, both - whole[0].bytes(keys)?)?;
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

/// Bits of keys and of values in the fixed presets, whose splits are the best for most layers of most models.
const USUAL: [(f64, f64); 3] = [(2.75, 2.4), (3.5, 3.25), (4.25, 4.0)];

/// Bits of keys that go with so many of values.
fn usual_keys(values: f64) -> f64 {
    let [first, .., last] = USUAL;
    let between = USUAL.windows(2).find(|pair| (pair[0].1..=pair[1].1).contains(&values));
    let keys = match between {
        Some(&[(k0, v0), (k1, v1)]) => k0 + (values - v0) * (k1 - k0) / (v1 - v0),
        _ if values < first.1 => values + first.0 - first.1,
        _ => values + last.0 - last.1,
    };
    keys.clamp(LEAST, MOST)
}

/// The most bits that fit, split as in the fixed presets, without low-rank and outliers.
fn usual_split(whole: &[Trial; 2], both: f64) -> Result<[Candidate; 2]> {
    let pair =
        |values: f64| [usual_keys(values), values].map(|mean_bits| Candidate { mean_bits, rank: 0, sparsity: 0.0 });
    let elements = (whole[0].run.elements() + whole[1].run.elements()) as f64;
    let bytes = |values: f64| -> Result<f64> {
        let [keys, values] = pair(values);
        Ok(whole[0].bytes(keys)? + whole[1].bytes(values)?)
    };
    let fits = most_bits(8.0 * both / elements, elements, both, bytes)?;
    Ok(pair(fits.max(LEAST)))
}

/// `usual`, or what is better by enough to believe it: with a low-rank part or outliers in the same bytes, and, where queries tell
/// what an error does, with bits moved between keys and values.
fn improved(trials: &[Trial; 2], runs: &[Run; 2], usual: [Candidate; 2]) -> Result<[Candidate; 2]> {
    let mut chosen = usual;
    let mut errors = [0.0; 2];
    for side in [0, 1] {
        let outcome = trials[side].outcome(usual[side])?;
        errors[side] = outcome.error;
        let scaled = Scaled::new(&trials[side], &runs[side]);
        let limit = scaled.bytes(usual[side], outcome.bytes);
        let found = explore(&trials[side], &scaled, Limit::Bytes(limit))?;
        if found.rank > 0 || found.sparsity > 0.0 {
            let error = trials[side].outcome(found)?.error;
            if error < errors[side] * GAIN {
                (chosen[side], errors[side]) = (found, error);
            }
        }
    }
    if trials[0].weights.is_none() {
        return Ok(chosen);
    }
    let shifted = |shift: f64| {
        [(0, shift), (1, -shift)].map(|(side, shift): (usize, f64)| {
            let mean_bits = chosen[side].mean_bits + shift;
            Candidate { mean_bits, ..chosen[side] }
        })
    };
    let mut best = (0.0, (errors[0] + errors[1]) * GAIN);
    for sign in [1.0, -1.0] {
        // On as long as it gets better.
        for step in 1..=SHIFTS {
            let shift = sign * f64::from(step) * SHIFT;
            let pair = shifted(shift);
            if pair.iter().any(|candidate| !(LEAST..=MOST).contains(&candidate.mean_bits)) {
                break;
            }
            let error = trials[0].outcome(pair[0])?.error + trials[1].outcome(pair[1])?.error;
            if error < best.1 {
                best = (shift, error);
            } else if step > 1 {
                break;
            }
        }
    }
    Ok(shifted(best.0))
}
