//! What a saved cache says of itself: its model, the token ids of its prefix, and what the application adds (FORMAT.md, "About").

use std::collections::{BTreeSet, VecDeque};

use gearkv::{ErrorCode, GearError, Result};
use serde::Serialize;
use serde_json::Value;

use crate::frame::{corrupt, too_large};
use crate::header::{Entry, Metadata, RawEntry};
use crate::safetensors::byte_length;
use crate::writer::{Content, Pending};

pub(crate) const TOKEN_IDS: &str = "tokenIds";
const ARRAY: &str = "array.";

const MAX_MODEL_BYTES: usize = 1024;
const MAX_TOKEN_IDS: usize = 1 << 24;
const MAX_METADATA_BYTES: usize = 1 << 20;
/// The header's parser goes 128 deep, and metadata lie two deep in it.
const MAX_METADATA_DEPTH: usize = 64;
const MAX_ARRAYS: usize = 4096;
const MAX_NAME_BYTES: usize = 256;
const MAX_EXTENTS: usize = 16;

/// What a saved cache says of itself. All of it is the writer's own; what is empty is left out.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct About {
    /// Which model the cache is of: 1 to 1,024 bytes of text that is compared as it is.
    pub model: Option<String>,
    /// The tokens that were computed, at most 16,777,216.
    pub token_ids: Option<Vec<u32>>,
    /// The application's own, up to 1 MiB as JSON and 64 levels deep.
    pub metadata: Metadata,
    /// Arrays that travel along, at most 4,096.
    pub arrays: Vec<Array>,
}

/// An array that travels along with a cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Array {
    /// Unique among them, 1 to 256 bytes.
    pub name: String,
    /// A safetensors data type, for example `F32` or `BF16`.
    pub dtype: String,
    /// Row-major extents, at most 16; empty for a scalar.
    pub shape: Vec<u64>,
    /// As many as data type and shape say.
    pub bytes: Vec<u8>,
}

/// The part of [`About`] that stands in the header. What takes more than a few bytes are raw entries.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct AboutHeader {
    /// Which model the cache is of.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub model: Option<String>,
    /// The application's own.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

impl About {
    /// Whether it says nothing.
    pub fn is_empty(&self) -> bool {
        self.model.is_none() && self.token_ids.is_none() && self.metadata.is_empty() && self.arrays.is_empty()
    }

    /// What goes into the header, if anything, and the entries that come before all others.
    pub(crate) fn into_parts(self) -> Result<(Option<AboutHeader>, VecDeque<Pending>)> {
        if self.is_empty() {
            return Ok((None, VecDeque::new()));
        }
        let Self { model, token_ids, metadata, arrays } = self;
        let header = AboutHeader { model, metadata };
        let mut entries = VecDeque::with_capacity(1 + arrays.len());
        if let Some(ids) = token_ids {
            let mut bytes = Vec::new();
            bytes.try_reserve_exact(4 * ids.len()).map_err(|_| too_large("a copy of the token ids"))?;
            bytes.extend(ids.iter().flat_map(|id| id.to_le_bytes()));
            entries.push_back(raw(TOKEN_IDS.to_owned(), "U32".to_owned(), vec![ids.len() as u64], bytes));
        }
        let mut names = BTreeSet::new();
        for Array { name, dtype, shape, bytes } in arrays {
            if !names.insert(name.clone()) {
                let message = format!("about.arrays: two are named {name:?}");
                return Err(GearError::new(ErrorCode::InvalidOption, message));
            }
            let expected = byte_length(&dtype, &shape)?;
            if expected != bytes.len() as u64 {
                return Err(GearError::new(
                    ErrorCode::ShapeMismatch,
                    format!(
                        "about.arrays: {name:?}: {dtype} of shape {shape:?} takes {expected} bytes, but {} are given",
                        bytes.len()
                    ),
                ));
            }
            entries.push_back(raw(format!("{ARRAY}{name}"), dtype, shape, bytes));
        }
        let mut facts = entries.iter().filter_map(|entry| match &entry.content {
            Content::Raw { dtype, shape, .. } => Some((entry.name.as_str(), dtype.as_str(), shape.as_slice())),
            _ => None,
        });
        check(&header, &mut facts).map_err(|message| GearError::new(ErrorCode::InvalidOption, message))?;
        Ok((Some(header), entries))
    }

