//! Reading a container.

use std::collections::BTreeMap;

use gearkv::{ErrorCode, GearError, GearTensor, Result};

use crate::check;
use crate::frame::{self, corrupt};
use crate::header::{Entry, Header};
use crate::layout::{self, Piece};
use crate::restore;

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
        let positions = check::positions(&header)?;
        let (ends, mut start) = (layout::ends(&header)?, 0);
        if ends.last().copied().unwrap_or(0) != payload.len() {
            return Err(corrupt(format!(
                "the header claims a payload of {} bytes, but {} follow it",
                header.payload_length,
                payload.len()
            )));
        }
        for (entry, end) in header.entries.iter().zip(ends) {
            layout::verify_entry(entry, Piece { start, bytes: &payload[start..end] })?;
            start = end;
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
            Entry::Tensor(entry) => restore::tensor(entry, self.payload()),
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
            Entry::Raw(entry) => self.payload().section(entry.section),
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

    pub(crate) fn payload(&self) -> Piece<'_> {
        Piece { start: 0, bytes: self.bytes.as_ref().get(self.payload_start..).unwrap_or_default() }
    }
}

fn frozen(name: &str) -> GearError {
    option(format!(
        "entry {name:?} is frozen, with statistics of the whole cache; read the container as a frozen cache"
    ))
}

fn option(message: String) -> GearError {
    GearError::new(ErrorCode::InvalidOption, message)
}
