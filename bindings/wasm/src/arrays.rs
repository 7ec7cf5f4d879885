//! Copies between JavaScript's typed arrays and the module's memory.

use gearkv::{ErrorCode, GearError};
use gearkv_marshal::{BindingError, Result};
use js_sys::{Float32Array, Uint8Array, Uint16Array};
use wasm_bindgen::JsError;

/// A result whose error is thrown in JavaScript.
pub(crate) type JsResult<T> = std::result::Result<T, JsError>;

/// The error as JavaScript sees it.
pub(crate) fn thrown(error: BindingError) -> JsError {
    JsError::new(&error.to_string())
}

pub(crate) fn copy_f32(array: &Float32Array) -> Result<Vec<f32>> {
    let mut values = zeros(array.length())?;
    array.copy_to(&mut values);
    Ok(values)
}

pub(crate) fn copy_u16(array: &Uint16Array) -> Result<Vec<u16>> {
    let mut values = zeros(array.length())?;
    array.copy_to(&mut values);
    Ok(values)
}

pub(crate) fn copy_u8(array: &Uint8Array) -> Result<Vec<u8>> {
    let mut values = zeros(array.length())?;
    array.copy_to(&mut values);
    Ok(values)
}

/// Room for what is to be copied to an array of this length.
pub(crate) fn zeros<T: Copy + Default>(length: u32) -> Result<Vec<T>> {
    let length = length as usize;
    let mut values = Vec::new();
    values.try_reserve_exact(length).map_err(|_| memory_is_full(length.saturating_mul(size_of::<T>())))?;
    values.resize(length, T::default());
    Ok(values)
}

/// Six bytes a value: measured, compressing takes up to five beside its input.
const WORKING_BYTES: usize = 6;

/// Finds out whether so many values can be compressed, since the core's own allocations trap where they fail.
pub(crate) fn room_to_compress(values: usize) -> Result<()> {
    room_for(values.saturating_mul(WORKING_BYTES))
}

/// Below this size of memory an engine is taken to have more. Asking has a price: what memory grows by it keeps, and a
/// single free piece of the size asked for may not be there where many smaller ones are.
const AMPLE_BYTES: usize = 1 << 30;

/// Finds out whether so many bytes more can be allocated.
pub(crate) fn room_for(bytes: usize) -> Result<()> {
    if memory_bytes().saturating_add(bytes) <= AMPLE_BYTES {
        return Ok(());
    }
    Vec::<u8>::new().try_reserve_exact(bytes).map_err(|_| memory_is_full(bytes).into())
}

#[cfg(target_arch = "wasm32")]
fn memory_bytes() -> usize {
    const PAGE_BYTES: usize = 65_536;
    std::arch::wasm32::memory_size::<0>().saturating_mul(PAGE_BYTES)
}

/// Elsewhere the crate is only checked, never run.
#[cfg(not(target_arch = "wasm32"))]
fn memory_bytes() -> usize {
    0
}

fn memory_is_full(bytes: usize) -> GearError {
    let message = format!(
        "{bytes} more bytes do not fit into WebAssembly's memory; \
         dispose of tensors and caches that are not needed, use smaller pieces, or use the native backend"
    );
    GearError::new(ErrorCode::OutOfRange, message)
}
