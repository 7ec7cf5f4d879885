//! Products of tokens that are not compressed with a few queries and weights, read where they lie.
//!
//! Sums are added in the order of [`dot_rows`](super::dot_rows) and [`weigh_rows`](super::weigh_rows), to the same bits.
//!
//! SAFETY of all blocks: `run` has checked lengths, and nothing else calls what is below it.

#![expect(clippy::needless_range_loop, reason = "channels and queries are unrolled, so that sums stay in registers")]

use half::f16;

use super::LANES;
use super::level::Level;
use super::vector::{Vector, kernel};

/// The values of one head: a row a token, `stride` values after each other.
#[derive(Clone, Copy)]
pub struct Rows<'a> {
    /// At least `(tokens − 1) · stride + dim`.
    pub values: Values<'a>,
    /// Values from one row to the next.
    pub stride: usize,
    /// Rows.
    pub tokens: usize,
    /// Values of a row: a multiple of 16.
    pub dim: usize,
    /// So many values behind each lies what will be read next.
    pub ahead: usize,
}

/// As they are kept.
#[derive(Clone, Copy)]
pub enum Values<'a> {
    /// Float16.
    F16(&'a [f16]),
    /// Float32.
    F32(&'a [f32]),
}

trait Element: Copy {
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats;
}

impl Element for f16 {
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats {
        // SAFETY: a float16 is its bits.
        unsafe { V::widened(at.cast()) }
    }
}

impl Element for f32 {
    #[inline(always)]
    unsafe fn load<V: Vector>(at: *const Self) -> V::Floats {
        // SAFETY: as the caller vouches for.
        unsafe { V::floats(at) }
    }
}

/// What a call works on.
enum Task<'a> {
    /// `out[query · stride + token]` = the query's product with the token's row. `q` is `[queries, dim]`.
    Dot { q: &'a [f32], out: &'a mut [f32], stride: usize },
    /// `out[query][channel]` += Σ `weights[query · stride + token]` · the token's row.
    Weigh { weights: &'a [f32], stride: usize, out: &'a mut [f32] },
}

/// Products of each token with each query, at `out[query · stride + token]`. `q` is `[queries, dim]`.
pub fn dot_raw(level: Level, rows: Rows, q: &[f32], out: &mut [f32], stride: usize) {
    let queries = q.len() / rows.dim;
    assert!(queries == 0 || out.len() >= (queries - 1) * stride + rows.tokens);
    run(level, rows, Task::Dot { q, out, stride });
}

/// `out[query][channel] += Σ weights[query · stride + token] · row[token][channel]`.
pub fn weigh_raw(level: Level, rows: Rows, weights: &[f32], stride: usize, out: &mut [f32]) {
    let queries = out.len() / rows.dim;
    assert!(queries == 0 || weights.len() >= (queries - 1) * stride + rows.tokens);
    run(level, rows, Task::Weigh { weights, stride, out });
}

fn run(level: Level, rows: Rows, task: Task) {
    let Rows { values, stride, tokens, dim, .. } = rows;
    let length = match values {
        Values::F16(x) => x.len(),
        Values::F32(x) => x.len(),
    };
    assert!(dim > 0 && dim.is_multiple_of(LANES) && (tokens == 0 || length >= (tokens - 1) * stride + dim));
    run_at(level, rows, task);
}

kernel!(fn run_at(rows: Rows, task: Task) = generic);

#[inline(always)]
unsafe fn generic<V: Vector>(rows: Rows, task: Task) {
    // SAFETY: as the caller vouches for.
    unsafe {
        match rows.values {
            Values::F16(x) => of_elements::<V, f16>(x.as_ptr(), rows, task),
            Values::F32(x) => of_elements::<V, f32>(x.as_ptr(), rows, task),
        }
    }
}

#[inline(always)]
unsafe fn of_elements<V: Vector, E: Element>(x: *const E, rows: Rows, task: Task) {
    let dim = rows.dim;
    // Fewer kernels where there are two rows at a time: browsers download them.
    let most = V::ROWS;
    // SAFETY: queries, weights and output have what `dot_raw` and `weigh_raw` checked.
    unsafe {
        match task {
            Task::Dot { q, out, stride } => {
                for (i, q) in q.chunks(most * dim).enumerate() {
                    let out = out.as_mut_ptr().add(i * most * stride);
                    match q.len() / dim {
                        4 if V::ROWS == 4 => dot::<V, E, 4>(x, rows, q.as_ptr(), out, stride),
                        3 if V::ROWS == 4 => dot::<V, E, 3>(x, rows, q.as_ptr(), out, stride),
                        2 => dot::<V, E, 2>(x, rows, q.as_ptr(), out, stride),
                        1 => dot::<V, E, 1>(x, rows, q.as_ptr(), out, stride),
                        _ => {}
                    }
                }
            }
            Task::Weigh { weights, stride, out } => {
                for (i, out) in out.chunks_mut(most * dim).enumerate() {
                    let weights = weights.as_ptr().add(i * most * stride);
                    match out.len() / dim {
                        4 if V::ROWS == 4 => weigh::<V, E, 4, 4>(x, rows, weights, stride, out.as_mut_ptr()),
                        3 if V::ROWS == 4 => weigh::<V, E, 3, 4>(x, rows, weights, stride, out.as_mut_ptr()),
                        2 => weigh::<V, E, 2, 4>(x, rows, weights, stride, out.as_mut_ptr()),
                        1 => weigh::<V, E, 1, 8>(x, rows, weights, stride, out.as_mut_ptr()),
                        _ => {}
                    }
                }
            }
        }
    }
}

