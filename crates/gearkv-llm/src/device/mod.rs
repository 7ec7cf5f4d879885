//! Models as candle's tensors, on whatever device candle has, with their caches there as well.
//!
//! The rest of this crate computes on float32 vectors in main memory, with products of its own. Here candle has the weights, as the file quantizes
//! them, and computes products, norms, rotations and gates; keys and values go to a [`gearkv::GearCache`] where the device is the CPU, and with
//! feature `cuda` to `gearkv-cuda`'s layers where it is a GPU: nothing leaves it but the logits of the next token.

mod caches;
#[cfg(feature = "cuda")]
mod cuda;
mod error;
mod forward;
mod host;
mod model;
mod rotation;
mod session;
mod weights;

pub use model::DeviceModel;
pub use session::DeviceSession;
