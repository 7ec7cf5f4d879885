//! The `.gear` container: compressed key-value caches as bytes, and back.
//!
//! `FORMAT.md` beside this crate is the normative description. Every byte of a container is covered by a checksum or
//! must be zero, so that damage is told apart from data: [`Container::parse`] refuses it with `CORRUPT_DATA` and
//! never panics, whatever it is given.
//!
//! [`safetensors`] reads and writes the files that uncompressed tensors come from and go back to.

#![forbid(unsafe_code)]

mod cache;
mod config;
mod container;
mod frame;
mod frozen;
mod header;
mod layout;
pub mod safetensors;
mod writer;

pub use cache::{cache_from_bytes, cache_to_bytes, tensor_from_bytes, tensor_to_bytes};
pub use container::Container;
pub use frame::{ALIGNMENT, MAGIC, VERSION};
pub use frozen::{frozen_from_bytes, frozen_to_bytes};
pub use header::{
    CacheExtent, Checksum, Entry, FrozenEntry, Header, Kind, Metadata, RawEntry, Section, SegmentEntry,
    SegmentSections, TensorEntry,
};
pub use writer::ContainerWriter;
