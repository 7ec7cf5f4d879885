//! One head of one sequence: its means, steps and classes, and its codes, run of tokens by run of tokens.

use half::f16;

use crate::error::Result;
use crate::simd::{self, LANES, NEXT_STATE, TrellisRoom};

use super::bytes::Reader;
use super::classes::{CONTEXTS, ClassUse, class_of, variance_of};
use super::coder::{CODERS, Source, Writer, symbol_of};
use super::counts::Counts;
use super::rotation::Rotation;
use super::tables::{OFFSET_UNIT, Tables};

/// Tokens that are coded together. Each such run can be read without the ones before it.
pub(crate) const RUN: usize = 1024;

/// Weights of channels are powers of two, in eighths, from this much below one on.
const WEIGHT_ONE: i32 = 128;
const WEIGHT_PARTS: f64 = 8.0;

/// Steps finer than this part of a head's magnitude tell nothing apart that float16 does.
const FINEST: f32 = 1.0 / 1024.0;

/// How much of the Lagrangian cost of a bit makes magnitudes smaller before a point is chosen.
const RATE_WEIGHT: f32 = 0.5;

/// What a whole tensor's heads have in common.
pub(crate) struct Frame<'a> {
    pub dim: usize,
    pub rotation: &'a Rotation,
    /// Of one run: cosines and sines from token 0 on, `[RUN, dim]`.
    pub turns: &'a (Vec<f32>, Vec<f32>),
}

impl Frame<'_> {
    /// Cosines and sines of `tokens` tokens.
    pub fn turns(&self, tokens: usize) -> (&[f32], &[f32]) {
        let (cos, sin) = self.turns;
        (&cos[..tokens * self.dim], &sin[..tokens * self.dim])
    }
}

/// What a head's values are like, before anybody chooses a step.
pub(crate) struct Moments {
    /// Power of two that values were divided by to bring them into float16's range.
    pub exponent: i16,
    /// At token 0, as they are kept.
    pub means: Vec<f32>,
    /// Steps of the channels, as a multiple of the head's: see [`weight`]. Empty where all are one.
    pub weights: Vec<u8>,
    /// Of what is left of each channel, in multiples of its weight, squared.
    pub variances: Vec<f32>,
    /// Root mean square of what is left, without weights.
    pub deviation: f32,
    /// Root mean square of everything.
    pub magnitude: f32,
}

/// The factor that a weight stands for.
pub(crate) fn weight(index: u8) -> f32 {
    libm::exp2(f64::from(i32::from(index) - WEIGHT_ONE) / WEIGHT_PARTS) as f32
}

/// The weight nearest to 2^`octaves`.
pub(crate) fn weight_index(octaves: f64) -> u8 {
    (libm::rint(octaves * WEIGHT_PARTS) + f64::from(WEIGHT_ONE)).clamp(0.0, 255.0) as u8
}

impl Moments {
    /// Of `x`, `[tokens, dim]`, which is brought into range; `largest` is the largest magnitude there, and of what shares the
    /// range. `weigh` gets what is left of each channel, mean squares, and gives weights.
    pub fn of(x: &mut [f32], largest: f32, frame: &Frame, weigh: impl FnOnce(&[f32]) -> Vec<u8>) -> Self {
        let dim = frame.dim;
        let tokens = x.len() / dim;
        let exponent = exponent_of(largest);
        scale_by(x, -exponent);
        let mut sums = vec![0.0f64; dim];
        let mut squares = 0.0f64;
        for (run, x) in x.chunks(RUN * dim).enumerate() {
            let (cos, sin) = frame.turns(x.len() / dim);
            let (mut with_cos, mut with_sin) = (vec![0.0; dim], vec![0.0; dim]);
            simd::turning_sums(x, cos, sin, &mut with_cos, &mut with_sin);
            frame.rotation.add_to_mean(&with_cos, &with_sin, run * RUN, &mut sums);
            squares += column_squares(x, dim).iter().map(|s| f64::from(*s)).sum::<f64>();
        }
        let count = tokens.max(1) as f64;
        // By way of float32, as machines that convert to float16 themselves do it.
        let means: Vec<f32> = sums.iter().map(|sum| f16::from_f32((sum / count) as f32).to_f32()).collect();
        let ones = vec![1.0; dim];
        let mut energies = vec![0.0f64; dim];
        let mut left = vec![0.0; RUN.min(tokens) * dim];
        for (run, x) in x.chunks(RUN * dim).enumerate() {
            let left = &mut left[..x.len()];
            take_off(x, run, frame, &means, &ones, dim, left);
            for (energy, square) in energies.iter_mut().zip(column_squares(left, dim)) {
                *energy += f64::from(square);
            }
        }
        let mean_squares: Vec<f32> = energies.iter().map(|e| (e / count) as f32).collect();
        let deviation = (energies.iter().sum::<f64>() / count / dim as f64).sqrt() as f32;
        let weights = weigh(&mean_squares);
        let factor = |channel: usize| if weights.is_empty() { 1.0 } else { weight(weights[channel]) };
        let variances = mean_squares.iter().enumerate().map(|(c, v)| v / (factor(c) * factor(c))).collect();
        let magnitude = (squares / count / dim as f64).sqrt() as f32;
        Self { exponent, means, weights, variances, deviation, magnitude }
    }

