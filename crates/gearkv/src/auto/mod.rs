//! The preset `auto`: bits, rank and sparsity by what a tensor holds, for a size or for an error that the caller names.
//!
//! A tensor decides when its first run of tokens is compressed, and keeps to it: all of its segments have one configuration. What
//! is decided is measured: candidates are compressed, on a sample of the tokens where these are many, and the number of
//! bits is settled on all of them. Where a layer's keys and values are compressed together they share one stock of bytes.

mod choice;
mod pair;
mod trial;

pub(crate) use choice::{Limit, choose};
pub(crate) use pair::share;
pub(crate) use trial::{Run, Trial};
