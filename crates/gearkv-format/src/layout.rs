//! Where sections lie in the payload (FORMAT.md, "Payload").
//!
//! The layout is canonical: each section that is not empty starts at the first multiple of 64 after the one before it,
//! the bytes between are zero, and the payload ends with the last section. A reader can therefore account for every
//! byte, and two sections can neither overlap nor hide anything between them.

use gearkv::Result;
use xxhash_rust::xxh3::Xxh3;

use crate::frame::{aligned, corrupt, too_large};
use crate::header::{Checksum, Entry, Header, Section};

/// Gives sections their places, one after the other, and checksums them entry by entry.
#[derive(Default)]
pub(crate) struct Placement {
    end: usize,
    hasher: Xxh3,
}

impl Placement {
    pub(crate) fn place(&mut self, bytes: &[u8]) -> Result<Section> {
        if bytes.is_empty() {
            return Ok(Section::default());
        }
        let start = aligned(self.end).ok_or_else(|| too_large("the container"))?;
        self.end = start.checked_add(bytes.len()).ok_or_else(|| too_large("the container"))?;
        self.hasher.update(bytes);
        Ok(Section(start as u64, bytes.len() as u64))
    }

    /// The checksum of what was placed since the last call.
    pub(crate) fn finish_entry(&mut self) -> Checksum {
        let checksum = Checksum(self.hasher.digest());
        self.hasher.reset();
        checksum
    }

    /// Where the last section ends.
    pub(crate) fn end(&self) -> usize {
        self.end
    }
}

/// A run of the payload's bytes.
#[derive(Clone, Copy)]
pub(crate) struct Piece<'a> {
    /// Where in the payload it starts.
    pub(crate) start: usize,
    pub(crate) bytes: &'a [u8],
}

impl<'a> Piece<'a> {
    /// The bytes of a section.
    pub(crate) fn section(self, section: Section) -> Result<&'a [u8]> {
        if section.is_empty() {
            return Ok(&[]);
        }
        let outside = || corrupt(format!("a section [{}, {}] lies outside the payload", section.0, section.1));
        let start = usize::try_from(section.0).ok().and_then(|start| start.checked_sub(self.start));
        let start = start.ok_or_else(outside)?;
        let length = usize::try_from(section.1).map_err(|_| outside())?;
        let end = start.checked_add(length).ok_or_else(outside)?;
        self.bytes.get(start..end).ok_or_else(outside)
    }
}

/// Where each entry ends in the payload, and the next one begins with its padding. All sections have the places that they must have.
pub(crate) fn ends(header: &Header) -> Result<Vec<usize>> {
    let (mut ends, mut end) = (Vec::with_capacity(header.entries.len()), 0_usize);
    for entry in &header.entries {
        for section in entry.sections() {
            let name = entry.name();
            let start = if section.is_empty() { 0 } else { aligned(end).ok_or_else(|| too_large("the container"))? };
            if section.0 != start as u64 {
                return Err(corrupt(format!("entry {name:?}: a section starts at {}; expected {start}", section.0)));
            }
            if !section.is_empty() {
                let length = usize::try_from(section.1).ok();
                end = length.and_then(|length| start.checked_add(length)).ok_or_else(|| too_large("the container"))?;
            }
        }
        ends.push(end);
    }
    if header.payload_length != end as u64 {
        return Err(corrupt(format!(
            "the header claims a payload of {} bytes, but its sections take {end}",
            header.payload_length
        )));
    }
    Ok(ends)
}

/// Checks an entry's bytes, from the end of the one before it: padding and checksum.
pub(crate) fn verify_entry(entry: &Entry, piece: Piece) -> Result<()> {
    let (name, mut end, mut hasher) = (entry.name(), 0, Xxh3::new());
    for place in entry.sections() {
        let bytes = piece.section(place)?;
        if bytes.is_empty() {
            continue;
        }
        let start = place.0 as usize - piece.start;
        if piece.bytes[end..start].iter().any(|&b| b != 0) {
            return Err(corrupt(format!("entry {name:?}: the padding before byte {} is not zero", place.0)));
        }
        hasher.update(bytes);
        end = start + bytes.len();
    }
    if hasher.digest() != entry.checksum().0 {
        return Err(corrupt(format!("entry {name:?}: its checksum does not match, the container is damaged")));
    }
    Ok(())
}
