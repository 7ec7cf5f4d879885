//! Methods that are not GEAR.

mod blocks;
mod codec;
mod turbo_quant;

use std::sync::Arc;

use gearkv::{ErrorCode, GearError, Result};
use gearkv_llm::Method;

pub use blocks::Blocks;
pub use codec::{Codec, CodecMethod};
pub use gearkv_llm::H2o;
pub use turbo_quant::TurboQuant;

/// A method that changes each token by itself.
fn codec(name: &str) -> Option<Arc<dyn Codec>> {
    Some(match name {
        "q8_0" => Arc::new(Blocks::Q8_0),
        "q5_0" => Arc::new(Blocks::Q5_0),
        "q4_0" => Arc::new(Blocks::Q4_0),
        "int8-g64" => Arc::new(Blocks::Int8),
        "turboquant-4" => Arc::new(TurboQuant { bits: 4 }),
        "turboquant-3" => Arc::new(TurboQuant { bits: 3 }),
        "turboquant-2" => Arc::new(TurboQuant { bits: 2 }),
        _ => return None,
    })
}

/// What a name stands for.
pub enum Named {
    /// It changes each token by itself, so that errors mean something.
    Codec(Arc<dyn Codec>),
    /// It does something else.
    Other(Arc<dyn Method>),
}

/// The method of this name.
///
/// # Errors
/// `INVALID_OPTION` when there is none.
pub fn find(name: &str) -> Result<Named> {
    let h2o = |share| Named::Other(Arc::new(H2o { name: name.to_owned(), share }));
    match name {
        "h2o-50" => Ok(h2o(0.5)),
        "h2o-25" => Ok(h2o(0.25)),
        _ => codec(name).map(Named::Codec).ok_or_else(|| {
            GearError::new(
                ErrorCode::InvalidOption,
                format!(
                    "method is {name:?}; expected q8_0, q5_0, q4_0, int8-g64, turboquant-4, -3, -2, h2o-50 or h2o-25"
                ),
            )
        }),
    }
}
