//! `S`: the few largest and smallest values of each line, kept apart (paper, section 3, "sparse matrix").
//!
//! A line is one channel over the segment's tokens for K, one token over all heads and channels for V. Each line of `n`
//! values gives its `round(n·s/2)` largest and as many smallest. Which of several equal values is taken follows from the
//! heap that keeps the candidates: an equal never displaces what is in it. Float16 caches are full of equal values, and the
//! reference implementation decides the same way, so that results can be compared digit by digit.
//!
//! What is stored is not the value but what the backbone and the low-rank part leave of it, in float16: then `D̂ + L + S` is a
//! plain sum, in `decompress` as in `attend`.

use crate::simd::{self, LANES};

/// Values of a token that are looked at with the same bounds, before those are brought up to date.
const PIECE: usize = 8 * LANES;

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

/// The `k` largest and `k` smallest values of each of several lines, each end in a binary heap whose top is what a value has to
/// pass. Smallest values are kept negated, so that both heaps have their smallest entry on top.
struct Ends {
    k: usize,
    /// `[lines, k]`
    largest: Vec<(f32, u32)>,
    /// `[lines, k]`, negated.
    smallest: Vec<(f32, u32)>,
    /// What a value must exceed to be among the largest of its line.
    above: Vec<f32>,
    /// What a value must be below to be among the smallest of its line.
    below: Vec<f32>,
}

impl Ends {
    fn new(lines: usize, k: usize) -> Self {
        Self {
            k,
            largest: vec![(0.0, 0); lines * k],
            smallest: vec![(0.0, 0); lines * k],
            above: vec![f32::INFINITY; lines],
            below: vec![f32::NEG_INFINITY; lines],
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

    /// Indices of both ends of every line, ascending within the line.
    fn append_to(&self, indices: &mut Vec<u32>) {
        for (high, low) in self.largest.chunks_exact(self.k).zip(self.smallest.chunks_exact(self.k)) {
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
    loop {
        let right = 2 * hole + 2;
        let child = match right.cmp(&heap.len()) {
            std::cmp::Ordering::Less if heap[right].0 > heap[right - 1].0 => right - 1,
            std::cmp::Ordering::Less => right,
            std::cmp::Ordering::Equal => right - 1,
            std::cmp::Ordering::Greater => break,
        };
        heap[hole] = heap[child];
        hole = child;
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
    let mut ends = Ends::new(dim, per_side);
    let mut passing = Vec::with_capacity(dim.div_ceil(LANES));
    for (t, row) in x.chunks_exact(dim).enumerate() {
        if t < per_side {
            row.iter().enumerate().for_each(|(d, &value)| ends.fill(d, t, value, t as u32));
            continue;
        }
        simd::chunks_outside(row, &ends.below, &ends.above, &mut passing);
        for start in passing.drain(..) {
            for (d, &value) in row.iter().enumerate().skip(start).take(LANES) {
                ends.offer(d, value, t as u32);
            }
        }
    }
    ends.append_to(&mut found.indices);
    found
}

/// Adds the outliers of each token of a block over all heads, `block` being `[heads, tokens, dim]`: lines are tokens, indices are
/// `head · dim + channel`.
pub(crate) fn of_tokens(block: &[f32], tokens: usize, dim: usize, found: &mut Outliers) {
    let per_side = found.per_line / 2;
    if per_side == 0 {
        return;
    }
    let mut ends = Ends::new(1, per_side);
    let mut line = Vec::with_capacity(block.len() / tokens.max(1));
    let mut passing = Vec::with_capacity(PIECE / LANES);
    for t in 0..tokens {
        line.clear();
        block.chunks_exact(tokens * dim).for_each(|head| line.extend_from_slice(&head[t * dim..(t + 1) * dim]));
        line[..per_side].iter().enumerate().for_each(|(i, &value)| ends.fill(0, i, value, i as u32));
        let mut first = per_side;
        for piece in line[per_side..].chunks(PIECE) {
            simd::chunks_beyond(piece, ends.below[0], ends.above[0], &mut passing);
            for start in passing.drain(..) {
                for (i, &value) in piece.iter().enumerate().skip(start).take(LANES) {
                    ends.offer(0, value, (first + i) as u32);
                }
            }
            first += piece.len();
        }
        ends.append_to(&mut found.indices);
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
