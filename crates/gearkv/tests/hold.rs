//! Tokens that are held and settled are the tokens that are appended or compressed, only later.

mod common;

use common::{preset, preset_for, value_preset};
use gearkv::{AttendOptions, CacheShape, GearCache, GearTensor, KvShape, KvSlice, NEVER, Role, TensorImage};

const HEADS: usize = 2;
const DIM: usize = 16;

fn values(tokens: usize) -> Vec<f32> {
    (0..HEADS * tokens * DIM).map(|i| ((i * 7919 % 1009) as f32 / 500.0 - 1.0) * (1.0 + (i % DIM) as f32)).collect()
}

/// Tokens `range` of `[heads, tokens, dim]`.
fn part(all: &[f32], range: std::ops::Range<usize>) -> Vec<f32> {
    let tokens = all.len() / HEADS / DIM;
    all.chunks_exact(tokens * DIM).flat_map(|head| &head[range.start * DIM..range.end * DIM]).copied().collect()
}

fn bytes(tensor: &GearTensor) -> Vec<Vec<u8>> {
    let TensorImage { sinks, buffer, segments, .. } = tensor.image();
    let mut out = vec![sinks.into_owned(), buffer.into_owned()];
    for s in segments {
        out.extend([s.codes, s.scales, s.factors, s.outlier_indices, s.outlier_values].map(|part| part.into_owned()));
    }
    out
}

#[test]
fn a_prompt_held_in_pieces_settles_to_what_compress_makes() {
    let all = values(150);
    for preset in ["gear-4", "kcvt-2", "paper-gear-2", "float16", "float32"] {
        for role in [Role::Key, Role::Value] {
            let shape = KvShape::new(1, HEADS, 150, DIM).unwrap();
            let whole = GearTensor::compress(KvSlice::F32(&all), shape, role, preset_for(preset, role), NEVER).unwrap();
            let mut held = GearTensor::new(1, HEADS, DIM, role, preset_for(preset, role)).unwrap();
            for (first, end) in [(0, 3), (3, 100), (100, 150)] {
                held.hold(KvSlice::F32(&part(&all, first..end)), end - first).unwrap();
            }
            assert_eq!(held.tokens(), 150);
            held.settle(NEVER).unwrap();
            assert_eq!(bytes(&held), bytes(&whole), "{preset} {role:?}");
            assert_eq!(held.byte_length(), whole.byte_length());
        }
    }
}

#[test]
fn tokens_held_one_by_one_settle_to_what_append_makes() {
    let all = values(200);
    let mut appended = GearTensor::new(1, HEADS, DIM, Role::Key, preset("gear-2")).unwrap();
    let mut held = appended.clone();
    for t in 0..200 {
        let token = part(&all, t..t + 1);
        appended.append(KvSlice::F32(&token), 1, NEVER).unwrap();
        held.hold(KvSlice::F32(&token), 1).unwrap();
        held.settle(NEVER).unwrap();
        assert_eq!(held.tokens(), t + 1);
    }
    assert_eq!(bytes(&held), bytes(&appended));
}

#[test]
fn what_is_held_is_attended_to_exactly() {
    let all = values(100);
    let shape = CacheShape { layers: 1, batch: 1, kv_heads: HEADS, head_dim: DIM };
    let mut held = GearCache::new(shape, preset("gear-2"), value_preset("gear-2")).unwrap();
    let mut exact = GearCache::new(shape, preset("float16"), value_preset("float16")).unwrap();
    held.hold(0, KvSlice::F32(&all), KvSlice::F32(&all), 100).unwrap();
    exact.append(0, KvSlice::F32(&all), KvSlice::F32(&all), 100, NEVER).unwrap();
    let query = values(1);
    let attend = |cache: &GearCache| {
        let mut out = vec![0.0; HEADS * DIM];
        cache.attend(0, KvSlice::F32(&query), 1, &AttendOptions::new(HEADS), &mut out, NEVER).unwrap();
        out
    };
    let close = |a: &[f32], b: &[f32]| a.iter().zip(b).all(|(a, b)| (a - b).abs() < 1e-5 * (1.0 + b.abs()));
    assert!(close(&attend(&held), &attend(&exact)));
    let aborted = held.settle(0, &|| true).unwrap_err();
    assert_eq!(aborted.code(), gearkv::ErrorCode::Aborted);
    assert!(close(&attend(&held), &attend(&exact)));
    held.settle(0, NEVER).unwrap();
    assert!(!close(&attend(&held), &attend(&exact)));
    assert!(held.byte_length() < exact.byte_length());
}
