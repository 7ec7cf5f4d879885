//! Products are those with the weights that candle reads from the same bytes.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::gguf::RawTensor;

use super::{MatrixBuilder, Workers};

fn noise(n: usize, seed: u64) -> Vec<f32> {
    let mut state = seed;
    let mut next = || {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 23) as f32 - 1.0
    };
    (0..n).map(|_| next()).collect()
}

/// A tensor of the type, and its weights as candle reads them.
fn tensor(kind: GgmlDType, rows: usize, columns: usize) -> (RawTensor, Vec<f32>) {
    // Rows of very different sizes, and none around zero.
    let values: Vec<f32> = noise(rows * columns, rows as u64)
        .iter()
        .enumerate()
        .map(|(i, x)| (x + 0.3) * 0.1 * 2f32.powi((i / columns % 5) as i32 - 2))
        .collect();
    let tensor = Tensor::from_slice(&values, (rows, columns), &Device::Cpu).unwrap();
    let quantized = QTensor::quantize(&tensor, kind).unwrap();
    let weights = quantized.dequantize(&Device::Cpu).unwrap().flatten_all().unwrap().to_vec1().unwrap();
    let bytes = quantized.data().unwrap().to_vec();
    (RawTensor { name: format!("{kind:?}"), kind, dims: vec![columns, rows], bytes }, weights)
}

/// Error of the products over the products' size, both as root mean squares.
fn error(tensors: Vec<(RawTensor, Vec<f32>)>, columns: usize, tokens: usize) -> f64 {
    let weights: Vec<f32> = tensors.iter().flat_map(|(_, weights)| weights.iter().copied()).collect();
    let builder = tensors.into_iter().fold(MatrixBuilder::new(columns), |builder, (raw, _)| builder.stack(raw));
    let matrix = builder.build().unwrap();
    let x = noise(columns * tokens, 99);
    let got = matrix.multiply(&x, Workers { parallel: false });
    let mut rows = got.iter();
    let (mut off, mut size) = (0.0, 0.0);
    for x in x.chunks_exact(columns) {
        for row in weights.chunks_exact(columns) {
            let expected: f64 = row.iter().zip(x).map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
            off += (f64::from(*rows.next().unwrap()) - expected).powi(2);
            size += expected.powi(2);
        }
    }
    assert!(rows.next().is_none());
    (off / size).sqrt()
}

const TYPES: [(GgmlDType, f64); 13] = [
    (GgmlDType::F32, 1e-6),
    (GgmlDType::F16, 1e-6),
    (GgmlDType::BF16, 1e-6),
    // Codes and scales are the file's own.
    (GgmlDType::Q4_0, 1e-6),
    (GgmlDType::Q4_1, 1e-6),
    (GgmlDType::Q5_0, 1e-6),
    (GgmlDType::Q5_1, 1e-6),
    (GgmlDType::Q8_0, 1e-6),
    // Scales, which are products in the file, are rounded to float16.
    (GgmlDType::Q4K, 1e-3),
    (GgmlDType::Q5K, 1e-3),
    // Quantized once more, to eight bits.
    (GgmlDType::Q2K, 5e-3),
    (GgmlDType::Q3K, 5e-3),
    (GgmlDType::Q6K, 5e-3),
];

#[test]
fn products_with_every_type_are_those_with_candles_weights() {
    for (kind, tolerance) in TYPES {
        // One token, few, and more than a tile; rows that fill no panel and no strip.
        for (rows, tokens) in [(16, 1), (35, 1), (35, 2), (150, 3), (150, 40)] {
            let off = error(vec![tensor(kind, rows, 512)], 512, tokens);
            assert!(off < tolerance, "{kind:?}, {rows} rows, {tokens} tokens: off by {off}");
        }
    }
}

#[test]
fn tensors_of_different_types_are_stacked() {
    // As in files called Q4_K_M, where values are of a wider type than queries and keys.
    let mixtures = [
        ([GgmlDType::Q4K, GgmlDType::Q4K, GgmlDType::Q6K], 5e-3),
        ([GgmlDType::Q4_0, GgmlDType::Q8_0, GgmlDType::Q5_1], 1e-6),
        ([GgmlDType::Q8_0, GgmlDType::F16, GgmlDType::Q4_0], 1e-6),
        ([GgmlDType::Q2K, GgmlDType::Q3K, GgmlDType::Q4_0], 5e-3),
    ];
    for (kinds, tolerance) in mixtures {
        for tokens in [1, 5] {
            let tensors = kinds.iter().zip([32, 16, 20]).map(|(&kind, rows)| tensor(kind, rows, 256)).collect();
            let off = error(tensors, 256, tokens);
            assert!(off < tolerance, "{kinds:?}, {tokens} tokens: off by {off}");
        }
    }
}
