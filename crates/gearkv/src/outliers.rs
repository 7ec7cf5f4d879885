//! `S`: the few largest and smallest values of each line, kept apart (paper, section 3, "sparse matrix").
//!
//! A line is one channel over the segment's tokens for K, one token over all heads and channels for V. Each line of `n`
//! values gives its `round(n·s/2)` largest and as many smallest. Where values are equal, the lower index counts as larger, so
//! the two ends never meet. What is stored is not the value but what the backbone and the low-rank part leave of it, in
//! float16: then `D̂ + L + S` is a plain sum, in `decompress` as in `attend`.

/// Indices of each line's outliers, ascending within the line: `[lines, per_line]`.
pub(crate) struct Outliers {
    pub per_line: usize,
    pub indices: Vec<u32>,
}

/// The `k` largest values of each of several interleaved lines, seen one row at a time.
struct Largest {
    k: usize,
    values: Vec<f32>,
    indices: Vec<u32>,
    thresholds: Vec<f32>,
}

impl Largest {
    fn new(lines: usize, k: usize) -> Self {
        Self {
            k,
            values: vec![f32::NEG_INFINITY; lines * k],
            indices: vec![0; lines * k],
            thresholds: vec![f32::NEG_INFINITY; lines],
        }
    }

    fn see_row(&mut self, row: &[f32], index: u32, sign: f32) {
        for line in 0..row.len() {
            let value = sign * row[line];
            if value > self.thresholds[line] {
                self.insert(line, value, index);
            }
        }
    }

    fn insert(&mut self, line: usize, value: f32, index: u32) {
        let values = &mut self.values[line * self.k..(line + 1) * self.k];
        let indices = &mut self.indices[line * self.k..(line + 1) * self.k];
        let mut at = self.k - 1;
        while at > 0 && value > values[at - 1] {
            values[at] = values[at - 1];
            indices[at] = indices[at - 1];
            at -= 1;
        }
        values[at] = value;
        indices[at] = index;
        self.thresholds[line] = values[self.k - 1];
    }
}

fn merge(largest: &Largest, smallest: &Largest) -> Outliers {
    let k = largest.k;
    let lines = largest.thresholds.len();
    let mut indices = Vec::with_capacity(lines * 2 * k);
    for line in 0..lines {
        let start = indices.len();
        indices.extend_from_slice(&largest.indices[line * k..(line + 1) * k]);
        indices.extend_from_slice(&smallest.indices[line * k..(line + 1) * k]);
        indices[start..].sort_unstable();
    }
    Outliers { per_line: 2 * k, indices }
}

/// Outliers of each column of `x` (`[tokens, dim]`): lines are channels, indices are tokens.
pub(crate) fn of_columns(x: &[f32], dim: usize, per_side: usize) -> Outliers {
    if per_side == 0 {
        return Outliers { per_line: 0, indices: Vec::new() };
    }
    let (mut largest, mut smallest) = (Largest::new(dim, per_side), Largest::new(dim, per_side));
    for (t, row) in x.chunks_exact(dim).enumerate() {
        largest.see_row(row, t as u32, 1.0);
    }
    // Backwards, so that among equals the higher index is the smaller one.
    for (t, row) in x.chunks_exact(dim).enumerate().rev() {
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
        largest.values.fill(f32::NEG_INFINITY);
        largest.thresholds.fill(f32::NEG_INFINITY);
        smallest.values.fill(f32::NEG_INFINITY);
        smallest.thresholds.fill(f32::NEG_INFINITY);
        for (h, head) in heads.iter().enumerate() {
            for (d, &value) in head[t * dim..(t + 1) * dim].iter().enumerate() {
                if value > largest.thresholds[0] {
                    largest.insert(0, value, (h * dim + d) as u32);
                }
            }
        }
        for (h, head) in heads.iter().enumerate().rev() {
            for (d, &value) in head[t * dim..(t + 1) * dim].iter().enumerate().rev() {
                if -value > smallest.thresholds[0] {
                    smallest.insert(0, -value, (h * dim + d) as u32);
                }
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
    fn both_ends_of_a_line_are_taken_and_equals_never_meet() {
        let x = [3.0, -1.0, 9.0, 0.0, 9.0, -7.0, 2.0, -1.0];
        assert_eq!(of_columns(&x, 1, 2).indices, [2, 4, 5, 7]);
        assert_eq!(of_tokens(&[x.to_vec()], 8, 1, 2).indices, [2, 4, 5, 7]);
        let constant = [1.0; 8];
        assert_eq!(of_columns(&constant, 1, 2).indices, [0, 1, 6, 7]);
        assert_eq!(of_tokens(&[constant[..4].to_vec(), constant[4..].to_vec()], 4, 1, 2).indices, [0, 1, 6, 7]);
    }
}
