//! `S`: the few largest and smallest values of each line, kept apart (paper, section 3, "sparse matrix").
//!
//! A line is one channel over the segment's tokens for K, one token over all heads and channels for V. Each line of `n`
//! values gives its `round(n·s/2)` largest and as many smallest. Which of several equal values is taken follows from the
//! heap that keeps the candidates: an equal never displaces what is in it. Float16 caches are full of equal values, and the
//! reference implementation decides the same way, so that results can be compared digit by digit.
//!
//! What is stored is not the value but what the backbone and the low-rank part leave of it, in float16: then `D̂ + L + S` is a
//! plain sum, in `decompress` as in `attend`.

/// Indices of each line's outliers, ascending within the line: `[lines, per_line]`.
pub(crate) struct Outliers {
    pub per_line: usize,
    pub indices: Vec<u32>,
}

/// The `k` largest values of each of several interleaved lines, seen one row at a time. A line's candidates are a binary
/// heap with the smallest on top.
struct Largest {
    k: usize,
    /// Rows seen so far, up to `k`.
    filled: usize,
    /// `[lines, k]`
    heaps: Vec<(f32, u32)>,
    /// Top of each full heap: what a value has to exceed.
    thresholds: Vec<f32>,
}

impl Largest {
    fn new(lines: usize, k: usize) -> Self {
        Self { k, filled: 0, heaps: vec![(0.0, 0); lines * k], thresholds: vec![f32::INFINITY; lines] }
    }

    fn restart(&mut self) {
        self.filled = 0;
    }

    fn see_row(&mut self, row: &[f32], index: u32, sign: f32) {
        if self.filled < self.k {
            for (line, &value) in row.iter().enumerate() {
                self.heaps[line * self.k + self.filled] = (sign * value, index);
            }
            self.filled += 1;
            if self.filled == self.k {
                for (heap, threshold) in self.heaps.chunks_exact_mut(self.k).zip(&mut self.thresholds) {
                    for root in (0..heap.len() / 2).rev() {
                        sift(heap, root, heap[root]);
                    }
                    *threshold = heap[0].0;
                }
            }
            return;
        }
        for (line, &value) in row.iter().enumerate() {
            let value = sign * value;
            if value > self.thresholds[line] {
                let heap = &mut self.heaps[line * self.k..(line + 1) * self.k];
                sift(heap, 0, (value, index));
                self.thresholds[line] = heap[0].0;
            }
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

fn merge(largest: &Largest, smallest: &Largest) -> Outliers {
    let k = largest.k;
    let mut indices = Vec::with_capacity(largest.heaps.len() * 2);
    for (high, low) in largest.heaps.chunks_exact(k).zip(smallest.heaps.chunks_exact(k)) {
        let start = indices.len();
        indices.extend(high.iter().chain(low).map(|(_, index)| *index));
        indices[start..].sort_unstable();
        separate(&mut indices[start..]);
    }
    Outliers { per_line: 2 * k, indices }
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
    if per_side == 0 {
        return Outliers { per_line: 0, indices: Vec::new() };
    }
    let (mut largest, mut smallest) = (Largest::new(dim, per_side), Largest::new(dim, per_side));
    for (t, row) in x.chunks_exact(dim).enumerate() {
        largest.see_row(row, t as u32, 1.0);
        smallest.see_row(row, t as u32, -1.0);
    }
    merge(&largest, &smallest)
}

/// Outliers of each token over all heads, `heads` being one `[tokens, dim]` a head: lines are tokens, indices are
/// `head · dim + channel`.
pub(crate) fn of_tokens(heads: &[Vec<f32>], dim: usize, tokens: usize, per_side: usize) -> Outliers {
    let mut all = Outliers { per_line: 2 * per_side, indices: Vec::with_capacity(tokens * 2 * per_side) };
    if per_side == 0 {
        return all;
    }
    let (mut largest, mut smallest) = (Largest::new(1, per_side), Largest::new(1, per_side));
    for t in 0..tokens {
        largest.restart();
        smallest.restart();
        for (h, head) in heads.iter().enumerate() {
            for (d, value) in head[t * dim..(t + 1) * dim].iter().enumerate() {
                let index = (h * dim + d) as u32;
                largest.see_row(std::slice::from_ref(value), index, 1.0);
                smallest.see_row(std::slice::from_ref(value), index, -1.0);
            }
        }
        all.indices.extend(merge(&largest, &smallest).indices);
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_ends_of_a_line_are_taken_and_never_meet() {
        let x = [3.0, -1.0, 9.0, 0.0, 9.0, -7.0, 2.0, -1.5];
        assert_eq!(of_columns(&x, 1, 2).indices, [2, 4, 5, 7]);
        assert_eq!(of_tokens(&[x.to_vec()], 8, 1, 2).indices, [2, 4, 5, 7]);
        let constant = [1.0; 8];
        assert_eq!(of_columns(&constant, 1, 2).indices, [0, 1, 2, 3]);
        assert_eq!(
            of_tokens(&[constant[..4].to_vec(), constant[4..].to_vec()], 4, 1, 4).indices,
            [0, 1, 2, 3, 4, 5, 6, 7]
        );
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
