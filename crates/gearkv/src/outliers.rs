//! `S`: the few largest and smallest values of each line, kept apart (paper, section 3, "sparse matrix").
//!
//! A line is one channel over the segment's tokens for K, one token over all heads and channels for V. Each line of `n`
//! values gives its `round(n·s/2)` largest and as many smallest. Which of several equal values is taken follows from the
//! heap that keeps the candidates: an equal never displaces what is in it. Float16 caches are full of equal values, and the
//! reference implementation decides the same way, so that results can be compared digit by digit.
//!
//! What is stored is not the value but what the backbone and the low-rank part leave of it, in float16: then `D̂ + L + S` is a
//! plain sum, in `decompress` as in `attend`.

use crate::simd::{self, LANES, Stripe};

/// Indices of each line's outliers, ascending within the line: `[lines, per_line]`.
pub(crate) struct Outliers {
    pub per_line: usize,
    pub indices: Vec<u32>,
}

impl Outliers {
    /// None yet, with room for those of so many lines.
    pub fn with_room(per_line: usize, lines: usize) -> Self {
        Self { per_line, indices: Vec::with_capacity(lines * per_line) }
    }
}

/// The `k` largest and `k` smallest values of each of up to [`LANES`] lines, each end in a binary heap whose top is what a value has to
/// pass. Smallest values are kept negated, so that both heaps have their smallest entry on top.
struct Ends {
    k: usize,
    /// `[lines, k]`
    largest: Vec<(f32, u32)>,
    /// `[lines, k]`, negated.
    smallest: Vec<(f32, u32)>,
    /// What a value must exceed to be among the largest of its line.
    above: Stripe,
    /// What a value must be below to be among the smallest of its line.
    below: Stripe,
}

impl Ends {
    fn new(lines: usize, k: usize) -> Self {
        Self {
            k,
            largest: vec![(0.0, 0); lines * k],
            smallest: vec![(0.0, 0); lines * k],
            above: [f32::INFINITY; LANES],
            below: [f32::NEG_INFINITY; LANES],
        }
    }

    /// One of a line's first `k` values.
    fn fill(&mut self, line: usize, slot: usize, value: f32, index: u32) {
        self.largest[line * self.k + slot] = (value, index);
        self.smallest[line * self.k + slot] = (-value, index);
        if slot + 1 == self.k {
            let range = line * self.k..(line + 1) * self.k;
            for heap in [&mut self.largest[range.clone()], &mut self.smallest[range]] {
                for root in (0..heap.len() / 2).rev() {
                    sift(heap, root, heap[root]);
                }
            }
            self.above[line] = self.largest[line * self.k].0;
            self.below[line] = -self.smallest[line * self.k].0;
        }
    }

    /// A later value of a line.
    fn offer(&mut self, line: usize, value: f32, index: u32) {
        let range = line * self.k..(line + 1) * self.k;
        if value > self.above[line] {
            let heap = &mut self.largest[range.clone()];
            sift(heap, 0, (value, index));
            self.above[line] = heap[0].0;
        }
        if value < self.below[line] {
            let heap = &mut self.smallest[range];
            sift(heap, 0, (-value, index));
            self.below[line] = -heap[0].0;
        }
    }

    /// Indices of both ends of the first lines, ascending within each line.
    fn append_to(&self, lines: usize, indices: &mut Vec<u32>) {
        for (high, low) in self.largest.chunks_exact(self.k).zip(self.smallest.chunks_exact(self.k)).take(lines) {
            let start = indices.len();
            indices.extend(high.iter().chain(low).map(|(_, index)| *index));
            indices[start..].sort_unstable();
            separate(&mut indices[start..]);
        }
    }
}

