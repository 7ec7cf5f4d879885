//! Copies between JavaScript's typed arrays and the module's memory.

use gearkv::{ErrorCode, GearError, GearTensor};
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
    let mut values = Vec::new();
    resize(&mut values, length)?;
    Ok(values)
}

/// Makes room for as many values; what is in them then is of no use.
pub(crate) fn resize<T: Copy + Default>(values: &mut Vec<T>, length: u32) -> Result<()> {
    let length = length as usize;
    let more = length.saturating_sub(values.len());
    values.try_reserve_exact(more).map_err(|_| memory_is_full(length.saturating_mul(size_of::<T>())))?;
    values.resize(length, T::default());
    Ok(())
}

/// All values of a tensor, put into `out` a head at a time: more of them need not be in the module's memory.
pub(crate) fn decompress_to(tensor: &GearTensor, out: &Float32Array) -> Result<()> {
    let shape = tensor.shape();
    let (length, elements) = (out.length(), shape.elements());
    if length as usize != elements {
        let message = format!("the output has {length} values; the tensor has {elements}");
        return Err(GearError::new(ErrorCode::ShapeMismatch, message).into());
    }
    let size = length.checked_div((shape.batch * shape.heads) as u32).unwrap_or(0);
    let mut room = zeros(size)?;
    let mut start = 0;
    tensor.decompress_planes(&mut room, |rows| {
        out.subarray(start, start + size).copy_from(rows);
        start += size;
    })?;
    Ok(())
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
