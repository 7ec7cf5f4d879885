//! Writing a container.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use gearkv::{
    CacheShape, ErrorCode, FrozenCache, FrozenTensor, GearCache, GearError, GearTensor, Result, Role, SegmentImage,
    TensorImage,
};

use crate::about::{About, AboutHeader};
use crate::check::{ROLES, STATISTICS, entry_name};
use crate::frame::{self, ALIGNMENT, too_large};
use crate::header::{
    CacheExtent, Entry, FrozenEntry, Header, Kind, Metadata, RawEntry, SegmentEntry, SegmentSections, TensorEntry,
};
use crate::layout::Placement;
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
    /// A half of a layer, of a snapshot that shares its layers with the cache: a tensor of its own would be a copy of the buffer.
    Half(Arc<GearCache>, usize, Role),
    Raw {
        dtype: String,
        shape: Vec<u64>,
        bytes: Vec<u8>,
    },
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
        write(Kind::Tensors, &self.entries)
    }
}

/// A cache, frozen or not, as the bytes of a container, in pieces of any size.
///
/// It holds the cache as it was, which shares what it can with the original, and the bytes of one entry (the keys or the values of a layer).
/// Checksums stand before what they are of, so that the first bytes take a pass over the whole cache.
pub struct CacheWriter {
    kind: Kind,
    extent: CacheExtent,
    about: Option<AboutHeader>,
    /// Made when it is needed first.
    plan: Option<Plan>,
    /// Entries that are not begun yet.
    pending: VecDeque<Pending>,
    /// What is being written: the header, or an entry behind the padding before it.
    part: Vec<u8>,
    /// How much of that was given.
    given: usize,
    /// Entries that were begun.
    begun: usize,
}

impl CacheWriter {
    /// Writes a cache as it is now.
    ///
    /// # Errors
    /// `INVALID_OPTION` or `SHAPE_MISMATCH` naming what does not fit of `about`.
    pub fn cache(cache: &GearCache, about: About) -> Result<Self> {
        let (about, mut entries) = about.into_parts()?;
        let snapshot = Arc::new(cache.clone());
        for (name, layer, role) in halves(cache.shape()) {
            entries.push_back(entry(name, Content::Half(snapshot.clone(), layer, role)));
        }
        Ok(Self::new(Kind::Cache, cache.shape(), about, entries))
    }

    /// Writes a frozen cache.
    ///
    /// # Errors
    /// As [`CacheWriter::cache`].
    pub fn frozen(cache: &FrozenCache, about: About) -> Result<Self> {
        let (about, mut entries) = about.into_parts()?;
        let bytes = cache.statistics().bytes().to_vec();
        let content = Content::Raw { dtype: "U8".into(), shape: vec![bytes.len() as u64], bytes };
        entries.push_back(entry(STATISTICS.to_owned(), content));
        for (name, layer, role) in halves(cache.shape()) {
            entries.push_back(entry(name, Content::Frozen(cache.tensor(layer, role)?.clone())));
        }
        Ok(Self::new(Kind::Frozen, cache.shape(), about, entries))
    }

    fn new(kind: Kind, shape: CacheShape, about: Option<AboutHeader>, pending: VecDeque<Pending>) -> Self {
        let CacheShape { layers, batch, kv_heads, head_dim } = shape;
        let extent = CacheExtent { layers, batch, kv_heads, head_dim };
        Self { kind, extent, about, plan: None, pending, part: Vec::new(), given: 0, begun: 0 }
    }

    /// Bytes that are not given yet.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` when the container would be larger than memory, or its header larger than a container allows.
    pub fn remaining(&mut self) -> Result<usize> {
        let begun = self.begun;
        let plan = self.plan()?;
        let rest = plan.payload_length() - plan.start(begun);
        Ok(self.part.len() - self.given + rest)
    }

    /// Does all work that the next bytes take, so that [`CacheWriter::next_bytes`] has only to give them.
    ///
    /// # Errors
    /// As [`CacheWriter::remaining`].
    pub fn prepare(&mut self) -> Result<()> {
        self.plan()?;
        while self.given == self.part.len()
            && let Some(entry) = self.pending.pop_front()
        {
            let mut part = std::mem::take(&mut self.part);
            part.clear();
            self.given = 0;
            let index = self.begun;
            let plan = self.plan()?;
            let length = plan.ends[index] - plan.start(index);
            part.try_reserve_exact(length).map_err(|_| too_large("an entry"))?;
            plan.put(index, &entry, &mut part)?;
            self.part = part;
            self.begun += 1;
        }
        Ok(())
    }

    /// The next bytes, at most `most` of them, or none at the end.
    ///
    /// # Errors
    /// As [`CacheWriter::remaining`].
    pub fn next_bytes(&mut self, most: usize) -> Result<&[u8]> {
        self.prepare()?;
        let start = self.given;
        self.given += most.min(self.part.len() - start);
        Ok(&self.part[start..self.given])
    }

