//! Work on the runtime's thread pool, settled as promises.
//!
//! Node-API's own cancellation cannot stop work that has begun, and does not settle the promise in every runtime, so
//! tasks ask a flag of ours instead.

mod append;
mod bytes;
mod cancel;
mod compress;
mod decompress;
mod device;
mod freeze;