/// Asks for what will be read next.
#[inline(always)]
unsafe fn fetch<V: Vector, E>(row: *const E, rows: Rows, d: usize) {
    let at: *const u8 = row.wrapping_add(rows.ahead + d).cast();
    // SAFETY: any address will do.
    unsafe { V::prefetch(at) }
}

#[inline(always)]
unsafe fn dot<V: Vector, E: Element, const Q: usize>(
    x: *const E,
    rows: Rows,
    q: *const f32,
    out: *mut f32,
    stride: usize,
) {
    unsafe {
        for t in 0..rows.tokens {
            let row = x.add(t * rows.stride);
            let mut sums = [V::every(0.0); Q];
            for d in (0..rows.dim).step_by(LANES) {
                fetch::<V, E>(row, rows, d);
                let values = E::load::<V>(row.add(d));
                for (i, sum) in sums.iter_mut().enumerate() {
                    *sum = V::plus(*sum, V::times(values, V::floats(q.add(i * rows.dim + d))));
                }
            }
            for (i, sum) in sums.into_iter().enumerate() {
                out.add(i * stride + t).write(V::total(sum));
            }
        }
    }
}

/// `C` times 16 channels at a time, whose sums stay in registers.
#[inline(always)]
unsafe fn weigh<V: Vector, E: Element, const Q: usize, const C: usize>(
    x: *const E,
    rows: Rows,
    weights: *const f32,
    stride: usize,
    out: *mut f32,
) {
    unsafe {
        let mut d = 0;
        while d + C * LANES <= rows.dim {
            weigh_channels::<V, E, Q, C>(x, rows, weights, stride, out, d);
            d += C * LANES;
        }
        while d < rows.dim {
            weigh_channels::<V, E, Q, 1>(x, rows, weights, stride, out, d);
            d += LANES;
        }
    }
}

#[inline(always)]
unsafe fn weigh_channels<V: Vector, E: Element, const Q: usize, const C: usize>(
    x: *const E,
    rows: Rows,
    weights: *const f32,
    stride: usize,
    out: *mut f32,
    d: usize,
) {
    unsafe {
        let place = |i: usize, c: usize| out.add(i * rows.dim + d + c * LANES);
        let mut sums: [[V::Floats; C]; Q] = std::array::from_fn(|i| std::array::from_fn(|c| V::floats(place(i, c))));
        for t in 0..rows.tokens {
            let row = x.add(t * rows.stride);
            let own: [V::Floats; Q] = std::array::from_fn(|i| V::every(*weights.add(i * stride + t)));
            for c in 0..C {
                fetch::<V, E>(row, rows, d + c * LANES);
                let values = E::load::<V>(row.add(d + c * LANES));
                for i in 0..Q {
                    sums[i][c] = V::plus(sums[i][c], V::times(own[i], values));
                }
            }
        }
        for (i, sums) in sums.into_iter().enumerate() {
            for (c, sum) in sums.into_iter().enumerate() {
                V::put(sum, place(i, c));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;
    use crate::{dot_rows, weigh_rows, widen};

    #[test]
    fn rows_where_they_lie_give_what_copies_of_them_do() {
        let wave = |n: usize, step: f32| -> Vec<f32> { (0..n).map(|i| (i as f32 * step).sin()).collect() };
        for (dim, tokens) in [(16, 5), (64, 64), (80, 33), (128, 64), (144, 7)] {
            let stride = 3 * dim;
            let halves: Vec<f16> = wave(tokens * stride, 0.37).into_iter().map(f16::from_f32).collect();
            let mut floats = vec![0.0; halves.len()];
            widen(&halves, &mut floats);
            let copies: Vec<f32> = floats.chunks_exact(stride).flat_map(|row| &row[..dim]).copied().collect();
            for queries in 1..=6 {
                let (q, weights) = (wave(queries * dim, 0.11), wave(queries * (tokens + 2), 0.7));
                let before = wave(queries * dim, 0.5);
                let (mut logits, mut sums) = (vec![0.0; queries * tokens], before.clone());
                dot_rows(&copies, dim, &q, &mut logits, tokens);
                weigh_rows(&copies, dim, &weights, tokens + 2, &mut sums);
                for level in levels() {
                    for values in [Values::F16(&halves), Values::F32(&floats)] {
                        let rows = Rows { values, stride, tokens, dim, ahead: dim };
                        let mut got = vec![0.0; queries * tokens];
                        dot_raw(level, rows, &q, &mut got, tokens);
                        assert_eq!(got, logits, "{level:?}, {dim}");
                        let mut got = before.clone();
                        weigh_raw(level, rows, &weights, tokens + 2, &mut got);
                        assert_eq!(got, sums, "{level:?}, {dim}");
                    }
                }
            }
        }
    }
}