    /// All bytes that are not given yet.
    ///
    /// # Errors
    /// As [`CacheWriter::remaining`], and `OUT_OF_RANGE` when they are more than memory holds.
    pub fn to_bytes(mut self) -> Result<Vec<u8>> {
        let mut all = Vec::new();
        all.try_reserve_exact(self.remaining()?).map_err(|_| too_large("the container"))?;
        all.extend_from_slice(&self.part[self.given..]);
        let pending = std::mem::take(&mut self.pending);
        let begun = self.begun;
        let plan = self.plan()?;
        for (index, entry) in pending.iter().enumerate() {
            plan.put(begun + index, entry, &mut all)?;
        }
        Ok(all)
    }

    fn plan(&mut self) -> Result<&Plan> {
        if self.plan.is_none() {
            let mut plan = Plan::new(self.kind, Some(self.extent), self.about.take(), &self.pending)?;
            self.part = std::mem::take(&mut plan.head);
            self.plan = Some(plan);
        }
        self.plan.as_ref().ok_or_else(|| GearError::new(ErrorCode::Internal, "a container has no plan"))
    }
}

fn entry(name: String, content: Content) -> Pending {
    Pending { name, metadata: Metadata::new(), content }
}

/// Names, layers and roles in the order of a cache's entries.
fn halves(shape: CacheShape) -> impl Iterator<Item = (String, usize, Role)> {
    (0..shape.layers).flat_map(|layer| ROLES.map(|(role, name)| (entry_name(layer, name), layer, role)))
}

/// A whole container that is no cache.
pub(crate) fn write(kind: Kind, pending: &[Pending]) -> Result<Vec<u8>> {
    let mut plan = Plan::new(kind, None, None, pending)?;
    let mut container = std::mem::take(&mut plan.head);
    container.try_reserve_exact(plan.payload_length()).map_err(|_| too_large("the container"))?;
    for (index, entry) in pending.iter().enumerate() {
        plan.put(index, entry, &mut container)?;
    }
    Ok(container)
}

/// The first of two passes over the same entries: places and checksums, and thereby the header. Bytes come in the second, so that nothing
/// but the result is held in memory.
struct Plan {
    head: Vec<u8>,
    /// Where each entry ends in the payload.
    ends: Vec<usize>,
}

impl Plan {
    fn new<'a>(
        kind: Kind,
        cache: Option<CacheExtent>,
        about: Option<AboutHeader>,
        pending: impl IntoIterator<Item = &'a Pending>,
    ) -> Result<Self> {
        let (mut placement, mut ends, mut entries) = (Placement::default(), Vec::new(), Vec::new());
        for entry in pending {
            entries.push(place(entry, &mut placement)?);
            ends.push(placement.end());
        }
        let head = frame::encode(&Header { kind, payload_length: placement.end() as u64, cache, about, entries })?;
        Ok(Self { head, ends })
    }

    fn payload_length(&self) -> usize {
        self.ends.last().copied().unwrap_or(0)
    }

    /// Where an entry begins in the payload, with its padding.
    fn start(&self, index: usize) -> usize {
        index.checked_sub(1).map_or(0, |before| self.ends[before])
    }

    /// Appends an entry to whatever ends where the entry begins.
    fn put(&self, index: usize, entry: &Pending, container: &mut Vec<u8>) -> Result<()> {
        let mut end = self.start(index);
        let mut put = |bytes: &[u8]| {
            if !bytes.is_empty() {
                let padding = end.next_multiple_of(ALIGNMENT) - end;
                container.resize(container.len() + padding, 0);
                container.extend_from_slice(bytes);
                end += padding + bytes.len();
            }
        };
        match &entry.content {
            Content::Tensor(tensor) => for_each_section(&tensor.image(), &mut put),
            Content::Half(cache, layer, role) => for_each_section(&cache.tensor(*layer, *role)?.image(), &mut put),
            Content::Raw { bytes, .. } => put(bytes),
            Content::Frozen(tensor) => put(tensor.bytes()),
        }
        if end == self.ends[index] {
            return Ok(());
        }
        Err(GearError::new(ErrorCode::Internal, "a tensor changed while its container was written"))
    }
}

fn place(pending: &Pending, placement: &mut Placement) -> Result<Entry> {
    let (name, metadata) = (pending.name.clone(), pending.metadata.clone());
    match &pending.content {
        Content::Tensor(tensor) => place_tensor(name, metadata, &tensor.image(), placement),
        Content::Half(cache, layer, role) => {
            place_tensor(name, metadata, &cache.tensor(*layer, *role)?.image(), placement)
        }
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
        let &SegmentImage { tokens, hidden, visible, rank, .. } = segment;
        segments.push(SegmentEntry { tokens, hidden, visible, rank, sections });
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
