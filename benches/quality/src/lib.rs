//! What compressing a key-value cache costs in quality: GEAR's presets and options beside methods of others, on a recorded cache
//! (errors) and on a model that reads texts (divergence, agreement, perplexity).
//!
//! The methods of others are here to be measured, not to be used: they give floats and say what their codes would take.

mod fixture;
mod job;
pub mod methods;
mod recording;

pub use fixture::{Errors, Fixture};
pub use job::{Found, Job, Message, Row, run};
