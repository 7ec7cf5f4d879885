//! The step at which a cache has the size that was asked for.
//!
//! Some layers stand for all: their codes say how many bits a step takes, and the tables are measured on them.

use crate::error::{Cancel, Result, check};
use crate::parallel;
use crate::shape::Role;

use super::counts::Counts;
use super::options::Target;
use super::plane::{Frame, RunCodes};
use super::tables::Tables;
use super::tensor::Liquid;

/// Bits a value takes beside the logarithm of its deviation in half steps: half of log₂(2πe / 4).
const OFFSET: f64 = 4.27;

/// A step twice as large saves a bit; this often the codes themselves say how far that was from true.
const CORRECTIONS: usize = 2;

/// Sizes that differ by this part are not told apart.
const NEAR_ENOUGH: f64 = 0.004;

/// Runs of a head that are quantized to measure; more of them tell little more.
const MEASURED_RUNS: usize = 4;

/// The layers that stand for all `layers`, and how many times larger the whole is.
pub(crate) fn sample(layers: usize) -> (Vec<usize>, f64) {
    let count = (layers / 8).clamp(layers.min(4), layers.max(1));
    let picked = (0..count).map(|i| (2 * i + 1) * layers / (2 * count)).collect();
    (picked, layers as f64 / count as f64)
}

/// Steps of a tensor's heads. `step` is the one that was asked for, `depth` −½ for the first layer to ½ for the last.
pub(crate) fn steps(tensor: &Liquid, step: f64, depth: f64) -> Vec<f32> {
    let step = step * libm::exp2(slope(tensor.role) * depth);
    match tensor.role {
        // Heads of a layer alike: what an error of a key does depends on the queries, not on how much keys vary.
        Role::Key => vec![(step * common(tensor)) as f32; tensor.moments.len()],
        Role::Value => tensor.moments.iter().map(|m| (step * f64::from(m.deviation)) as f32).collect(),
    }
}

/// Errors of early layers' values go through all later ones: octaves by which the last layer's step is larger than the first's.
fn slope(role: Role) -> f64 {
    match role {
        Role::Key => 0.0,
        Role::Value => 0.5,
    }
}

/// The geometric mean of the heads' deviations.
fn common(tensor: &Liquid) -> f64 {
    let logs = tensor.moments.iter().filter(|m| m.deviation > 0.0).map(|m| libm::log2(f64::from(m.deviation)));
    let (sum, count) = logs.fold((0.0, 0.0), |(sum, count), log| (sum + log, count + 1.0));
    if count > 0.0 { libm::exp2(sum / count) } else { 0.0 }
}

/// A tensor of the sample, and how deep its layer is.
pub(crate) struct Sampled {
    pub tensor: Liquid,
    pub depth: f64,
}

