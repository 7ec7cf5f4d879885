//! Damage is told apart from data, and forged containers do no harm.

mod common;

use common::{forge, forge_version, small_cache, small_tensor, split};
use gearkv::ErrorCode;
use gearkv_format::{
    Container, ContainerWriter, Metadata, cache_from_bytes, cache_to_bytes, tensor_from_bytes, tensor_to_bytes,
};
use proptest::prelude::*;

fn assert_refused(bytes: &[u8], what: &str) {
    match Container::parse(bytes) {
        Ok(_) => panic!("{what} went unnoticed"),
        Err(e) => assert!(
            matches!(e.code(), ErrorCode::CorruptData | ErrorCode::UnsupportedVersion),
            "{what} is reported as {:?}: {e}",
            e.code()
        ),
    }
}

fn small_container() -> Vec<u8> {
    let mut writer = ContainerWriter::new();
    writer.add_tensor("key", &small_tensor(), Metadata::new()).unwrap();
    writer.add_raw("ids", "I32", &[3], &[9; 12], Metadata::new()).unwrap();
    writer.finish().unwrap()
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = small_container();
    for length in 0..bytes.len() {
        assert_refused(&bytes[..length], &format!("truncation to {length} of {} bytes", bytes.len()));
    }
}

#[test]
fn every_flipped_bit_is_noticed() {
    let mut bytes = small_container();
    for position in 0..bytes.len() {
        for bit in 0..8 {
            bytes[position] ^= 1 << bit;
            assert_refused(&bytes, &format!("bit {bit} of byte {position}"));
            bytes[position] ^= 1 << bit;
        }
    }
}

#[test]
fn trailing_bytes_are_noticed() {
    let bytes = small_container();
    for extra in [1, 63, 64, 1000] {
        for filler in [0, 0xff] {
            let mut longer = bytes.clone();
            longer.resize(bytes.len() + extra, filler);
            assert_refused(&longer, &format!("{extra} trailing bytes"));
        }
    }
}

#[test]
fn another_version_is_told_apart_from_damage() {
    let mut bytes = small_container();
    for version in [0_u32, 7, u32::MAX] {
        bytes[8..12].copy_from_slice(&version.to_le_bytes());
        let error = Container::parse(bytes.as_slice()).unwrap_err();
        assert_eq!(error.code(), ErrorCode::UnsupportedVersion);
        assert!(error.to_string().contains(&format!("version {version};")), "{error}");
    }
}

