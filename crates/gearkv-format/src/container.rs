//! Reading a container.

use std::borrow::Cow;
use std::collections::BTreeMap;

use gearkv::{ErrorCode, GearError, GearTensor, KvShape, Result, SegmentImage, TensorImage};

use crate::frame::{self, corrupt};
use crate::header::{Entry, Header, Kind, RawEntry, Section, TensorEntry};
use crate::layout;
use crate::safetensors::byte_length;

/// A verified container over bytes that it borrows (`&[u8]`) or owns (`Vec<u8>`).
#[derive(Debug, Clone)]
pub struct Container<B> {
    bytes: B,
    payload_start: usize,
    header: Header,
    positions: BTreeMap<String, usize>,
}

impl<B: AsRef<[u8]>> Container<B> {
    /// Reads and verifies everything but the inside of compressed tensors, which [`Container::tensor`] checks.
    ///
    /// # Errors
    /// `CORRUPT_DATA` for anything that is not an intact container, `UNSUPPORTED_VERSION` for another version.
    pub fn parse(bytes: B) -> Result<Self> {
        let (header, payload_start) = frame::decode(bytes.as_ref())?;
        let payload = bytes.as_ref().get(payload_start..).unwrap_or_default();
        layout::verify(&header, payload)?;
        if header.cache.is_some() != header.kind.has_extents() {
            return Err(corrupt("the header's kind and its cache extents contradict each other"));
        }
        let mut positions = BTreeMap::new();
        for (position, entry) in header.entries.iter().enumerate() {
            if positions.insert(entry.name().to_owned(), position).is_some() {
                return Err(corrupt(format!("two entries are named {:?}", entry.name())));
            }
            match entry {
                Entry::Tensor(_) => {}
                Entry::Raw(raw) => check_raw(raw)?,
                Entry::Frozen(_) if header.kind == Kind::Frozen => {}
                Entry::Frozen(frozen) => {
                    return Err(corrupt(format!("entry {:?} is frozen, but the container is not", frozen.name)));
                }
            }
        }
        Ok(Self { bytes, payload_start, header, positions })
    }

    /// The whole header.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// What is in it, in the order of the bytes.
    pub fn entries(&self) -> &[Entry] {
        &self.header.entries
    }

    /// A compressed tensor by its name.
    ///
    /// # Errors
    /// `INVALID_OPTION` when there is none of that name, `CORRUPT_DATA` when its parts contradict each other.
    pub fn tensor(&self, name: &str) -> Result<GearTensor> {
        match self.entry(name)? {
            Entry::Tensor(entry) => self.restore(entry),
            Entry::Raw(_) => Err(option(format!("entry {name:?} is kept raw; read it as raw bytes"))),
            Entry::Frozen(_) => Err(frozen(name)),
        }
    }

    /// The bytes of a raw entry by its name.
    ///
    /// # Errors
    /// `INVALID_OPTION` when there is none of that name.
    pub fn raw(&self, name: &str) -> Result<&[u8]> {
        match self.entry(name)? {
            Entry::Raw(entry) => layout::section(self.payload(), entry.section),
            Entry::Tensor(_) => Err(option(format!("entry {name:?} is a compressed tensor; read it as a tensor"))),
            Entry::Frozen(_) => Err(frozen(name)),
        }
    }

    fn entry(&self, name: &str) -> Result<&Entry> {
        self.positions
            .get(name)
            .and_then(|&position| self.header.entries.get(position))
            .ok_or_else(|| option(format!("no entry is named {name:?}; the container's info lists the names")))
    }

    pub(crate) fn payload(&self) -> &[u8] {
        self.bytes.as_ref().get(self.payload_start..).unwrap_or_default()
    }

    pub(crate) fn restore(&self, entry: &TensorEntry) -> Result<GearTensor> {
        // Whatever the core finds wrong with an image, to the caller the file is what is wrong.
        self.image(entry).and_then(GearTensor::from_image).map_err(|e| match e.code() {
            ErrorCode::UnsupportedVersion | ErrorCode::Internal => e,
            _ => corrupt(format!("entry {:?}: {e}", entry.name)),
        })
    }

    fn image(&self, entry: &TensorEntry) -> Result<TensorImage<'_>> {
        let KvShape { batch, heads, tokens, head_dim } = entry.shape;
        let shape = KvShape::new(batch, heads, tokens, head_dim)?;
        let payload = self.payload();
        let bytes = |place: Section| layout::section(payload, place).map(Cow::Borrowed);
        let segments = entry.segments.iter().map(|segment| {
            Ok(SegmentImage {
                tokens: segment.tokens,
                visible: segment.visible,
                rank: segment.rank,
                codes: bytes(segment.sections.codes)?,
                scales: bytes(segment.sections.scales)?,
                factors: bytes(segment.sections.factors)?,
                outlier_indices: bytes(segment.sections.outlier_indices)?,
                outlier_values: bytes(segment.sections.outlier_values)?,
            })
        });
        Ok(TensorImage {
            role: entry.role,
            shape,
            config: entry.config.clone(),
            sink_tokens: entry.sink_tokens,
            sinks: bytes(entry.sinks)?,
            segments: segments.collect::<Result<_>>()?,
            buffer_tokens: entry.buffer_tokens,
            buffer: bytes(entry.buffer)?,
        })
    }
}

fn check_raw(entry: &RawEntry) -> Result<()> {
    let expected = byte_length(&entry.dtype, &entry.shape).map_err(|e| corrupt(format!("{:?}: {e}", entry.name)))?;
    if expected == entry.section.1 {
        return Ok(());
    }
    Err(corrupt(format!(
        "entry {:?}: {} of shape {:?} takes {expected} bytes, but its section has {}",
        entry.name, entry.dtype, entry.shape, entry.section.1
    )))
}

fn frozen(name: &str) -> GearError {
    option(format!(
        "entry {name:?} is frozen, with statistics of the whole cache; read the container as a frozen cache"
    ))
}

fn option(message: String) -> GearError {
    GearError::new(ErrorCode::InvalidOption, message)
}