    /// With a step of the head.
    pub fn with_step(&self, step: f32) -> PlaneFit {
        let half = (step / 2.0).max(self.magnitude * FINEST);
        let half = if half > 0.0 { half } else { 1.0 };
        let classes = self.variances.iter().map(|v| class_of(v / (half * half))).collect();
        PlaneFit { exponent: self.exponent, half, means: self.means.clone(), weights: self.weights.clone(), classes }
    }
}

/// x − mean, times `scale`, into rows of `row` values.
fn take_off(x: &[f32], run: usize, frame: &Frame, means: &[f32], scale: &[f32], row: usize, out: &mut [f32]) {
    let (a, b) = frame.rotation.coefficients(means, run * RUN);
    simd::subtract_turning(x, frame.turns(x.len() / frame.dim), (&a, &b), scale, row, out);
}

fn column_squares(x: &[f32], dim: usize) -> Vec<f32> {
    let mut sums = vec![0.0; dim];
    for row in x.chunks_exact(dim) {
        for (sum, x) in sums.iter_mut().zip(row) {
            *sum += x * x;
        }
    }
    sums
}

/// Values beyond 2¹⁵ or all below 2⁻⁴ are scaled to end near one.
fn exponent_of(largest: f32) -> i16 {
    if largest == 0.0 || (0.0625..32_768.0).contains(&largest) {
        return 0;
    }
    let (_, exponent) = libm::frexpf(largest);
    exponent as i16
}

/// By 2^`exponent`, in two steps, since the factor itself may be out of range.
pub(crate) fn scale_by(x: &mut [f32], exponent: i16) {
    if exponent == 0 {
        return;
    }
    let half = i32::from(exponent) / 2;
    let (first, second) = (libm::ldexpf(1.0, half), libm::ldexpf(1.0, i32::from(exponent) - half));
    for x in x {
        *x = *x * first * second;
    }
}

/// How a head is coded.
pub(crate) struct PlaneFit {
    exponent: i16,
    /// Half a step, of a channel of weight one.
    half: f32,
    means: Vec<f32>,
    weights: Vec<u8>,
    classes: Vec<u8>,
}

/// Codes of one run of tokens, `[tokens, lanes]`, lanes being the channels and what fills them up.
#[derive(Default)]
pub(crate) struct RunCodes {
    values: Vec<f32>,
    codes: Vec<i32>,
    odd: Vec<u8>,
    room: TrellisRoom,
}

impl PlaneFit {
    /// Bytes of [`Self::write`].
    pub fn byte_length(dim: usize, weighted: bool) -> usize {
        2 + 4 + 2 * dim + dim + if weighted { dim } else { 0 }
    }

