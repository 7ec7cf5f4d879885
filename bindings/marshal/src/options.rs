//! Options, entries and metadata that arrive as JSON.

use std::collections::BTreeMap;

use gearkv::{AttendOptions, ErrorCode, GearConfig, GearError, GearOptions, Role};
use gearkv_format::Metadata;
use gearkv_format::safetensors::TensorSpan;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::Result;
use crate::info::to_json;

/// The complete configuration that options resolve to for keys or for values.
///
/// # Errors
/// `INVALID_OPTION` naming the field.
pub fn config(options_json: &str, role: Role) -> Result<GearConfig> {
    Ok(GearOptions::from_json(options_json)?.resolve(role)?)
}

/// The configurations of a cache's keys and values.
///
/// # Errors
/// As [`config`].
pub fn pair(key_options_json: &str, value_options_json: &str) -> Result<(GearConfig, GearConfig)> {
    Ok((config(key_options_json, Role::Key)?, config(value_options_json, Role::Value)?))
}

/// What [`config`] resolves to, as JSON.
///
/// # Errors
/// `INVALID_OPTION` naming the field.
pub fn resolve(options_json: &str, role: &str) -> Result<String> {
    to_json(&config(options_json, Role::parse(role)?)?)
}

/// Options of `attend`.
///
/// # Errors
/// `INVALID_OPTION` naming the field.
pub fn attend(json: &str) -> Result<AttendOptions> {
    Ok(AttendOptions::from_json(json)?)
}

/// A container entry's metadata: any JSON object, or nothing.
///
/// # Errors
/// `INVALID_OPTION` for anything else.
pub fn metadata(json: &str) -> Result<Metadata> {
    match read("metadata", json)? {
        Value::Object(metadata) => Ok(metadata),
        Value::Null => Ok(Metadata::new()),
        _ => Err(GearError::new(ErrorCode::InvalidOption, "metadata: expected an object").into()),
    }
}

/// A raw array's shape.
///
/// # Errors
/// `INVALID_OPTION` for anything but a list of whole numbers.
pub fn shape(json: &str) -> Result<Vec<u64>> {
    let extents = match read("shape", json)? {
        Value::Array(extents) => extents.iter().map(Value::as_u64).collect(),
        _ => None,
    };
    extents.ok_or_else(|| GearError::new(ErrorCode::InvalidOption, "shape: expected a list of whole numbers").into())
}

/// What a safetensors file is to hold.
#[derive(Debug, Default)]
pub struct SafetensorsFile {
    /// Its tensors, at offsets in a payload.
    pub entries: Vec<TensorSpan>,
    /// The file's own `__metadata__`.
    pub metadata: Option<BTreeMap<String, String>>,
}

/// Reads a list of entries, or an object of `entries` and `metadata`.
///
/// # Errors
/// `INVALID_OPTION` for anything else.
pub fn safetensors_file(json: &str) -> Result<SafetensorsFile> {
    let wrong = |e: serde_json::Error| GearError::new(ErrorCode::InvalidOption, format!("entries: {e}"));
    let (entries, metadata) = match read("entries", json)? {
        Value::Object(mut fields) => {
            let texts = fields.remove("metadata").map(Option::deserialize).transpose().map_err(wrong)?;
            (fields.remove("entries").unwrap_or_default(), texts.flatten())
        }
        entries => (entries, None),
    };
    let Value::Array(entries) = entries else {
        return Err(GearError::new(ErrorCode::InvalidOption, "entries: expected a list").into());
    };
    let entries = entries.into_iter().map(gearkv::object_from_tree).collect::<serde_json::Result<_>>();
    Ok(SafetensorsFile { entries: entries.map_err(wrong)?, metadata })
}

/// Any argument that is JSON; `what` names it in messages.
///
/// # Errors
/// `INVALID_OPTION` saying what does not fit.
pub fn read<T: DeserializeOwned>(what: &str, json: &str) -> Result<T> {
    gearkv::from_json(json.as_bytes())
        .map_err(|e| GearError::new(ErrorCode::InvalidOption, format!("{what}: {e}")).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_resolve_to_a_complete_configuration() {
        let resolved = resolve(r#"{"preset":"kivi-2","groupSize":32}"#, "key").unwrap();
        let config: GearConfig = serde_json::from_str(&resolved).unwrap();
        assert_eq!((config.bits, config.group_size), (2, 32));
        assert_eq!(config.preset, "kivi-2");
    }

    #[test]
    fn bad_options_name_the_field() {
        for (json, named) in [
            (r#"{"bits":5}"#, "bits"),
            (r#"{"bit":4}"#, "bit"),
            (r#"{"preset":"gear-5"}"#, "gear-5"),
            ("7", "options"),
            ("{", "options"),
        ] {
            let error = resolve(json, "value").unwrap_err();
            assert_eq!(error.code(), "INVALID_OPTION");
            assert!(error.to_string().contains(named), "{json}: {error}");
        }
    }

    #[test]
    fn attend_is_causal_unless_told_otherwise() {
        let options = attend(r#"{"queryHeads":9}"#).unwrap();
        assert!(options.causal && options.scale.is_none() && options.query_heads == 9);
        assert_eq!(attend(r#"{"queryHeads":9,"casual":true}"#).unwrap_err().code(), "INVALID_OPTION");
        assert_eq!(attend("{}").unwrap_err().code(), "INVALID_OPTION");
    }

    #[test]
    fn safetensors_entries_come_with_or_without_metadata() {
        let entry = r#"{"name":"a","dtype":"F32","shape":[1],"begin":0,"end":4}"#;
        let without = safetensors_file(&format!(" [{entry}]")).unwrap();
        assert!(without.entries[0].end == 4 && without.metadata.is_none());
        let with = safetensors_file(&format!(r#"{{"entries":[{entry}],"metadata":{{"k":"v"}}}}"#)).unwrap();
        assert_eq!(with.metadata.unwrap()["k"], "v");
        assert_eq!(safetensors_file("7").unwrap_err().code(), "INVALID_OPTION");
    }

    #[test]
    fn metadata_is_an_object_or_nothing() {
        assert!(metadata("null").unwrap().is_empty());
        assert_eq!(metadata(r#"{"a":1}"#).unwrap()["a"], 1);
        assert_eq!(metadata("[1]").unwrap_err().code(), "INVALID_OPTION");
        assert_eq!(shape("[1,-2]").unwrap_err().code(), "INVALID_OPTION");
    }
}
