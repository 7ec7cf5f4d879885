//! How small a cache is frozen.

use serde::{Deserialize, Serialize};

use crate::error::{ErrorCode, GearError, Result};

/// Options of [`super::FrozenCache::freeze`]. At most one of `bits_per_element` and `step` is given; without either a cache takes
/// [`DEFAULT_BITS`] bits an element.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct FreezeOptions {
    /// The size that the whole comes to, in bits an element of the cache, everything counted. Met within a few per cent; a cache
    /// that is too short for its own means and sinks becomes larger.
    pub bits_per_element: Option<f64>,
    /// The step of values in root mean squares of what their means leave: the size follows. A step twice as large saves about a
    /// bit an element.
    pub step: Option<f64>,
    /// Leading tokens kept in float16, as [`crate::GearOptions::sinks`]. 4 by default.
    pub sinks: Option<u32>,
    /// Threads: 0 for as many as there are (default). The result does not depend on it.
    pub threads: Option<u32>,
}

/// Bits an element where nothing else is asked for.
pub const DEFAULT_BITS: f64 = 3.0;

const DEFAULT_SINKS: u32 = 4;
const BITS: std::ops::RangeInclusive<f64> = 1.0..=8.0;
const STEPS: std::ops::RangeInclusive<f64> = 0.02..=4.0;
const MOST_SINKS: u32 = 65_536;
const MOST_THREADS: u32 = 256;

/// What a step is chosen by.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Target {
    Bits(f64),
    Step(f64),
}

impl FreezeOptions {
    /// Reads options from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` for anything else than an object of these fields.
    pub fn from_json(json: &str) -> Result<Self> {
        crate::object_from_json(json.as_bytes())
            .map_err(|e| GearError::new(ErrorCode::InvalidOption, format!("freeze options: {e}")))
    }

    pub(crate) fn target(&self) -> Result<Target> {
        match (self.bits_per_element, self.step) {
            (Some(_), Some(_)) => Err(GearError::option(
                "bitsPerElement and step are both given; the size follows from the step, so give one",
            )),
            (Some(bits), None) if !BITS.contains(&bits) => {
                Err(GearError::option(format!("bitsPerElement is {bits}; expected {} to {}", BITS.start(), BITS.end())))
            }
            (None, Some(step)) if !STEPS.contains(&step) => {
                Err(GearError::option(format!("step is {step}; expected {} to {}", STEPS.start(), STEPS.end())))
            }
            (None, Some(step)) => Ok(Target::Step(step)),
            (bits, None) => Ok(Target::Bits(bits.unwrap_or(DEFAULT_BITS))),
        }
    }

    pub(crate) fn sinks(&self) -> Result<usize> {
        match self.sinks.unwrap_or(DEFAULT_SINKS) {
            sinks if sinks <= MOST_SINKS => Ok(sinks as usize),
            sinks => Err(GearError::option(format!("sinks is {sinks}; expected 0 to {MOST_SINKS}"))),
        }
    }

    pub(crate) fn threads(&self) -> Result<u32> {
        match self.threads.unwrap_or(0) {
            threads if threads <= MOST_THREADS => Ok(threads),
            threads => Err(GearError::option(format!("threads is {threads}; expected 0 to {MOST_THREADS}"))),
        }
    }
}