    /// Exponent, half a step, means, weights where there are any, classes.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.extend(self.exponent.to_le_bytes());
        out.extend(self.half.to_le_bytes());
        out.extend(self.means.iter().flat_map(|mean| f16::from_f32(*mean).to_le_bytes()));
        out.extend(&self.weights);
        out.extend(&self.classes);
    }

    /// # Errors
    /// `CORRUPT_DATA`.
    pub fn read(reader: &mut Reader, dim: usize, weighted: bool) -> Result<Self> {
        let (exponent, half) = (reader.i16()?, reader.f32()?);
        if !(half > 0.0 && half.is_finite()) || exponent.unsigned_abs() > 256 {
            return Err(reader.corrupt("has an impossible step"));
        }
        let means = reader.halves(dim)?;
        let weights = if weighted { reader.bytes(dim)?.to_vec() } else { Vec::new() };
        Ok(Self { exponent, half, means, weights, classes: reader.bytes(dim)?.to_vec() })
    }

    pub fn exponent(&self) -> i16 {
        self.exponent
    }

    /// Half steps of the channels.
    fn halves(&self) -> Vec<f32> {
        let dim = self.means.len();
        (0..dim).map(|c| self.half * if self.weights.is_empty() { 1.0 } else { weight(self.weights[c]) }).collect()
    }

    fn uses(&self) -> Vec<ClassUse> {
        self.classes.iter().map(|class| ClassUse::of(*class)).collect()
    }

    /// Codes of run `run`, of which `x` holds the tokens, `[tokens, dim]`.
    pub fn quantize(&self, x: &[f32], run: usize, frame: &Frame, into: &mut RunCodes) {
        let dim = frame.dim;
        let lanes = dim.next_multiple_of(LANES);
        let elements = x.len() / dim * lanes;
        let RunCodes { values, codes, odd, room } = into;
        values.clear();
        values.resize(elements, 0.0);
        codes.resize(elements, 0);
        odd.resize(elements, 0);
        let scale: Vec<f32> = self.halves().iter().map(|half| 1.0 / half).collect();
        take_off(x, run, frame, &self.means, &scale, lanes, values);
        let mut thresholds = vec![0.0; lanes];
        for (threshold, class) in thresholds.iter_mut().zip(&self.classes) {
            *threshold = threshold_of(*class);
        }
        simd::trellis_codes(values, &thresholds, codes, odd, room);
    }

    /// Counts the codes of a run.
    pub fn count(&self, run: &RunCodes, dim: usize, counts: &mut Counts) {
        let uses = self.uses();
        let lanes = dim.next_multiple_of(LANES);
        let mut previous = vec![0; dim];
        let rows = run.codes.chunks_exact(lanes).zip(run.odd.chunks_exact(lanes)).zip(run.values.chunks_exact(lanes));
        for ((codes, odd), values) in rows {
            for c in 0..dim {
                let table = table_of(&uses[c], odd[c], previous[c]);
                let point = simd::point(codes[c], odd[c]);
                let off = (values[c] - point as f32).clamp(-8.0, 8.0);
                counts.count(table, symbol_of(codes[c] >> uses[c].plain_bits), off, uses[c].plain_bits);
                previous[c] = point;
            }
        }
    }

    /// The codes of a run as words of each coder.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn encode(&self, run: &RunCodes, dim: usize, tables: &Tables) -> Result<[Vec<u32>; CODERS]> {
        let uses = self.uses();
        let lanes = dim.next_multiple_of(LANES);
        let mut writer = Writer::new();
        let zeros = (vec![0; lanes], vec![0; lanes]);
        for t in (0..run.codes.len() / lanes).rev() {
            let row = |t: usize| (&run.codes[t * lanes..][..lanes], &run.odd[t * lanes..][..lanes]);
            let (codes, odd) = row(t);
            let (before, before_odd) = if t == 0 { (&zeros.0[..], &zeros.1[..]) } else { row(t - 1) };
            for c in (0..dim).rev() {
                let table = table_of(&uses[c], odd[c], simd::point(before[c], before_odd[c]));
                writer.push(c, codes[c], tables.get(table), uses[c].plain_bits)?;
            }
        }
        writer.finish()
    }

    /// Values of run `run` into `out`, `[tokens, dim]`. Whether the words held exactly that many codes.
    pub fn decode(
        &self,
        words: [Vec<u32>; CODERS],
        run: usize,
        frame: &Frame,
        tables: &Tables,
        out: &mut [f32],
    ) -> bool {
        let dim = frame.dim;
        let Some(mut source) = Source::new(words) else { return false };
        let uses = self.uses();
        let mut previous = vec![0; dim];
        let mut states = vec![0u8; dim];
        for out in out.chunks_exact_mut(dim) {
            for c in 0..dim {
                let odd = states[c] >> 1;
                let table = tables.get(table_of(&uses[c], odd, previous[c]));
                let (symbol, code) = source.next(c, table, uses[c].plain_bits);
                let point = simd::point(code, odd);
                out[c] = point as f32 + f32::from(table.offsets[symbol]) * OFFSET_UNIT;
                previous[c] = point;
                states[c] = NEXT_STATE[usize::from(states[c] & 3)][(code & 1) as usize];
            }
        }
        let (a, b) = frame.rotation.coefficients(&self.means, run * RUN);
        simd::add_turning(out, frame.turns(out.len() / dim), (&a, &b), &self.halves());
        source.is_exhausted()
    }
}

#[inline(always)]
fn table_of(used: &ClassUse, odd: u8, previous: i32) -> usize {
    used.table + usize::from(odd) * CONTEXTS + used.context(previous)
}

/// Half of what a bit costs times the bits that a half step more takes: for a Laplacian of the class's deviation these are
/// √2·log₂e over the deviation, and a bit costs 2·ln 2 of the distortion of a step, a twelfth of its square.
fn threshold_of(class: u8) -> f32 {
    let deviation = libm::sqrt(variance_of(usize::from(class))) as f32;
    let bit = 2.0 * std::f32::consts::LN_2 * 4.0 / 12.0 * RATE_WEIGHT;
    (bit * std::f32::consts::SQRT_2 * std::f32::consts::LOG2_E / deviation.max(0.05) / 2.0).min(1.0)
}
