//! One frozen K or V tensor: bytes, and what they describe.
//!
//! In order: how each head is coded ([`PlaneFit`]); sinks, float16, `[batch, heads, sinks, head_dim]`; for each head and run of
//! tokens the length of each coder's words, u32; those words.

use std::sync::Arc;

use half::f16;

use crate::config::GearConfig;
use crate::error::{Cancel, ErrorCode, GearError, Result, check};
use crate::parallel;
use crate::shape::{KvShape, Role};
use crate::simd;

use super::bytes::Reader;
use super::coder::CODERS;
use super::plane::{Frame, Moments, PlaneFit, RUN, RunCodes, scale_by};
use super::tables::{LIKELIEST, TOTAL, Tables};

/// What a frozen tensor keeps beside its bytes, on every target. Asserted below.
const FROZEN_HEADER_BYTES: usize = 256;
const _: () = assert!(size_of::<FrozenTensor>() <= FROZEN_HEADER_BYTES);

/// A frozen K or V tensor. It is read with the statistics of the cache that it belongs to. Cloning shares the bytes.
#[derive(Clone)]
pub struct FrozenTensor {
    role: Role,
    shape: KvShape,
    config: GearConfig,
    sinks: usize,
    weighted: bool,
    rotation: usize,
    bytes: Arc<[u8]>,
}

/// What describes a frozen tensor beside its bytes.
#[derive(Debug, Clone)]
pub struct FrozenHeader {
    /// Keys or values.
    pub role: Role,
    /// Its shape, all tokens counted.
    pub shape: KvShape,
    /// The configuration of the tensor that was frozen.
    pub config: GearConfig,
    /// Leading tokens that are kept in float16.
    pub sinks: usize,
    /// Whether channels have steps of their own.
    pub weighted: bool,
    /// Which of the statistics' rotations its keys turn by; 0 for values.
    pub rotation: usize,
}

impl FrozenTensor {
    /// Keys or values.
    pub fn role(&self) -> Role {
        self.role
    }

    /// Its shape.
    pub fn shape(&self) -> KvShape {
        self.shape
    }

    /// The configuration of the tensor that was frozen.
    pub fn config(&self) -> &GearConfig {
        &self.config
    }

    /// Leading tokens that are kept in float16.
    pub fn sinks(&self) -> usize {
        self.sinks
    }

    /// Whether channels have steps of their own.
    pub fn weighted(&self) -> bool {
        self.weighted
    }

    /// Which of the statistics' rotations its keys turn by; 0 for values.
    pub fn rotation(&self) -> usize {
        self.rotation
    }

    /// Everything that is coded.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Bytes that are kept.
    pub fn byte_length(&self) -> usize {
        self.bytes.len() + FROZEN_HEADER_BYTES
    }

    fn runs(&self) -> usize {
        (self.shape.tokens - self.sinks).div_ceil(RUN)
    }

    /// A tensor from bytes that nobody vouches for. Everything is checked but the codes themselves, whose number is bound by the
    /// bytes that are there.
    ///
    /// # Errors
    /// `CORRUPT_DATA` saying what does not fit.
    pub fn from_bytes(header: FrozenHeader, bytes: Arc<[u8]>) -> Result<Self> {
        let FrozenHeader { role, shape, config, sinks, weighted, rotation } = header;
        let as_corrupt = |e: GearError| GearError::corrupt(format!("damaged frozen tensor: {e}"));
        let shape = KvShape::new(shape.batch, shape.heads, shape.tokens, shape.head_dim).map_err(as_corrupt)?;
        config.validate().map_err(as_corrupt)?;
        if sinks > shape.tokens {
            return Err(GearError::corrupt("damaged frozen tensor: more sinks than tokens"));
        }
        if role == Role::Value && rotation != 0 {
            return Err(GearError::corrupt("damaged frozen tensor: its values turn"));
        }
        let tensor = Self { role, shape, config, sinks, weighted, rotation, bytes };
        tensor.parts()?;
        Ok(tensor)
    }

