use super::*;
use crate::level::levels;
use crate::rotate::rotate_at;

const ROWS: usize = 5;

fn wave(n: usize, step: f32) -> Vec<f32> {
    (0..n).map(|i| (i as f32 * step).sin() * 3.0).collect()
}

/// The same value by value.
fn expected(codes: &[u8], dim: usize, meaning: Meaning, low_rank: LowRank) -> Vec<f32> {
    let of = |i: usize| {
        let (t, d, code) = (i / dim, i % dim, f32::from(codes[i]));
        let group = |channels: usize| t * dim.div_ceil(channels) + d / channels;
        match meaning {
            Meaning::Channels { scale, zero } => code * scale[d] + zero[d],
            Meaning::Groups { channels, scale, zero } => code * scale[group(channels)] + zero[group(channels)],
            Meaning::Turned { channels, scale, bits, .. } => {
                let level = match bits[t] {
                    1 => f32::from(LEVELS_1[usize::from(codes[i])]) * UNIT,
                    2 => f32::from(LEVELS_2[usize::from(codes[i])]) * UNIT,
                    3 => f32::from(LEVELS_3[usize::from(codes[i])]) * UNIT,
                    4 => f32::from(LEVELS_4[usize::from(codes[i])]) * UNIT,
                    _ => (2.0 * code - FINE_WIDEST) * FINE_UNIT,
                };
                level * scale[group(channels)]
            }
        }
    };
    let mut out: Vec<f32> = (0..codes.len()).map(of).collect();
    if let Meaning::Turned { mean: Some(mean), .. } = meaning {
        rotate_at(Level::Portable, &mut out, dim);
        out.iter_mut().enumerate().for_each(|(i, x)| *x += mean[i % dim]);
    }
    for (i, x) in out.iter_mut().enumerate() {
        for (v, vector) in low_rank.vectors.chunks_exact(dim).enumerate() {
            *x += low_rank.weights[v * low_rank.stride + i / dim] * vector[i % dim];
        }
    }
    out
}

#[test]
fn rows_are_what_their_codes_and_the_low_rank_part_add_up_to_on_every_instruction_set() {
    for dim in [1, 7, 16, 21, 48, 64, 80, 128, 144, 256] {
        let bits = [4u8, 1, 8, 3, 2];
        let any: Vec<u8> = (0..ROWS * dim).map(|i| (i * 97 + 13) as u8).collect();
        let narrow: Vec<u8> =
            any.iter().enumerate().map(|(i, code)| code & ((1u16 << bits[i / dim]) - 1) as u8).collect();
        for rank in 0..3 {
            let (weights, vectors) = (wave(rank * (ROWS + 2), 0.9), wave(rank * dim, 0.31));
            let low_rank = LowRank { weights: &weights, stride: ROWS + 2, vectors: &vectors };
            let mut meanings = Vec::new();
            let (scale, zero, mean) = (wave(ROWS * dim, 0.17), wave(ROWS * dim, 0.23), wave(dim, 0.4));
            meanings.push((&any, Meaning::Channels { scale: &scale[..dim], zero: &zero[..dim] }));
            for channels in [1, 16, 24, 64, dim, dim + 5] {
                let groups = ROWS * dim.div_ceil(channels);
                let (scale, zero) = (&scale[..groups], &zero[..groups]);
                meanings.push((&any, Meaning::Groups { channels, scale, zero }));
                for mean in [None, Some(&mean[..])] {
                    meanings.push((&narrow, Meaning::Turned { channels, scale, bits: &bits, mean }));
                }
            }
            for (codes, meaning) in meanings {
                let expected = expected(codes, dim, meaning, low_rank);
                for level in levels() {
                    let mut out = vec![9.0; codes.len()];
                    expand_at(level, codes, dim, meaning, low_rank, &mut out);
                    assert_eq!(out, expected, "{level:?}, dim {dim}, rank {rank}");
                }
                let mut rest = vec![9.0; (ROWS - 2) * dim];
                if let Meaning::Channels { .. } = meaning {
                    expand_rows(&codes[2 * dim..], dim, meaning, low_rank.from(2), &mut rest);
                    assert_eq!(rest, expected[2 * dim..], "dim {dim}, rank {rank}");
                }
            }
        }
    }
}
