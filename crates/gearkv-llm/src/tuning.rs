//! How many bits each layer should have, by what its errors do to the model's answers.
//!
//! An error in one layer can change what a model says a hundred times as much as one of the same size in another; which layers these
//! are is the model's, not the text's. So each half of each layer is compressed alone, all others staying in float16, and the
//! divergence of the answers tells its weight. Divergences of different layers add up, and a bit more quarters one: the sum is least
//! where all are equal, half a bit more for each doubling.

use gearkv::{Cancel, ErrorCode, GearConfig, GearError, Result, Role};
use serde::Serialize;

use crate::comparison::EvalRun;
use crate::eval::{Cache, Candidate};
use crate::model::Model;
use crate::pass::{GoOn, Progress};
use crate::texts::Windows;

/// How much of what was measured is believed: some texts give a layer more weight than others.
const BELIEVED: f64 = 0.7;
/// What a layer gets or gives at most.
const MOST_BITS: f64 = 2.0;
/// Divergence that cannot be told from none.
const LEAST_KL: f64 = 1e-7;
/// Bits are given in multiples of this.
const STEP: f64 = 1.0 / 32.0;

/// Keys or values of all layers.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HalfTuning {
    /// Of each layer: bits of a code more than the others have on the average, to be given as `layerBits`. They add up to 0.
    pub layer_bits: Vec<f64>,
    /// Of each layer: mean Kullback-Leibler divergence, in nats, where it alone is compressed.
    pub kl: Vec<f64>,
}

/// What a [`TuneRun`] finds.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Tuning {
    /// Keys.
    pub key: HalfTuning,
    /// Values.
    pub value: HalfTuning,
}

/// One half of one layer after the other, compressed alone.
pub struct TuneRun {
    eval: EvalRun,
    layers: usize,
}

impl TuneRun {
    /// With these configurations of keys and values, on these texts.
    ///
    /// # Errors
    /// As [`EvalRun::new`], and `INVALID_OPTION` for prompts that are too short to be compressed.
    pub fn new(model: &Model, windows: Windows, key: &GearConfig, value: &GearConfig) -> Result<Self> {
        let least = [key, value].map(|config| (config.sinks + config.buffer_tokens) as usize).into_iter().max();
        if let Some(least) = least.filter(|&least| windows.prompt_tokens < least) {
            return Err(GearError::new(
                ErrorCode::InvalidOption,
                format!(
                    "windows: promptTokens is {}; expected at least {least}, since fewer are not compressed",
                    windows.prompt_tokens
                ),
            ));
        }
        let layers = model.cache_shape().layers;
        let half = |role: Role, config: &GearConfig| {
            let config = GearConfig { layer_bits: Vec::new(), ..config.clone() };
            (0..layers).map(move |layer| Candidate {
                name: format!("{role:?} {layer}"),
                cache: Cache::Half { layer, role, config: config.clone() },
            })
        };
        let candidates = half(Role::Key, key).chain(half(Role::Value, value)).collect();
        Ok(Self { eval: EvalRun::new(model, windows, candidates)?, layers })
    }

    /// As [`EvalRun::advance`].
    ///
    /// # Errors
    /// As [`EvalRun::advance`].
    pub fn advance(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        self.eval.advance(cancel, go_on)
    }

    /// What was found, once all windows are done.
    pub fn found(&self) -> Tuning {
        let kl: Vec<f64> = self.eval.found().rows.iter().map(|row| row.kl.max(0.0)).collect();
        let (key, value) = kl.split_at(self.layers);
        let half = |kl: &[f64]| HalfTuning { layer_bits: layer_bits(kl), kl: kl.to_vec() };
        Tuning { key: half(key), value: half(value) }
    }
}

/// Bits more or less than the average that make divergences alike which are `kl` with the same bits.
fn layer_bits(kl: &[f64]) -> Vec<f64> {
    let wanted: Vec<f64> = kl.iter().map(|kl| BELIEVED * 0.5 * kl.max(LEAST_KL).log2()).collect();
    let mean = wanted.iter().sum::<f64>() / wanted.len().max(1) as f64;
    // In steps, as whole numbers of them that add up to 0.
    let limit = MOST_BITS / STEP;
    let mut steps: Vec<f64> =
        wanted.iter().map(|bits| ((bits - mean) / STEP).round_ties_even().clamp(-limit, limit)).collect();
    let mut excess = steps.iter().sum::<f64>();
    while excess != 0.0 {
        let step = excess.signum();
        // The layer that this takes least of what it wanted: the one rounded or cut furthest the other way.
        let away = |layer: usize| step * (steps[layer] - (wanted[layer] - mean) / STEP);
        let Some(layer) = (0..steps.len()).max_by(|&a, &b| away(a).total_cmp(&away(b)).then(b.cmp(&a))) else { break };
        steps[layer] -= step;
        excess -= step;
    }
    steps.into_iter().map(|steps| steps * STEP).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_layer_of_four_times_the_divergence_gets_a_bit_more_of_which_some_is_believed() {
        let bits = layer_bits(&[1e-4, 4e-4, 1e-4, 4e-4]);
        assert_eq!(bits, [-0.34375, 0.34375, -0.34375, 0.34375]);
        assert_eq!(layer_bits(&[3e-5; 7]), [0.0; 7]);
    }

    #[test]
    fn bits_add_up_to_none_whatever_was_measured() {
        for kl in [vec![0.0, 1e-3, 5e-3, 2e-4, 1.0], vec![1e-9, 1e9], vec![0.3; 31], vec![0.7]] {
            let bits = layer_bits(&kl);
            assert_eq!(bits.iter().sum::<f64>(), 0.0, "{kl:?}: {bits:?}");
            for (n, pair) in kl.windows(2).enumerate() {
                assert!((bits[n + 1] - bits[n]) * (pair[1] - pair[0]) >= 0.0, "{kl:?}: {bits:?}");
            }
        }
        assert!(layer_bits(&[]).is_empty());
    }
}
