//! Queries of new tokens, for those who ask what attention looks for.

/// All queries of the tokens that went through a session since they were last taken.
#[derive(Clone, Default)]
pub(crate) struct QueryLog {
    /// Of each layer, `[heads, tokens, head_dim]` a chunk.
    layers: Vec<Vec<Vec<f32>>>,
}

impl QueryLog {
    /// Notes one layer's queries of a chunk, `[heads, tokens, head_dim]`.
    pub fn note(&mut self, layer: usize, queries: &[f32]) {
        if self.layers.len() <= layer {
            self.layers.resize_with(layer + 1, Vec::new);
        }
        self.layers[layer].push(queries.to_vec());
    }

    /// The last `n` of one layer's queries, `[heads, n, head_dim]`, which stay; empty where there are fewer.
    pub fn last(&self, layer: usize, heads: usize, head_dim: usize, n: usize) -> Vec<f32> {
        let chunks = self.layers.get(layer).map_or(&[][..], Vec::as_slice);
        let mut last = Vec::with_capacity(heads * n * head_dim);
        for head in 0..heads {
            let of_head = chunks.iter().flat_map(|chunk| {
                let plane = chunk.len() / heads;
                &chunk[head * plane..(head + 1) * plane]
            });
            let all = chunks.iter().map(|chunk| chunk.len() / heads).sum::<usize>();
            let Some(skip) = all.checked_sub(n * head_dim) else { return Vec::new() };
            last.extend(of_head.skip(skip));
        }
        last
    }

    /// Takes one layer's queries, `[heads, tokens, head_dim]`.
    pub fn take(&mut self, layer: usize, heads: usize) -> Vec<f32> {
        let chunks = self.layers.get_mut(layer).map(std::mem::take).unwrap_or_default();
        let mut joined = Vec::with_capacity(chunks.iter().map(Vec::len).sum());
        for head in 0..heads {
            for chunk in &chunks {
                let plane = chunk.len() / heads;
                joined.extend_from_slice(&chunk[head * plane..(head + 1) * plane]);
            }
        }
        joined
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn chunks_are_joined_head_by_head_and_taken_once() {
        let mut log = QueryLog::default();
        log.note(1, &[1.0, 2.0, 5.0, 6.0]);
        log.note(1, &[3.0, 7.0]);
        assert_eq!(log.last(1, 2, 1, 2), [2.0, 3.0, 6.0, 7.0]);
        assert!(log.last(1, 2, 1, 4).is_empty() && log.last(9, 2, 1, 1).is_empty());
        assert_eq!(log.take(1, 2), [1.0, 2.0, 3.0, 5.0, 6.0, 7.0]);
        assert!(log.take(1, 2).is_empty() && log.take(0, 2).is_empty() && log.take(9, 2).is_empty());
    }
}
