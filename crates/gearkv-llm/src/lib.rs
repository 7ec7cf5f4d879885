//! Language models that run on a GEAR-compressed key-value cache.
//!
//! A GGUF file is loaded by candle, its layers run here, and every key and value lives in a [`gearkv::GearCache`]: `float16` and
//! `float32` are presets like any other, so that a comparison differs in the cache alone.

mod architecture;
mod batch;
mod comparison;
#[cfg(feature = "tensors")]
mod device;
mod eval;
mod forcing;
mod forward;
mod freezing;
mod generate;
mod gguf;
mod h2o;
mod intake;
mod layer;
mod layer_errors;
mod method;
mod model;
mod ops;
mod pass;
mod perplexity;
mod queries;
mod recompress;
mod requantize;
mod rope;
mod sampler;
mod sequence;
mod session;
mod stop;
mod substitution;
mod sums;
mod texts;
mod timings;
mod tokenizer;
mod tuning;
mod weights;

pub use batch::{Batch, BatchStats, BatchStep};
#[cfg(feature = "tensors")]
pub use candle_core;
pub use comparison::EvalRun;
#[cfg(feature = "tensors")]
pub use device::{DeviceModel, DeviceSession};
pub use eval::{Cache, Candidate, EvalRow, Evaluation, WindowFound, WindowRow, eval_texts, eval_windows};
pub use gearkv;
pub use generate::{GenerateOptions, Generated, Generation, Reason, Step, generate};
pub use h2o::H2o;
pub use layer_errors::LayerError;
pub use method::{Keeper, Kept, LayerTokens, Method};
pub use model::{LoadOptions, Model, ModelInfo};
pub use pass::{GoOn, Progress};
pub use perplexity::{Perplexity, PerplexityRun, perplexity};
pub use recompress::Recompression;
pub use requantize::{Requantized, requantize};
pub use sampler::{Sampler, SamplerOptions};
pub use sequence::Sequence;
pub use session::Session;
pub use texts::{Text, Texts, Windows};
pub use timings::Timings;
pub use tokenizer::{Message, StreamDecoder, Tokenizer};
pub use tuning::{HalfTuning, TuneRun, Tuning};
