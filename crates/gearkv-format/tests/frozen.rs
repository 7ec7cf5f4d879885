//! Frozen caches as files.

mod common;

use common::{decompressed, forge_version, small_cache, split};
use gearkv::{ErrorCode, FreezeOptions, FrozenCache, NEVER, Role};
use gearkv_format::{Container, cache_from_bytes, cache_to_bytes, frozen_from_bytes, frozen_to_bytes};
use proptest::prelude::*;

fn frozen() -> FrozenCache {
    FrozenCache::freeze(&small_cache(), &FreezeOptions { step: Some(0.5), ..Default::default() }, None, NEVER).unwrap()
}

fn thawed(cache: &FrozenCache) -> Vec<Vec<u32>> {
    let thawed = cache.thaw(None, None, NEVER).unwrap();
    let tensor = |i: usize| thawed.tensor(i / 2, [Role::Key, Role::Value][i % 2]).unwrap();
    (0..4).map(|i| decompressed(tensor(i))).collect()
}

#[test]
fn a_file_brings_everything_back() {
    let cache = frozen();
    let bytes = frozen_to_bytes(&cache).unwrap();
    let read = frozen_from_bytes(&bytes).unwrap();
    assert_eq!(frozen_to_bytes(&read).unwrap(), bytes);
    assert_eq!((read.shape(), read.tokens(), read.byte_length()), (cache.shape(), 80, cache.byte_length()));
    assert_eq!(read.tensor(1, Role::Value).unwrap().config().preset, "kivi-2");
    assert_eq!(thawed(&read), thawed(&cache));
}

#[test]
fn a_frozen_cache_is_told_apart_from_others() {
    let (frozen, cache) = (frozen_to_bytes(&frozen()).unwrap(), cache_to_bytes(&small_cache()).unwrap());
    assert_eq!(cache_from_bytes(&frozen).err().unwrap().code(), ErrorCode::InvalidOption);
    assert_eq!(frozen_from_bytes(&cache).err().unwrap().code(), ErrorCode::InvalidOption);
    let container = Container::parse(frozen.as_slice()).unwrap();
    assert_eq!(container.tensor("layer.0.key").err().unwrap().code(), ErrorCode::InvalidOption);
    assert_eq!(container.raw("layer.0.key").err().unwrap().code(), ErrorCode::InvalidOption);
    let (header, payload) = split(&frozen);
    for version in [1, 2] {
        let error = frozen_from_bytes(&forge_version(version, &header, &payload)).err().unwrap();
        assert_eq!(error.code(), ErrorCode::CorruptData);
    }
}

#[test]
fn a_forged_header_is_refused() {
    let bytes = frozen_to_bytes(&frozen()).unwrap();
    let version = u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    let (header, payload) = split(&bytes);
    let forge = |header: &str, payload: &[u8]| forge_version(version, header, payload);
    assert!(frozen_from_bytes(&forge(&header, &payload)).is_ok());
    for (from, to) in [
        (r#""layers":2"#, r#""layers":1"#),
        (r#""layers":2"#, r#""layers":4294967295"#),
        (r#""kvHeads":2"#, r#""kvHeads":1"#),
        (r#""headDim":8"#, r#""headDim":16"#),
        (r#""tokens":80"#, r#""tokens":79"#),
        (r#""tokens":80"#, r#""tokens":1099511627776"#),
        (r#""heads":2"#, r#""heads":1073741824"#),
        (r#""sinkTokens":4"#, r#""sinkTokens":81"#),
        (r#""weighted":true"#, r#""weighted":false"#),
        (r#""bits":4"#, r#""bits":5"#),
        (r#""layer.1.key""#, r#""layer.2.key""#),
        (r#""layer.0.key","role":"key""#, r#""layer.0.key","role":"value""#),
        (r#""name":"statistics""#, r#""name":"statistic""#),
        (r#""kind":"frozen","name""#, r#""kind":"frozen","unheardOf":1,"name""#),
    ] {
        assert!(header.contains(from), "the header has no {from}: {header}");
        let error = frozen_from_bytes(&forge(&header.replacen(from, to, 1), &payload)).err();
        assert_eq!(error.map(|e| e.code()), Some(ErrorCode::CorruptData), "{to} for {from}");
    }
}

#[test]
fn every_truncation_is_noticed() {
    let bytes = frozen_to_bytes(&frozen()).unwrap();
    for length in (0..bytes.len()).step_by(7) {
        let error = frozen_from_bytes(&bytes[..length]).err().unwrap();
        assert_eq!(error.code(), ErrorCode::CorruptData, "{length}");
    }
}

proptest! {
    #[test]
    fn a_changed_byte_is_noticed(at: proptest::sample::Index, change in 1u8..) {
        let mut bytes = frozen_to_bytes(&frozen()).unwrap();
        let at = at.index(bytes.len());
        bytes[at] ^= change;
        let code = frozen_from_bytes(&bytes).err().map(|e| e.code());
        prop_assert!(matches!(code, Some(ErrorCode::CorruptData | ErrorCode::UnsupportedVersion)));
    }
}
