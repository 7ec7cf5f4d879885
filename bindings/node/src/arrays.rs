//! Typed arrays: copies of JavaScript's for background tasks, and new ones that JavaScript owns.

use std::mem::size_of;
use std::ptr;

use gearkv::{ErrorCode, GearError, KvSlice, f16_slice};
use napi::bindgen_prelude::{ArrayBuffer, Float32ArraySlice, FromNapiValue, Uint16ArraySlice};
use napi::{Env, check_status, sys};

use crate::guard::guard;

/// What engines allow in one typed array. V8 ends the process when asked for more.
const MAX_ARRAY_LENGTH: usize = u32::MAX as usize;

/// A tensor's values, copied from a typed array.
pub(crate) enum Values {
    F32(Vec<f32>),
    F16(Vec<u16>),
}

impl Values {
    pub(crate) fn copy_f32(input: &[f32]) -> napi::Result<Self> {
        copy(input).map(Self::F32)
    }

    pub(crate) fn copy_f16(input: &[u16]) -> napi::Result<Self> {
        copy(input).map(Self::F16)
    }

    pub(crate) fn slice(&self) -> KvSlice<'_> {
        match self {
            Self::F32(values) => KvSlice::F32(values),
            Self::F16(bits) => KvSlice::F16(f16_slice(bits)),
        }
    }
}

fn copy<T: Copy>(input: &[T]) -> napi::Result<Vec<T>> {
    let mut values = Vec::new();
    guard(|| values.try_reserve_exact(input.len()).map_err(|_| too_large(input.len(), size_of::<T>()).into()))?;
    values.extend_from_slice(input);
    Ok(values)
}

fn too_large(length: usize, size: usize) -> GearError {
    let message = format!("an array of {length} values of {size} bytes is larger than this machine can hold");
    GearError::new(ErrorCode::OutOfRange, message)
}

/// A new `Float32Array` of zeros in memory that the engine owns.
///
/// Arrays over Rust memory would save nothing, and in a loop that never yields they pile up uncollected.
pub(crate) fn new_f32(env: &Env, length: usize) -> napi::Result<Float32ArraySlice<'_>> {
    Float32ArraySlice::from_arraybuffer(&new_buffer(env, length, size_of::<f32>())?, 0, length)
}

/// The same for `Uint16Array`.
pub(crate) fn new_u16(env: &Env, length: usize) -> napi::Result<Uint16ArraySlice<'_>> {
    Uint16ArraySlice::from_arraybuffer(&new_buffer(env, length, size_of::<u16>())?, 0, length)
}

fn new_buffer(env: &Env, length: usize, size: usize) -> napi::Result<ArrayBuffer<'_>> {
    let byte_length = length.saturating_mul(size);
    guard(|| {
        // Where the engine cannot allocate it ends the process, so find out beforehand.
        let possible = length <= MAX_ARRAY_LENGTH && Vec::<u8>::new().try_reserve_exact(byte_length).is_ok();
        if possible { Ok(()) } else { Err(too_large(length, size).into()) }
    })?;
    let (mut data, mut buffer) = (ptr::null_mut(), ptr::null_mut());
    // SAFETY: `env` is the calling thread's live environment, and both pointers are valid for writes.
    check_status!(
        unsafe { sys::napi_create_arraybuffer(env.raw(), byte_length, &mut data, &mut buffer) },
        "the engine could not make an array of {} bytes",
        byte_length
    )?;
    // SAFETY: `buffer` is the value that the engine just made in this environment.
    unsafe { ArrayBuffer::from_napi_value(env.raw(), buffer) }
}

/// The caller's `out`, writable, once it is known not to share memory with `input`.
pub(crate) fn writable<'a, T>(out: &'a mut Float32ArraySlice<'_>, input: &[T]) -> napi::Result<&'a mut [f32]> {
    let out_range = out.as_ptr_range();
    let input_range = input.as_ptr_range();
    guard(|| {
        if out_range.start.cast() < input_range.end && input_range.start < out_range.end.cast::<T>() {
            let message = "out shares memory with the input; give it memory of its own";
            return Err(GearError::new(ErrorCode::ShapeMismatch, message).into());
        }
        Ok(())
    })?;
    // SAFETY: it overlaps no other borrow of this call, and no JavaScript runs before the call returns.
    Ok(unsafe { out.as_mut() })
}
