//! Caches in pieces: written and read as they come, in memory that does not grow with the file.

#[path = "../../gearkv/tests/allocations/counting.rs"]
mod counting;

mod common;

use common::{config, config_for, small_cache, values};
use counting::{Counts, counted};
use gearkv::{CacheShape, ErrorCode, FreezeOptions, FrozenCache, GearCache, KvSlice, NEVER, Role};
use gearkv_format::{About, Array, CacheReader, CacheWriter, Kind, cache_from_bytes, cache_to_bytes};
use proptest::prelude::*;

fn about() -> About {
    let bytes = (0..100).collect();
    let array = Array { name: "state".into(), dtype: "U8".into(), shape: vec![100], bytes };
    About { model: Some("m".into()), token_ids: Some((0..80).collect()), arrays: vec![array], ..About::default() }
}

fn written(mut writer: CacheWriter, most: usize) -> Vec<u8> {
    let total = writer.remaining().unwrap();
    let mut all = Vec::new();
    loop {
        let piece = writer.next_bytes(most).unwrap();
        assert!(piece.len() <= most);
        if piece.is_empty() {
            break;
        }
        all.extend_from_slice(piece);
        assert_eq!(writer.remaining().unwrap(), total - all.len());
    }
    all
}

fn frozen() -> FrozenCache {
    FrozenCache::freeze(&small_cache(), &FreezeOptions { step: Some(0.5), ..Default::default() }, None, NEVER).unwrap()
}

proptest! {
    #[test]
    fn pieces_of_any_size_are_the_same_file(write in 1_usize..3000, cuts in prop::collection::vec(1_usize..3000, 1..8)) {
        let writer = || CacheWriter::cache(&small_cache(), about()).unwrap();
        let bytes = written(writer(), write);
        prop_assert_eq!(&bytes, &writer().to_bytes().unwrap());
        let mut reader = CacheReader::new(Some(Kind::Cache));
        let mut rest = &bytes[..];
        for cut in cuts.iter().cycle() {
            let (piece, behind) = rest.split_at((*cut).min(rest.len()));
            reader.push(piece).unwrap();
            rest = behind;
            if rest.is_empty() { break; }
        }
        let (cache, said) = reader.into_cache().unwrap();
        prop_assert_eq!(said, about());
        prop_assert_eq!(cache_to_bytes(&cache).unwrap(), cache_to_bytes(&small_cache()).unwrap());
    }
}

#[test]
fn a_frozen_cache_in_pieces() {
    let writer = || CacheWriter::frozen(&frozen(), about()).unwrap();
    let bytes = written(writer(), 100);
    assert_eq!(bytes, writer().to_bytes().unwrap());
    let mut reader = CacheReader::new(None);
    bytes.chunks(7).for_each(|piece| reader.push(piece).unwrap());
    assert!(reader.missing() == 0 && reader.held() == 0);
    let (read, said) = reader.into_frozen().unwrap();
    assert_eq!((read.byte_length(), said), (frozen().byte_length(), about()));
}

#[test]
fn what_was_begun_can_be_finished_at_once() {
    let mut writer = CacheWriter::cache(&small_cache(), about()).unwrap();
    let mut bytes = writer.next_bytes(1000).unwrap().to_vec();
    bytes.extend(writer.to_bytes().unwrap());
    assert_eq!(bytes, CacheWriter::cache(&small_cache(), about()).unwrap().to_bytes().unwrap());
}

#[test]
fn a_cache_of_empty_layers_in_pieces() {
    let shape = CacheShape { layers: 3, batch: 1, kv_heads: 1, head_dim: 8 };
    let cache = GearCache::new(shape, config("gear-4"), config_for("gear-4", Role::Value)).unwrap();
    let bytes = cache_to_bytes(&cache).unwrap();
    let mut reader = CacheReader::new(None);
    bytes.chunks(1).for_each(|piece| reader.push(piece).unwrap());
    assert_eq!(reader.into_cache().unwrap().0.tokens(), 0);
}

