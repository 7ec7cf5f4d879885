//! Sixteen-bit floats, for which JavaScript has no arithmetic.

use gearkv_marshal::half_floats::{HalfKind, narrow, widen};
use napi::Env;
use napi::bindgen_prelude::{Float32ArraySlice, Uint16ArraySlice};
use napi_derive::napi;

use crate::arrays::{new_f32, new_u16};
use crate::guard::guard;

/// The bits of `"f16"` or `"bf16"` values as float32. Exact.
#[napi]
pub fn widen_half<'env>(env: &'env Env, input: &[u16], kind: String) -> napi::Result<Float32ArraySlice<'env>> {
    let kind = guard(|| HalfKind::parse(&kind))?;
    let mut out = new_f32(env, input.len())?;
    // SAFETY: the array was made two lines above; nothing else knows of it yet.
    let floats = unsafe { out.as_mut() };
    guard(|| {
        widen(input, kind, floats);
        Ok(())
    })?;
    Ok(out)
}

/// Float32 values as the bits of `"f16"` or `"bf16"`, rounded to nearest even.
#[napi]
pub fn narrow_half<'env>(env: &'env Env, input: &[f32], kind: String) -> napi::Result<Uint16ArraySlice<'env>> {
    let kind = guard(|| HalfKind::parse(&kind))?;
    let mut out = new_u16(env, input.len())?;
    // SAFETY: the array was made two lines above; nothing else knows of it yet.
    let bits = unsafe { out.as_mut() };
    guard(|| {
        narrow(input, kind, bits);
        Ok(())
    })?;
    Ok(out)
}
