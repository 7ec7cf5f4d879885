//! The best candidate within a limit, for one tensor.

use crate::error::{ErrorCode, GearError, Result};
use crate::preset::MEANS;

use super::trial::{Candidate, Outcome, Run, Sample, Trial};

/// What must be kept.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Limit {
    /// Bytes of the segment and its header.
    Bytes(f64),
    /// Relative error: the root of squared error over squared norm.
    Error(f64),
}

/// Numbers of bits are multiples of this, which is less than what can be told apart.
pub(super) const STEP: f64 = 1.0 / 128.0;
/// Sizes do not grow evenly with bits: so far beyond what does not fit, something else may.
const NEAR: f64 = 0.05;
pub(super) const LEAST: f64 = 1.0;
pub(super) const MOST: f64 = 8.0;
/// More trials than a search that halves the range needs.
const TRIALS: usize = 12;
/// Ranks and sparsities that are tried: each is only tried when the one before it paid.
const RANKS: [u32; 2] = [2, 4];
const SPARSITIES: [f64; 2] = [0.005, 0.01];
/// What a low-rank part or outliers must gain over none, so that what is best on a sample is not worse on the whole.
const GAIN: f64 = 0.97;

pub(super) fn down(bits: f64) -> f64 {
    ((bits / STEP).floor() * STEP).clamp(LEAST, MOST)
}

fn up(bits: f64) -> f64 {
    ((bits / STEP).ceil() * STEP).clamp(LEAST, MOST)
}

/// The candidate of least error that keeps a limit of bytes, or of fewest bytes that keeps a limit of error. Where even the
/// fewest bits take more bytes than the limit, those.
///
/// # Errors
/// `OUT_OF_RANGE` when no candidate keeps the limit of error; `ABORTED`.
pub(crate) fn choose(trial: &Trial, limit: Limit) -> Result<Candidate> {
    let sample = Sample::of(&trial.run, trial.config.threads);
    let best = match &sample {
        Some(sample) => {
            let small = Trial { run: sample.run(&trial.run), ..*trial };
            explore(&small, &Scaled::new(&small, &trial.run), limit)?
        }
        None => explore(trial, &Scaled::new(trial, &trial.run), limit)?,
    };
    let plain = Candidate { rank: 0, sparsity: 0.0, ..best };
    match limit {
        Limit::Bytes(bytes) => {
            let fitted = fit_bytes(trial, best, bytes)?;
            if best == plain {
                return Ok(fitted);
            }
            // A sample's word is not enough for being no worse than a fixed preset.
            let plain = fit_bytes(trial, plain, bytes)?;
            let gains = trial.outcome(fitted)?.error <= trial.outcome(plain)?.error;
            Ok(if gains { fitted } else { plain })
        }
        Limit::Error(error) => fit_error(trial, best, error).or_else(|_| fit_error(trial, plain, error)),
    }
}

/// From a sample's bytes to those of the whole run.
pub(crate) struct Scaled {
    ratio: f64,
    planes: f64,
    dim: f64,
    elements: f64,
}

impl Scaled {
    pub fn new(sample: &Trial, run: &Run) -> Self {
        Self {
            ratio: run.elements() as f64 / sample.run.elements() as f64,
            planes: run.planes() as f64,
            dim: run.dim as f64,
            elements: run.elements() as f64,
        }
    }

    /// Of the whole. The factor B and the widths or means of channels do not grow with the number of tokens.
    pub fn bytes(&self, candidate: Candidate, bytes: f64) -> f64 {
        let fixed = self.planes * self.dim * (f64::from(candidate.rank) + 3.0);
        if self.ratio > 1.0 && bytes > fixed { (bytes - fixed) * self.ratio + fixed } else { bytes }
    }

    pub fn bits(&self, bytes: f64) -> f64 {
        8.0 * bytes / self.elements
    }
}

/// Looks at ranks and sparsities one after the other, each at the number of bits that the limit leaves it.
pub(crate) fn explore(trial: &Trial, scaled: &Scaled, limit: Limit) -> Result<Candidate> {
    let norm = trial.norm();
    let score = |rank: u32, sparsity: f64, bits: f64| -> Result<Option<(Candidate, f64)>> {
        let start = Candidate { mean_bits: bits, rank, sparsity };
        match limit {
            Limit::Bytes(bytes) => best_of_bytes(trial, scaled, start, bytes),
            Limit::Error(error) => least_of_error(trial, scaled, start, error * error * norm),
        }
    };
    let bits = match limit {
        Limit::Bytes(bytes) => down(scaled.bits(bytes)),
        Limit::Error(_) => 4.0,
    };
    // Without either part it is always a candidate, kept or not: the last steps see to the limit.
    let Some(mut best) = score(0, 0.0, bits)? else {
        let mean_bits = if matches!(limit, Limit::Bytes(_)) { LEAST } else { MOST };
        return Ok(Candidate { mean_bits, rank: 0, sparsity: 0.0 });
    };
    for rank in RANKS {
        match score(rank, best.0.sparsity, best.0.mean_bits)? {
            Some(found) if found.1 < best.1 * GAIN => best = found,
            _ => break,
        }
    }
    for sparsity in SPARSITIES {
        match score(best.0.rank, sparsity, best.0.mean_bits)? {
            Some(found) if found.1 < best.1 * GAIN => best = found,
            _ => break,
        }
    }
    Ok(best.0)
}

