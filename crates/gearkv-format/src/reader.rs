//! A cache from the bytes of a container as they come: one entry at a time is held, whatever the container's size.

use gearkv::{CacheShape, ErrorCode, FrozenCache, FrozenTensor, GearCache, GearError, GearTensor, Result, Statistics};

use crate::about::{About, AboutHeader, TOKEN_IDS};
use crate::check;
use crate::frame::{self, Fixed, corrupt, too_large};
use crate::header::{Entry, Header, Kind};
use crate::layout::{self, Piece};
use crate::restore;

/// Reads a cache, frozen or not, from bytes in pieces of any size.
///
/// What is held is the cache as far as it was read, and the bytes of one entry (the keys or the values of a layer). Nothing is allocated that is
/// larger than the bytes that have come.
#[derive(Default)]
pub struct CacheReader {
    /// The kind that the caller wants, or either.
    wanted: Option<Kind>,
    /// The beginning of a part that has not come whole yet.
    held: Vec<u8>,
    state: State,
}

#[derive(Default)]
enum State {
    /// The first 24 bytes are to come.
    #[default]
    Frame,
    /// The header is to come.
    Header(Fixed),
    /// Entries are to come, or all are there.
    Entries(Box<Entries>),
    /// Something was wrong. The reader is of no more use.
    Failed,
}

struct Entries {
    /// Bytes before the payload.
    head: usize,
    header: Header,
    shape: CacheShape,
    /// Where each entry ends in the payload.
    ends: Vec<usize>,
    /// Entries that were read.
    read: usize,
    /// Entries before the first layer.
    before: usize,
    about: About,
    statistics: Option<Statistics>,
    tensors: Vec<GearTensor>,
    frozen: Vec<FrozenTensor>,
}

impl CacheReader {
    /// A reader of one kind, [`Kind::Cache`] or [`Kind::Frozen`], or of either.
    pub fn new(wanted: Option<Kind>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// Takes the next bytes.
    ///
    /// # Errors
    /// `CORRUPT_DATA` or `UNSUPPORTED_VERSION` for bytes that are no container, or no longer; `INVALID_OPTION` for a container of another
    /// kind; `OUT_OF_RANGE` where memory is full. After an error nothing more can be read.
    pub fn push(&mut self, mut bytes: &[u8]) -> Result<()> {
        let pushed = self.push_all(&mut bytes);
        if pushed.is_err() {
            self.held = Vec::new();
            self.state = State::Failed;
        }
        pushed
    }

    /// How many more bytes the next part needs: the frame, the header, or an entry. 0 at the end.
    pub fn missing(&self) -> usize {
        self.part_length() - self.held.len()
    }

    /// Bytes of a part that has not come whole yet.
    pub fn held(&self) -> usize {
        self.held.len()
    }

    /// Bytes of the whole container, once the header is there.
    pub fn byte_length(&self) -> Option<u64> {
        match &self.state {
            State::Entries(entries) => Some(entries.header.payload_length.saturating_add(entries.head as u64)),
            _ => None,
        }
    }

    /// Whether the header is there and the token ids, if there are any: all that is needed to know what the cache is.
    pub fn knows_tokens(&self) -> bool {
        match &self.state {
            State::Entries(entries) => {
                entries.read > 0 || entries.header.entries.first().is_none_or(|first| first.name() != TOKEN_IDS)
            }
            _ => false,
        }
    }

    /// How many more bytes the next part needs before it is known what the cache is; 0 when it is known.
    pub fn missing_to_know(&self) -> usize {
        if self.knows_tokens() { 0 } else { self.missing() }
    }

    /// The header, once it is there, without its `about`, which [`CacheReader::about`] gives.
    pub fn header(&self) -> Option<&Header> {
        match &self.state {
            State::Entries(entries) => Some(&entries.header),
            _ => None,
        }
    }

    /// What the cache says of itself, as far as it was read.
    pub fn about(&self) -> Option<&About> {
        match &self.state {
            State::Entries(entries) => Some(&entries.about),
            _ => None,
        }
    }

    /// The cache, once all bytes were given.
    ///
    /// # Errors
    /// `CORRUPT_DATA` when bytes are missing or layers contradict each other; `INVALID_OPTION` when the cache is frozen.
    pub fn into_cache(self) -> Result<(GearCache, About)> {
        let Entries { header, shape, about, tensors, .. } = self.finished()?;
        expect_kind(header.kind, Kind::Cache)?;
        let mut halves = tensors.into_iter();
        let layers = std::iter::from_fn(|| halves.next().zip(halves.next())).collect();
        // The extents are the file's, and so is whatever the core finds wrong with them.
        Ok((GearCache::from_tensors(shape, layers).map_err(as_corrupt)?, about))
    }

    /// The frozen cache, once all bytes were given.
    ///
    /// # Errors
    /// `CORRUPT_DATA` when bytes are missing or layers contradict each other; `INVALID_OPTION` when the cache is not frozen.
    pub fn into_frozen(self) -> Result<(FrozenCache, About)> {
        let Entries { header, shape, about, statistics, frozen, .. } = self.finished()?;
        expect_kind(header.kind, Kind::Frozen)?;
        let statistics = statistics.ok_or_else(|| corrupt("a frozen cache begins with its statistics"))?;
        let mut halves = frozen.into_iter();
        let layers = std::iter::from_fn(|| halves.next().zip(halves.next())).collect();
        Ok((FrozenCache::from_parts(shape, statistics, layers).map_err(as_corrupt)?, about))
    }

    fn finished(self) -> Result<Entries> {
        match self.state {
            State::Entries(entries) if entries.read == entries.ends.len() => Ok(*entries),
            State::Failed => Err(failed()),
            State::Frame => Err(frame::too_short(&self.held)),
            _ => Err(corrupt(format!("the container ends {} bytes before its next part does", self.missing()))),
        }
    }

    fn push_all(&mut self, bytes: &mut &[u8]) -> Result<()> {
        loop {
            let length = self.part_length();
            if self.held.is_empty()
                && let Some((part, rest)) = bytes.split_at_checked(length)
            {
                // Nothing is copied that came whole.
                *bytes = rest;
                if self.at_end() {
                    break;
                }
                self.take(part)?;
                continue;
            }
            let count = (length - self.held.len()).min(bytes.len());
            let (more, rest) = bytes.split_at(count);
            *bytes = rest;
            self.held.try_reserve(count).map_err(|_| too_large("the container"))?;
            self.held.extend_from_slice(more);
            if self.held.len() < length {
                return Ok(());
            }
            let mut part = std::mem::take(&mut self.held);
            self.take(&part)?;
            part.clear();
            self.held = part;
        }
        if bytes.is_empty() { Ok(()) } else { Err(corrupt("bytes follow the last section")) }
    }

    fn at_end(&self) -> bool {
        matches!(&self.state, State::Entries(entries) if entries.read == entries.ends.len())
    }

    fn part_length(&self) -> usize {
        match &self.state {
            State::Frame => frame::FIXED_BYTES,
            State::Header(fixed) => fixed.header_bytes(),
            State::Entries(entries) => entries.ends.get(entries.read).map_or(0, |end| end - entries.start()),
            State::Failed => 0,
        }
    }

    fn take(&mut self, part: &[u8]) -> Result<()> {
        match &mut self.state {
            State::Frame => self.state = State::Header(Fixed::read(part)?),
            State::Header(fixed) => {
                let header = fixed.header(part)?;
                match self.wanted {
                    Some(wanted) => expect_kind(header.kind, wanted)?,
                    None if !header.kind.has_extents() => expect_kind(header.kind, Kind::Cache)?,
                    None => {}
                }
                self.state = State::Entries(Box::new(Entries::new(header, frame::FIXED_BYTES + part.len())?));
            }
            State::Entries(entries) => entries.take(part)?,
            State::Failed => return Err(failed()),
        }
        Ok(())
    }
}

impl Entries {
    fn new(mut header: Header, head: usize) -> Result<Self> {
        check::positions(&header)?;
        let (shape, before) = check::cache(&header)?;
        let ends = layout::ends(&header)?;
        let AboutHeader { model, metadata } = header.about.take().unwrap_or_default();
        let about = About { model, metadata, ..About::default() };
        let (tensors, frozen) = (Vec::new(), Vec::new());
        Ok(Self { head, header, shape, ends, read: 0, before, about, statistics: None, tensors, frozen })
    }

