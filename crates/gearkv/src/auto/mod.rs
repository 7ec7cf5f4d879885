//! The preset `auto`: bits, rank and sparsity by what a tensor holds, for a size or for an error that the caller names.
//!
//! A tensor decides when its first run of tokens is compressed, and keeps to it: all of its segments have one configuration. What
//! is decided is measured: candidates are compressed, on a sample of the tokens where these are many, and the number of
//! bits is settled on all of them. Where a layer's keys and values are compressed together they share one stock of bytes.

mod choice;
mod pair;
mod trial;

use serde::Serialize;

pub(crate) use choice::{Limit, choose};
pub(crate) use pair::share;
pub(crate) use trial::{Run, Trial};

/// What a tensor of preset `auto` chose.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Chosen {
    /// See [`crate::GearOptions::mean_bits`].
    pub mean_bits: f64,
    /// See [`crate::GearOptions::rank`].
    pub rank: u32,
    /// See [`crate::GearOptions::decode_rank`].
    pub decode_rank: u32,
    /// See [`crate::GearOptions::sparsity`].
    pub sparsity: f64,
}