/// What a tensor's heads have in common.
pub(crate) type FrameOf<'a> = &'a (dyn Fn(&Liquid) -> Frame<'a> + Sync);

/// The step for a target, and the tables of keys and values at it.
pub(crate) fn choose(
    sampled: &[Sampled],
    frame: FrameOf,
    (target, share, threads): (Target, f64, u32),
    cancel: Cancel,
) -> Result<(f64, [Tables; 2])> {
    let (mut step, wanted) = match target {
        Target::Step(step) => (step, None),
        Target::Bits(bits) => (first_guess(sampled, bits), Some(bits)),
    };
    let mut round = 0;
    loop {
        check(cancel)?;
        let counts = measure(sampled, frame, step, threads, cancel)?;
        let tables = [0, 1].map(|role| Tables::measured(&counts[role].0, share * counts[role].1));
        let Some(wanted) = wanted.filter(|_| round < CORRECTIONS) else { return Ok((step, tables)) };
        let coded: f64 = (0..2).map(|role| tables[role].bits(&counts[role].0) * counts[role].1).sum();
        let mut table_bytes = Vec::new();
        tables.iter().for_each(|tables| tables.write(&mut table_bytes));
        let side: usize = sampled.iter().map(|s| 8 * s.tensor.side_bytes()).sum();
        let elements: f64 = sampled.iter().map(|s| s.tensor.shape.elements() as f64).sum();
        let bits = (coded + side as f64 + 8.0 * table_bytes.len() as f64 / share) / elements.max(1.0);
        if (bits - wanted).abs() < NEAR_ENOUGH * wanted {
            return Ok((step, tables));
        }
        // What is not coded is the same at any step, so that a size that cannot be met stops at a step within bounds.
        step = (step * libm::exp2(bits - wanted)).clamp(1.0 / 64.0, 8.0);
        round += 1;
    }
}

/// From the deviations alone.
fn first_guess(sampled: &[Sampled], wanted: f64) -> f64 {
    let elements: f64 = sampled.iter().map(|s| s.tensor.shape.elements() as f64).sum();
    let side: f64 = sampled.iter().map(|s| 8.0 * s.tensor.side_bytes() as f64).sum();
    let bits = |step: f64| -> f64 {
        let tensors = sampled.iter().map(|Sampled { tensor, depth }| {
            let tokens = (tensor.shape.tokens - tensor.sinks) as f64;
            let heads = tensor.moments.iter().zip(steps(tensor, step, *depth)).map(|(moments, step)| {
                let half = f64::from(step / 2.0).max(f64::MIN_POSITIVE);
                let variances = moments.variances.iter().map(|v| f64::from(*v) / (half * half));
                variances.map(|v| 0.5 * libm::log2(1.0 + OFFSET * v)).sum::<f64>()
            });
            tokens * heads.sum::<f64>()
        });
        (tensors.sum::<f64>() + side) / elements.max(1.0)
    };
    let (mut fine, mut coarse) = (1.0 / 64.0, 8.0);
    for _ in 0..24 {
        let middle = libm::sqrt(fine * coarse);
        if bits(middle) > wanted {
            fine = middle;
        } else {
            coarse = middle;
        }
    }
    libm::sqrt(fine * coarse)
}

/// Counts of keys and of values, and how many times more codes there are.
fn measure(sampled: &[Sampled], frame: FrameOf, step: f64, threads: u32, cancel: Cancel) -> Result<[(Counts, f64); 2]> {
    let measured = parallel::map(sampled.len(), threads, |i| {
        let Sampled { tensor, depth } = &sampled[i];
        let frame = &frame(tensor);
        let mut counts = Counts::new();
        let mut codes = RunCodes::default();
        let mut seen = 0;
        let mut all = 0;
        for (plane, (moments, step)) in tensor.moments.iter().zip(steps(tensor, step, *depth)).enumerate() {
            if cancel() {
                break;
            }
            let fit = moments.with_step(step);
            let runs = tensor.runs(plane).count();
            let every = runs.div_ceil(MEASURED_RUNS).max(1);
            for (run, x) in tensor.runs(plane).enumerate() {
                all += x.len();
                if run % every == every / 2 {
                    seen += x.len();
                    fit.quantize(x, run, frame, &mut codes);
                    fit.count(&codes, frame.dim, &mut counts);
                }
            }
        }
        (tensor.role, counts, seen, all)
    });
    check(cancel)?;
    let mut sums = [(Counts::new(), 0usize, 0usize), (Counts::new(), 0, 0)];
    for (role, counts, seen, all) in &measured {
        let sum = &mut sums[*role as usize];
        sum.0.add(counts);
        sum.1 += seen;
        sum.2 += all;
    }
    Ok(sums.map(|(counts, seen, all)| (counts, all as f64 / seen.max(1) as f64)))
}

/// −½ for the first layer to ½ for the last.
pub(crate) fn depth_of(layer: usize, layers: usize) -> f64 {
    if layers < 2 { 0.0 } else { layer as f64 / (layers - 1) as f64 - 0.5 }
}
