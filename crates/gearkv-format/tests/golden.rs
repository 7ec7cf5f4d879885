//! Files of every version, which are read forever: as they were written, and with any one bit changed not at all.

mod common;

use common::decompressed;
use gearkv::{ErrorCode, GearTensor, NEVER, Result, Role};
use gearkv_format::{CacheReader, Container, Entry, Kind};
use xxhash_rust::xxh3::xxh3_64;

/// Each with the XXH3-64 of the float32 values that its tensors came to, one after the other, when it was written. Files are added for
/// new versions, and no file ever changes.
const FILES: [(&[u8], u64); 6] = [
    // A tensor of keys beside a raw array: groups of tokens, outliers and low-rank.
    (include_bytes!("version1.gear"), 0x5072_0069_225a_e732),
    // A cache: rotated, scales of 8 bits and least squared error, factors of 4 bits.
    (include_bytes!("version2.gear"), 0xc705_348a_9782_a42e),
    // A frozen cache.
    (include_bytes!("version3.gear"), 0x9978_fc46_ac21_4e46),
    // A cache of `gear-3`: bits dealt out to channels and tokens.
    (include_bytes!("version4.gear"), 0x7abf_58ac_bdb1_b439),
    // A cache of two heads that share their ranks, with outliers.
    (include_bytes!("version5.gear"), 0x0dcc_f2b7_24e5_53f6),
    // A cache that says what it is of, truncated inside a segment.
    (include_bytes!("version6.gear"), 0x6f85_4f96_2ce7_e6f5),
];

/// Whatever a file holds, as values.
fn values(bytes: &[u8]) -> Result<Vec<u32>> {
    let container = Container::parse(bytes)?;
    let mut reader = CacheReader::new(None);
    let halves = |tensor: &dyn Fn(Role) -> Result<GearTensor>| {
        let both: Result<Vec<_>> = [Role::Key, Role::Value].into_iter().map(tensor).collect();
        both.map(|both| both.iter().flat_map(decompressed).collect())
    };
    match container.header().kind {
        Kind::Cache => {
            reader.push(bytes)?;
            let (cache, _) = reader.into_cache()?;
            halves(&|role| cache.tensor(0, role).cloned())
        }
        Kind::Frozen => {
            reader.push(bytes)?;
            let cache = reader.into_frozen()?.0.thaw(None, None, NEVER)?;
            halves(&|role| cache.tensor(0, role).cloned())
        }
        _ => {
            let tensors = container.entries().iter().filter(|entry| matches!(entry, Entry::Tensor(_)));
            let all: Result<Vec<_>> = tensors.map(|entry| container.tensor(entry.name())).collect();
            all.map(|all| all.iter().flat_map(decompressed).collect())
        }
    }
}

#[test]
fn every_version_is_read_as_it_was_written() {
    for (version, (bytes, expected)) in (1..).zip(FILES) {
        assert_eq!(bytes[8..12], u32::to_le_bytes(version));
        let values = values(bytes).unwrap();
        assert!(!values.is_empty());
        let bits: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        assert_eq!(xxh3_64(&bits), expected, "version {version}");
    }
}

#[test]
fn the_newest_says_what_it_is_of() {
    let mut reader = CacheReader::new(None);
    reader.push(FILES[5].0).unwrap();
    let about = reader.about().unwrap();
    assert_eq!((about.model.as_deref(), about.token_ids.as_deref()), (Some("m"), Some(&[1, 2, 3][..])));
    assert_eq!(
        (about.metadata["turn"].to_string(), &about.arrays[0].bytes[..]),
        ("[1,null]".into(), &[1, 2, 3, 4, 5, 6][..])
    );
}

#[test]
fn every_flipped_bit_is_an_error() {
    for (file, _) in FILES {
        let mut bytes = file.to_vec();
        let is_cache = matches!(Container::parse(file).unwrap().header().kind, Kind::Cache | Kind::Frozen);
        for bit in 0..8 * bytes.len() {
            bytes[bit / 8] ^= 1 << (bit % 8);
            let at_once = Container::parse(bytes.as_slice()).map(drop);
            let code = at_once.expect_err("a flipped bit was not noticed").code();
            assert!(matches!(code, ErrorCode::CorruptData | ErrorCode::UnsupportedVersion), "bit {bit}: {code:?}");
            if is_cache {
                let mut reader = CacheReader::new(None);
                let code = reader.push(&bytes).and_then(|()| reader.into_cache().map(drop)).unwrap_err().code();
                assert!(matches!(code, ErrorCode::CorruptData | ErrorCode::UnsupportedVersion), "bit {bit}: {code:?}");
            }
            bytes[bit / 8] ^= 1 << (bit % 8);
        }
        assert_eq!(bytes, file);
    }
}
