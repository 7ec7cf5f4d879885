//! What a layer computes beside products and attention.

use multiversion::multiversion;

use crate::architecture::Gate;

const LANES: usize = 16;

/// `row / rms(row) · weight` for each row of `weight.len()` values.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn normalize_rows(rows: &mut [f32], weight: &[f32], epsilon: f32) {
    for row in rows.chunks_exact_mut(weight.len()) {
        let mut lanes = [0.0f32; LANES];
        let (chunks, rest) = row.as_chunks::<LANES>();
        for chunk in chunks {
            for i in 0..LANES {
                lanes[i] += chunk[i] * chunk[i];
            }
        }
        let squares = lanes.iter().sum::<f32>() + rest.iter().map(|x| x * x).sum::<f32>();
        let scale = 1.0 / (squares / weight.len() as f32 + epsilon).sqrt();
        for (x, w) in row.iter_mut().zip(weight) {
            *x = *x * scale * w;
        }
    }
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
pub(crate) fn add(to: &mut [f32], x: &[f32]) {
    for (to, x) in to.iter_mut().zip(x) {
        *to += x;
    }
}

/// Adds `x` to each row of `x.len()` values.
pub(crate) fn add_to_rows(rows: &mut [f32], x: &[f32]) {
    for row in rows.chunks_exact_mut(x.len()) {
        add(row, x);
    }
}

/// `gate(x[..n]) · x[n..]` for each row of `2n` values.
pub(crate) fn gated(rows: &[f32], n: usize, gate: Gate) -> Vec<f32> {
    let mut out = vec![0.0; rows.len() / 2];
    for (row, out) in rows.chunks_exact(2 * n).zip(out.chunks_exact_mut(n)) {
        let (gates, values) = row.split_at(n);
        match gate {
            Gate::Silu => silu_product(gates, values, out),
            Gate::Gelu => gelu_product(gates, values, out),
        }
    }
    out
}

#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn silu_product(gates: &[f32], values: &[f32], out: &mut [f32]) {
    for ((gate, value), out) in gates.iter().zip(values).zip(out) {
        *out = gate / (1.0 + exp(-gate)) * value;
    }
}

/// Gelu by `tanh`, as Gemma has it: `x · sigmoid(2 · √(2/π) · (x + 0.044715 x³))`.
#[multiversion(targets("x86_64+avx512f+avx512bw+avx512dq+avx512vl", "x86_64+avx2"))]
fn gelu_product(gates: &[f32], values: &[f32], out: &mut [f32]) {
    const FACTOR: f32 = 2.0 * 0.797_884_6;
    for ((gate, value), out) in gates.iter().zip(values).zip(out) {
        let inner = FACTOR * gate * (1.0 + 0.044_715 * gate * gate);
        *out = gate / (1.0 + exp(-inner)) * value;
    }
}

/// The exponential, to a few units in the last place, in a form that vectorizes; beyond ±87 it stays at what it is there.
#[inline(always)]
fn exp(x: f32) -> f32 {
    const LIMIT: f32 = 87.0;
    const ROUNDING: f32 = 12_582_912.0; // 1.5 · 2²³
    const LN2_HIGH: f32 = 355.0 / 512.0;
    const LN2_LOW: f32 = -2.121_944_4e-4;
    let x = if x > -LIMIT { x } else { -LIMIT };
    let x = if x < LIMIT { x } else { LIMIT };
    let n = (x * std::f32::consts::LOG2_E + ROUNDING) - ROUNDING;
    let f = (x - n * LN2_HIGH) - n * LN2_LOW;
    let p = [1.0 / 120.0, 1.0 / 24.0, 1.0 / 6.0, 0.5, 1.0, 1.0].iter().fold(1.0 / 720.0, |p, c| p * f + c);
    p * f32::from_bits(((n as i32 + 127) as u32) << 23)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gates_are_those_of_the_formulas() {
        let x: Vec<f32> = (-400..400).map(|i| i as f32 * 0.05).collect();
        let rows: Vec<f32> = x.iter().copied().chain(x.iter().map(|_| 2.0)).collect();
        let silu = gated(&rows, x.len(), Gate::Silu);
        let gelu = gated(&rows, x.len(), Gate::Gelu);
        for ((x, silu), gelu) in x.iter().zip(silu).zip(gelu) {
            let x = f64::from(*x);
            let expected = 2.0 * x / (1.0 + (-x).exp());
            assert!((f64::from(silu) - expected).abs() < 1e-5 * (1.0 + x.abs()), "silu({x})");
            let expected = x * (1.0 + ((2.0 / std::f64::consts::PI).sqrt() * (x + 0.044715 * x.powi(3))).tanh());
            assert!((f64::from(gelu) - expected).abs() < 1e-5 * (1.0 + x.abs()), "gelu({x})");
        }
        assert!(gated(&[-1e30, 1.0], 1, Gate::Silu)[0].abs() < 1e-6);
        assert_eq!(gated(&[1e30, 1.0], 1, Gate::Silu)[0], 1e30);
    }

    #[test]
    fn a_normalized_row_has_the_weight_as_its_rms() {
        let mut row: Vec<f32> = (0..35).map(|i| (i as f32 - 15.0) * 3.0).collect();
        normalize_rows(&mut row, &[2.0; 35], 0.0);
        let rms = (row.iter().map(|x| x * x).sum::<f32>() / 35.0).sqrt();
        assert!((rms - 2.0).abs() < 1e-5);
    }
}
