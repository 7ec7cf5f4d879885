//! Sixteen-bit floats, for which JavaScript has no arithmetic.

use gearkv_marshal::half_floats::{HalfKind, narrow, widen};
use js_sys::{Float32Array, Uint16Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_f32, copy_u16, thrown, zeros};

/// The bits of `"f16"` or `"bf16"` values as float32. Exact.
#[wasm_bindgen(js_name = widenHalf)]
pub fn widen_half(input: &Uint16Array, kind: &str) -> JsResult<Float32Array> {
    let floats = HalfKind::parse(kind).and_then(|kind| {
        let mut floats = zeros(input.length())?;
        widen(&copy_u16(input)?, kind, &mut floats);
        Ok(floats)
    });
    Ok(Float32Array::from(&floats.map_err(thrown)?[..]))
}

/// Float32 values as the bits of `"f16"` or `"bf16"`, rounded to nearest even.
#[wasm_bindgen(js_name = narrowHalf)]
pub fn narrow_half(input: &Float32Array, kind: &str) -> JsResult<Uint16Array> {
    let bits = HalfKind::parse(kind).and_then(|kind| {
        let mut bits = zeros(input.length())?;
        narrow(&copy_f32(input)?, kind, &mut bits);
        Ok(bits)
    });
    Ok(Uint16Array::from(&bits.map_err(thrown)?[..]))
}