/// With as many bits as fit, and its squared error.
fn best_of_bytes(trial: &Trial, scaled: &Scaled, start: Candidate, limit: f64) -> Result<Option<(Candidate, f64)>> {
    let mut candidate = start;
    let mut outcome = trial.outcome(candidate)?;
    for _ in 0..2 {
        let slack = scaled.bits(limit - scaled.bytes(candidate, outcome.bytes));
        let mean_bits = down(candidate.mean_bits + slack);
        if (mean_bits - candidate.mean_bits).abs() < STEP {
            break;
        }
        candidate.mean_bits = mean_bits;
        outcome = trial.outcome(candidate)?;
    }
    // Channels get their bits eight at a time, so that sizes are no finer than this.
    let fits = candidate.mean_bits > LEAST || scaled.bytes(candidate, outcome.bytes) <= limit;
    Ok(fits.then_some((candidate, outcome.error)))
}

/// With as few bits as keep the squared error, and its bytes.
fn least_of_error(trial: &Trial, scaled: &Scaled, start: Candidate, limit: f64) -> Result<Option<(Candidate, f64)>> {
    Ok(narrow_error(trial, start, limit, 6)?
        .ok()
        .map(|(candidate, outcome)| (candidate, scaled.bytes(candidate, outcome.bytes))))
}

/// The fewest bits at which the squared error is at most `limit`, found in `trials` trials; or the error at the most bits, where
/// even that is more.
fn narrow_error(
    trial: &Trial,
    start: Candidate,
    limit: f64,
    trials: usize,
) -> Result<std::result::Result<(Candidate, Outcome), f64>> {
    // The limit is kept at `kept`, and not below `broken`.
    let mut kept: Option<(Candidate, Outcome)> = None;
    let mut broken = LEAST - STEP;
    let mut mean_bits = up(start.mean_bits);
    for _ in 0..trials {
        let candidate = Candidate { mean_bits, ..start };
        let outcome = trial.outcome(candidate)?;
        if outcome.error <= limit {
            kept = Some((candidate, outcome));
        } else {
            broken = mean_bits;
            if mean_bits >= MOST {
                return Ok(Err(outcome.error));
            }
        }
        let most = kept.map_or(MOST + STEP, |(candidate, _)| candidate.mean_bits);
        if most - broken <= STEP * 1.5 {
            break;
        }
        // A bit quarters the squared error, more or less.
        let missing = if limit > 0.0 && outcome.error > 0.0 { libm::log2(outcome.error / limit) / 2.0 } else { 0.0 };
        let guess = up(mean_bits + missing);
        let inside = guess > broken && guess < most && missing != 0.0;
        mean_bits = if inside { guess } else { up(f64::midpoint(broken, most)) };
        if mean_bits >= most {
            mean_bits = most - STEP;
        }
    }
    match kept {
        Some(kept) => Ok(Ok(kept)),
        None => {
            let candidate = Candidate { mean_bits: MOST, ..start };
            let outcome = trial.outcome(candidate)?;
            Ok(if outcome.error <= limit { Ok((candidate, outcome)) } else { Err(outcome.error) })
        }
    }
}

/// `candidate` with the most bits that fit the whole run.
pub(crate) fn fit_bytes(trial: &Trial, candidate: Candidate, limit: f64) -> Result<Candidate> {
    let elements = trial.run.elements() as f64;
    let bytes = |mean_bits: f64| trial.bytes(Candidate { mean_bits, ..candidate });
    let fits = most_bits(candidate.mean_bits, elements, limit, bytes)?;
    Ok(Candidate { mean_bits: fits.max(LEAST), ..candidate })
}

/// The most bits of which `bytes` says that `elements` values take no more than `limit`; less than [`LEAST`] where there are none.
/// `start` is where the search begins.
pub(super) fn most_bits(start: f64, elements: f64, limit: f64, bytes: impl Fn(f64) -> Result<f64>) -> Result<f64> {
    let (mut fits, mut beyond) = (LEAST - STEP, MOST + STEP);
    let mut mean_bits = down(start);
    for _ in 0..TRIALS {
        let taken = bytes(mean_bits)?;
        if taken <= limit {
            fits = mean_bits;
        } else {
            beyond = mean_bits;
        }
        if beyond - fits <= STEP * 1.5 {
            break;
        }
        let guess = down(mean_bits + 8.0 * (limit - taken) / elements);
        mean_bits = if guess > fits && guess < beyond {
            guess
        } else if guess <= fits {
            fits + STEP
        } else {
            beyond - STEP
        };
    }
    // The fixed presets' numbers need not be multiples of the step, and are tried for themselves where the search ended near them.
    for known in MEANS.into_iter().flat_map(|(keys, values)| [values, keys]) {
        let near = known > fits && (known < beyond || known - fits < NEAR);
        if near && bytes(known)? <= limit {
            fits = known;
        }
    }
    Ok(fits)
}

/// `candidate` with the fewest bits that keep the error on the whole run.
fn fit_error(trial: &Trial, candidate: Candidate, limit: f64) -> Result<Candidate> {
    let norm = trial.norm();
    match narrow_error(trial, candidate, limit * limit * norm, TRIALS)? {
        Ok((candidate, _)) => Ok(candidate),
        Err(least) => Err(GearError::new(
            ErrorCode::OutOfRange,
            format!(
                "maxError is {limit}, but {MOST} bits a value still leave a relative error of {:.4}; allow more, or use preset \"float16\"",
                (least / norm).sqrt()
            ),
        )),
    }
}
