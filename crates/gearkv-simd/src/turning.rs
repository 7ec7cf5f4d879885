//! Means that turn with a token's position: sums to find them, and them taken off or put back, channel by channel.

use multiversion::multiversion;

/// Adds Σ x·cos to `with_cos` and Σ x·sin to `with_sin`, channel by channel. `x`, `cos` and `sin` are `[tokens, channels]`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn turning_sums(x: &[f32], cos: &[f32], sin: &[f32], with_cos: &mut [f32], with_sin: &mut [f32]) {
    let width = with_cos.len();
    let turns = cos.chunks_exact(width).zip(sin.chunks_exact(width));
    for (x, (cos, sin)) in x.chunks_exact(width).zip(turns) {
        for i in 0..width {
            with_cos[i] += x[i] * cos[i];
            with_sin[i] += x[i] * sin[i];
        }
    }
}

/// `out` = (x − a·cos − b·sin) · scale. `x`, `cos` and `sin` are `[tokens, channels]`; `a`, `b` and `scale` `[channels]`; rows of
/// `out` are `row` long, of which the first `channels` are written.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn subtract_turning(
    x: &[f32],
    (cos, sin): (&[f32], &[f32]),
    (a, b): (&[f32], &[f32]),
    scale: &[f32],
    row: usize,
    out: &mut [f32],
) {
    let width = scale.len();
    let turns = cos.chunks_exact(width).zip(sin.chunks_exact(width));
    for ((x, (cos, sin)), out) in x.chunks_exact(width).zip(turns).zip(out.chunks_exact_mut(row)) {
        let out = &mut out[..width];
        for i in 0..width {
            out[i] = (x[i] - (a[i] * cos[i] + b[i] * sin[i])) * scale[i];
        }
    }
}

/// `x` = x·scale + a·cos + b·sin, in place.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn add_turning(x: &mut [f32], (cos, sin): (&[f32], &[f32]), (a, b): (&[f32], &[f32]), scale: &[f32]) {
    let width = scale.len();
    let turns = cos.chunks_exact(width).zip(sin.chunks_exact(width));
    for (x, (cos, sin)) in x.chunks_exact_mut(width).zip(turns) {
        for i in 0..width {
            x[i] = x[i] * scale[i] + (a[i] * cos[i] + b[i] * sin[i]);
        }
    }
}
