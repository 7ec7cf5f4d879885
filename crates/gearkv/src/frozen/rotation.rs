//! Where rotary position embedding turns keys: how far each pair of channels turns from one token to the next.
//!
//! Before RoPE the keys of a head have a mean that is large beside what varies. RoPE turns it, so that after RoPE a pair of channels
//! goes round a circle, and a mean per channel does not see it. Models differ in how they pair channels and how fast they turn
//! them, and a cache does not say; but the keys do: multiplied by the conjugate of their neighbour *n* tokens before, pairs
//! add up to a number whose angle is *n* turns. From distance to distance, each twice the one before, the angle becomes exact.

use std::f64::consts::TAU;

use crate::error::Result;

use super::bytes::Reader;

/// Fractions of a turn are of 32 bits, so that angles of any token are exact and wrap by themselves.
const FULL_TURN: f64 = 4_294_967_296.0;

/// Tokens that are looked at to find the turns, and the largest distance between two of them.
const OBSERVED_TOKENS: usize = 2048;

/// How channels are paired.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Pairing {
    /// Channel *i* with *i* + *n*/2 (Hugging Face's `rotate_half`).
    Halves,
    /// Channel 2*i* with 2*i* + 1 (Meta's and GGML's order).
    Neighbours,
}

/// Turns of all pairs of channels, the same in all heads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rotation {
    pairing: Pairing,
    /// Of each pair: a fraction of a full turn a token. Channels behind the last pair do not turn.
    turns: Vec<u32>,
}

impl Rotation {
    /// Nothing turns.
    pub fn still() -> Self {
        Self { pairing: Pairing::Halves, turns: Vec::new() }
    }

    /// The two channels of pair `pair`.
    fn channels(&self, pair: usize) -> (usize, usize) {
        channels(self.pairing, self.turns.len(), pair)
    }

    /// What is observed in `planes`, each `[tokens, dim]`.
    pub fn observe(planes: &[&[f32]], dim: usize) -> Self {
        let planes: Vec<&[f32]> = planes.iter().map(|p| &p[..p.len().min(OBSERVED_TOKENS * dim)]).collect();
        let mut best = Self::still();
        let mut most = 0.0;
        // Some models turn only the first half or quarter of the channels.
        for turning in [dim, dim / 2, dim / 4] {
            for pairing in [Pairing::Neighbours, Pairing::Halves] {
                let pairs = turning / 2;
                let sums = (0..pairs).map(|pair| correlation(&planes, dim, channels(pairing, pairs, pair), 1));
                // What does not turn adds up to its energy whatever it is paired with.
                let alone: f64 = (2 * pairs..dim).map(|c| correlation(&planes, dim, (c, c), 1).0 / 2.0).sum();
                let found = alone + sums.map(|(re, im)| (re * re + im * im).sqrt()).sum::<f64>();
                if found > most * 1.001 {
                    most = found;
                    best = Self { pairing, turns: vec![0; pairs] };
                }
            }
        }
        for pair in 0..best.turns.len() {
            best.turns[pair] = turn_of(&planes, dim, best.channels(pair));
        }
        best
    }

