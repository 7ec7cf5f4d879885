//! Sixteen tokens side by side: a stripe holds one channel of each. What is added up along a token's channels then needs no sum across lanes,
//! and adds from the first channel to the last.

use std::mem::MaybeUninit;

use multiversion::multiversion;

use super::LANES;
use super::level::level;
use super::rotate::turn;
use super::vector::{Vector, kernel};

/// One value of each of sixteen tokens or groups; NaN where a value is left out.
pub type Stripe = [f32; LANES];

/// One stripe a channel of `rows` (`[tokens, mean.len()]`) less `mean`, and 0 where a value is left out; turned as `rotate_rows` turns rows. Lane
/// *i* is token `tokens[i]`; lanes beyond them are what they may.
pub fn turned_stripes(rows: &[f32], mean: &[f32], tokens: &[u8], stripes: &mut [Stripe]) {
    assert!(tokens.len() <= LANES && stripes.len() == mean.len());
    if mean.len().is_multiple_of(LANES) && mean.len() <= MOST_CHANNELS {
        turn_at(level(), rows, mean, tokens, stripes);
    } else {
        turn_any(rows, mean, tokens, stripes);
    }
}

/// The longest rows that are turned in registers.
const MOST_CHANNELS: usize = 256;

kernel!(fn turn_at(rows: &[f32], mean: &[f32], tokens: &[u8], stripes: &mut [Stripe]) = turn_rows);

/// Rows are turned in registers, one after the other, and then become stripes.
#[inline(always)]
unsafe fn turn_rows<V: Vector>(rows: &[f32], mean: &[f32], tokens: &[u8], stripes: &mut [Stripe]) {
    let dim = mean.len();
    let mut room = MaybeUninit::<[f32; LANES * MOST_CHANNELS]>::uninit();
    let room = room.as_mut_ptr().cast::<f32>();
    for lane in 0..LANES {
        // Where there are fewer tokens, the last one stands for those that are missing.
        let Some(&token) = tokens.get(lane).or(tokens.last()) else { return };
        let row = &rows[usize::from(token) * dim..][..dim];
        let mut first = 0;
        while first < dim {
            let length = 1 << (dim - first).ilog2();
            let (row, mean) = (&row[first..first + length], &mean[first..first + length]);
            // SAFETY: rows have as many values as they are said to, and there is room for sixteen of them.
            unsafe {
                let out = room.add(lane * dim + first);
                match length {
                    16 => turn_row::<V, 1>(row, mean, out),
                    32 => turn_row::<V, 2>(row, mean, out),
                    64 => turn_row::<V, 4>(row, mean, out),
                    128 => turn_row::<V, 8>(row, mean, out),
                    _ => turn_row::<V, 16>(row, mean, out),
                }
            }
            first += length;
        }
    }
    for (i, stripes) in stripes.as_chunks_mut::<LANES>().0.iter_mut().enumerate() {
        // SAFETY: sixteen rows were written, and there are as many stripes.
        unsafe { V::transpose(room.add(i * LANES), dim, stripes.as_mut_ptr().cast(), LANES) };
    }
}

#[inline(always)]
unsafe fn turn_row<V: Vector, const N: usize>(row: &[f32], mean: &[f32], out: *mut f32) {
    let (row, mean) = (&row[..N * LANES], &mean[..N * LANES]);
    // SAFETY: there are as many values, and the caller vouches for room for them.
    unsafe {
        let mut x: [V::Floats; N] = std::array::from_fn(|i| {
            let (x, mean) = (V::floats(row.as_ptr().add(i * LANES)), V::floats(mean.as_ptr().add(i * LANES)));
            V::known(V::minus(x, mean))
        });
        turn::<V, N>(&mut x);
        x.into_iter().enumerate().for_each(|(i, x)| V::put(x, out.add(i * LANES)));
    }
}

