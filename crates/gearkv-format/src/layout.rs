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

    pub(crate) fn payload_length(&self) -> usize {
        self.end
    }
}

/// Appends a section that [`Placement::place`] gave the next place to.
pub(crate) fn write_section(container: &mut Vec<u8>, bytes: &[u8]) {
    if !bytes.is_empty() {
        container.resize(container.len().next_multiple_of(crate::frame::ALIGNMENT), 0);
        container.extend_from_slice(bytes);
    }
}

/// The bytes of a section.
pub(crate) fn section(payload: &[u8], section: Section) -> Result<&[u8]> {
    let outside = || corrupt(format!("a section [{}, {}] lies outside the payload", section.0, section.1));
    let start = usize::try_from(section.0).map_err(|_| outside())?;
    let length = usize::try_from(section.1).map_err(|_| outside())?;
    let end = start.checked_add(length).ok_or_else(outside)?;
    payload.get(start..end).ok_or_else(outside)
}

/// Checks that the payload holds exactly the header's sections, undamaged.
pub(crate) fn verify(header: &Header, payload: &[u8]) -> Result<()> {
    if header.payload_length != payload.len() as u64 {
        return Err(corrupt(format!(
            "the header claims a payload of {} bytes, but {} follow it",
            header.payload_length,
            payload.len()
        )));
    }
    let mut end = 0;
    for entry in &header.entries {
        end = verify_entry(entry, payload, end)?;
    }
    if end != payload.len() {
        return Err(corrupt(format!("{} bytes follow the last section", payload.len() - end)));
    }
    Ok(())
}

fn verify_entry(entry: &Entry, payload: &[u8], mut end: usize) -> Result<usize> {
    let name = entry.name();
    let mut hasher = Xxh3::new();
    for place in entry.sections() {
        let bytes = section(payload, place)?;
        let start = if bytes.is_empty() { 0 } else { aligned(end).ok_or_else(|| too_large("the container"))? };
        if place.0 != start as u64 {
            return Err(corrupt(format!("entry {name:?}: a section starts at {}; expected {start}", place.0)));
        }
        if bytes.is_empty() {
            continue;
        }
        if payload[end..start].iter().any(|&b| b != 0) {
            return Err(corrupt(format!("entry {name:?}: the padding before byte {start} is not zero")));
        }
        hasher.update(bytes);
        end = start + bytes.len();
    }
    if hasher.digest() != entry.checksum().0 {
        return Err(corrupt(format!("entry {name:?}: its checksum does not match, the container is damaged")));
    }
    Ok(end)
}