    /// Cosines and sines of `tokens` tokens from 0 on, each `[tokens, dim]`.
    pub fn table(&self, tokens: usize, dim: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut cos, mut sin) = (vec![1.0; tokens * dim], vec![0.0; tokens * dim]);
        for (pair, &turn) in self.turns.iter().enumerate() {
            let (a, b) = self.channels(pair);
            for t in 0..tokens {
                let (s, c) = sine_and_cosine(turn, t);
                for channel in [a, b] {
                    cos[t * dim + channel] = c as f32;
                    sin[t * dim + channel] = s as f32;
                }
            }
        }
        (cos, sin)
    }

    /// Coefficients of cosine and sine at token `first + t`, by channel, for a mean that is `mean` at token 0: what
    /// [`Self::table`] gives at *t* is multiplied by them.
    pub fn coefficients(&self, mean: &[f32], first: usize) -> (Vec<f32>, Vec<f32>) {
        let (mut with_cos, mut with_sin) = (mean.to_vec(), vec![0.0; mean.len()]);
        for (pair, &turn) in self.turns.iter().enumerate() {
            let (a, b) = self.channels(pair);
            let (s, c) = sine_and_cosine(turn, first);
            let (re, im) = (f64::from(mean[a]), f64::from(mean[b]));
            let (re, im) = ((re * c - im * s) as f32, (re * s + im * c) as f32);
            (with_cos[a], with_sin[a]) = (re, -im);
            (with_cos[b], with_sin[b]) = (im, re);
        }
        (with_cos, with_sin)
    }

    /// The mean at token 0 from sums Σ x·cos and Σ x·sin over `count` tokens from `first` on, by channel, where the tables began
    /// at `first`; added to `mean`.
    pub fn add_to_mean(&self, with_cos: &[f32], with_sin: &[f32], first: usize, mean: &mut [f64]) {
        let turned = 2 * self.turns.len();
        let mut still = vec![true; mean.len()];
        for (pair, &turn) in self.turns.iter().enumerate() {
            let (a, b) = self.channels(pair);
            (still[a], still[b]) = (false, false);
            let re = f64::from(with_cos[a]) + f64::from(with_sin[b]);
            let im = f64::from(with_cos[b]) - f64::from(with_sin[a]);
            let (s, c) = sine_and_cosine(turn, first);
            mean[a] += re * c + im * s;
            mean[b] += im * c - re * s;
        }
        debug_assert!(turned <= mean.len());
        for (channel, _) in still.iter().enumerate().filter(|(_, still)| **still) {
            mean[channel] += f64::from(with_cos[channel]);
        }
    }

    /// Pairing (0: nothing turns, 1: halves, 2: neighbours), number of pairs, turns.
    pub fn write(&self, out: &mut Vec<u8>) {
        out.push(match (self.turns.is_empty(), self.pairing) {
            (true, _) => 0,
            (false, Pairing::Halves) => 1,
            (false, Pairing::Neighbours) => 2,
        });
        if !self.turns.is_empty() {
            out.extend((self.turns.len() as u32).to_le_bytes());
            out.extend(self.turns.iter().flat_map(|turn| turn.to_le_bytes()));
        }
    }

    /// # Errors
    /// `CORRUPT_DATA`.
    pub fn read(reader: &mut Reader, dim: usize) -> Result<Self> {
        let pairing = match reader.u8()? {
            0 => return Ok(Self::still()),
            1 => Pairing::Halves,
            2 => Pairing::Neighbours,
            _ => return Err(reader.corrupt("pairs channels in an unknown way")),
        };
        let pairs = reader.u32()? as usize;
        if pairs == 0 || pairs > dim / 2 {
            return Err(reader.corrupt("turns more channels than there are"));
        }
        let turns = reader.words::<4>(pairs)?.iter().map(|b| u32::from_le_bytes(*b)).collect();
        Ok(Self { pairing, turns })
    }
}

fn channels(pairing: Pairing, pairs: usize, pair: usize) -> (usize, usize) {
    match pairing {
        Pairing::Halves => (pair, pair + pairs),
        Pairing::Neighbours => (2 * pair, 2 * pair + 1),
    }
}

fn sine_and_cosine(turn: u32, tokens: usize) -> (f64, f64) {
    let angle = turn.wrapping_mul(tokens as u32);
    libm::sincos(f64::from(angle) / FULL_TURN * TAU)
}

/// Σ conj(z_t) · z_{t + distance} over all planes, where z = x_a + i·x_b.
fn correlation(planes: &[&[f32]], dim: usize, (a, b): (usize, usize), distance: usize) -> (f64, f64) {
    let (mut re, mut im) = (0.0, 0.0);
    for plane in planes {
        let later = plane.chunks_exact(dim).skip(distance);
        for (x, y) in plane.chunks_exact(dim).zip(later) {
            let (xa, xb, ya, yb) = (f64::from(x[a]), f64::from(x[b]), f64::from(y[a]), f64::from(y[b]));
            re += xa * ya + xb * yb;
            im += xa * yb - xb * ya;
        }
    }
    (re, im)
}