    /// Fits of all heads, their sinks, and each run's words.
    fn parts(&self) -> Result<Parts<'_>> {
        let KvShape { tokens, head_dim: dim, .. } = self.shape;
        let (planes, runs) = (self.shape.planes(), self.runs());
        let mut reader = Reader::new("frozen tensor", &self.bytes);
        // Before anything is allocated: a head takes at least this much.
        if planes.checked_mul(PlaneFit::byte_length(dim, self.weighted)).is_none_or(|n| n > self.bytes.len()) {
            return Err(reader.corrupt("is shorter than its heads"));
        }
        let fits = (0..planes).map(|_| PlaneFit::read(&mut reader, dim, self.weighted)).collect::<Result<Vec<_>>>()?;
        let sinks = reader.halves(planes * self.sinks * dim)?;
        let lengths = reader.words::<4>(planes * runs * CODERS)?;
        let mut words = Vec::with_capacity(planes * runs);
        for (i, lengths) in lengths.chunks_exact(CODERS).enumerate() {
            let run_tokens = (tokens - self.sinks - i % runs * RUN).min(RUN);
            let mut run = [&[][..]; CODERS];
            for (coder, (run, length)) in run.iter_mut().zip(lengths).enumerate() {
                let length = u32::from_le_bytes(*length) as usize;
                let codes = run_tokens * ((dim + CODERS - 1 - coder) / CODERS);
                // A code takes at least log₂(total / likeliest) bits.
                if codes as f64 * least_bits() > length as f64 * 32.0 {
                    return Err(reader.corrupt("claims more tokens than it has"));
                }
                *run = reader.words::<4>(length)?;
            }
            words.push(run);
        }
        reader.finish()?;
        Ok(Parts { fits, sinks, words })
    }

    /// All tokens, `[batch, heads, tokens, head_dim]`, into `out`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when `out` is of another length, `CORRUPT_DATA`, `ABORTED`; `out` may be partly written then.
    pub(crate) fn decode(
        &self,
        frame: &Frame,
        tables: &Tables,
        threads: u32,
        out: &mut [f32],
        cancel: Cancel,
    ) -> Result<()> {
        crate::shape::KvSlice::F32(out).check_shape("the output", self.shape)?;
        let KvShape { tokens, head_dim: dim, .. } = self.shape;
        let Parts { fits, sinks, words } = self.parts()?;
        let runs = self.runs();
        let mut pieces = Vec::with_capacity(words.len() + fits.len());
        for (plane, out) in out.chunks_mut((tokens * dim).max(1)).enumerate() {
            let (first, rest) = out.split_at_mut(self.sinks * dim);
            first.copy_from_slice(&sinks[plane * self.sinks * dim..][..self.sinks * dim]);
            scale_by(first, fits[plane].exponent());
            pieces.extend(rest.chunks_mut(RUN * dim).enumerate().map(|(run, out)| (plane, run, out)));
        }
        let intact = parallel::map_mut(&mut pieces, threads, |_, (plane, run, out)| {
            if cancel() {
                return true;
            }
            let words = words[*plane * runs + *run].map(|words| words.iter().map(|b| u32::from_le_bytes(*b)).collect());
            let fit = &fits[*plane];
            let intact = fit.decode(words, *run, frame, tables, out);
            scale_by(out, fit.exponent());
            intact && out.iter().all(|x| x.is_finite())
        });
        check(cancel)?;
        if intact.contains(&false) {
            return Err(GearError::corrupt("damaged frozen tensor: its codes do not end where its bytes do"));
        }
        Ok(())
    }
}

struct Parts<'a> {
    fits: Vec<PlaneFit>,
    /// `[batch, heads, sinks, head_dim]`, as kept.
    sinks: Vec<f32>,
    /// `[heads, runs]`
    words: Vec<[&'a [[u8; 4]]; CODERS]>,
}

fn least_bits() -> f64 {
    libm::log2(f64::from(TOTAL) / f64::from(LIKELIEST))
}

/// What a tensor is before it is frozen.
pub(crate) struct Liquid {
    pub role: Role,
    pub shape: KvShape,
    pub config: GearConfig,
    pub sinks: usize,
    pub rotation: usize,
    /// `[batch, heads, tokens, head_dim]`, each head brought into float16's range.
    values: Vec<f32>,
    pub moments: Vec<Moments>,
}

