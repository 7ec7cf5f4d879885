//! Where a cache is, as JSON.

use serde::Serialize;

/// Where a cache is.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase", rename_all_fields = "camelCase")]
pub enum Device {
    /// In main memory, and why, where a GPU was asked for.
    Cpu {
        /// What the GPU lacks.
        #[serde(skip_serializing_if = "Option::is_none")]
        reason: Option<String>,
    },
    /// On a GPU as well.
    Cuda {
        /// What its driver calls it.
        name: String,
        /// Bytes of its memory that layers take.
        byte_length: usize,
    },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::info::to_json;

    #[test]
    fn a_device_is_told_by_its_kind() {
        let json = |device: Device| to_json(&device).unwrap();
        assert_eq!(json(Device::Cpu { reason: None }), r#"{"kind":"cpu"}"#);
        let reason = Some("no driver".to_owned());
        assert_eq!(json(Device::Cpu { reason }), r#"{"kind":"cpu","reason":"no driver"}"#);
        let there = Device::Cuda { name: "GPU".to_owned(), byte_length: 7 };
        assert_eq!(json(there), r#"{"kind":"cuda","name":"GPU","byteLength":7}"#);
    }
}