/// Of any number of channels.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn turn_any(rows: &[f32], mean: &[f32], tokens: &[u8], stripes: &mut [Stripe]) {
    /// Rows and columns of a piece that registers of four values hold.
    const PIECE: usize = 4;
    let dim = mean.len();
    let row = |t: u8| &rows[usize::from(t) * dim..][..dim];
    for (lanes, tokens) in tokens.chunks(PIECE).enumerate() {
        // Where there are fewer than four tokens, the last one stands for those that are missing.
        let of: [&[f32]; PIECE] = std::array::from_fn(|i| row(tokens[i.min(tokens.len() - 1)]));
        let [a, b, c, d] = of.map(|row| row.as_chunks::<PIECE>());
        let (fours, rest) = stripes.as_chunks_mut::<PIECE>();
        for ((((stripes, a), b), c), d) in fours.iter_mut().zip(a.0).zip(b.0).zip(c.0).zip(d.0) {
            for (i, stripe) in stripes.iter_mut().enumerate() {
                stripe.as_chunks_mut::<PIECE>().0[lanes] = [a[i], b[i], c[i], d[i]];
            }
        }
        for ((((stripe, a), b), c), d) in rest.iter_mut().zip(a.1).zip(b.1).zip(c.1).zip(d.1) {
            stripe.as_chunks_mut::<PIECE>().0[lanes] = [*a, *b, *c, *d];
        }
    }
    for (stripe, &mean) in stripes.iter_mut().zip(mean) {
        for x in stripe {
            let off = *x - mean;
            *x = if off.is_nan() { 0.0 } else { off };
        }
    }
    let mut rest = stripes;
    while !rest.is_empty() {
        let length = 1usize << rest.len().ilog2();
        let (block, after) = rest.split_at_mut(length);
        rotate(block);
        rest = after;
    }
}

/// What `rotate_rows` does to a block whose length is a power of two: the same additions.
#[inline(always)]
fn rotate(block: &mut [Stripe]) {
    let length = block.len();
    let norm = 1.0 / (length as f32).sqrt();
    let mut step = 1;
    while step < length {
        // Eight stripes fit the registers of AVX2; the last of their steps is the last of all where there are no more.
        let factor = |radix: usize| if step * radix == length { norm } else { 1.0 };
        match length / step {
            2 => {
                butterflies::<2>(block, step, factor(2));
                step *= 2;
            }
            4 => {
                butterflies::<4>(block, step, factor(4));
                step *= 4;
            }
            _ => {
                butterflies::<8>(block, step, factor(8));
                step *= 8;
            }
        }
    }
    if length == 1 {
        block[0] = block[0].map(|x| x * norm);
    }
}

/// The steps of length `step`, `2 · step` … that join `RADIX` stripes.
#[inline(always)]
fn butterflies<const RADIX: usize>(block: &mut [Stripe], step: usize, factor: f32) {
    for joined in block.chunks_exact_mut(RADIX * step) {
        for first in 0..step {
            let mut x: [Stripe; RADIX] = std::array::from_fn(|r| joined[first + r * step]);
            let mut apart = 1;
            while apart < RADIX {
                for r in 0..RADIX {
                    if r & apart == 0 {
                        let (low, high) = (x[r], x[r + apart]);
                        x[r] = std::array::from_fn(|i| low[i] + high[i]);
                        x[r + apart] = std::array::from_fn(|i| low[i] - high[i]);
                    }
                }
                apart *= 2;
            }
            for (r, x) in x.iter().enumerate() {
                joined[first + r * step] = x.map(|x| x * factor);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::level::levels;
    use crate::rotate::rotate_rows;

    #[test]
    fn stripes_hold_what_turned_rows_do() {
        for dim in [1, 2, 3, 8, 16, 21, 64, 80, 96, 128, 192, 255, 256] {
            let mut rows: Vec<f32> = (0..20 * dim).map(|i| (i as f32 * 0.37 + 1.0).sin()).collect();
            rows[dim / 2] = f32::NAN;
            let mean: Vec<f32> = (0..dim).map(|d| (d as f32 * 0.11).cos()).collect();
            let mut turned: Vec<f32> = rows
                .chunks_exact(dim)
                .flat_map(|row| row.iter().zip(&mean).map(|(x, mean)| if x.is_nan() { 0.0 } else { x - mean }))
                .collect();
            rotate_rows(&mut turned, dim);
            let mut stripes = vec![[9.0; LANES]; dim];
            for tokens in [&[0u8, 19, 7][..], &[15, 14, 13, 12, 11, 10, 9, 8, 7, 6, 5, 4, 3, 2, 1, 0]] {
                turn_any(&rows, &mean, tokens, &mut stripes);
                let any = stripes.clone();
                for (lane, &t) in tokens.iter().enumerate() {
                    for d in 0..dim {
                        let expected = turned[usize::from(t) * dim + d];
                        assert_eq!(any[d][lane], expected, "dim {dim}, lane {lane}, channel {d}");
                    }
                }
                for level in if dim % LANES == 0 { levels() } else { Vec::new() } {
                    stripes.fill([9.0; LANES]);
                    turn_at(level, &rows, &mean, tokens, &mut stripes);
                    let same = |(own, any): (&Stripe, &Stripe)| own[..tokens.len()] == any[..tokens.len()];
                    assert!(stripes.iter().zip(&any).all(same), "dim {dim}, {level:?}");
                }
                turned_stripes(&rows, &mean, tokens, &mut stripes);
                assert_eq!(stripes[dim - 1][0], any[dim - 1][0]);
            }
        }
    }
}
