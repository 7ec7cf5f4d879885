//! Ranks by need: as many as with even ranks, each in the head where it takes most error away.

use gearkv::{GearConfig, GearOptions, GearTensor, KvShape, KvSlice, NEVER, Role};

const SHAPE: KvShape = KvShape { batch: 2, heads: 3, tokens: 300, head_dim: 32 };

/// Noise in all heads; in head 1 of each item, over it, six waves that quantization at two bits leaves much of.
fn values() -> Vec<f32> {
    let KvShape { heads, tokens, head_dim, .. } = SHAPE;
    let mut state = 7u32;
    let mut noise = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 8) as f32 / (1 << 23) as f32 - 1.0
    };
    (0..SHAPE.elements())
        .map(|i| {
            let (d, t, plane) = (i % head_dim, i / head_dim % tokens, i / head_dim / tokens);
            let waves = |n: usize| ((t * (n + 1)) as f32 * 0.37).sin() * ((d * (2 * n + 3)) as f32 * 0.61).cos();
            noise() * 0.2 + if plane % heads == 1 { 2.0 * (0..6).map(waves).sum::<f32>() } else { 0.0 }
        })
        .collect()
}

fn config(role: Role, rank_by_need: bool, sparsity: f64) -> GearConfig {
    let options = format!(
        r#"{{"preset":"kivi-2","rank":2,"decodeRank":1,"powerIterations":6,"factorBits":8,"sparsity":{sparsity},"rankByNeed":{rank_by_need}}}"#
    );
    GearOptions::from_json(&options).unwrap().resolve(role).unwrap()
}

fn error(tensor: &GearTensor, x: &[f32]) -> f64 {
    let restored = tensor.decompress(NEVER).unwrap();
    x.iter().zip(restored).map(|(a, b)| f64::from(a - b).powi(2)).sum::<f64>().sqrt()
}

#[test]
fn heads_that_have_more_to_gain_get_more_ranks_in_the_same_bytes() {
    let x = values();
    for role in [Role::Key, Role::Value] {
        for sparsity in [0.0, 0.02] {
            let [even, by_need] = [false, true].map(|by_need| {
                GearTensor::compress(KvSlice::F32(&x), SHAPE, role, config(role, by_need, sparsity), NEVER).unwrap()
            });
            // One byte a head.
            assert_eq!(by_need.byte_length(), even.byte_length() + SHAPE.batch * SHAPE.heads);
            let (even, by_need) = (error(&even, &x), error(&by_need, &x));
            assert!(by_need < 0.9 * even, "{role:?}, {sparsity}: {by_need} by need, {even} evenly");
        }
    }
}

#[test]
fn what_comes_later_has_its_ranks_by_need_too_and_any_part_reads_as_the_whole() {
    let x = values();
    let row = SHAPE.heads * SHAPE.head_dim;
    for role in [Role::Key, Role::Value] {
        let mut tensor = GearTensor::new(1, SHAPE.heads, SHAPE.head_dim, role, config(role, true, 0.0)).unwrap();
        for n in 0..40 {
            tensor.append(KvSlice::F32(&x[n * 5 * row..(n + 1) * 5 * row]), 5, NEVER).unwrap();
        }
        let whole = tensor.decompress(NEVER).unwrap();
        let image = tensor.image();
        assert!(image.segments.len() > 2 && image.segments.iter().all(|segment| segment.rank == 1));
        let same = GearTensor::from_image(image).unwrap();
        assert_eq!(same.decompress(NEVER).unwrap(), whole);
        tensor.truncate(101).unwrap();
        let part = tensor.decompress(NEVER).unwrap();
        for (h, part) in part.chunks_exact(101 * SHAPE.head_dim).enumerate() {
            assert_eq!(part, &whole[h * 200 * SHAPE.head_dim..][..part.len()]);
        }
    }
}
