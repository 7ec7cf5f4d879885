//! What attention needs most of keys and values, as some queries show it.
//!
//! The queries are those of the newest tokens: what they look at is what later ones will (the observation that SnapKV, arXiv
//! 2404.14469, selects tokens by). Of keys a channel matters as `E[q²]` does, and two channels together as `E[q qᵀ]` does; of
//! values a token matters as the square of the weight that it gets.

use crate::attention::AttendOptions;
use crate::items::picked;
use crate::parallel;
use crate::shape::KvSlice;
use crate::simd;

/// Newest positions whose queries are kept until what they look for is compressed.
pub(crate) const POSITIONS: usize = 64;

/// What a token that no query looked at weighs, as a share of the mean weight: later ones may look at it.
pub(crate) const LEAST_WEIGHT: f64 = 0.1;

/// Keys of so many tokens, and so many queries, stay in the nearest caches while they are multiplied.
const TOKENS_AT_ONCE: usize = 256;
/// See [`TOKENS_AT_ONCE`].
const QUERIES_AT_ONCE: usize = 16;

/// Queries of the newest tokens of one layer.
#[derive(Clone)]
pub(crate) struct Observed {
    /// `[positions][batch · query_heads, head_dim]`, the oldest first.
    rows: Vec<f32>,
    positions: usize,
    options: AttendOptions,
}

impl Default for Observed {
    fn default() -> Self {
        Self { rows: Vec::new(), positions: 0, options: AttendOptions::new(1) }
    }
}

impl Observed {
    /// Takes note of `positions` new positions, `q` being `[batch, query_heads, positions, head_dim]` in `planes` planes; only the
    /// newest of them stay, and none from before that attended in another way.
    pub fn note(&mut self, q: KvSlice, planes: usize, positions: usize, dim: usize, options: &AttendOptions) {
        if self.options != *options {
            self.forget();
        }
        let row = planes * dim;
        let fresh = positions.min(POSITIONS);
        let keep = self.positions.min(POSITIONS - fresh);
        self.rows.drain(..(self.positions - keep) * row);
        // Decoding goes on until there are as many.
        self.rows.reserve_exact((POSITIONS * row).saturating_sub(self.rows.len()));
        for position in positions - fresh..positions {
            for plane in 0..planes {
                let own = (plane * positions + position) * dim..(plane * positions + position + 1) * dim;
                match q {
                    KvSlice::F32(q) => self.rows.extend_from_slice(&q[own]),
                    KvSlice::F16(q) => {
                        let start = self.rows.len();
                        self.rows.resize(start + dim, 0.0);
                        simd::widen(&q[own], &mut self.rows[start..]);
                    }
                }
            }
        }
        self.positions = keep + fresh;
        self.options = options.clone();
    }

    /// Makes what batch item `i` asked what item `order[i]` of `batch` did.
    pub fn reorder(&mut self, order: &[u32], batch: usize) {
        let row = self.rows.len() / self.positions.max(1);
        self.rows = picked(&self.rows, batch, row / batch, order);
    }

    /// Forgets all, but keeps the room for as many again.
    pub fn forget(&mut self) {
        self.rows.clear();
        self.positions = 0;
    }

    /// Forgets all, and gives memory back.
    pub fn clear(&mut self) {
        *self = Self::default();
    }

    pub fn is_empty(&self) -> bool {
        self.positions == 0
    }

    pub fn byte_length(&self) -> usize {
        size_of_val(self.rows.as_slice())
    }

