//! Quantization channel by channel, each channel making good what those before it got wrong.

use multiversion::multiversion;

use super::LANES;

/// Adding 2²³ to a float in `[0, 2²³)` leaves its value, rounded half to even, in the mantissa's low bits.
const ROUNDING: f32 = 8_388_608.0;

/// One channel's grid.
#[derive(Clone, Copy)]
pub struct Grade {
    /// What a step of a code is worth.
    pub scale: f32,
    /// What code 0 stands for.
    pub zero: f32,
    /// The largest code.
    pub levels: f32,
}

/// Codes of `columns` (`[channels, tokens]`), and in their place what the codes stand for. Before channel `i` gets its codes, it is moved by
/// `−coupling[i][j]` times the error of each channel `j` before it, from the first on.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub fn quantize_with_feedback(
    columns: &mut [f32],
    tokens: usize,
    grades: &[Grade],
    coupling: &[f32],
    codes: &mut [u8],
) {
    let dim = grades.len();
    let mut errors = vec![0.0f32; columns.len()];
    for (i, &Grade { scale, zero, levels }) in grades.iter().enumerate() {
        let column = &mut columns[i * tokens..(i + 1) * tokens];
        let codes = &mut codes[i * tokens..(i + 1) * tokens];
        let (before, error) = errors.split_at_mut(i * tokens);
        let error = &mut error[..tokens];
        move_by(column, before, &coupling[i * dim..i * dim + i]);
        for t in 0..tokens {
            let v = (column[t] - zero) / scale;
            let v = if v > 0.0 { v } else { 0.0 };
            let v = if v < levels { v } else { levels };
            let rounded = v + ROUNDING;
            codes[t] = rounded.to_bits() as u8;
            let value = (rounded - ROUNDING) * scale + zero;
            error[t] = column[t] - value;
            column[t] = value;
        }
    }
}

/// `column −= Σ along[j] · errors[j]`, one after the other. What is moved stays in registers.
#[inline(always)]
fn move_by(column: &mut [f32], errors: &[f32], along: &[f32]) {
    const AT_ONCE: usize = 4 * LANES;
    let tokens = column.len();
    let (chunks, rest) = column.as_chunks_mut::<AT_ONCE>();
    for (first, chunk) in chunks.iter_mut().enumerate() {
        let mut x = *chunk;
        for (errors, &along) in errors.chunks_exact(tokens).zip(along) {
            let Some(errors) = errors[first * AT_ONCE..].first_chunk::<AT_ONCE>() else { break };
            for t in 0..AT_ONCE {
                x[t] -= along * errors[t];
            }
        }
        *chunk = x;
    }
    let first = chunks.len() * AT_ONCE;
    for (errors, &along) in errors.chunks_exact(tokens).zip(along) {
        for (x, &error) in rest.iter_mut().zip(&errors[first..]) {
            *x -= along * error;
        }
    }
}