    /// Takes in an entry of a cache that [`leading`] counts.
    pub(crate) fn take(&mut self, entry: &RawEntry, bytes: &[u8]) -> Result<()> {
        let Some(name) = entry.about_array() else {
            let mut ids = Vec::new();
            ids.try_reserve_exact(bytes.len() / 4).map_err(|_| too_large("a copy of the token ids"))?;
            ids.extend(bytes.as_chunks::<4>().0.iter().map(|id| u32::from_le_bytes(*id)));
            self.token_ids = Some(ids);
            return Ok(());
        };
        let mut copy = Vec::new();
        copy.try_reserve_exact(bytes.len()).map_err(|_| too_large("a copy of an array"))?;
        copy.extend_from_slice(bytes);
        let (name, dtype, shape) = (name.to_owned(), entry.dtype.clone(), entry.shape.clone());
        self.arrays.push(Array { name, dtype, shape, bytes: copy });
        Ok(())
    }
}

impl RawEntry {
    /// In a cache, the name that the application gave this array, if it is one of those that travel along.
    pub fn about_array(&self) -> Option<&str> {
        self.name.strip_prefix(ARRAY)
    }
}

fn raw(name: String, dtype: String, shape: Vec<u64>, bytes: Vec<u8>) -> Pending {
    Pending { name, metadata: Metadata::new(), content: Content::Raw { dtype, shape, bytes } }
}

/// How many of a cache's entries, from the first, belong to its `about`; all of them are as they must be.
pub(crate) fn leading(about: Option<&AboutHeader>, entries: &[Entry]) -> Result<usize> {
    let Some(header) = about else {
        return Ok(0);
    };
    let mut count = 0;
    let mut facts = entries.iter().map_while(|entry| match entry {
        Entry::Raw(raw) if raw.metadata.is_empty() && (raw.name == TOKEN_IDS || raw.about_array().is_some()) => {
            count += 1;
            Some((raw.name.as_str(), raw.dtype.as_str(), raw.shape.as_slice()))
        }
        _ => None,
    });
    check(header, &mut facts).map_err(corrupt)?;
    if count == 0 && *header == AboutHeader::default() {
        return Err(corrupt("what a cache says of itself is empty; then it is left out"));
    }
    Ok(count)
}

/// The bounds of FORMAT.md, for writers and readers alike.
fn check<'a>(
    header: &AboutHeader,
    entries: &mut dyn Iterator<Item = (&'a str, &'a str, &'a [u64])>,
) -> std::result::Result<(), String> {
    let within = |what: &str, given: usize, most: usize, unit: &str| {
        if given <= most { Ok(()) } else { Err(format!("{what} has {given} {unit}; at most {most} are allowed")) }
    };
    if let Some(model) = &header.model {
        within("about.model", model.len(), MAX_MODEL_BYTES, "bytes")?;
        if model.is_empty() {
            return Err("about.model is empty; leave it out where the model has no name".to_owned());
        }
    }
    within("about.metadata", depth(&mut header.metadata.values()), MAX_METADATA_DEPTH, "levels")?;
    if !header.metadata.is_empty() {
        let json = serde_json::to_vec(&header.metadata).map_err(|e| format!("about.metadata: {e}"))?;
        within("about.metadata", json.len(), MAX_METADATA_BYTES, "bytes of JSON")?;
    }
    let (mut first, mut arrays) = (true, 0);
    for (name, dtype, shape) in entries {
        if let Some(array) = name.strip_prefix(ARRAY) {
            arrays += 1;
            within("about.arrays", arrays, MAX_ARRAYS, "arrays")?;
            within("a name of about.arrays", array.len(), MAX_NAME_BYTES, "bytes")?;
            within("a shape of about.arrays", shape.len(), MAX_EXTENTS, "extents")?;
            if array.is_empty() {
                return Err("about.arrays: a name is empty".to_owned());
            }
        } else {
            let &[count] = shape else {
                return Err("about.tokenIds is no list".to_owned());
            };
            within("about.tokenIds", usize::try_from(count).unwrap_or(usize::MAX), MAX_TOKEN_IDS, "ids")?;
            if dtype != "U32" || !first {
                return Err("about.tokenIds is a list of u32, before all arrays".to_owned());
            }
        }
        first = false;
    }
    Ok(())
}

/// How deep a value nests. It is no deeper than its parser goes.
fn depth(values: &mut dyn Iterator<Item = &Value>) -> usize {
    let deepest = values.map(|value| match value {
        Value::Array(values) => depth(&mut values.iter()),
        Value::Object(fields) => depth(&mut fields.values()),
        _ => 0,
    });
    1 + deepest.max().unwrap_or(0)
}
