//! What a saved cache says of itself.

mod common;

use common::{decompressed, forge_version, small_cache, split};
use gearkv::{ErrorCode, FreezeOptions, FrozenCache, GearCache, NEVER, Role};
use gearkv_format::{About, Array, CacheReader, CacheWriter, Container, Kind, Metadata, cache_from_bytes};
use serde_json::{Value, json};

fn metadata(value: Value) -> Metadata {
    value.as_object().unwrap().clone()
}

fn array(name: &str, dtype: &str, shape: &[u64], bytes: &[u8]) -> Array {
    Array { name: name.into(), dtype: dtype.into(), shape: shape.into(), bytes: bytes.into() }
}

fn full() -> About {
    About {
        model: Some("SmolLM2-135M · Q4_1".into()),
        token_ids: Some(vec![1, 49_151, u32::MAX]),
        metadata: metadata(json!({"turns": [1, {"ü": null}], "temperature": 0.1})),
        arrays: vec![array("past_conv.0", "F16", &[1, 3], &[1, 2, 3, 4, 5, 6]), array("empty", "I64", &[0], &[])],
    }
}

fn saved(about: About) -> Vec<u8> {
    CacheWriter::cache(&small_cache(), about).unwrap().to_bytes().unwrap()
}

fn read(bytes: &[u8]) -> (GearCache, About) {
    let mut reader = CacheReader::new(None);
    reader.push(bytes).unwrap();
    reader.into_cache().unwrap()
}

#[test]
fn everything_that_is_said_comes_back_with_the_cache() {
    let bytes = saved(full());
    let (cache, about) = read(&bytes);
    assert_eq!(about, full());
    assert_eq!(
        decompressed(cache.tensor(1, Role::Key).unwrap()),
        decompressed(small_cache().tensor(1, Role::Key).unwrap())
    );
    assert_eq!(CacheWriter::cache(&cache, about).unwrap().to_bytes().unwrap(), bytes);
    // What knows nothing of it reads the cache, and a container's entries by name.
    assert_eq!(cache_from_bytes(&bytes).unwrap().tokens(), 80);
    let container = Container::parse(bytes.as_slice()).unwrap();
    assert_eq!(container.raw("array.past_conv.0").unwrap(), [1, 2, 3, 4, 5, 6]);
    assert_eq!(container.raw("tokenIds").unwrap().len(), 12);
}

#[test]
fn a_frozen_cache_says_the_same() {
    let options = FreezeOptions { step: Some(0.5), ..Default::default() };
    let frozen = FrozenCache::freeze(&small_cache(), &options, None, NEVER).unwrap();
    let bytes = CacheWriter::frozen(&frozen, full()).unwrap().to_bytes().unwrap();
    let mut reader = CacheReader::new(Some(Kind::Frozen));
    reader.push(&bytes).unwrap();
    let (read, about) = reader.into_frozen().unwrap();
    assert_eq!((read.tokens(), about), (80, full()));
}

#[test]
fn each_part_may_be_left_out_and_nothing_at_all_needs_no_new_version() {
    let version = |bytes: &[u8]| u32::from_le_bytes(bytes[8..12].try_into().unwrap());
    let nothing = saved(About::default());
    assert!(version(&nothing) < 6);
    assert_eq!(read(&nothing).1, About::default());
    let About { model, token_ids, metadata, arrays } = full();
    for about in [
        About { model, ..About::default() },
        About { token_ids, ..About::default() },
        About { token_ids: Some(Vec::new()), ..About::default() },
        About { metadata, ..About::default() },
        About { arrays, ..About::default() },
    ] {
        let bytes = saved(about.clone());
        assert_eq!(version(&bytes), 6);
        assert_eq!(read(&bytes).1, about);
    }
}

#[test]
fn it_is_known_before_the_layers_are_read() {
    let bytes = saved(full());
    let mut reader = CacheReader::new(None);
    let mut position = 0;
    while !reader.knows_tokens() {
        let missing = reader.missing();
        reader.push(&bytes[position..position + missing]).unwrap();
        position += missing;
    }
    let about = reader.about().unwrap();
    assert_eq!((&about.model, &about.token_ids, &about.metadata), (&full().model, &full().token_ids, &full().metadata));
    assert!(about.arrays.is_empty() && position < bytes.len() / 2, "{position} of {}", bytes.len());
    assert_eq!(reader.byte_length(), Some(bytes.len() as u64));
    let header = reader.header().unwrap();
    assert_eq!((header.kind, header.cache.unwrap().layers), (Kind::Cache, 2));
    // And no more is known of a cache that says nothing.
    let bytes = saved(About::default());
    let mut reader = CacheReader::new(None);
    reader.push(&bytes[..24]).unwrap();
    assert!(!reader.knows_tokens() && reader.header().is_none() && reader.about().is_none());
    let missing = reader.missing();
    reader.push(&bytes[24..24 + missing]).unwrap();
    assert!(reader.knows_tokens() && reader.about().unwrap().is_empty());
}

