//! Safetensors files in and out.

use std::collections::BTreeMap;

use gearkv::ErrorCode;
use gearkv_format::safetensors::{TensorSpan, index, metadata, serialize};
use proptest::prelude::*;

fn span(name: &str, dtype: &str, shape: &[u64], begin: u64, end: u64) -> TensorSpan {
    TensorSpan { name: name.to_owned(), dtype: dtype.to_owned(), shape: shape.to_vec(), begin, end }
}

fn file(json: &str, data: usize) -> Vec<u8> {
    let mut bytes = (json.len() as u64).to_le_bytes().to_vec();
    bytes.extend(json.as_bytes());
    bytes.resize(bytes.len() + data, 3);
    bytes
}

fn sample() -> (Vec<TensorSpan>, Vec<u8>) {
    let payload = (0..40).collect::<Vec<u8>>();
    let entries = vec![
        span("k", "F16", &[1, 2, 3], 4, 16),
        span("scalar", "F64", &[], 0, 8),
        span("none", "F32", &[0, 7], 40, 40),
        span("v", "BF16", &[10], 20, 40),
    ];
    (entries, payload)
}

#[test]
fn tensors_come_back_with_their_names_types_shapes_and_bytes() {
    let (entries, payload) = sample();
    let texts = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = serialize(&entries, &payload, Some(&texts)).unwrap();
    assert_eq!(metadata(&bytes).unwrap(), texts);
    let mut found = index(&bytes).unwrap();
    found.sort_by(|a, b| a.name.cmp(&b.name));
    let mut expected = entries;
    expected.sort_by(|a, b| a.name.cmp(&b.name));
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(&expected) {
        assert_eq!((&found.name, &found.dtype, &found.shape), (&expected.name, &expected.dtype, &expected.shape));
        assert_eq!(
            bytes[found.begin as usize..found.end as usize],
            payload[expected.begin as usize..expected.end as usize]
        );
    }
}

#[test]
fn a_file_may_be_empty() {
    let bytes = serialize(&[], &[], None).unwrap();
    assert_eq!((index(&bytes), metadata(&bytes)), (Ok(vec![]), Ok(BTreeMap::new())));
}

#[test]
fn every_truncation_is_noticed() {
    let (entries, payload) = sample();
    let bytes = serialize(&entries, &payload, None).unwrap();
    for length in 0..bytes.len() {
        assert_eq!(index(&bytes[..length]).unwrap_err().code(), ErrorCode::CorruptData, "{length}");
    }
    let longer = [bytes, vec![0]].concat();
    assert_eq!(index(&longer).unwrap_err().code(), ErrorCode::CorruptData);
}

#[test]
fn malformed_headers_are_refused() {
    for json in [
        "",
        "[]",
        r#"{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"F32","shape":[2],"data_offsets":[8,0]}}"#,
        r#"{"a":{"dtype":"F33","shape":[2],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"U8","shape":[18446744073709551615],"data_offsets":[0,18446744073709551615]}}"#,
        r#"{"a":{"dtype":"F64","shape":[4611686018427387904,4],"data_offsets":[0,8]}}"#,
        r#"{"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},"b":{"dtype":"U8","shape":[6],"data_offsets":[2,8]}}"#,
    ] {
        assert_eq!(index(&file(json, 8)).unwrap_err().code(), ErrorCode::CorruptData, "{json}");
    }
    let huge = [u64::MAX.to_le_bytes().to_vec(), vec![b'{'; 100]].concat();
    assert_eq!(index(&huge).unwrap_err().code(), ErrorCode::CorruptData);
}

#[test]
fn entries_must_fit_the_payload() {
    let payload = [0; 16];
    for (entry, code) in [
        (span("a", "F32", &[4], 0, 17), ErrorCode::ShapeMismatch),
        (span("a", "F32", &[4], 8, 0), ErrorCode::ShapeMismatch),
        (span("a", "F32", &[3], 0, 16), ErrorCode::ShapeMismatch),
        (span("a", "F32", &[u64::MAX, 2], 0, 16), ErrorCode::ShapeMismatch),
        (span("a", "F32", &[4], u64::MAX, u64::MAX), ErrorCode::ShapeMismatch),
        (span("a", "F4", &[3], 0, 1), ErrorCode::ShapeMismatch),
        (span("a", "f32", &[4], 0, 16), ErrorCode::InvalidOption),
        (span("__metadata__", "F32", &[4], 0, 16), ErrorCode::InvalidOption),
    ] {
        assert_eq!(serialize(std::slice::from_ref(&entry), &payload, None).unwrap_err().code(), code, "{entry:?}");
    }
    let twice = [span("a", "F32", &[4], 0, 16), span("a", "F32", &[4], 0, 16)];
    assert_eq!(serialize(&twice, &payload, None).unwrap_err().code(), ErrorCode::InvalidOption);
}

proptest! {
    #[test]
    fn mangled_files_do_no_harm(position: prop::sample::Index, byte: u8) {
        let (entries, payload) = sample();
        let mut bytes = serialize(&entries, &payload, None).unwrap();
        let position = position.index(bytes.len());
        bytes[position] = byte;
        if let Ok(spans) = index(&bytes) {
            prop_assert!(spans.iter().all(|s| s.begin <= s.end && s.end <= bytes.len() as u64));
        }
    }
}
