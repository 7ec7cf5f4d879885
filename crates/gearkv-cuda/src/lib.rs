//! A layer of GEAR's cache on an NVIDIA GPU.
//!
//! What the core compressed is uploaded once, in the order in which tensor cores want it. Decoding then appends to a float16 buffer on
//! the device, compresses it there when it is full, and attends to codes, low-rank, outliers and buffer in one pass, without decompressing
//! and without waiting for the device. Tensors come in and go out as cudarc's slices, on the caller's stream.
//!
//! [`DeviceCache`] is a whole model's cache for programs whose tensors are in main memory: the core holds it, and layers that attend are on
//! the device as well.
//!
//! Only the driver is needed, and only when the program runs: [`context`] says `BACKEND_UNAVAILABLE` where there is none.
//!
//! ```no_run
//! use gearkv::{AttendOptions, GearTensor};
//! use gearkv_cuda::{DeviceLayer, Kernels, Workspace};
//!
//! # fn example(key: &GearTensor, value: &GearTensor, query: &[f32]) -> gearkv::Result<()> {
//! let context = gearkv_cuda::context(0)?;
//! let stream = context.default_stream();
//! let kernels = Kernels::load(&context)?;
//! let layer = DeviceLayer::upload(&kernels, &stream, key, value, 256)?;
//! let (mut workspace, options) = (Workspace::default(), AttendOptions::new(32));
//! let query = stream.clone_htod(query).expect("memory");
//! let mut out = stream.alloc_zeros::<f32>(query.len()).expect("memory");
//! layer.attend(&stream, &mut workspace, &query, &options, &mut out)?;
//! # Ok(())
//! # }
//! ```

mod attend;
mod cache;
mod compress;
mod contents;
mod device;
mod element;
mod error;
mod host;
mod kernels;
mod layer;
mod pack;
mod parts;
mod records;
mod source;

pub use attend::Workspace;
pub use cache::{DeviceCache, Otherwise};
#[doc(hidden)]
pub use contents::BlockContents;
pub use cudarc;
pub use device::Device;
pub use element::Element;
pub use half::{bf16, f16};
pub use kernels::{Kernels, context};
pub use layer::DeviceLayer;
