//! Batch items in another order, repeated and left out.

mod common;

use common::{BY_NEED, config_for, values};
use gearkv::{
    AttendOptions, CacheShape, ErrorCode, GearCache, GearTensor, KvShape, KvSlice, NEVER, Role, TensorImage,
    preset_names,
};
use proptest::prelude::*;

const HEADS: usize = 2;
const QUERY_HEADS: usize = 4;
const DIM: usize = 64;
const ROLES: [Role; 2] = [Role::Key, Role::Value];

fn empty(preset: &str, batch: usize) -> GearCache {
    let shape = CacheShape { layers: 1, batch, kv_heads: HEADS, head_dim: DIM };
    GearCache::new(shape, config_for(preset, Role::Key), config_for(preset, Role::Value)).unwrap()
}

/// `[items, heads, tokens, dim]`, of each of which it is known by `item` what it is.
fn made(items: &[usize], heads: usize, tokens: usize, seed: u32) -> Vec<f32> {
    let shape = KvShape::new(1, heads, tokens, DIM).unwrap();
    items.iter().flat_map(|&item| values(shape, 100 * seed + item as u32)).collect()
}

/// Appends tokens, with queries or without.
fn append(cache: &mut GearCache, items: &[usize], tokens: usize, seed: u32, queries: bool) {
    let (k, v) = (made(items, HEADS, tokens, 2 * seed), made(items, HEADS, tokens, 2 * seed + 1));
    let (k, v) = (KvSlice::F32(&k), KvSlice::F32(&v));
    if queries {
        let q = made(items, QUERY_HEADS, tokens, 50 + seed);
        let options = AttendOptions::new(QUERY_HEADS);
        cache.append_with_queries(0, k, v, tokens, KvSlice::F32(&q), &options, NEVER).unwrap();
    } else {
        cache.append(0, k, v, tokens, NEVER).unwrap();
    }
}

fn attend(cache: &GearCache, items: &[usize]) -> Vec<f32> {
    let q = made(items, QUERY_HEADS, 1, 9);
    let mut out = vec![0.0; q.len()];
    cache.attend(0, KvSlice::F32(&q), 1, &AttendOptions::new(QUERY_HEADS), &mut out, NEVER).unwrap();
    out
}

fn picked(items: &[usize], order: &[u32]) -> Vec<usize> {
    order.iter().map(|&i| items[i as usize]).collect()
}

/// All bytes of an image.
fn sections(image: &TensorImage) -> Vec<Vec<u8>> {
    let segments = image.segments.iter().flat_map(|segment| {
        let counts = [segment.tokens, segment.visible, segment.rank].map(|n| n as u8).to_vec();
        let arrays =
            [&segment.codes, &segment.scales, &segment.factors, &segment.outlier_indices, &segment.outlier_values];
        [counts].into_iter().chain(arrays.map(|array| array.to_vec()))
    });
    [&image.sinks, &image.buffer].map(|raw| raw.to_vec()).into_iter().chain(segments).collect()
}

/// Whether both hold the same, byte for byte, and attend alike.
fn assert_same(cache: &GearCache, expected: &GearCache, items: &[usize], what: &str) {
    assert_eq!(cache.shape(), expected.shape(), "{what}");
    for role in ROLES {
        let [own, other] = [cache, expected].map(|cache| cache.tensor(0, role).unwrap());
        assert_eq!(own.shape(), other.shape(), "{what}");
        assert!(own.decompress(NEVER).unwrap() == other.decompress(NEVER).unwrap(), "{what}: {role:?}");
        assert!(sections(&own.image()) == sections(&other.image()), "{what}: the image of {role:?}");
        let again = GearTensor::from_image(own.image()).unwrap();
        assert!(again.decompress(NEVER).unwrap() == own.decompress(NEVER).unwrap(), "{what}: {role:?} again");
    }
    assert!(attend(cache, items) == attend(expected, items), "{what}: attention");
}