    /// Where the next entry begins.
    fn start(&self) -> usize {
        self.read.checked_sub(1).map_or(0, |last| self.ends[last])
    }

    fn take(&mut self, bytes: &[u8]) -> Result<()> {
        let piece = Piece { start: self.start(), bytes };
        let entry = &self.header.entries[self.read];
        layout::verify_entry(entry, piece)?;
        match entry {
            Entry::Tensor(entry) => self.tensors.push(restore::tensor(entry, piece)?),
            Entry::Frozen(entry) => self.frozen.push(restore::frozen(entry, piece)?),
            Entry::Raw(entry) => {
                let bytes = piece.section(entry.section)?;
                if self.header.kind == Kind::Frozen && self.read + 1 == self.before {
                    self.statistics = Some(Statistics::from_bytes(bytes, self.shape.head_dim).map_err(as_corrupt)?);
                } else {
                    self.about.take(entry, bytes)?;
                }
            }
        }
        self.read += 1;
        Ok(())
    }
}

fn failed() -> GearError {
    corrupt("the container was found damaged before; nothing more can be read of it")
}

fn as_corrupt(error: GearError) -> GearError {
    match error.code() {
        ErrorCode::Internal => error,
        _ => corrupt(error.to_string()),
    }
}

pub(crate) fn expect_kind(kind: Kind, expected: Kind) -> Result<()> {
    if kind == expected {
        return Ok(());
    }
    let what = |kind| match kind {
        Kind::Tensor => "one tensor",
        Kind::Tensors => "named tensors",
        Kind::Cache => "a whole cache",
        Kind::Frozen => "a frozen cache",
    };
    Err(GearError::new(
        ErrorCode::InvalidOption,
        format!("the container holds {}, but {} was asked for; read it as what it is", what(kind), what(expected)),
    ))
}
