//! What goes into a container comes out of it.

mod common;

use common::{config, config_for, decompressed, small_cache, small_tensor, tensor, values};
use gearkv::{GearTensor, KvShape, KvSlice, NEVER, Role, preset_names};
use gearkv_format::{
    Container, ContainerWriter, Kind, Metadata, cache_from_bytes, cache_to_bytes, tensor_from_bytes, tensor_to_bytes,
};
use proptest::prelude::*;

fn assert_same(a: &GearTensor, b: &GearTensor) {
    assert_eq!((a.shape(), a.role(), a.config(), a.parts()), (b.shape(), b.role(), b.config(), b.parts()));
    assert_eq!(decompressed(a), decompressed(b));
}

#[test]
fn a_tensor_of_every_preset_comes_back_the_same() {
    for preset in preset_names() {
        for role in [Role::Key, Role::Value] {
            let original = tensor(KvShape::new(2, 2, 70, 20).unwrap(), role, config_for(preset, role), 3);
            let bytes = tensor_to_bytes(&original).unwrap();
            let restored = tensor_from_bytes(&bytes).unwrap();
            assert_same(&original, &restored);
            assert_eq!(tensor_to_bytes(&restored).unwrap(), bytes, "{preset} {role:?} is not written canonically");
        }
    }
}

#[test]
fn a_restored_tensor_goes_on_as_the_original_would() {
    let mut original = small_tensor();
    original.truncate(11).unwrap();
    let mut restored = tensor_from_bytes(&tensor_to_bytes(&original).unwrap()).unwrap();
    assert_same(&original, &restored);
    let more = values(2 * 9 * 8, 3);
    original.append(KvSlice::F32(&more), 9, NEVER).unwrap();
    restored.append(KvSlice::F32(&more), 9, NEVER).unwrap();
    assert_same(&original, &restored);
}

#[test]
fn an_empty_tensor_comes_back() {
    let empty = GearTensor::new(1, 3, 64, Role::Value, config_for("gear-2", Role::Value)).unwrap();
    assert_same(&empty, &tensor_from_bytes(&tensor_to_bytes(&empty).unwrap()).unwrap());
}

#[test]
fn fractions_in_a_configuration_come_back_bit_for_bit() {
    // JSON readers that round approximately get the last bit of these wrong.
    for bits in [0x3fd9_3bb9_1e08_4eeb, 0x3fce_d66e_bcad_84fa, 0x3fcb_b57f_deaa_1974] {
        let sparsity = f64::from_bits(bits);
        let config = gearkv::GearConfig { sparsity, ..config("gear-4") };
        let empty = GearTensor::new(1, 1, 64, Role::Key, config).unwrap();
        let restored = tensor_from_bytes(&tensor_to_bytes(&empty).unwrap()).unwrap();
        assert_eq!(restored.config().sparsity.to_bits(), sparsity.to_bits());
    }
}

#[test]
fn a_cache_comes_back_the_same() {
    let mut cache = small_cache();
    // In the middle of a step, the first layer is ahead.
    let ahead = values(2 * 8, 99);
    cache.append(0, KvSlice::F32(&ahead), KvSlice::F32(&ahead), 1, NEVER).unwrap();
    let bytes = cache_to_bytes(&cache).unwrap();
    let restored = cache_from_bytes(&bytes).unwrap();
    assert_eq!((restored.shape(), restored.layer_tokens(0), restored.layer_tokens(1)), (cache.shape(), Ok(81), Ok(80)));
    for layer in 0..2 {
        for role in [Role::Key, Role::Value] {
            assert_same(cache.tensor(layer, role).unwrap(), restored.tensor(layer, role).unwrap());
        }
    }
    assert_eq!(cache_to_bytes(&restored).unwrap(), bytes);
}

