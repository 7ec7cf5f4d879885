//! Choosing the next token.

use gearkv::{ErrorCode, GearError, Result};
use rand_mt::Mt;
use serde::{Deserialize, Serialize};

/// How the next token is chosen. The default is greedy.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct SamplerOptions {
    /// Logits are divided by this; 0 takes the likeliest token.
    pub temperature: f32,
    /// Only the so many likeliest tokens; 0 for all.
    pub top_k: usize,
    /// Only the likeliest tokens that together have this probability; 1 for all.
    pub top_p: f32,
    /// Where randomness starts.
    pub seed: u32,
}

impl Default for SamplerOptions {
    fn default() -> Self {
        Self { temperature: 0.0, top_k: 0, top_p: 1.0, seed: 0 }
    }
}

/// Draws tokens; the same seed and logits give the same tokens.
#[derive(Debug, Clone)]
pub struct Sampler {
    options: SamplerOptions,
    random: Mt,
}

impl Sampler {
    /// A sampler.
    ///
    /// # Errors
    /// `INVALID_OPTION` when a number is out of its range.
    pub fn new(options: SamplerOptions) -> Result<Self> {
        let invalid = |message: String| Err(GearError::new(ErrorCode::InvalidOption, message));
        if !(options.temperature.is_finite() && options.temperature >= 0.0) {
            return invalid(format!("temperature is {}; expected 0 (greedy) or more", options.temperature));
        }
        if !(options.top_p > 0.0 && options.top_p <= 1.0) {
            return invalid(format!("topP is {}; expected more than 0, up to 1", options.top_p));
        }
        let random = Mt::new(options.seed);
        Ok(Self { options, random })
    }

    /// The next token.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` without logits.
    pub fn sample(&mut self, logits: &[f32]) -> Result<u32> {
        let best = likeliest(logits).ok_or_else(|| {
            GearError::new(ErrorCode::ShapeMismatch, "the session has no logits; give it at least one token first")
        })?;
        if self.options.temperature == 0.0 || self.options.top_k == 1 {
            return Ok(best);
        }
        let most = logits[best as usize];
        let weight = |token: u32| f64::from((logits[token as usize] - most) / self.options.temperature).exp();
        let mut candidates: Vec<(u32, f64)> = (0..logits.len() as u32).map(|token| (token, weight(token))).collect();
        let narrow = self.options.top_k > 0 || self.options.top_p < 1.0;
        if narrow {
            candidates.sort_unstable_by(|a, b| b.1.total_cmp(&a.1).then(a.0.cmp(&b.0)));
            if self.options.top_k > 0 {
                candidates.truncate(self.options.top_k);
            }
            let enough = f64::from(self.options.top_p) * total(&candidates);
            let mut sum = 0.0;
            let kept = candidates.iter().take_while(|(_, weight)| {
                let take = sum < enough;
                sum += weight;
                take
            });
            let kept = kept.count().max(1);
            candidates.truncate(kept);
        }
        let unit = f64::from(self.random.next_u32()) / (f64::from(u32::MAX) + 1.0);
        let mut left = unit * total(&candidates);
        for &(token, weight) in &candidates {
            left -= weight;
            if left < 0.0 {
                return Ok(token);
            }
        }
        Ok(best)
    }
}

fn total(candidates: &[(u32, f64)]) -> f64 {
    candidates.iter().map(|(_, weight)| weight).sum()
}

/// The first of the largest logits.
pub(crate) fn likeliest(logits: &[f32]) -> Option<u32> {
    let mut best: Option<usize> = None;
    for (i, &logit) in logits.iter().enumerate() {
        if best.is_none_or(|best| logit > logits[best]) {
            best = Some(i);
        }
    }
    best.map(|best| best as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn draws(options: SamplerOptions, n: usize) -> Vec<u32> {
        let mut sampler = Sampler::new(options).unwrap();
        (0..n).map(|_| sampler.sample(&[0.0, 2.0, 1.0, -1.0]).unwrap()).collect()
    }

    #[test]
    fn greedy_takes_the_first_of_the_largest() {
        assert_eq!(draws(SamplerOptions::default(), 3), [1, 1, 1]);
        assert_eq!(likeliest(&[1.0, 3.0, 3.0]), Some(1));
        assert_eq!(likeliest(&[]), None);
    }

    #[test]
    fn frequencies_follow_the_softmax() {
        let n = 20_000;
        let tokens = draws(SamplerOptions { temperature: 1.0, ..Default::default() }, n);
        let exps = [0.0f64, 2.0, 1.0, -1.0].map(f64::exp);
        let sum: f64 = exps.iter().sum();
        for (token, exp) in exps.iter().enumerate() {
            let share = tokens.iter().filter(|&&t| t as usize == token).count() as f64 / n as f64;
            assert!((share - exp / sum).abs() < 0.015, "token {token}: {share}, expected {}", exp / sum);
        }
    }

    #[test]
    fn top_k_and_top_p_leave_the_rest_out() {
        let options = SamplerOptions { temperature: 10.0, top_k: 2, ..Default::default() };
        assert!(draws(options, 500).iter().all(|t| [1, 2].contains(t)));
        let options = SamplerOptions { temperature: 1.0, top_p: 0.6, ..Default::default() };
        assert!(draws(options, 500).iter().all(|&t| t == 1));
        let options = SamplerOptions { temperature: 1.0, seed: 7, ..Default::default() };
        assert_eq!(draws(options.clone(), 50), draws(options, 50));
    }

    #[test]
    fn options_out_of_range_are_refused() {
        for options in [
            SamplerOptions { temperature: -1.0, ..Default::default() },
            SamplerOptions { temperature: f32::NAN, ..Default::default() },
            SamplerOptions { top_p: 0.0, ..Default::default() },
            SamplerOptions { top_p: 1.5, ..Default::default() },
        ] {
            assert_eq!(Sampler::new(options).unwrap_err().code(), ErrorCode::InvalidOption);
        }
        let mut sampler = Sampler::new(SamplerOptions::default()).unwrap();
        assert_eq!(sampler.sample(&[]).unwrap_err().code(), ErrorCode::ShapeMismatch);
    }
}