    /// What these queries look for among the newest `tokens` tokens, the last of which is theirs. `keys` fills a plane's rows,
    /// `[tokens, dim]`.
    pub fn survey(
        &self,
        planes: usize,
        tokens: usize,
        dim: usize,
        threads: u32,
        keys: impl Fn(usize, &mut [f32]) + Sync + Send,
    ) -> Survey {
        let query_planes = self.rows.len() / self.positions.max(1) / dim;
        let group = query_planes / planes;
        let found = parallel::map(planes, threads, |plane| {
            let mut rows = vec![0.0; tokens * dim];
            keys(plane, &mut rows);
            let mut transposed = vec![0.0; rows.len()];
            for (rows, transposed) in rows.chunks(TOKENS_AT_ONCE * dim).zip(transposed.chunks_mut(TOKENS_AT_ONCE * dim))
            {
                simd::transpose(rows, dim, transposed);
            }
            let own = |row: &'_ [f32]| row[plane * group * dim..(plane + 1) * group * dim].to_vec();
            let queries: Vec<f32> = self.rows.chunks_exact(query_planes * dim).flat_map(own).collect();
            let mut moments = vec![0.0; dim * dim];
            for q in queries.chunks_exact(dim) {
                for (sums, &q_i) in moments.chunks_exact_mut(dim).zip(q) {
                    simd::accumulate_rows(&[q_i], q, sums);
                }
            }
            let mut weights = vec![0.0; tokens];
            let mut logits = vec![0.0; QUERIES_AT_ONCE * tokens];
            for (chunk, some) in queries.chunks(QUERIES_AT_ONCE * dim).enumerate() {
                dot_transposed(&transposed, dim, some, &mut logits);
                for (i, logits) in logits.chunks_exact_mut(tokens).take(some.len() / dim).enumerate() {
                    let position = (chunk * QUERIES_AT_ONCE + i) / group;
                    // Its own token is the last that a query sees.
                    let end = (tokens + position + 1).saturating_sub(self.positions);
                    self.weigh(&mut logits[..end], dim, &mut weights[..end]);
                }
            }
            let count = (self.positions * group).max(1) as f32;
            moments.iter_mut().for_each(|sum| *sum /= count);
            (moments, weights)
        });
        let (moments, weights): (Vec<_>, Vec<_>) = found.into_iter().unzip();
        Survey { dim, tokens, moments: moments.concat(), weights: weights.concat() }
    }

    /// Adds the squares of the weights that one query's products with the keys mean.
    fn weigh(&self, products: &mut [f32], dim: usize, sums: &mut [f32]) {
        let tokens = products.len();
        let scale = self.options.scale.unwrap_or(1.0 / (dim as f32).sqrt());
        let first = self.options.window.map_or(0, |window| tokens.saturating_sub(window));
        let logits = &mut products[first..];
        if logits.is_empty() {
            return;
        }
        logits.iter_mut().for_each(|logit| *logit *= scale);
        if let Some(cap) = self.options.softcap {
            soften(logits, cap);
        }
        let most = logits.iter().fold(f32::NEG_INFINITY, |most, &x| if x > most { x } else { most });
        let sum = simd::exp_in_place(logits, most);
        for (weight, sum_of_squares) in logits.iter().zip(&mut sums[first..]) {
            let share = weight / sum;
            *sum_of_squares += share * share;
        }
    }
}

/// Products of queries (`[count, dim]`) with keys that are transposed, [`TOKENS_AT_ONCE`] tokens at a time: `[count, tokens]`.
fn dot_transposed(transposed: &[f32], dim: usize, queries: &[f32], products: &mut [f32]) {
    let tokens = transposed.len() / dim;
    let count = queries.len() / dim;
    let mut some = vec![0.0; count * TOKENS_AT_ONCE.min(tokens)];
    for (block, keys) in transposed.chunks(TOKENS_AT_ONCE * dim).enumerate() {
        let (first, n) = (block * TOKENS_AT_ONCE, keys.len() / dim);
        let some = &mut some[..count * n];
        some.fill(0.0);
        simd::weigh_rows(keys, n, queries, dim, some);
        for (products, some) in products.chunks_exact_mut(tokens).zip(some.chunks_exact(n)) {
            products[first..first + n].copy_from_slice(some);
        }
    }
}

/// `cap · tanh(logit / cap)`, by an exponential that is the same everywhere: widths that depend on it must be, too.
fn soften(logits: &mut [f32], cap: f32) {
    let mut shrunk: Vec<f32> = logits.iter().map(|logit| -2.0 * (logit / cap).abs()).collect();
    simd::exp_in_place(&mut shrunk, 0.0);
    for (logit, e) in logits.iter_mut().zip(shrunk) {
        *logit = (cap * ((1.0 - e) / (1.0 + e))).copysign(*logit);
    }
}

/// What some queries look for among some tokens.
pub(crate) struct Survey {
    dim: usize,
    tokens: usize,
    /// `E[q qᵀ]` over the queries of a plane: `[planes, dim, dim]`.
    moments: Vec<f32>,
    /// Sum of the squares of the weights that a token gets: `[planes, tokens]`.
    weights: Vec<f32>,
}

impl Survey {
    /// What they look for among the newest `tokens` of these tokens, where there are so many.
    pub fn newest(&self, tokens: usize) -> Option<Need<'_>> {
        Some(Need { survey: self, first: self.tokens.checked_sub(tokens)? })
    }
}

