//! Rotary position embedding, and how it is stretched to contexts longer than those of the training.

use std::f64::consts::PI;

/// Which channels are turned together.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Channels 2i and 2i + 1: how GGUF orders the rows of Llama's projections.
    Neighbours,
    /// Channels i and i + dim/2.
    Halves,
}

/// How far each pair of channels turns from one position to the next.
#[derive(Debug, Clone)]
pub(crate) struct RopeConfig {
    pub pairing: Pairing,
    /// Channels that turn; the others stay.
    pub dim: usize,
    pub base: f64,
    /// Positions are divided by this.
    pub linear: f64,
    /// Pairs that turn often within the training's context are not slowed down by `linear`.
    pub yarn: Option<Yarn>,
    /// What turns also gets longer by this factor.
    pub stretch: f64,
    /// Each pair's frequency is divided by this (Llama 3).
    pub factors: Option<Vec<f32>>,
}

/// YaRN (arXiv 2309.00071, section 3.2, "NTK-by-parts").
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Yarn {
    /// Positions in the training's context.
    pub trained: f64,
    /// Pairs that make at least so many turns in it keep their frequency.
    pub fast: f64,
    /// Pairs that make at most so many are slowed down in full.
    pub slow: f64,
    /// How much of all this there is, 0 to 1.
    pub share: f64,
}

impl Yarn {
    /// How much of a pair's own frequency is kept, 0 to 1, for each of `dim / 2` pairs.
    fn kept(&self, dim: usize, base: f64) -> Vec<f64> {
        // The pair that makes so many turns, which need not be a whole number.
        let pair = |turns: f64| dim as f64 * (self.trained / (turns * 2.0 * PI)).ln() / (2.0 * base.ln());
        let first = pair(self.fast).floor().max(0.0);
        let last = pair(self.slow).ceil().min(dim as f64 - 1.0);
        // Bounds that coincide must not divide by zero.
        let run = (last - first).max(0.001);
        (0..dim / 2).map(|i| self.share * (1.0 - ((i as f64 - first) / run).clamp(0.0, 1.0))).collect()
    }
}

impl RopeConfig {
    /// How far each pair turns from one position to the next, in radians.
    fn frequencies(&self) -> Vec<f64> {
        let kept = self.yarn.map(|yarn| yarn.kept(self.dim, self.base));
        let frequency = |i: usize| {
            let factor = self.factors.as_ref().map_or(1.0, |factors| f64::from(factors[i]));
            let own = self.base.powf(-2.0 * i as f64 / self.dim as f64) / factor;
            let kept = kept.as_ref().map_or(0.0, |kept| kept[i]);
            own / self.linear * (1.0 - kept) + own * kept
        };
        (0..self.dim / 2).map(frequency).collect()
    }
}

/// Sines and cosines of a run of positions.
#[derive(Clone)]
pub(crate) struct Rotation {
    pairing: Pairing,
    half: usize,
    /// `[position][pair]` of (cos, sin)
    turns: Vec<(f32, f32)>,
}

impl Rotation {
    pub fn new(config: &RopeConfig, first: usize, positions: usize) -> Self {
        let half = config.dim / 2;
        let frequencies = config.frequencies();
        let turns = (first..first + positions)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    ((cos * config.stretch) as f32, (sin * config.stretch) as f32)
                })
            })
            .collect();
        Self { pairing: config.pairing, half, turns }
    }

    /// Cosine and sine of each position's pairs, `[position][pair]`.
    #[cfg(feature = "tensors")]
    pub fn turns(&self) -> &[(f32, f32)] {
        &self.turns
    }

    /// Turns one head at the run's `index`-th position.
    pub fn turn(&self, index: usize, head: &mut [f32]) {
        let turns = &self.turns[index * self.half..][..self.half];
        match self.pairing {
            Pairing::Neighbours => {
                for (pair, &(cos, sin)) in head.as_chunks_mut::<2>().0.iter_mut().zip(turns) {
                    let [a, b] = *pair;
                    *pair = [a * cos - b * sin, a * sin + b * cos];
                }
            }
            Pairing::Halves => {
                let (first, rest) = head.split_at_mut(self.half);
                for ((a, b), &(cos, sin)) in first.iter_mut().zip(rest).zip(turns) {
                    (*a, *b) = (*a * cos - *b * sin, *a * sin + *b * cos);
                }
            }
        }
    }
}
