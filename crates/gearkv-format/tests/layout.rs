//! The bytes that FORMAT.md describes, so that a change of the format cannot go unnoticed.

use gearkv_format::{ContainerWriter, Metadata, VERSION};

#[test]
fn a_container_of_two_raw_arrays_is_exactly_this() {
    let mut writer = ContainerWriter::new();
    writer.add_raw("a", "U8", &[3], &[1, 2, 3], Metadata::new()).unwrap();
    writer.add_raw("b", "U16", &[], &[4, 5], Metadata::new()).unwrap();
    let bytes = writer.finish().unwrap();

    let json = concat!(
        r#"{"kind":"tensors","payloadLength":66,"entries":["#,
        r#"{"kind":"raw","name":"a","dtype":"U8","shape":[3],"section":[0,3],"xxh3":"ebce9b7632ae733b"},"#,
        r#"{"kind":"raw","name":"b","dtype":"U16","shape":[],"section":[64,2],"xxh3":"16260aa7bc02a0a5"}]}"#
    );
    let header_length = u32::from_le_bytes(bytes[12..16].try_into().unwrap()) as usize;
    let header = std::str::from_utf8(&bytes[24..24 + header_length]).unwrap();
    assert_eq!(header, json);
    assert_eq!(bytes[..12], [0x89, 0x47, 0x45, 0x41, 0x52, 0x4b, 0x56, 0x0a, 1, 0, 0, 0]);
    // Nothing in it needs a newer version.
    assert_eq!(VERSION, 6);
    let payload_start = (24 + header_length).next_multiple_of(64);
    assert!(bytes[24 + header_length..payload_start].iter().all(|&b| b == 0));
    let mut payload = vec![0; 66];
    payload[..3].copy_from_slice(&[1, 2, 3]);
    payload[64..].copy_from_slice(&[4, 5]);
    assert_eq!(bytes[payload_start..], payload);
}