fn turn_of(planes: &[&[f32]], dim: usize, pair: (usize, usize)) -> u32 {
    let tokens = planes.iter().map(|p| p.len() / dim).max().unwrap_or(0);
    let mut turn = 0.0;
    let mut distance = 1;
    while 2 * distance <= tokens.max(2) {
        let (re, im) = correlation(planes, dim, pair, distance);
        if re == 0.0 && im == 0.0 {
            break;
        }
        // The angle is known up to whole turns; what the shorter distance found says how many there are.
        let off = libm::atan2(im, re) / TAU - turn * distance as f64;
        turn += (off - libm::rint(off)) / distance as f64;
        distance *= 2;
    }
    let fraction = turn - libm::floor(turn);
    // The sum wraps where a turn rounds to a full one.
    (libm::rint(fraction * FULL_TURN) as u64) as u32
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Keys with a large mean that `turns` turn, and some noise.
    fn keys(pairing: Pairing, turns: &[f64], dim: usize, tokens: usize) -> Vec<f32> {
        let mut seed = 3u32;
        let mut noise = move || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            f64::from(seed >> 8) / f64::from(1 << 24) - 0.5
        };
        let mut x = vec![0.0; tokens * dim];
        for t in 0..tokens {
            for (pair, turn) in turns.iter().enumerate() {
                let (a, b) = channels(pairing, turns.len(), pair);
                let (s, c) = (turn * t as f64 * TAU + pair as f64).sin_cos();
                x[t * dim + a] = (3.0 * c + noise()) as f32;
                x[t * dim + b] = (3.0 * s + noise()) as f32;
            }
            for channel in 2 * turns.len()..dim {
                x[t * dim + channel] = (2.0 + noise()) as f32;
            }
        }
        x
    }

    #[test]
    fn turns_and_pairs_are_found_and_the_mean_goes_round_with_them() {
        for (pairing, dim, pairs) in [(Pairing::Halves, 16, 8), (Pairing::Neighbours, 16, 8), (Pairing::Halves, 32, 8)]
        {
            let turns: Vec<f64> = (0..pairs).map(|i| 0.16 * 0.3f64.powi(i)).collect();
            let tokens = 700;
            let x = keys(pairing, &turns, dim, tokens);
            let rotation = Rotation::observe(&[&x], dim);
            assert_eq!((rotation.pairing, rotation.turns.len()), (pairing, turns.len()));
            for (found, turn) in rotation.turns.iter().zip(&turns) {
                let off = f64::from(*found) / FULL_TURN - turn;
                assert!((off - off.round()).abs() < 2e-5, "{found} {turn}");
            }
            let (cos, sin) = rotation.table(tokens, dim);
            let (mut with_cos, mut with_sin) = (vec![0.0; dim], vec![0.0; dim]);
            crate::simd::turning_sums(&x, &cos, &sin, &mut with_cos, &mut with_sin);
            let mut mean = vec![0.0; dim];
            rotation.add_to_mean(&with_cos, &with_sin, 0, &mut mean);
            let mean: Vec<f32> = mean.iter().map(|sum| (sum / tokens as f64) as f32).collect();
            let (a, b) = rotation.coefficients(&mean, 500);
            for t in 0..200 {
                for c in 0..dim {
                    let expected = x[(500 + t) * dim + c];
                    let found = a[c] * cos[t * dim + c] + b[c] * sin[t * dim + c];
                    assert!((found - expected).abs() < 0.7, "{pairing:?} token {t} channel {c}: {found} {expected}");
                }
            }
        }
    }

    #[test]
    fn bytes_bring_it_back_and_hostile_ones_are_refused() {
        let rotation = Rotation { pairing: Pairing::Neighbours, turns: vec![7, u32::MAX] };
        let mut bytes = Vec::new();
        rotation.write(&mut bytes);
        assert_eq!(Rotation::read(&mut Reader::new("test", &bytes), 4).unwrap(), rotation);
        assert!(Rotation::read(&mut Reader::new("test", &bytes), 3).is_err());
        assert!(Rotation::read(&mut Reader::new("test", &bytes[..8]), 4).is_err());
        assert!(Rotation::read(&mut Reader::new("test", &[3]), 4).is_err());
    }
}