#[test]
fn damage_is_found_as_soon_as_its_part_is_there_and_ends_the_reading() {
    let mut bytes = cache_to_bytes(&small_cache()).unwrap();
    let at = bytes.len() / 2;
    bytes[at] ^= 1;
    let mut reader = CacheReader::new(None);
    let read = bytes.chunks(16).position(|piece| reader.push(piece).is_err()).unwrap();
    assert!(read * 16 < bytes.len() - 1000, "{read}");
    assert_eq!(reader.push(&[]).unwrap_err().code(), ErrorCode::CorruptData);
    assert_eq!(reader.into_cache().err().unwrap().code(), ErrorCode::CorruptData);
    for end in [0, 5, 23, 24, 100, bytes.len() - 1] {
        let mut reader = CacheReader::new(None);
        let intact = cache_to_bytes(&small_cache()).unwrap();
        reader.push(&intact[..end]).unwrap();
        assert_eq!(reader.into_cache().err().unwrap().code(), ErrorCode::CorruptData, "{end}");
    }
    let mut reader = CacheReader::new(None);
    reader.push(&cache_to_bytes(&small_cache()).unwrap()).unwrap();
    assert_eq!(reader.push(&[0]).unwrap_err().code(), ErrorCode::CorruptData);
}

#[test]
fn a_cache_is_not_read_as_a_frozen_one() {
    let mut reader = CacheReader::new(Some(Kind::Frozen));
    assert_eq!(reader.push(&cache_to_bytes(&small_cache()).unwrap()).unwrap_err().code(), ErrorCode::InvalidOption);
    let mut reader = CacheReader::new(None);
    reader.push(&cache_to_bytes(&small_cache()).unwrap()).unwrap();
    assert_eq!(reader.into_frozen().err().unwrap().code(), ErrorCode::InvalidOption);
}

/// The most memory that a thread held beyond what it held before and holds after, and what came out.
fn beside<R>(work: impl FnOnce() -> R) -> (usize, R) {
    let (result, Counts { live, peak, .. }) = counted(work);
    ((peak - live.max(0)).try_into().unwrap(), result)
}

/// Layers of half a megabyte each.
fn large_cache(layers: usize, preset: &str) -> GearCache {
    let shape = CacheShape { layers, batch: 1, kv_heads: 4, head_dim: 64 };
    let mut cache = GearCache::new(shape, config(preset), config_for(preset, Role::Value)).unwrap();
    let input = values(4 * 2048 * 64, 3);
    for layer in 0..layers {
        cache.append(layer, KvSlice::F32(&input), KvSlice::F32(&input), 2048, NEVER).unwrap();
    }
    cache
}

#[test]
fn writing_and_reading_hold_a_layer_or_two_whatever_the_file_is() {
    // Of float16, all is in the buffer.
    for (layers, preset) in [(4, "gear-4"), (24, "gear-4"), (16, "float16")] {
        let cache = large_cache(layers, preset);
        let bytes = cache_to_bytes(&cache).unwrap();
        let layer = bytes.len() / layers;
        assert!(layer > 400_000, "{layer}");
        let (writing, length) = beside(|| {
            let mut writer = CacheWriter::cache(&cache, About::default()).unwrap();
            let mut length = 0;
            loop {
                let piece = writer.next_bytes(1 << 16).unwrap().len();
                length += piece;
                if piece == 0 {
                    return length;
                }
            }
        });
        assert_eq!(length, bytes.len());
        assert!(writing < 2 * layer, "{layers} layers of {layer} bytes: {writing} bytes beside the cache");
        let (reading, read) = beside(|| {
            let mut reader = CacheReader::new(None);
            bytes.chunks(1 << 16).for_each(|piece| reader.push(piece).unwrap());
            reader.into_cache().unwrap().0
        });
        assert_eq!(read.tokens(), 2048);
        assert!(reading < 2 * layer, "{layers} layers of {layer} bytes: {reading} bytes beside the cache");
    }
}

#[test]
fn a_length_that_is_only_claimed_is_not_allocated() {
    let mut bytes = cache_to_bytes(&small_cache()).unwrap()[..24].to_vec();
    bytes[12..16].copy_from_slice(&(200_u32 << 20).to_le_bytes());
    let (held, _) = beside(|| {
        let mut reader = CacheReader::new(None);
        reader.push(&bytes).unwrap();
        reader.push(&[b' '; 1000]).unwrap();
        assert_eq!(reader.missing(), (200 << 20) + 40 - 1000);
        reader.held()
    });
    assert!(held < 100_000, "{held}");
    bytes[12..16].copy_from_slice(&u32::MAX.to_le_bytes());
    assert_eq!(cache_from_bytes(&bytes).err().unwrap().code(), ErrorCode::CorruptData);
}
