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
fn files_are_those_of_the_safetensors_crate() {
    let (entries, payload) = sample();
    let texts = BTreeMap::from([("format".to_owned(), "pt".to_owned())]);
    let bytes = serialize(&entries, &payload, Some(&texts)).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    let views = || entries.iter().map(|entry| (&entry.name, read.tensor(&entry.name).unwrap()));
    for (entry, (_, view)) in entries.iter().zip(views()) {
        assert_eq!(view.data(), &payload[entry.begin as usize..entry.end as usize]);
    }
    assert_eq!(safetensors::serialize(views(), Some(texts.into_iter().collect())).unwrap(), bytes);
}

#[test]
fn data_types_are_those_of_the_safetensors_crate() {
    let names = [
        "BOOL",
        "F4",
        "F6_E2M3",
        "F6_E3M2",
        "U8",
        "I8",
        "F8_E5M2",
        "F8_E4M3",
        "F8_E8M0",
        "F8_E4M3FNUZ",
        "F8_E5M2FNUZ",
        "I16",
        "U16",
        "F16",
        "BF16",
        "I32",
        "U32",
        "F32",
        "C64",
        "F64",
        "I64",
        "U64",
    ];
    let payload = vec![7; 64];
    // Names that are no order, so that order is that of the types.
    let entries: Vec<_> = names
        .iter()
        .map(|dtype| {
            let known: safetensors::Dtype = serde_json::from_value((*dtype).into()).unwrap();
            span(&format!("{:x}", dtype.len() * 31 % 7), dtype, &[8], 0, known.bitsize() as u64)
        })
        .enumerate()
        .map(|(i, entry)| TensorSpan { name: format!("{}{i}", entry.name), ..entry })
        .collect();
    let bytes = serialize(&entries, &payload, None).unwrap();
    let read = safetensors::SafeTensors::deserialize(&bytes).unwrap();
    assert_eq!(safetensors::serialize(read.tensors(), None).unwrap(), bytes);
    assert_eq!(index(&bytes).unwrap().len(), names.len());
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
