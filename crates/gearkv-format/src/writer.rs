//! Writing a container.

use std::collections::BTreeSet;

use gearkv::{ErrorCode, FrozenTensor, GearError, GearTensor, Result, TensorImage};

use crate::frame::{self, too_large};
use crate::header::{
    CacheExtent, Entry, FrozenEntry, Header, Kind, Metadata, RawEntry, SegmentEntry, SegmentSections, TensorEntry,
};
use crate::layout::{Placement, write_section};
use crate::safetensors::byte_length;

/// Gathers named tensors and raw arrays, then writes them as one container of kind [`Kind::Tensors`].
#[derive(Default)]
pub struct ContainerWriter {
    entries: Vec<Pending>,
    names: BTreeSet<String>,
}

/// An entry whose place in the payload is not known yet. Tensors share their segments with the caller's.
pub(crate) struct Pending {
    pub(crate) name: String,
    pub(crate) metadata: Metadata,
    pub(crate) content: Content,
}

pub(crate) enum Content {
    Tensor(GearTensor),
    Raw { dtype: String, shape: Vec<u64>, bytes: Vec<u8> },
    Frozen(FrozenTensor),
}

impl ContainerWriter {
    /// A writer with no entries.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a compressed tensor as it is now.
    ///
    /// # Errors
    /// `INVALID_OPTION` when the name is taken.
    pub fn add_tensor(&mut self, name: &str, tensor: &GearTensor, metadata: Metadata) -> Result<()> {
        self.add(name, metadata, || Ok(Content::Tensor(tensor.clone())))
    }

    /// Adds bytes to be kept as they are, under a safetensors data type.
    ///
    /// # Errors
    /// `INVALID_OPTION` when the name is taken or the data type unknown, `SHAPE_MISMATCH` when the shape needs
    /// another number of bytes.
    pub fn add_raw(&mut self, name: &str, dtype: &str, shape: &[u64], bytes: &[u8], metadata: Metadata) -> Result<()> {
        let expected = byte_length(dtype, shape)?;
        if expected != bytes.len() as u64 {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!("{name:?}: {dtype} of shape {shape:?} takes {expected} bytes, but {} are given", bytes.len()),
            ));
        }
        self.add(name, metadata, || {
            let mut copy = Vec::new();
            copy.try_reserve_exact(bytes.len()).map_err(|_| too_large("a copy of the raw bytes"))?;
            copy.extend_from_slice(bytes);
            Ok(Content::Raw { dtype: dtype.to_owned(), shape: shape.to_vec(), bytes: copy })
        })
    }

    fn add(&mut self, name: &str, metadata: Metadata, content: impl FnOnce() -> Result<Content>) -> Result<()> {
        if self.names.contains(name) {
            return Err(GearError::new(
                ErrorCode::InvalidOption,
                format!("an entry is already named {name:?}; names in a container are unique"),
            ));
        }
        self.entries.push(Pending { name: name.to_owned(), metadata, content: content()? });
        self.names.insert(name.to_owned());
        Ok(())
    }

    /// The container. The writer keeps its entries, and more may be added.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when it would be larger than memory or than a container's header allows.
    pub fn finish(&self) -> Result<Vec<u8>> {
        write(Kind::Tensors, None, &self.entries)
    }
}

/// Two passes over the same images, places first and bytes second, so that nothing but the result is held in memory.
pub(crate) fn write(kind: Kind, cache: Option<CacheExtent>, pending: &[Pending]) -> Result<Vec<u8>> {
    let mut placement = Placement::default();
    let entries = pending.iter().map(|entry| place(entry, &mut placement)).collect::<Result<Vec<_>>>()?;
    let payload_length = placement.payload_length();
    let mut container = frame::encode(&Header { kind, payload_length: payload_length as u64, cache, entries })?;
    container.try_reserve_exact(payload_length).map_err(|_| too_large("the container"))?;
    let payload_start = container.len();
    for entry in pending {
        match &entry.content {
            Content::Tensor(tensor) => {
                for_each_section(&tensor.image(), &mut |bytes| write_section(&mut container, bytes))
            }
            Content::Raw { bytes, .. } => write_section(&mut container, bytes),
            Content::Frozen(tensor) => write_section(&mut container, tensor.bytes()),
        }
    }
    if container.len() - payload_start != payload_length {
        return Err(GearError::new(ErrorCode::Internal, "a tensor changed while its container was written"));
    }
    Ok(container)
}

fn place(pending: &Pending, placement: &mut Placement) -> Result<Entry> {
    let (name, metadata) = (pending.name.clone(), pending.metadata.clone());
    match &pending.content {
        Content::Tensor(tensor) => place_tensor(name, metadata, &tensor.image(), placement),
        Content::Raw { dtype, shape, bytes } => {
            let section = placement.place(bytes)?;
            let xxh3 = placement.finish_entry();
            Ok(Entry::Raw(RawEntry { name, dtype: dtype.clone(), shape: shape.clone(), section, xxh3, metadata }))
        }
        Content::Frozen(tensor) => {
            let section = placement.place(tensor.bytes())?;
            Ok(Entry::Frozen(FrozenEntry {
                name,
                role: tensor.role(),
                shape: tensor.shape(),
                config: tensor.config().clone(),
                sink_tokens: tensor.sinks(),
                weighted: tensor.weighted(),
                rotation: tensor.rotation(),
                section,
                xxh3: placement.finish_entry(),
            }))
        }
    }
}

fn place_tensor(name: String, metadata: Metadata, image: &TensorImage, placement: &mut Placement) -> Result<Entry> {
    let sinks = placement.place(&image.sinks)?;
    let mut segments = Vec::with_capacity(image.segments.len());
    for segment in &image.segments {
        // Fields are evaluated in the order in which they are written here, which is the order of the bytes.
        let sections = SegmentSections {
            codes: placement.place(&segment.codes)?,
            scales: placement.place(&segment.scales)?,
            factors: placement.place(&segment.factors)?,
            outlier_indices: placement.place(&segment.outlier_indices)?,
            outlier_values: placement.place(&segment.outlier_values)?,
        };
        let (tokens, visible, rank) = (segment.tokens, segment.visible, segment.rank);
        segments.push(SegmentEntry { tokens, visible, rank, sections });
    }
    let buffer = placement.place(&image.buffer)?;
    Ok(Entry::Tensor(TensorEntry {
        name,
        role: image.role,
        shape: image.shape,
        config: image.config.clone(),
        sink_tokens: image.sink_tokens,
        sinks,
        segments,
        buffer_tokens: image.buffer_tokens,
        buffer,
        xxh3: placement.finish_entry(),
        metadata,
    }))
}

fn for_each_section(image: &TensorImage, visit: &mut dyn FnMut(&[u8])) {
    visit(&image.sinks);
    for segment in &image.segments {
        visit(&segment.codes);
        visit(&segment.scales);
        visit(&segment.factors);
        visit(&segment.outlier_indices);
        visit(&segment.outlier_values);
    }
    visit(&image.buffer);
}
