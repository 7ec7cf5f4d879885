//! One stock of bytes for the keys and the values of a layer.
//!
//! It is split as in the fixed presets, and a low-rank part or outliers must earn their bytes on each side.

use crate::config::GearConfig;
use crate::error::{Cancel, Result};
use crate::need::Survey;
use crate::preset::MEANS;
use crate::tensor::GearTensor;

use super::choice::{LEAST, Limit, MOST, Scaled, explore, fit_bytes, most_bits};
use super::trial::{Candidate, Run, Sample, Trial};

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
    let from_buffer = key.comes_from_buffer(tokens);
    let trials = [0, 1].map(|side| Trial { run: small[side], config: configs[side], from_buffer, cancel });
    let whole = [0, 1].map(|side| Trial { run: runs[side], ..trials[side] });
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

/// Bits of keys that go with so many of values in the fixed presets.
fn usual_keys(values: f64) -> f64 {
    let [first, .., last] = MEANS;
    let between = MEANS.windows(2).find(|pair| (pair[0].1..=pair[1].1).contains(&values));
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

/// `usual`, or what is better by enough to believe it: with a low-rank part or outliers in the same bytes. Where queries are known
/// it stays: an error that is weighed by the queries that bits were dealt out for looks smaller than it is for later ones.
fn improved(trials: &[Trial; 2], runs: &[Run; 2], usual: [Candidate; 2]) -> Result<[Candidate; 2]> {
    let mut chosen = usual;
    if trials[0].run.need.is_some() {
        return Ok(chosen);
    }
    for side in [0, 1] {
        let outcome = trials[side].outcome(usual[side])?;
        let scaled = Scaled::new(&trials[side], &runs[side]);
        let limit = scaled.bytes(usual[side], outcome.bytes);
        let found = explore(&trials[side], &scaled, Limit::Bytes(limit))?;
        if found.rank > 0 || found.sparsity > 0.0 {
            let error = trials[side].outcome(found)?.error;
            if error < outcome.error * GAIN {
                chosen[side] = found;
            }
        }
    }
    Ok(chosen)
}