/// A reordered cache is, to the bit, the one that got its items in that order from the start.
#[test]
fn items_are_what_they_would_be_in_that_order_from_the_start() {
    let orders: [&[u32]; 4] = [&[2, 0, 1], &[1, 1, 0, 2, 1], &[2], &[0, 0]];
    for &preset in preset_names().iter().chain(&[BY_NEED]) {
        for order in orders {
            let what = format!("{preset} {order:?}");
            let mut items = vec![0, 1, 2];
            let mut cache = empty(preset, 3);
            // A prompt, a segment from the buffer, and tokens that wait in it.
            append(&mut cache, &items, 150, 1, false);
            append(&mut cache, &items, 64, 2, false);
            append(&mut cache, &items, 13, 3, false);
            let original = cache.clone();
            let before = attend(&original, &items);
            cache.reorder(order).unwrap();

            items = picked(&items, order);
            let mut expected = empty(preset, order.len());
            append(&mut expected, &items, 150, 1, false);
            append(&mut expected, &items, 64, 2, false);
            append(&mut expected, &items, 13, 3, false);
            assert_same(&cache, &expected, &items, &what);

            for cache in [&mut cache, &mut expected] {
                append(cache, &items, 70, 4, false);
                append(cache, &items, 100, 5, false);
            }
            assert_same(&cache, &expected, &items, &format!("{what}, later"));
            for cache in [&mut cache, &mut expected] {
                cache.truncate(190).unwrap();
            }
            assert_same(&cache, &expected, &items, &format!("{what}, cut"));
            assert!(attend(&original, &[0, 1, 2]) == before, "{what}: the fork it was made of");
        }
    }
}

/// A prompt is compressed once and read by every beam: beams cost what they append.
#[test]
fn repeating_an_item_does_not_repeat_what_is_compressed() {
    let mut cache = empty("gear-4", 1);
    append(&mut cache, &[0], 3000, 1, false);
    let one = cache.byte_length();
    cache.reorder(&[0; 8]).unwrap();
    assert_eq!(cache.shape().batch, 8);
    // Sinks are there eight times; segments are not.
    let sinks = 2 * 2 * 4 * HEADS * DIM * 7;
    assert!(cache.byte_length() - one < sinks + 200, "{} after {one}", cache.byte_length());
    assert_eq!(cache.float16_byte_length(), 8 * 2 * 2 * 3000 * HEADS * DIM);
}

#[test]
fn an_order_of_items_that_are_not_there_changes_nothing() {
    let mut cache = empty("gear-4", 2);
    append(&mut cache, &[0, 1], 100, 1, false);
    let before = attend(&cache, &[0, 1]);
    for order in [&[][..], &[2], &[0, u32::MAX]] {
        assert_eq!(cache.reorder(order).unwrap_err().code(), ErrorCode::ShapeMismatch);
    }
    assert_eq!(cache.shape().batch, 2);
    assert!(attend(&cache, &[0, 1]) == before);
    // The order that there is already leaves forks shared.
    let fork = cache.clone();
    cache.reorder(&[0, 1]).unwrap();
    assert_eq!(fork.shared_byte_length(), fork.byte_length());
}

#[derive(Clone, Debug)]
struct Step {
    tokens: usize,
    order: Vec<usize>,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = (1usize..90, prop::collection::vec(0usize..60, 1..5)).prop_map(|(tokens, order)| Step { tokens, order });
    prop::collection::vec(step, 1..6)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// As beam search goes: tokens, another order, tokens, another order.
    #[test]
    fn orders_follow_one_another(
        preset in prop::sample::select(vec!["gear-4", "gear-2", "kivi-2", "kcvt-4", "paper-gear-4", "uniform-4", "float32", BY_NEED]),
        prompt in 1usize..150,
        steps in steps(),
        queries in any::<bool>(),
    ) {
        let mut cache = empty(preset, 2);
        append(&mut cache, &[0, 1], prompt, 1, queries);
        // What each item of the end was before each step.
        let mut was = vec![vec![0, 1]];
        for (i, step) in steps.iter().enumerate() {
            let batch = cache.shape().batch;
            let order: Vec<u32> = step.order.iter().map(|i| (i % batch) as u32).collect();
            cache.reorder(&order).unwrap();
            was.iter_mut().for_each(|items| *items = picked(items, &order));
            // New tokens differ from item to item, also where these were one.
            let items: Vec<usize> = (0..order.len()).map(|i| 10 + i).collect();
            append(&mut cache, &items, step.tokens, 2 + i as u32, queries);
            was.push(items);
        }
        let mut expected = empty(preset, cache.shape().batch);
        append(&mut expected, &was[0], prompt, 1, queries);
        for (i, step) in steps.iter().enumerate() {
            append(&mut expected, &was[i + 1], step.tokens, 2 + i as u32, queries);
        }
        let items: Vec<usize> = (0..cache.shape().batch).collect();
        assert_same(&cache, &expected, &items, preset);
    }
}
