//! Rotary position embedding.

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
    /// Each pair's frequency is divided by this (Llama 3).
    pub factors: Option<Vec<f32>>,
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
        let frequencies: Vec<f64> = (0..half)
            .map(|i| {
                let factor = config.factors.as_ref().map_or(1.0, |factors| f64::from(factors[i]));
                config.base.powf(-2.0 * i as f64 / config.dim as f64) / factor / config.linear
            })
            .collect();
        let turns = (first..first + positions)
            .flat_map(|position| {
                frequencies.iter().map(move |frequency| {
                    let (sin, cos) = (position as f64 * frequency).sin_cos();
                    (cos as f32, sin as f32)
                })
            })
            .collect();
        Self { pairing: config.pairing, half, turns }
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
