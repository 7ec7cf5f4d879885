//! What a candidate takes and what it loses, found by compressing with it.

use crate::config::GearConfig;
use crate::error::{Cancel, Result, check};
use crate::need::{LEAST_WEIGHT, Need, Survey};
use crate::parallel;
use crate::segment::{self, Guidance, Rows, SEGMENT_HEADER_BYTES, Segment, SegmentLayout};
use crate::shape::Role;
use crate::simd;

/// What `auto` chooses.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Candidate {
    pub mean_bits: f64,
    pub rank: u32,
    pub sparsity: f64,
}

impl Candidate {
    /// `config` with this in it.
    pub fn of(self, config: &GearConfig) -> GearConfig {
        let Self { mean_bits, rank, sparsity } = self;
        // As many bits a token for A as in a prompt; B takes as many again, so half the rank.
        GearConfig { mean_bits, rank, sparsity, decode_rank: rank / 2, ..config.clone() }
    }
}

/// What came of a candidate.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Outcome {
    /// Of the segment and its header.
    pub bytes: f64,
    /// Squared error, weighed.
    pub error: f64,
}

/// Tokens that are about to become one segment.
#[derive(Clone, Copy)]
pub(crate) struct Run<'a> {
    pub rows: &'a dyn Rows,
    pub role: Role,
    pub batch: usize,
    pub heads: usize,
    pub tokens: usize,
    pub dim: usize,
    /// What attention needs of them.
    pub need: Option<Need<'a>>,
}

impl Run<'_> {
    pub fn planes(&self) -> usize {
        self.batch * self.heads
    }

    pub fn elements(&self) -> usize {
        self.planes() * self.tokens * self.dim
    }
}

/// Values of a sample are as many as this, or [`SAMPLE_TOKENS`] tokens, whichever is more.
const SAMPLE_VALUES: usize = 1 << 16;
const SAMPLE_TOKENS: usize = 256;
/// Neighbours stay together in a sample: scales are shared by as many tokens.
const SAMPLE_BLOCK: usize = 64;

/// Blocks of a run's tokens, evenly spread over it.
pub(crate) struct Sample {
    /// `[planes][tokens, dim]`
    planes: Vec<Vec<f32>>,
    dim: usize,
    /// First tokens of its blocks.
    blocks: Vec<usize>,
    survey: Option<Survey>,
}

impl Rows for Sample {
    fn load(&self, plane: usize, first: usize, out: &mut [f32]) {
        let start = first * self.dim;
        out.copy_from_slice(&self.planes[plane][start..start + out.len()]);
    }
}

impl Sample {
    /// `None` where a run is not worth sampling.
    pub fn of(run: &Run, threads: u32) -> Option<Self> {
        let values = run.planes() * run.dim;
        let tokens = SAMPLE_TOKENS.max(SAMPLE_VALUES / values).next_multiple_of(SAMPLE_BLOCK);
        // Where it is most of the run, the run itself tells more and costs hardly more.
        if run.tokens < tokens * 3 / 2 {
            return None;
        }
        let count = tokens / SAMPLE_BLOCK;
        let stride = (run.tokens - SAMPLE_BLOCK) / (count - 1);
        let blocks: Vec<usize> = (0..count).map(|block| block * stride).collect();
        let planes = parallel::map(run.planes(), threads, |plane| {
            let mut sample = vec![0.0; blocks.len() * SAMPLE_BLOCK * run.dim];
            for (block, first) in sample.chunks_exact_mut(SAMPLE_BLOCK * run.dim).zip(&blocks) {
                run.rows.load(plane, *first, block);
            }
            sample
        });
        let survey = run.need.map(|need| need.sampled(&blocks, SAMPLE_BLOCK));
        Some(Self { planes, dim: run.dim, blocks, survey })
    }

    /// The sample as a run of its own, of the same kind as `run`.
    pub fn run<'a>(&'a self, run: &Run) -> Run<'a> {
        let tokens = self.blocks.len() * SAMPLE_BLOCK;
        let need = self.survey.as_ref().and_then(|survey| survey.newest(tokens));
        Run { rows: self, role: run.role, batch: run.batch, heads: run.heads, dim: run.dim, tokens, need }
    }
}

/// Bytes of a segment and its header.
fn size(segment: &Segment) -> f64 {
    (segment.byte_length() + SEGMENT_HEADER_BYTES) as f64
}

/// A run to try candidates on.
pub(crate) struct Trial<'a> {
    pub run: Run<'a>,
    pub config: &'a GearConfig,
    pub from_buffer: bool,
    pub cancel: Cancel<'a>,
}

impl Trial<'_> {
    fn encode(&self, candidate: Candidate) -> Result<Segment> {
        check(self.cancel)?;
        let Run { rows, role, batch, heads, tokens, dim, need } = self.run;
        let config = candidate.of(self.config);
        let rank = if self.from_buffer { config.decode_rank } else { config.rank };
        let layout = SegmentLayout::new(&config, role, batch, heads, tokens, dim, rank as usize);
        segment::encode(rows, layout, &config, Guidance { need, widths: None }, self.cancel)
    }

    /// Bytes of the segment and its header.
    pub fn bytes(&self, candidate: Candidate) -> Result<f64> {
        Ok(size(&self.encode(candidate)?))
    }

    /// What it takes and what it loses.
    pub fn outcome(&self, candidate: Candidate) -> Result<Outcome> {
        let segment = self.encode(candidate)?;
        let error = self.sum(Some(&segment));
        Ok(Outcome { bytes: size(&segment), error })
    }

    /// Squared norm of what is there, weighed as errors are.
    pub fn norm(&self) -> f64 {
        self.sum(None)
    }

    /// Weighed squares of the values less what `segment` makes of them. Keys are seen by queries, `eᵀ E[q qᵀ] e`, and
    /// values by the squared weights that tokens get, where they are known.
    fn sum(&self, segment: Option<&Segment>) -> f64 {
        let Run { role, tokens, dim, need, .. } = self.run;
        let sums = parallel::map(self.run.planes(), self.config.threads, |plane| {
            let mut x = vec![0.0; tokens * dim];
            self.run.rows.load(plane, 0, &mut x);
            if let Some(segment) = segment {
                let mut restored = vec![0.0; tokens * dim];
                segment.decompress_rows(plane, 0, &mut restored);
                x.iter_mut().zip(&restored).for_each(|(x, restored)| *x -= restored);
            }
            let moments = need.filter(|_| role == Role::Key).map(|need| need.moments(plane));
            let weights = need.filter(|_| role == Role::Value).map(|need| need.weights(plane, tokens));
            let mean = |w: &[f32]| w.iter().map(|&w| f64::from(w)).sum::<f64>() / tokens.max(1) as f64;
            let least = weights.map_or(0.0, |weights| LEAST_WEIGHT * mean(weights));
            let mut seen = vec![0.0; dim];
            let mut sum = 0.0;
            for (t, row) in x.chunks_exact(dim).enumerate() {
                let square = match moments {
                    Some(moments) => {
                        simd::dot_rows(moments, dim, row, &mut seen, dim);
                        // Rounding can take it below zero.
                        row.iter().zip(&seen).map(|(&a, &b)| f64::from(a) * f64::from(b)).sum::<f64>().max(0.0)
                    }
                    None => row.iter().map(|&a| f64::from(a) * f64::from(a)).sum(),
                };
                sum += square * weights.map_or(1.0, |weights| f64::from(weights[t]) + least);
            }
            sum
        });
        sums.iter().sum()
    }
}
