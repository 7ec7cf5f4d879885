//! Products of every type of weights, in every order of codes.

use candle_core::quantized::{GgmlDType, QTensor};
use candle_core::{Device, Tensor};

use crate::gguf::RawTensor;

use super::blocks::Width;
use super::order::Order;
use super::{BLOCK, Matrix, MatrixBuilder, PANEL, Workers};

const ALONE: Workers = Workers { parallel: false };

/// Values without a pattern, in ±`most`.
fn noise(n: usize, most: f32) -> Vec<f32> {
    (0..n).map(|i| ((i * 7919 + i * i % 613) % 1021) as f32 / 510.0 * most - most).collect()
}

fn tensor(kind: GgmlDType, rows: usize, columns: usize) -> RawTensor {
    let values = Tensor::from_slice(&noise(rows * columns, 0.1), (rows, columns), &Device::Cpu).unwrap();
    let bytes = QTensor::quantize(&values, kind).unwrap().data().unwrap().to_vec();
    RawTensor { name: "t".into(), kind, dims: vec![columns, rows], bytes }
}

fn built(kind: GgmlDType, rows: usize, columns: usize, order: Order) -> Matrix {
    MatrixBuilder::new(columns).stack(tensor(kind, rows, columns)).ordered(order).unwrap()
}

#[test]
fn products_in_either_order_are_those_of_the_rows() {
    for kind in [GgmlDType::Q4_0, GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::Q6K, GgmlDType::F32] {
        for (rows, columns) in [(16, 256), (150, 512)] {
            let weights: Vec<f32> = tensor(kind, rows, columns).to_f32().unwrap();
            for order in [Order::Columns, Order::Pairs] {
                let matrix = built(kind, rows, columns, order);
                for tokens in [1, 2, 3, 4, 9, 33] {
                    let x = noise(tokens * columns, 2.0);
                    let y = matrix.multiply(&x, ALONE);
                    assert_eq!(y.len(), tokens * rows);
                    for (i, y) in y.iter().enumerate() {
                        let (t, row) = (i / rows, i % rows);
                        let pairs = weights[row * columns..][..columns].iter().zip(&x[t * columns..]);
                        let exact: f64 = pairs.clone().map(|(w, x)| f64::from(*w) * f64::from(*x)).sum();
                        let size: f64 = pairs.map(|(w, x)| f64::from(w * x).abs()).sum();
                        // Q6_K is held in 8 bits of each block's own range.
                        let tolerance = if kind == GgmlDType::Q6K { 5e-3 } else { 2e-5 };
                        assert!(
                            (f64::from(*y) - exact).abs() <= tolerance * size,
                            "{kind:?} {order:?} row {row} of token {t} of {tokens}: {y}, expected {exact}"
                        );
                    }
                }
            }
        }
    }
}

#[test]
fn rows_are_the_same_in_either_order() {
    for kind in [GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::F32] {
        let [columns, pairs] = [Order::Columns, Order::Pairs].map(|order| built(kind, 40, 256, order));
        for row in 0..40 {
            let (mut a, mut b) = (vec![0.0; 256], vec![0.0; 256]);
            columns.row(row, &mut a);
            pairs.row(row, &mut b);
            assert_eq!(a, b, "{kind:?} row {row}");
        }
    }
}

#[test]
fn one_token_is_multiplied_as_it_is_among_others() {
    let matrix = built(GgmlDType::Q4_1, 48, 512, Order::Pairs);
    let x = noise(7 * 512, 3.0);
    let together = matrix.multiply(&x, ALONE);
    let alone: Vec<f32> = x.chunks(512).flat_map(|x| matrix.multiply(x, ALONE)).collect();
    assert_eq!(together, alone);
}

#[test]
fn what_is_not_a_number_stays_so_and_what_is_nothing_gives_nothing() {
    for tokens in [1, 5] {
        let matrix = built(GgmlDType::Q8_0, 16, 256, Order::Pairs);
        let nothing = matrix.multiply(&vec![0.0; tokens * 256], ALONE);
        assert!(nothing.iter().all(|y| *y == 0.0));
        let tiny = matrix.multiply(&vec![1e-42; tokens * 256], ALONE);
        assert!(tiny.iter().all(|y| y.abs() < 1e-30));
        let large = matrix.multiply(&vec![1e30; tokens * 256], ALONE);
        assert!(large.iter().all(|y| y.is_finite()));
        for bad in [f32::NAN, f32::INFINITY, f32::NEG_INFINITY] {
            let mut x = noise(tokens * 256, 1.0);
            x[(tokens - 1) * 256 + 100] = bad;
            let y = matrix.multiply(&x, ALONE);
            let (good, spoilt) = y.split_at((tokens - 1) * 16);
            assert!(good.iter().all(|y| y.is_finite()), "{bad}");
            assert!(spoilt.iter().all(|y| !y.is_finite()), "{bad}");
        }
    }
}

#[test]
fn no_two_codes_share_bits() {
    for width in [Width::Four, Width::Eight] {
        for order in [Order::Columns, Order::Pairs] {
            let mut seen = std::collections::HashSet::new();
            for column in 0..BLOCK {
                for lane in 0..PANEL {
                    let (byte, shift) = order.code(width, column, lane);
                    assert!(byte < width.block_bytes());
                    assert!(shift == 0 || width == Width::Four && shift == 4);
                    assert!(seen.insert((byte, shift)), "{order:?} {width:?} column {column} lane {lane}");
                }
            }
        }
    }
}

#[test]
fn a_few_tokens_get_what_each_gets_alone() {
    for kind in [GgmlDType::Q4_1, GgmlDType::Q8_0, GgmlDType::F32] {
        let (rows, columns) = (150, 512);
        let matrix = built(kind, rows, columns, Order::Columns);
        for tokens in [2, 4, 7, 32] {
            let x = noise(tokens * columns, 2.0);
            let alone = x.chunks_exact(columns).flat_map(|x| matrix.multiply(x, ALONE));
            assert_eq!(matrix.multiply(&x, ALONE), alone.collect::<Vec<f32>>(), "{kind:?}, {tokens} tokens");
        }
    }
}
