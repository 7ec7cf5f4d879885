//! The header from its JSON (FORMAT.md, "Header").

use gearkv::{KvShape, Range, Result, Role, Storage};
use serde_json::Value;

use crate::about::AboutHeader;
use crate::config;
use crate::fields::Fields;
use crate::frame::corrupt;
use crate::header::{
    CacheExtent, Entry, FrozenEntry, Header, Kind, RawEntry, SegmentEntry, SegmentSections, TensorEntry,
};

impl Header {
    /// Reads a header; nothing is believed of what it says.
    ///
    /// # Errors
    /// `CORRUPT_DATA` saying what is malformed.
    pub fn from_json(json: &[u8]) -> Result<Self> {
        let tree = gearkv::from_json(json).map_err(|e| corrupt(format!("the header is malformed: {e}")))?;
        let mut fields = Fields::of("the header", tree)?;
        let kind = match fields.text("kind")?.as_str() {
            "tensor" => Kind::Tensor,
            "tensors" => Kind::Tensors,
            other => Kind::of_cache(other).ok_or_else(|| fields.wrong("kind"))?,
        };
        let payload_length = fields.value("payloadLength")?.as_u64().ok_or_else(|| fields.wrong("payloadLength"))?;
        let cache = fields.optional("cache").map(extent).transpose()?;
        let about = fields.optional("about").map(about).transpose()?;
        let entries = fields.list("entries")?.into_iter().map(entry).collect::<Result<_>>()?;
        fields.finish()?;
        Ok(Self { kind, payload_length, cache, about, entries })
    }
}

fn extent(value: Value) -> Result<CacheExtent> {
    let mut fields = Fields::of("cache", value)?;
    let (layers, batch) = (fields.count("layers")?, fields.count("batch")?);
    let (kv_heads, head_dim) = (fields.count("kvHeads")?, fields.count("headDim")?);
    fields.finish()?;
    Ok(CacheExtent { layers, batch, kv_heads, head_dim })
}

fn about(value: Value) -> Result<AboutHeader> {
    let mut fields = Fields::of("about", value)?;
    let model = match fields.optional("model") {
        None => None,
        Some(Value::String(model)) => Some(model),
        Some(_) => return Err(fields.wrong("model")),
    };
    let metadata = fields.metadata()?;
    fields.finish()?;
    Ok(AboutHeader { model, metadata })
}

fn entry(value: Value) -> Result<Entry> {
    let mut fields = Fields::of("an entry", value)?;
    let (kind, name) = (fields.text("kind")?, fields.text("name")?);
    let entry = match kind.as_str() {
        "tensor" => Entry::Tensor(TensorEntry {
            name,
            role: role(&mut fields)?,
            shape: shape(fields.inner("shape")?)?,
            config: config::read(fields.inner("config")?)?,
            sink_tokens: fields.count("sinkTokens")?,
            sinks: fields.section("sinks")?,
            segments: fields.list("segments")?.into_iter().map(segment).collect::<Result<_>>()?,
            buffer_tokens: fields.count("bufferTokens")?,
            buffer: fields.section("buffer")?,
            xxh3: fields.checksum()?,
            metadata: fields.metadata()?,
        }),
        "raw" => Entry::Raw(RawEntry {
            name,
            dtype: fields.text("dtype")?,
            shape: fields.numbers("shape")?,
            section: fields.section("section")?,
            xxh3: fields.checksum()?,
            metadata: fields.metadata()?,
        }),
        "frozen" => Entry::Frozen(FrozenEntry {
            name,
            role: role(&mut fields)?,
            shape: shape(fields.inner("shape")?)?,
            config: config::read(fields.inner("config")?)?,
            sink_tokens: fields.count("sinkTokens")?,
            weighted: fields.truth("weighted")?,
            rotation: fields.count_or_0("rotation")?,
            section: fields.section("section")?,
            xxh3: fields.checksum()?,
        }),
        _ => {
            return Err(corrupt(format!("an entry's kind is {kind:?}; expected \"tensor\", \"raw\" or \"frozen\"")));
        }
    };
    fields.finish()?;
    Ok(entry)
}

fn role(fields: &mut Fields) -> Result<Role> {
    Role::parse(&fields.text("role")?).map_err(|e| corrupt(e.to_string()))
}

fn shape(mut fields: Fields) -> Result<KvShape> {
    let (batch, heads) = (fields.count("batch")?, fields.count("heads")?);
    let (tokens, head_dim) = (fields.count("tokens")?, fields.count("headDim")?);
    fields.finish()?;
    Ok(KvShape { batch, heads, tokens, head_dim })
}

fn segment(value: Value) -> Result<SegmentEntry> {
    let mut fields = Fields::of("a segment", value)?;
    let (tokens, hidden, visible) = (fields.count("tokens")?, fields.count_or_0("hidden")?, fields.count("visible")?);
    let rank = fields.count("rank")?;
    let mut places = fields.inner("sections")?;
    let sections = SegmentSections {
        codes: places.section("codes")?,
        scales: places.section("scales")?,
        factors: places.section("factors")?,
        outlier_indices: places.section("outlierIndices")?,
        outlier_values: places.section("outlierValues")?,
    };
    places.finish()?;
    fields.finish()?;
    Ok(SegmentEntry { tokens, hidden, visible, rank, sections })
}

/// By its name.
pub(crate) fn storage(fields: &mut Fields) -> Result<Storage> {
    match fields.text("storage")?.as_str() {
        "gear" => Ok(Storage::Gear),
        "float16" => Ok(Storage::Float16),
        "float32" => Ok(Storage::Float32),
        _ => Err(fields.wrong("storage")),
    }
}

/// `minmax` where it is left out.
pub(crate) fn range(fields: &mut Fields) -> Result<Range> {
    match fields.optional("range") {
        None => Ok(Range::default()),
        Some(Value::String(word)) if word == "minmax" => Ok(Range::Minmax),
        Some(Value::String(word)) if word == "mse" => Ok(Range::Mse),
        Some(_) => Err(fields.wrong("range")),
    }
}