#[test]
fn named_tensors_and_raw_arrays_share_a_container() {
    let tensor = small_tensor();
    let mut metadata = Metadata::new();
    metadata.insert("layer".to_owned(), 3.into());
    let mut writer = ContainerWriter::new();
    writer.add_raw("first", "F32", &[2, 3], &[7; 24], Metadata::new()).unwrap();
    writer.add_tensor("key", &tensor, metadata.clone()).unwrap();
    writer.add_raw("nothing", "BF16", &[0, 5], &[], Metadata::new()).unwrap();
    let bytes = writer.finish().unwrap();
    let container = Container::parse(bytes.as_slice()).unwrap();
    assert_eq!(container.header().kind, Kind::Tensors);
    assert_eq!(container.entries().iter().map(|e| e.name()).collect::<Vec<_>>(), ["first", "key", "nothing"]);
    assert_eq!((container.raw("first"), container.raw("nothing")), (Ok(&[7; 24][..]), Ok(&[][..])));
    assert_same(&container.tensor("key").unwrap(), &tensor);
    let gearkv_format::Entry::Tensor(entry) = &container.entries()[1] else { panic!("not a tensor") };
    assert_eq!(entry.metadata, metadata);
}

#[test]
fn sections_start_at_multiples_of_64_bytes_of_the_file() {
    let bytes = tensor_to_bytes(&small_tensor()).unwrap();
    let container = Container::parse(bytes.as_slice()).unwrap();
    let payload_start = bytes.len() - container.header().payload_length as usize;
    let sections: Vec<_> = container.entries().iter().flat_map(|e| e.sections()).filter(|s| !s.is_empty()).collect();
    assert!(sections.len() >= 10, "the small tensor has {} sections", sections.len());
    for section in sections {
        assert_eq!((payload_start + section.0 as usize) % 64, 0);
    }
}

#[test]
fn wrong_use_is_told_from_damage() {
    let code = |result: gearkv::Result<()>| result.unwrap_err().code().as_str();
    let tensor = small_tensor();
    let mut writer = ContainerWriter::new();
    writer.add_tensor("a", &tensor, Metadata::new()).unwrap();
    writer.add_raw("r", "U8", &[1], &[1], Metadata::new()).unwrap();
    assert_eq!(code(writer.add_tensor("a", &tensor, Metadata::new())), "INVALID_OPTION");
    assert_eq!(code(writer.add_raw("a", "U8", &[1], &[1], Metadata::new())), "INVALID_OPTION");
    assert_eq!(code(writer.add_raw("b", "U9", &[1], &[1], Metadata::new())), "INVALID_OPTION");
    assert_eq!(code(writer.add_raw("b", "U8", &[2], &[1], Metadata::new())), "SHAPE_MISMATCH");
    assert_eq!(code(writer.add_raw("b", "F4", &[1], &[1], Metadata::new())), "SHAPE_MISMATCH");
    assert_eq!(code(writer.add_raw("b", "F64", &[u64::MAX], &[1], Metadata::new())), "SHAPE_MISMATCH");
    let bytes = writer.finish().unwrap();
    let container = Container::parse(bytes.as_slice()).unwrap();
    assert_eq!(code(container.tensor("b").map(drop)), "INVALID_OPTION");
    assert_eq!(code(container.tensor("r").map(drop)), "INVALID_OPTION");
    assert_eq!(code(container.raw("a").map(drop)), "INVALID_OPTION");
    assert_eq!(code(tensor_from_bytes(&bytes).map(drop)), "INVALID_OPTION");
    assert_eq!(code(cache_from_bytes(&bytes).map(drop)), "INVALID_OPTION");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn any_tensor_comes_back_the_same(
        preset in prop::sample::select(preset_names()),
        batch in 1_usize..3,
        heads in 1_usize..4,
        tokens in 0_usize..90,
        head_dim in 1_usize..40,
        appended in 0_usize..30,
        kept in 0_usize..120,
        is_key: bool,
    ) {
        let role = if is_key { Role::Key } else { Role::Value };
        let shape = KvShape::new(batch, heads, tokens, head_dim).unwrap();
        let mut original = tensor(shape, role, config_for(preset, role), appended);
        original.truncate(kept.min(tokens + appended)).unwrap();
        let bytes = tensor_to_bytes(&original).unwrap();
        let restored = tensor_from_bytes(&bytes).unwrap();
        assert_same(&original, &restored);
        prop_assert_eq!(tensor_to_bytes(&restored).unwrap(), bytes);
    }
}