impl Liquid {
    /// `weigh` gets a head's number and its channels' mean squares, and gives weights.
    pub fn new(
        (role, shape, config, rotation): (Role, KvShape, GearConfig, usize),
        mut values: Vec<f32>,
        sinks: usize,
        frame: &Frame,
        weigh: impl Fn(usize, &[f32]) -> Vec<u8>,
    ) -> Self {
        let sinks = sinks.min(shape.tokens);
        let plane = (shape.tokens * shape.head_dim).max(1);
        let mut moments: Vec<Moments> = Vec::with_capacity(shape.planes());
        for (index, values) in values.chunks_mut(plane).enumerate() {
            let (first, rest) = values.split_at_mut(sinks * shape.head_dim);
            // Sinks share the head's power of two.
            let range = simd::largest_magnitude(first).max(simd::largest_magnitude(rest));
            let fit = Moments::of(rest, range, frame, |squares| weigh(index, squares));
            scale_by(first, -fit.exponent);
            moments.push(fit);
        }
        for _ in moments.len()..shape.planes() {
            moments.push(Moments::of(&mut [], 0.0, frame, |squares| weigh(0, squares)));
        }
        Self { role, shape, config, sinks, rotation, values, moments }
    }

    fn plane(&self, plane: usize) -> (&[f32], &[f32]) {
        let size = self.shape.tokens * self.shape.head_dim;
        self.values[plane * size..(plane + 1) * size].split_at(self.sinks * self.shape.head_dim)
    }

    /// Tokens of a head behind the sinks, run by run.
    pub fn runs(&self, plane: usize) -> impl Iterator<Item = &[f32]> {
        self.plane(plane).1.chunks(RUN * self.shape.head_dim)
    }

    /// Bytes that are not codes.
    pub fn side_bytes(&self) -> usize {
        let (planes, dim) = (self.shape.planes(), self.shape.head_dim);
        let runs = (self.shape.tokens - self.sinks).div_ceil(RUN);
        // What a coder's words take beside the codes: its length, its first state, half a word to the next.
        let coders = runs * CODERS * (4 + 4 + 2);
        planes * (PlaneFit::byte_length(dim, self.weighted()) + 2 * self.sinks * dim + coders) + FROZEN_HEADER_BYTES
    }

    fn weighted(&self) -> bool {
        self.moments.iter().any(|m| !m.weights.is_empty())
    }

    /// With a step for each head.
    ///
    /// # Errors
    /// `INTERNAL`.
    pub fn freeze(self, steps: &[f32], frame: &Frame, tables: &Tables) -> Result<FrozenTensor> {
        let dim = self.shape.head_dim;
        let mut bytes = Vec::new();
        let fits: Vec<PlaneFit> = self.moments.iter().zip(steps).map(|(m, step)| m.with_step(*step)).collect();
        fits.iter().for_each(|fit| fit.write(&mut bytes));
        let (mut lengths, mut words) = (Vec::new(), Vec::new());
        let mut run_codes = RunCodes::default();
        for (plane, fit) in fits.iter().enumerate() {
            let (sinks, _) = self.plane(plane);
            bytes.extend(sinks.iter().flat_map(|x| f16::from_f32(*x).to_le_bytes()));
            for (run, x) in self.runs(plane).enumerate() {
                fit.quantize(x, run, frame, &mut run_codes);
                for coder in fit.encode(&run_codes, dim, tables)? {
                    let length = u32::try_from(coder.len())
                        .map_err(|_| GearError::new(ErrorCode::Internal, "a run of codes is too long"))?;
                    lengths.extend(length.to_le_bytes());
                    words.extend(coder);
                }
            }
        }
        bytes.extend(lengths);
        bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
        let weighted = self.weighted();
        let Self { role, shape, config, sinks, rotation, .. } = self;
        Ok(FrozenTensor { role, shape, config, sinks, weighted, rotation, bytes: bytes.into() })
    }
}
