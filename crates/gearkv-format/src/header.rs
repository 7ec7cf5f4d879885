//! The JSON header: what a container holds and where (FORMAT.md, "Header").

use std::fmt;

use gearkv::{GearConfig, KvShape, Role};
use serde::{Serialize, Serializer};
use serde_json::Value;

use crate::about::AboutHeader;
use crate::config::{self, ConfigFields};
use crate::frame::{FIRST_ABOUT, FIRST_FROZEN};

/// A JSON object that belongs to whoever wrote the container.
pub type Metadata = serde_json::Map<String, Value>;

/// What a container as a whole is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Kind {
    /// One compressed tensor.
    Tensor,
    /// Named entries, compressed or raw.
    Tensors,
    /// The K and V of every layer of a model.
    Cache,
    /// The same, frozen.
    Frozen,
}

impl Kind {
    /// The kinds of caches by name.
    pub fn of_cache(name: &str) -> Option<Self> {
        match name {
            "cache" => Some(Self::Cache),
            "frozen" => Some(Self::Frozen),
            _ => None,
        }
    }

    /// Whether the extents of a cache belong to it.
    pub(crate) fn has_extents(self) -> bool {
        matches!(self, Self::Cache | Self::Frozen)
    }
}

/// The whole header.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Header {
    /// What the container is.
    pub kind: Kind,
    /// Bytes after the header and its padding, to the end of the file.
    pub payload_length: u64,
    /// Present exactly when `kind` is [`Kind::Cache`] or [`Kind::Frozen`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<CacheExtent>,
    /// What a cache says of itself, where it says anything.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub about: Option<AboutHeader>,
    /// In the order of their bytes.
    pub entries: Vec<Entry>,
}

/// The extents of a cache, whose tensors may hold no tokens yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CacheExtent {
    /// Layers of the model.
    pub layers: usize,
    /// Independent sequences.
    pub batch: usize,
    /// KV heads of a layer.
    pub kv_heads: usize,
    /// Channels of one head.
    pub head_dim: usize,
}

/// One named thing in a container.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(tag = "kind", rename_all = "lowercase")]
pub enum Entry {
    /// A compressed K or V tensor.
    Tensor(TensorEntry),
    /// Bytes kept as they are.
    Raw(RawEntry),
    /// A frozen K or V tensor, only in containers of kind [`Kind::Frozen`].
    Frozen(FrozenEntry),
}

/// A compressed K or V tensor: its configuration, and where its parts are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct TensorEntry {
    /// Unique in the container.
    pub name: String,
    /// Keys or values.
    pub role: Role,
    /// `[batch, heads, tokens, headDim]`.
    pub shape: KvShape,
    /// How it is compressed.
    #[serde(with = "ConfigFields")]
    pub config: GearConfig,
    /// Leading tokens held uncompressed.
    pub sink_tokens: usize,
    /// Their bytes.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub sinks: Section,
    /// Compressed runs of tokens, oldest first.
    pub segments: Vec<SegmentEntry>,
    /// Newest tokens, not yet compressed.
    pub buffer_tokens: usize,
    /// Their bytes.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub buffer: Section,
    /// Of all the entry's sections, in the order of their bytes, without padding.
    pub xxh3: Checksum,
    /// The writer's own.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// One compressed run of tokens.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentEntry {
    /// Tokens that were compressed together.
    pub tokens: usize,
    /// How many of them, from the first, no longer count: a tensor whose oldest tokens were dropped may begin inside a segment.
    #[serde(skip_serializing_if = "is_first")]
    pub hidden: usize,
    /// Of those behind these, how many still count: a truncated tensor may end inside a segment.
    pub visible: usize,
    /// Rank of the low-rank part.
    pub rank: usize,
    /// Where its parts are.
    pub sections: SegmentSections,
}

/// Where the parts of a segment are.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct SegmentSections {
    /// Packed codes of the backbone.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub codes: Section,
    /// Scales and zero points.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub scales: Section,
    /// Low-rank factors.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub factors: Section,
    /// Positions of the outliers.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub outlier_indices: Section,
    /// Values of the outliers.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub outlier_values: Section,
}

