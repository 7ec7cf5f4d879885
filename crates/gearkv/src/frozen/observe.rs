//! The rotations that a cache's keys turn by.

use crate::error::{Cancel, Result};
use crate::shape::{KvShape, Role};
use crate::{GearCache, GearTensor, simd};

use super::plane::{Frame, RUN};
use super::rotation::Rotation;

/// Heads whose keys are looked at together.
const OBSERVED_HEADS: usize = 16;

/// Of each layer so many heads, and so many tokens of each.
const HEADS_OF_A_LAYER: usize = 2;
const TOKENS: usize = 2 * RUN;

/// More layers than this are looked at one in so many.
const MOST_LAYERS: usize = 64;

/// A layer whose turning mean has less than this part of the energy of the layer where it has most may turn otherwise.
const DOUBTFUL: f64 = 0.5;

/// Another rotation is worth its bytes when it leaves less than this part of what the first leaves.
const WORTHWHILE: f64 = 0.8;

/// A few heads of a layer, each `[tokens, dim]`.
struct Seen {
    heads: Vec<Vec<f32>>,
}

impl Seen {
    fn of(tensor: &GearTensor, sinks: usize, cancel: Cancel) -> Result<Self> {
        let KvShape { tokens, head_dim: dim, .. } = tensor.shape();
        let keys = tensor.decompress(cancel)?;
        let planes = keys.chunks((tokens * dim).max(1)).take(HEADS_OF_A_LAYER);
        let behind_sinks = |plane: &[f32]| {
            let rest = &plane[(sinks * dim).min(plane.len())..];
            rest[..rest.len().min(TOKENS * dim)].to_vec()
        };
        Ok(Self { heads: planes.map(behind_sinks).collect() })
    }

    /// Energy of a run of tokens, and how much of it is the mean's.
    fn explained(&self, frame: &Frame) -> (f64, f64) {
        let mut sums = (0.0, 0.0);
        for head in &self.heads {
            let run = &head[..head.len().min(RUN * frame.dim)];
            sums.0 += run.iter().map(|x| f64::from(x * x)).sum::<f64>();
            sums.1 += explained(run, frame);
        }
        sums
    }
}

/// The energy of the mean of `x`, `[tokens, dim]`, a run at most.
fn explained(x: &[f32], frame: &Frame) -> f64 {
    let Frame { dim, rotation, .. } = *frame;
    let tokens = x.len() / dim;
    let (cos, sin) = frame.turns(tokens);
    let (mut with_cos, mut with_sin, mut mean) = (vec![0.0; dim], vec![0.0; dim], vec![0.0; dim]);
    simd::turning_sums(x, cos, sin, &mut with_cos, &mut with_sin);
    rotation.add_to_mean(&with_cos, &with_sin, 0, &mut mean);
    mean.iter().map(|sum| sum * sum).sum::<f64>() / tokens.max(1) as f64
}

/// The rotation that all layers turn by, and where some turn otherwise, theirs. Sinks are left out.
///
/// # Errors
/// `ABORTED`.
pub(crate) fn rotations(cache: &GearCache, sinks: usize, cancel: Cancel) -> Result<Vec<Rotation>> {
    let shape = cache.shape();
    let every = shape.layers.div_ceil(MOST_LAYERS);
    let layers = (0..shape.layers).step_by(every);
    let seen: Vec<Seen> =
        layers.map(|layer| Seen::of(cache.tensor(layer, Role::Key)?, sinks, cancel)).collect::<Result<_>>()?;
    let first = together(&seen.iter().collect::<Vec<_>>(), shape.head_dim);
    let turns = first.table(RUN, shape.head_dim);
    let frame = Frame { dim: shape.head_dim, rotation: &first, turns: &turns };
    let found: Vec<(f64, f64)> = seen.iter().map(|layer| layer.explained(&frame)).collect();
    let most = found.iter().map(|(all, mean)| mean / all.max(f64::MIN_POSITIVE)).fold(0.0, f64::max);
    let doubtful = seen.iter().zip(&found).filter(|(_, (all, mean))| *mean < DOUBTFUL * most * all);
    let doubtful: Vec<(&Seen, (f64, f64))> = doubtful.map(|(layer, found)| (layer, *found)).collect();
    let second = together(&doubtful.iter().map(|(layer, _)| *layer).collect::<Vec<_>>(), shape.head_dim);
    if doubtful.is_empty() {
        return Ok(vec![first]);
    }
    let turns = second.table(RUN, shape.head_dim);
    let frame = Frame { dim: shape.head_dim, rotation: &second, turns: &turns };
    let better =
        |(layer, (all, mean)): &(&Seen, (f64, f64))| all - layer.explained(&frame).1 < WORTHWHILE * (all - mean);
    if doubtful.iter().any(better) { Ok(vec![first, second]) } else { Ok(vec![first]) }
}

/// The rotation of some layers' heads.
fn together(layers: &[&Seen], dim: usize) -> Rotation {
    let heads: Vec<&[f32]> = layers.iter().flat_map(|layer| layer.heads.iter().map(Vec::as_slice)).collect();
    let every = heads.len().div_ceil(OBSERVED_HEADS).max(1);
    Rotation::observe(&heads.into_iter().step_by(every).collect::<Vec<_>>(), dim)
}

/// Which of some frames' rotations the keys of a layer turn by, `[planes, tokens, dim]` with sinks in front.
pub(crate) fn rotation_of(keys: &[f32], frames: &[Frame], shape: KvShape, sinks: usize) -> usize {
    if frames.len() < 2 {
        return 0;
    }
    let dim = shape.head_dim;
    let energy = |frame: &Frame| -> f64 {
        let planes = keys.chunks((shape.tokens * dim).max(1)).take(HEADS_OF_A_LAYER);
        let behind_sinks = planes.map(|plane| &plane[(sinks * dim).min(plane.len())..]);
        behind_sinks.map(|rest| explained(&rest[..rest.len().min(RUN * dim)], frame)).sum()
    };
    let energies: Vec<f64> = frames.iter().map(energy).collect();
    (1..energies.len()).fold(0, |best, i| if energies[i] > energies[best] { i } else { best })
}
