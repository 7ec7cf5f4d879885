//! The `.gear` container: compressed key-value caches as bytes, and back.
//!
//! `FORMAT.md` beside this crate is the normative description. Every byte of a container is covered by a checksum or
//! must be zero, so that damage is told apart from data: [`Container::parse`] refuses it with `CORRUPT_DATA` and
//! never panics, whatever it is given.
//!
//! [`safetensors`] reads and writes the files that uncompressed tensors come from and go back to.

#![forbid(unsafe_code)]

mod about;
mod cache;
mod check;
mod config;
mod container;
mod fields;
mod frame;
mod header;
mod layout;
mod parse;
mod reader;
mod restore;
pub mod safetensors;
mod writer;

pub use about::{About, AboutHeader, Array};
pub use cache::{
    cache_from_bytes, cache_to_bytes, frozen_from_bytes, frozen_to_bytes, tensor_from_bytes, tensor_to_bytes,
};
pub use container::Container;
pub use frame::{ALIGNMENT, MAGIC, VERSION};
pub use header::{
    CacheExtent, Checksum, Entry, FrozenEntry, Header, Kind, Metadata, RawEntry, Section, SegmentEntry,
    SegmentSections, TensorEntry,
};
pub use reader::CacheReader;
pub use writer::{CacheWriter, ContainerWriter};