/// A frozen K or V tensor: what it was, and where its bytes are.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct FrozenEntry {
    /// Unique in the container.
    pub name: String,
    /// Keys or values.
    pub role: Role,
    /// `[batch, heads, tokens, headDim]`.
    pub shape: KvShape,
    /// The configuration of the tensor that was frozen.
    #[serde(with = "ConfigFields")]
    pub config: GearConfig,
    /// Leading tokens in float16.
    pub sink_tokens: usize,
    /// Whether channels have steps of their own.
    pub weighted: bool,
    /// Which of the statistics' rotations keys turn by.
    #[serde(skip_serializing_if = "is_first")]
    pub rotation: usize,
    /// What is coded.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub section: Section,
    /// Of the section.
    pub xxh3: Checksum,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_first(index: &usize) -> bool {
    *index == 0
}

/// Bytes kept as they are, typed as safetensors types them.
#[derive(Debug, Clone, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RawEntry {
    /// Unique in the container.
    pub name: String,
    /// A safetensors data type, for example `F32` or `BF16`.
    pub dtype: String,
    /// Row-major extents; empty for a scalar.
    pub shape: Vec<u64>,
    /// The values.
    #[serde(skip_serializing_if = "Section::is_empty")]
    pub section: Section,
    /// Of the section.
    pub xxh3: Checksum,
    /// The writer's own.
    #[serde(skip_serializing_if = "Metadata::is_empty")]
    pub metadata: Metadata,
}

/// `[offset, length]` in the payload. An empty section is left out of the header.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Section(
    /// Offset from the start of the payload.
    pub u64,
    /// Length in bytes.
    pub u64,
);

impl Section {
    /// Whether there is nothing in it.
    pub fn is_empty(&self) -> bool {
        self.1 == 0
    }
}

/// An XXH3-64 checksum: 16 hexadecimal digits in JSON, whose numbers do not reach 64 bits in every reader.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Checksum(
    /// The 64 bits.
    pub u64,
);

impl fmt::Display for Checksum {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:016x}", self.0)
    }
}

impl Serialize for Checksum {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(self)
    }
}

impl Header {
    /// The least format version that can hold what this header describes.
    pub(crate) fn version(&self) -> u32 {
        let versions = self.entries.iter().map(|entry| match entry {
            Entry::Tensor(tensor) if tensor.segments.iter().any(|segment| segment.hidden != 0) => FIRST_ABOUT,
            Entry::Tensor(tensor) => config::version(&tensor.config),
            Entry::Raw(_) => 1,
            Entry::Frozen(frozen) => config::version(&frozen.config).max(FIRST_FROZEN),
        });
        let least = match self.kind {
            _ if self.about.is_some() => FIRST_ABOUT,
            Kind::Frozen => FIRST_FROZEN,
            _ => 1,
        };
        versions.max().unwrap_or(least).max(least)
    }
}

impl Entry {
    /// Its name.
    pub fn name(&self) -> &str {
        match self {
            Self::Tensor(entry) => &entry.name,
            Self::Raw(entry) => &entry.name,
            Self::Frozen(entry) => &entry.name,
        }
    }

    /// The checksum of its sections.
    pub fn checksum(&self) -> Checksum {
        match self {
            Self::Tensor(entry) => entry.xxh3,
            Self::Raw(entry) => entry.xxh3,
            Self::Frozen(entry) => entry.xxh3,
        }
    }

    /// Its sections in the order of their bytes.
    pub fn sections(&self) -> Vec<Section> {
        match self {
            Self::Tensor(entry) => {
                let mut sections = Vec::with_capacity(2 + 5 * entry.segments.len());
                sections.push(entry.sinks);
                for segment in &entry.segments {
                    let SegmentSections { codes, scales, factors, outlier_indices, outlier_values } = segment.sections;
                    sections.extend([codes, scales, factors, outlier_indices, outlier_values]);
                }
                sections.push(entry.buffer);
                sections
            }
            Self::Raw(entry) => vec![entry.section],
            Self::Frozen(entry) => vec![entry.section],
        }
    }
}
