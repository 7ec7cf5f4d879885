//! What a header must say beside what its types do.

use std::collections::BTreeMap;

use gearkv::{CacheShape, Result, Role};

use crate::about;
use crate::frame::corrupt;
use crate::header::{CacheExtent, Entry, Header, Kind, RawEntry};
use crate::safetensors::byte_length;

pub(crate) const STATISTICS: &str = "statistics";
pub(crate) const ROLES: [(Role, &str); 2] = [(Role::Key, "key"), (Role::Value, "value")];

pub(crate) fn entry_name(layer: usize, role_name: &str) -> String {
    format!("layer.{layer}.{role_name}")
}

/// Where each entry is, by its name, once everything that holds for all kinds does.
pub(crate) fn positions(header: &Header) -> Result<BTreeMap<String, usize>> {
    if header.cache.is_some() != header.kind.has_extents() {
        return Err(corrupt("the header's kind and its cache extents contradict each other"));
    }
    if header.about.is_some() && !header.kind.has_extents() {
        return Err(corrupt("only a whole cache says something of itself"));
    }
    about::leading(header.about.as_ref(), &header.entries)?;
    let mut positions = BTreeMap::new();
    for (position, entry) in header.entries.iter().enumerate() {
        if positions.insert(entry.name().to_owned(), position).is_some() {
            return Err(corrupt(format!("two entries are named {:?}", entry.name())));
        }
        match entry {
            Entry::Tensor(_) => {}
            Entry::Raw(raw) => raw_length(raw)?,
            Entry::Frozen(_) if header.kind == Kind::Frozen => {}
            Entry::Frozen(frozen) => {
                return Err(corrupt(format!("entry {:?} is frozen, but the container is not", frozen.name)));
            }
        }
    }
    Ok(positions)
}

/// The cache that a header of kind `cache` or `frozen` describes, and how many entries come before its layers.
pub(crate) fn cache(header: &Header) -> Result<(CacheShape, usize)> {
    let Some(CacheExtent { layers, batch, kv_heads, head_dim }) = header.cache else {
        return Err(corrupt("the cache's extents are missing"));
    };
    let mut before = about::leading(header.about.as_ref(), &header.entries)?;
    if header.kind == Kind::Frozen {
        match header.entries.get(before) {
            Some(Entry::Raw(first)) if first.name == STATISTICS && first.dtype == "U8" => before += 1,
            _ => return Err(corrupt("a frozen cache begins with its statistics")),
        }
    }
    let halves = header.entries.get(before..).unwrap_or_default();
    if layers.checked_mul(2) != Some(halves.len()) {
        return Err(corrupt(format!(
            "a cache of {layers} layers has two entries a layer, but the container has {}",
            halves.len()
        )));
    }
    for (half, entry) in halves.iter().enumerate() {
        let (role, role_name) = ROLES[half % 2];
        let expected = entry_name(half / 2, role_name);
        let found = match (entry, header.kind) {
            (Entry::Tensor(tensor), Kind::Cache) => tensor.role == role,
            (Entry::Frozen(tensor), Kind::Frozen) => tensor.role == role,
            _ => false,
        };
        if !found || entry.name() != expected {
            return Err(corrupt(format!("entry {:?} stands where {expected:?} is expected", entry.name())));
        }
    }
    Ok((CacheShape { layers, batch, kv_heads, head_dim }, before))
}

fn raw_length(entry: &RawEntry) -> Result<()> {
    let expected = byte_length(&entry.dtype, &entry.shape).map_err(|e| corrupt(format!("{:?}: {e}", entry.name)))?;
    if expected == entry.section.1 {
        return Ok(());
    }
    Err(corrupt(format!(
        "entry {:?}: {} of shape {:?} takes {expected} bytes, but its section has {}",
        entry.name, entry.dtype, entry.shape, entry.section.1
    )))
}
