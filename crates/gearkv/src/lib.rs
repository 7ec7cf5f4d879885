//! GEAR: near-lossless compression of a language model's key-value cache (arXiv 2403.05527).
//!
//! `X ≈ D̂ + L + S`: a low-bit quantized backbone, a low-rank approximation of what it leaves over, and a sparse matrix of
//! outliers, behind a buffer of the newest tokens. No I/O, no FFI.
//!
//! ```
//! use gearkv::{AttendOptions, CacheShape, GearCache, GearOptions, KvSlice, NEVER, Role};
//!
//! let options = GearOptions { preset: Some("gear-4".into()), ..Default::default() };
//! let (key, value) = (options.resolve(Role::Key)?, options.resolve(Role::Value)?);
//! let shape = CacheShape { layers: 1, batch: 1, kv_heads: 2, head_dim: 64 };
//! let mut cache = GearCache::new(shape, key, value)?;
//! let tokens = vec![0.5; 2 * 100 * 64];
//! cache.append(0, KvSlice::F32(&tokens), KvSlice::F32(&tokens), 100, NEVER)?;
//! let query = vec![0.1; 4 * 64];
//! let mut out = vec![0.0; 4 * 64];
//! cache.attend(0, KvSlice::F32(&query), 1, &AttendOptions::new(4), &mut out, NEVER)?;
//! assert!((out[0] - 0.5).abs() < 1e-3);
//! # Ok::<(), gearkv::GearError>(())
//! ```

mod attention;
mod auto;
mod backbone;
mod cache;
mod config;
mod error;
mod factors;
mod frozen;
mod image;
mod input;
mod items;
mod joined;
mod json;
mod lowrank;
mod need;
mod options;
mod outliers;
mod parallel;
mod preset;
mod ranks;
mod raw;
mod segment;
mod shape;
mod spread;
mod tensor;

/// The hot loops, under the name that the core calls them by.
use gearkv_simd as simd;

pub use attention::AttendOptions;
pub use auto::Chosen;
pub use cache::{CacheShape, GearCache};
pub use config::{Backbone, GearConfig, MAX_SEGMENT_TOKENS, NonFinite, Range, Storage};
pub use error::{Cancel, ErrorCode, GearError, NEVER, Result};
pub use frozen::{DEFAULT_BITS, FreezeOptions, FrozenCache, FrozenHeader, FrozenTensor, Statistics};
pub use gearkv_simd::simd_level;
pub use half::f16;
pub use image::{SegmentImage, TensorImage};
pub use input::f16_slice;
pub use json::{from_json, object_from_json, object_from_tree};
pub use lowrank::starts as power_iteration_starts;
pub use options::GearOptions;
pub use parallel::default_threads;
pub use preset::{Preset, preset_names};
pub use shape::{KvShape, KvSlice, MAX_EXTENT, Role};
pub use tensor::{GearTensor, Parts};