/// What they look for in one run of these tokens.
#[derive(Clone, Copy)]
pub(crate) struct Need<'a> {
    survey: &'a Survey,
    /// The run's first token among those of the survey.
    first: usize,
}

impl<'a> Need<'a> {
    /// Of the run that begins so many tokens later.
    pub fn behind(self, tokens: usize) -> Self {
        Self { first: self.first + tokens, ..self }
    }

    /// `[dim, dim]`
    pub fn moments(&self, plane: usize) -> &'a [f32] {
        let size = self.survey.dim * self.survey.dim;
        &self.survey.moments[plane * size..(plane + 1) * size]
    }

    /// The same for some of these tokens alone: blocks of `length` tokens from `blocks` on.
    pub fn sampled(self, blocks: &[usize], length: usize) -> Survey {
        let planes = self.survey.weights.len() / self.survey.tokens.max(1);
        let mut weights = Vec::with_capacity(planes * blocks.len() * length);
        for plane in 0..planes {
            let start = plane * self.survey.tokens + self.first;
            weights.extend(blocks.iter().flat_map(|b| &self.survey.weights[start + b..start + b + length]));
        }
        Survey { tokens: blocks.len() * length, weights, moments: self.survey.moments.clone(), ..*self.survey }
    }

    /// Of `tokens` tokens.
    pub fn weights(&self, plane: usize, tokens: usize) -> &'a [f32] {
        let start = plane * self.survey.tokens + self.first;
        &self.survey.weights[start..start + tokens]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_newest_queries_stay_whatever_the_pieces_they_came_in() {
        let options = AttendOptions::new(2);
        let (dim, planes) = (3, 2);
        let value = |plane: usize, position: usize, d: usize| (plane * 1000 + position * 10 + d) as f32;
        let piece = |from: usize, to: usize| -> Vec<f32> {
            (0..planes).flat_map(|p| (from..to).flat_map(move |t| (0..dim).map(move |d| value(p, t, d)))).collect()
        };
        let mut at_once = Observed::default();
        at_once.note(KvSlice::F32(&piece(0, 150)), planes, 150, dim, &options);
        let mut pieces = Observed::default();
        for (from, to) in [(0, 1), (1, 100), (100, 101), (101, 140), (140, 150)] {
            pieces.note(KvSlice::F32(&piece(from, to)), planes, to - from, dim, &options);
        }
        assert_eq!(at_once.positions, POSITIONS);
        assert_eq!(at_once.rows, pieces.rows);
        assert_eq!(at_once.rows[..dim], [value(0, 86, 0), value(0, 86, 1), value(0, 86, 2)]);
    }

    #[test]
    fn queries_that_attend_in_another_way_take_the_place_of_those_before() {
        let (dim, mut observed) = (2, Observed::default());
        observed.note(KvSlice::F32(&[1.0; 10]), 1, 5, dim, &AttendOptions::new(1));
        observed.note(KvSlice::F32(&[2.0; 8]), 2, 2, dim, &AttendOptions::new(2));
        assert_eq!((observed.positions, &observed.rows[..]), (2, &[2.0; 8][..]));
    }

    #[test]
    fn a_token_that_all_queries_look_at_weighs_most_and_none_looks_ahead_or_behind_its_window() {
        let (dim, tokens) = (4, 10);
        let keys = |_: usize, rows: &mut [f32]| {
            rows.fill(0.0);
            rows[3 * dim] = 9.0;
        };
        let mut observed = Observed::default();
        let q = [2.0, 0.0, 0.0, 0.0].repeat(2);
        observed.note(KvSlice::F32(&q), 1, 2, dim, &AttendOptions::new(1));
        let survey = observed.survey(1, tokens, dim, 1, keys);
        let need = Need { survey: &survey, first: 0 };
        let weights = need.weights(0, tokens);
        assert_eq!(Need { survey: &survey, first: 3 }.weights(0, 4), &weights[3..7]);
        assert!(weights[3] > 1.9, "{weights:?}");
        assert!(weights[9] < weights[8], "only one of two queries sees the last token: {weights:?}");
        assert_eq!(need.moments(0)[0], 4.0);
        assert!(need.moments(0)[1..].iter().all(|m| *m == 0.0));

        observed.clear();
        observed.note(KvSlice::F32(&q), 1, 2, dim, &AttendOptions { window: Some(3), ..AttendOptions::new(1) });
        let survey = observed.survey(1, tokens, dim, 1, keys);
        assert!(Need { survey: &survey, first: 0 }.weights(0, tokens)[..6].iter().all(|w| *w == 0.0));
    }
}