/// Puts `entry` in the place of `root`: the hole goes down to a leaf along the smaller children, then the entry comes up.
fn sift(heap: &mut [(f32, u32)], root: usize, entry: (f32, u32)) {
    let mut hole = root;
    let mut right = 2 * hole + 2;
    while right < heap.len() {
        // Which of them no branch could foresee.
        let child = right - usize::from(heap[right].0 > heap[right - 1].0);
        heap[hole] = heap[child];
        hole = child;
        right = 2 * hole + 2;
    }
    if right == heap.len() {
        heap[hole] = heap[right - 1];
        hole = right - 1;
    }
    while hole > root && heap[(hole - 1) / 2].0 > entry.0 {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = entry;
}

/// On a line that is nearly constant both ends can pick the same value; the lowest free indices take its second place.
fn separate(line: &mut [u32]) {
    if line.windows(2).all(|pair| pair[0] < pair[1]) {
        return;
    }
    let count = line.len();
    let mut distinct = line.to_vec();
    distinct.dedup();
    let free = (0..).filter(|index| distinct.binary_search(index).is_err()).take(count - distinct.len());
    let added: Vec<u32> = free.collect();
    distinct.extend(added);
    distinct.sort_unstable();
    line.copy_from_slice(&distinct);
}

/// Outliers of each column of `x` (`[tokens, dim]`): lines are channels, indices are tokens.
pub(crate) fn of_columns(x: &[f32], dim: usize, per_side: usize) -> Outliers {
    let mut found = Outliers::with_room(2 * per_side, dim);
    if per_side == 0 {
        return found;
    }
    let mut ends = Ends::new(LANES, per_side);
    let mut padded = Vec::new();
    // As many channels at a time as a register has lanes: their heaps stay in the nearest cache.
    for start in (0..dim).step_by(LANES) {
        let lines = LANES.min(dim - start);
        let (strip, stride) = if lines == LANES {
            (&x[start..], dim)
        } else {
            padded.resize(x.len() / dim * LANES, f32::NAN);
            let rows = padded.chunks_exact_mut(LANES).zip(x.chunks_exact(dim));
            rows.for_each(|(to, from)| to[..lines].copy_from_slice(&from[start..]));
            (&*padded, LANES)
        };
        for t in 0..per_side {
            (0..lines).for_each(|line| ends.fill(line, t, strip[t * stride + line], t as u32));
        }
        let mut next = per_side;
        while let Some((t, lanes)) = simd::next_outside(strip, stride, next, &ends.below, &ends.above) {
            ones(lanes).for_each(|line| ends.offer(line, strip[t * stride + line], t as u32));
            next = t + 1;
        }
        ends.append_to(lines, &mut found.indices);
    }
    found
}

/// Which bits are set.
fn ones(bits: u32) -> impl Iterator<Item = usize> {
    let mut left = bits;
    std::iter::from_fn(move || {
        let lowest = left.trailing_zeros() as usize;
        left &= left.wrapping_sub(1);
        (lowest < LANES).then_some(lowest)
    })
}

/// Adds the outliers of each token of a block over all heads, `block` being `[heads, tokens, dim]`: lines are tokens, indices are
/// `head · dim + channel`.
pub(crate) fn of_tokens(block: &[f32], tokens: usize, dim: usize, found: &mut Outliers) {
    let per_side = found.per_line / 2;
    if per_side == 0 {
        return;
    }
    let mut ends = Ends::new(1, per_side);
    let length = block.len() / tokens.max(1);
    let mut line = Vec::with_capacity(length + LANES);
    for t in 0..tokens {
        line.clear();
        block.chunks_exact(tokens * dim).for_each(|head| line.extend_from_slice(&head[t * dim..(t + 1) * dim]));
        // What fills the last register is outside of nothing.
        line.resize(per_side + (length - per_side).next_multiple_of(LANES), f32::NAN);
        let (first, rest) = line.split_at(per_side);
        first.iter().enumerate().for_each(|(i, &value)| ends.fill(0, i, value, i as u32));
        let (mut next, mut below, mut above) = (0, [ends.below[0]; LANES], [ends.above[0]; LANES]);
        while let Some((at, lanes)) = simd::next_outside(rest, LANES, next, &below, &above) {
            ones(lanes).map(|lane| at * LANES + lane).for_each(|i| ends.offer(0, rest[i], (per_side + i) as u32));
            (next, below, above) = (at + 1, [ends.below[0]; LANES], [ends.above[0]; LANES]);
        }
        ends.append_to(1, &mut found.indices);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_line_are_taken_and_never_meet() {
        let x = [3.0, -1.0, 9.0, 0.0, 9.0, -7.0, 2.0, -1.5];
        assert_eq!(of_columns(&x, 1, 2).indices, [2, 4, 5, 7]);
        let of_tokens = |x: &[f32], dim: usize, per_side: usize| {
            let mut found = Outliers::with_room(2 * per_side, 1);
            super::of_tokens(x, 1, dim, &mut found);
            found.indices
        };
        assert_eq!(of_tokens(&x, 8, 2), [2, 4, 5, 7]);
        let constant = [1.0; 8];
        assert_eq!(of_columns(&constant, 1, 2).indices, [0, 1, 2, 3]);
        assert_eq!(of_tokens(&constant, 4, 4), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn the_heap_keeps_what_sorting_would() {
        for k in 1..=20 {
            let x: Vec<f32> = (0..100).map(|i| ((i * 7919) % 1009) as f32).collect();
            let mut sorted: Vec<u32> = (0..100).collect();
            sorted.sort_by(|a, b| x[*a as usize].total_cmp(&x[*b as usize]));
            let mut expected = [&sorted[..k], &sorted[100 - k..]].concat();
            expected.sort_unstable();
            assert_eq!(of_columns(&x, 1, k).indices, expected, "k = {k}");
        }
    }
}
