//! The frozen tier: caches at rest, entropy-coded.
//!
//! Uniform steps and an entropy coder are below every form of fixed length at the same error, but no code can be reached without
//! the ones before it, so that nothing attends to a frozen cache: it is thawed first. A tensor `[tokens, head_dim]` of a head is
//! coded in this order:
//!
//! 1. Sinks stay in float16 ([`crate::GearOptions::sinks`]).
//! 2. A mean per channel is taken off; of keys one that turns with the position as RoPE does (`rotation`).
//! 3. What is left is divided by the head's step, which may be finer for channels that queries are large in (`plane`).
//! 4. Trellis-coded quantization chooses the codes of each channel over a run of tokens (`gearkv-simd/src/trellis.rs`).
//! 5. Codes become bytes by asymmetric numeral systems (`coder`) under tables that the whole cache shares (`tables`), which know
//!    how large a channel is beside its step and where its previous value was.
//!
//! Decoding adds to each point what values of its code lay beside it on average.

mod bytes;
mod cache;
mod classes;
mod coder;
mod counts;
mod observe;
mod options;
mod plane;
mod rate;
mod rotation;
mod statistics;
mod tables;
mod tensor;

pub use cache::FrozenCache;
pub use options::{DEFAULT_BITS, FreezeOptions};
pub use statistics::Statistics;
pub use tensor::{FrozenHeader, FrozenTensor};