#[test]
fn what_is_too_large_or_malformed_is_not_written() {
    let nested = |depth| (0..depth).fold(json!(1), |inner, _| json!([inner]));
    let long = "x".repeat(1025);
    let named = |name: &str| About { arrays: vec![array(name, "U8", &[1], &[1])], ..About::default() };
    let ok = [
        About { model: Some(long[..1024].into()), ..About::default() },
        About { metadata: metadata(json!({"a": nested(62)})), ..About::default() },
        named(&long[..256]),
    ];
    for about in ok {
        assert_eq!(read(&saved(about.clone())).1, about);
    }
    let twice = About { arrays: vec![array("a", "U8", &[1], &[1]), array("a", "U8", &[1], &[2])], ..About::default() };
    for (about, code, named) in [
        (About { model: Some(long.clone()), ..About::default() }, ErrorCode::InvalidOption, "1025"),
        (About { model: Some(String::new()), ..About::default() }, ErrorCode::InvalidOption, "empty"),
        (About { token_ids: Some(vec![0; (1 << 24) + 1]), ..About::default() }, ErrorCode::InvalidOption, "16777217"),
        (
            About { metadata: metadata(json!({"a": nested(64)})), ..About::default() },
            ErrorCode::InvalidOption,
            "levels",
        ),
        (
            About { metadata: metadata(json!({"a": "x".repeat(1 << 20)})), ..About::default() },
            ErrorCode::InvalidOption,
            "1048576",
        ),
        (named(&long[..257]), ErrorCode::InvalidOption, "257"),
        (named(""), ErrorCode::InvalidOption, "empty"),
        (twice, ErrorCode::InvalidOption, "\"a\""),
        (About { arrays: vec![array("a", "U9", &[1], &[1])], ..About::default() }, ErrorCode::InvalidOption, "U9"),
        (About { arrays: vec![array("a", "U8", &[1; 17], &[1])], ..About::default() }, ErrorCode::InvalidOption, "17"),
        (
            About { arrays: vec![array("a", "U16", &[1], &[1])], ..About::default() },
            ErrorCode::ShapeMismatch,
            "2 bytes",
        ),
        (
            About { arrays: (0..4097).map(|i| array(&i.to_string(), "U8", &[], &[1])).collect(), ..About::default() },
            ErrorCode::InvalidOption,
            "4096",
        ),
    ] {
        let error = CacheWriter::cache(&small_cache(), about).err().unwrap();
        assert_eq!(error.code(), code, "{error}");
        assert!(error.to_string().contains(named), "{error} does not name {named}");
    }
}

#[test]
fn a_forged_header_is_refused() {
    let (header, payload) = split(&saved(full()));
    assert!(cache_from_bytes(&forge_version(6, &header, &payload)).is_ok());
    for version in [1, 2, 3, 4, 5] {
        let error = cache_from_bytes(&forge_version(version, &header, &payload)).err().unwrap();
        assert_eq!(error.code(), ErrorCode::CorruptData);
    }
    let long = format!(r#""model":"{}""#, "x".repeat(1025));
    for (from, to) in [
        (r#""about":{"model":"#, r#""about":{"unheardOf":1,"model":"#),
        (r#""model":"SmolLM2-135M · Q4_1""#, r#""model":7"#),
        (r#""model":"SmolLM2-135M · Q4_1""#, r#""model":"""#),
        (r#""model":"SmolLM2-135M · Q4_1""#, long.as_str()),
        (r#""name":"tokenIds","dtype":"U32""#, r#""name":"tokenIds","dtype":"I32""#),
        (r#""name":"tokenIds","dtype":"U32","shape":[3]"#, r#""name":"tokenIds","dtype":"U32","shape":[1,3]"#),
        (r#""name":"tokenIds""#, r#""name":"tokenids""#),
        (r#""name":"array.empty""#, r#""name":"array.""#),
        (r#""name":"array.empty""#, r#""name":"array.past_conv.0""#),
        (r#""name":"array.empty""#, r#""name":"tokenIds""#),
        (r#""name":"layer.0.key""#, r#""name":"array.0""#),
    ] {
        assert!(header.contains(from), "the header has no {from}: {header}");
        let error = cache_from_bytes(&forge_version(6, &header.replacen(from, to, 1), &payload)).err();
        assert_eq!(error.map(|e| e.code()), Some(ErrorCode::CorruptData), "{to} for {from}");
    }
    // Raw entries belong to a cache only where it says something of itself, and then something it must say.
    let (start, end) = (header.find(r#""about":"#).unwrap(), header.find(r#""entries":"#).unwrap());
    for about in ["", r#""about":{},"#] {
        let forged = format!("{}{about}{}", &header[..start], &header[end..]);
        let read = cache_from_bytes(&forge_version(6, &forged, &payload));
        assert_eq!(read.is_ok(), !about.is_empty(), "{about}");
    }
    let (header, payload) = split(&saved(About::default()));
    let forged = header.replacen(r#""entries":"#, r#""about":{},"entries":"#, 1);
    let error = cache_from_bytes(&forge_version(6, &forged, &payload)).err().unwrap();
    assert_eq!(error.code(), ErrorCode::CorruptData);
}

#[test]
fn tokens_hidden_at_a_segments_front_are_a_matter_of_version_6() {
    let mut cache = small_cache();
    cache.shift(None, 1).unwrap();
    let bytes = CacheWriter::cache(&cache, About::default()).unwrap().to_bytes().unwrap();
    let (header, payload) = split(&bytes);
    assert_eq!(bytes[8], 6);
    assert!(header.contains(r#""hidden":1,"visible":75"#), "{header}");
    let again = cache_from_bytes(&bytes).unwrap();
    for role in [Role::Key, Role::Value] {
        let [own, read] = [&cache, &again].map(|cache| cache.tensor(0, role).unwrap().decompress(NEVER).unwrap());
        assert!(own == read, "{role:?}");
    }
    for (version, hidden, visible) in [(4, 1, 75), (5, 1, 75), (6, 2, 75), (6, 75, 1), (6, 76, 0), (6, u64::MAX, 75)] {
        let forged =
            header.replacen(r#""hidden":1,"visible":75"#, &format!(r#""hidden":{hidden},"visible":{visible}"#), 1);
        let error = cache_from_bytes(&forge_version(version, &forged, &payload)).err().unwrap();
        assert_eq!(error.code(), ErrorCode::CorruptData, "{hidden} and {visible} in version {version}: {error}");
    }
}
