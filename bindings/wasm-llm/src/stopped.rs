//! Questions to JavaScript while the engine is at work.

use js_sys::Function;
use wasm_bindgen::JsValue;

/// A function that says whether the work is to be stopped.
pub(crate) struct Stopped<'a>(pub &'a Function);

impl Stopped<'_> {
    /// A function that throws stops the work as well.
    pub fn raised(&self) -> bool {
        !matches!(self.0.call0(&JsValue::UNDEFINED), Ok(answer) if answer.is_falsy())
    }
}
