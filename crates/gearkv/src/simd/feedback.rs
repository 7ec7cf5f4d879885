//! Quantization channel by channel, each channel making good what those before it got wrong.

use multiversion::multiversion;

/// Adding 2²³ to a float in `[0, 2²³)` leaves its value, rounded half to even, in the mantissa's low bits.
const ROUNDING: f32 = 8_388_608.0;

/// One channel's grid.
#[derive(Clone, Copy)]
pub(crate) struct Grade {
    pub scale: f32,
    pub zero: f32,
    /// The largest code.
    pub levels: f32,
}

/// Codes of `columns` (`[channels, tokens]`), and in their place what the codes stand for. After channel `i`, each later channel
/// `j` is moved by `−coupling[i][j]` times the error of `i`, where there is a coupling.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn quantize_with_feedback(
    columns: &mut [f32],
    tokens: usize,
    grades: &[Grade],
    coupling: Option<&[f32]>,
    codes: &mut [u8],
) {
    let dim = grades.len();
    let mut error = vec![0.0f32; tokens];
    for (i, &Grade { scale, zero, levels }) in grades.iter().enumerate() {
        let (done, later) = columns.split_at_mut((i + 1) * tokens);
        let column = &mut done[i * tokens..];
        let codes = &mut codes[i * tokens..(i + 1) * tokens];
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
        let Some(coupling) = coupling else { continue };
        for (column, &along) in later.chunks_exact_mut(tokens).zip(&coupling[i * dim + i + 1..(i + 1) * dim]) {
            for t in 0..tokens {
                column[t] -= along * error[t];
            }
        }
    }
}