#[test]
fn no_version_has_what_a_later_one_added() {
    let (header, payload) = split(&small_container());
    assert!(header.contains(r#""scaleBits":8"#) && header.contains(r#""meanBits":"#));
    assert!(Container::parse(forge_version(4, &header, &payload)).is_ok());
    for version in [1, 2, 3] {
        assert_refused(&forge_version(version, &header, &payload), "a header of version 4 in an older file");
    }
}

#[test]
fn other_files_are_not_containers() {
    for bytes in [&b""[..], b"\x89GEAR", b"PK\x03\x04aaaaaaaaaaaaaaaaaaaaaaaaaaaa", &[0; 64], &[0xff; 64]] {
        assert_refused(bytes, "another file");
    }
}

#[test]
fn a_forged_checksum_does_not_get_a_wrong_header_through() {
    let (header, payload) = split(&small_container());
    assert!(Container::parse(forge(&header, &payload)).is_ok());
    for (from, to) in [
        (r#""kind":"tensors""#, r#""kind":"cache""#),
        (r#""kind":"tensors""#, r#""kind":"something""#),
        (r#""name":"ids""#, r#""name":"key""#),
        (r#""dtype":"I32""#, r#""dtype":"I64""#),
        (r#""dtype":"I32""#, r#""dtype":"I33""#),
        (r#""shape":[3]"#, r#""shape":[3,18446744073709551615,2]"#),
        (r#""payloadLength":"#, r#""payloadLength":1"#),
        (r#""xxh3":""#, r#""xxh3":"0"#),
        (r#""section":["#, r#""section":[1"#),
        (r#""codes":["#, r#""codes":[18446744073709551"#),
        (r#""kind":"raw","#, r#""kind":"raw","unheardOf":1,"#),
        ("}", "]"),
    ] {
        assert!(header.contains(from), "the header has no {from}: {header}");
        assert_refused(&forge(&header.replacen(from, to, 1), &payload), &format!("{to} for {from}"));
    }
}

#[test]
fn deeply_nested_headers_are_refused() {
    let nested = "[".repeat(1 << 20);
    assert_refused(&forge(&nested, &[]), "deep nesting");
    let nested = format!(r#"{{"kind":"tensors","payloadLength":0,"entries":{nested}"#);
    assert_refused(&forge(&nested, &[]), "deep nesting");
}

#[test]
fn a_cache_has_its_layers_in_order_and_nothing_else() {
    let (header, payload) = split(&cache_to_bytes(&small_cache()).unwrap());
    assert!(cache_from_bytes(&forge(&header, &payload)).is_ok());
    for (from, to) in [
        (r#""layers":2"#, r#""layers":1"#),
        (r#""layers":2"#, r#""layers":4294967295"#),
        (r#""kvHeads":2"#, r#""kvHeads":1"#),
        (r#""headDim":8"#, r#""headDim":16"#),
        (r#""layer.1.key""#, r#""layer.2.key""#),
        (r#""layer.0.key","role":"key""#, r#""layer.0.key","role":"value""#),
    ] {
        assert!(header.contains(from), "the header has no {from}: {header}");
        let error = cache_from_bytes(&forge(&header.replacen(from, to, 1), &payload)).err();
        assert_eq!(error.map(|e| e.code()), Some(ErrorCode::CorruptData), "{to} for {from}");
    }
}

/// Replaces the `nth` number of a header.
fn with_number(header: &str, nth: usize, number: &str) -> String {
    let mut numbers = Vec::new();
    let (mut in_text, mut start) = (false, None);
    for (i, c) in header.char_indices() {
        in_text ^= c == '"';
        match (start, c.is_ascii_digit() && !in_text) {
            (None, true) => start = Some(i),
            (Some(first), false) => {
                numbers.push(first..i);
                start = None;
            }
            _ => {}
        }
    }
    let range = numbers[nth % numbers.len()].clone();
    format!("{}{number}{}", &header[..range.start], &header[range.end..])
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1500))]

    // A forged number may by chance describe a tensor, too (another seed, say); it must never do harm.
    #[test]
    fn forged_numbers_do_no_harm(
        nth in 0_usize..200,
        number in prop_oneof![
            Just("0"), Just("1"), Just("2"), Just("3"), Just("7"), Just("64"), Just("65536"), Just("4294967295"),
            Just("4294967296"), Just("9223372036854775807"), Just("18446744073709551615"), Just("-1"), Just("1e300"),
            Just("0.5"), Just("null"), Just("[]"), Just("\"x\""),
        ],
    ) {
        let (header, payload) = split(&tensor_to_bytes(&small_tensor()).unwrap());
        if let Ok(tensor) = tensor_from_bytes(&forge(&with_number(&header, nth, number), &payload)) {
            prop_assert!(tensor.decompress(gearkv::NEVER).is_ok());
        }
        let (header, payload) = split(&cache_to_bytes(&small_cache()).unwrap());
        if let Ok(cache) = cache_from_bytes(&forge(&with_number(&header, nth, number), &payload)) {
            prop_assert!(cache.byte_length() > 0);
        }
    }

    #[test]
    fn forged_payloads_do_no_harm(position: prop::sample::Index, filler: u8, length in 1_usize..200) {
        let (header, mut payload) = split(&tensor_to_bytes(&small_tensor()).unwrap());
        let position = position.index(payload.len());
        let end = payload.len().min(position + length);
        payload[position..end].fill(filler);
        // With the entry's checksum forged, too, only the core's own checks are left.
        let header = with_checksum(&header, entry_digest(&header, &payload));
        if let Ok(tensor) = tensor_from_bytes(&forge(&header, &payload)) {
            prop_assert!(tensor.decompress(gearkv::NEVER).is_ok());
        }
    }

    #[test]
    fn arbitrary_bytes_do_no_harm(bytes in prop::collection::vec(any::<u8>(), 0..300), as_header: bool) {
        let container = if as_header { forge(&String::from_utf8_lossy(&bytes), &[]) } else { bytes };
        prop_assert!(Container::parse(container.as_slice()).is_err());
    }
}

fn entry_digest(header: &str, payload: &[u8]) -> u64 {
    let header = gearkv_format::Header::from_json(header.as_bytes()).unwrap();
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for section in header.entries[0].sections() {
        hasher.update(&payload[section.0 as usize..(section.0 + section.1) as usize]);
    }
    hasher.digest()
}

fn with_checksum(header: &str, digest: u64) -> String {
    let digits = header.find(r#""xxh3":""#).unwrap() + 8;
    format!("{}{digest:016x}{}", &header[..digits], &header[digits + 16..])
}
