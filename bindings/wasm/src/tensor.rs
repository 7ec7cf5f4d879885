//! One compressed K or V tensor.

use gearkv::{GearTensor, KvSlice, NEVER, Role, f16_slice};
use gearkv_format::{tensor_from_bytes, tensor_to_bytes};
use gearkv_marshal::{Result, Slot, extents, info, options, whole};
use js_sys::{Float32Array, Uint8Array, Uint16Array};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_f32, copy_u8, copy_u16, decompress_to, room_for, room_to_compress, thrown};

/// One compressed K or V tensor.
#[wasm_bindgen]
pub struct Tensor {
    slot: Slot<GearTensor>,
}

impl Tensor {
    pub(crate) fn new(tensor: GearTensor) -> Self {
        Self { slot: Slot::new("tensor", tensor) }
    }

    pub(crate) fn get(&self) -> Result<&GearTensor> {
        self.slot.get()
    }

    fn compress(input: KvSlice, extents_given: [f64; 4], role: &str, options_json: &str) -> Result<Self> {
        let [batch, heads, tokens, head_dim] = extents_given;
        let shape = extents(batch, heads, tokens, head_dim)?;
        let role = Role::parse(role)?;
        let config = options::config(options_json, role)?;
        room_to_compress(input.len())?;
        Ok(Self::new(GearTensor::compress(input, shape, role, config, NEVER)?))
    }

    fn append(&mut self, input: KvSlice, tokens: f64) -> Result<()> {
        room_to_compress(input.len())?;
        self.slot.change(|tensor| Ok(tensor.append(input, whole("tokens", tokens)?, NEVER)?))
    }
}

#[wasm_bindgen]
impl Tensor {
    /// Compresses float32 values laid out `[batch, heads, tokens, headDim]`.
    #[wasm_bindgen(js_name = compressF32)]
    pub fn compress_f32(
        input: &Float32Array,
        batch: f64,
        heads: f64,
        tokens: f64,
        head_dim: f64,
        role: &str,
        options_json: &str,
    ) -> JsResult<Tensor> {
        copy_f32(input)
            .and_then(|values| {
                Self::compress(KvSlice::F32(&values), [batch, heads, tokens, head_dim], role, options_json)
            })
            .map_err(thrown)
    }

    /// The same for the bits of float16 values.
    #[wasm_bindgen(js_name = compressF16)]
    pub fn compress_f16(
        input: &Uint16Array,
        batch: f64,
        heads: f64,
        tokens: f64,
        head_dim: f64,
        role: &str,
        options_json: &str,
    ) -> JsResult<Tensor> {
        copy_u16(input)
            .and_then(|bits| {
                Self::compress(KvSlice::F16(f16_slice(&bits)), [batch, heads, tokens, head_dim], role, options_json)
            })
            .map_err(thrown)
    }

    /// Appends tokens: all of them, or none when it fails.
    #[wasm_bindgen(js_name = appendF32)]
    pub fn append_f32(&mut self, input: &Float32Array, tokens: f64) -> JsResult<()> {
        copy_f32(input).and_then(|values| self.append(KvSlice::F32(&values), tokens)).map_err(thrown)
    }

    /// The same for the bits of float16 values.
    #[wasm_bindgen(js_name = appendF16)]
    pub fn append_f16(&mut self, input: &Uint16Array, tokens: f64) -> JsResult<()> {
        copy_u16(input).and_then(|bits| self.append(KvSlice::F16(f16_slice(&bits)), tokens)).map_err(thrown)
    }

    /// Writes all values into `out`.
    #[wasm_bindgen(js_name = decompressInto)]
    pub fn decompress_into(&self, out: &Float32Array) -> JsResult<()> {
        self.get().and_then(|tensor| decompress_to(tensor, out)).map_err(thrown)
    }

    /// An independent copy that shares the compressed segments.
    pub fn fork(&self) -> JsResult<Tensor> {
        self.get().map(|tensor| Self::new(tensor.clone())).map_err(thrown)
    }

    /// Keeps the first `tokens` tokens.
    pub fn truncate(&mut self, tokens: f64) -> JsResult<()> {
        self.slot.change(|tensor| Ok(tensor.truncate(whole("tokens", tokens)?)?)).map_err(thrown)
    }

    /// Removes all tokens.
    pub fn clear(&mut self) -> JsResult<()> {
        let cleared = self.slot.change(|tensor| {
            tensor.clear();
            Ok(())
        });
        cleared.map_err(thrown)
    }

    /// Role, shape, configuration and sizes as JSON.
    pub fn info(&self) -> JsResult<String> {
        self.get().and_then(info::tensor).map_err(thrown)
    }

    /// The tensor as a `.gear` container.
    #[wasm_bindgen(js_name = toBytes)]
    pub fn to_bytes(&self) -> JsResult<Uint8Array> {
        let bytes = self.get().and_then(|tensor| Ok(tensor_to_bytes(tensor)?)).map_err(thrown)?;
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// Reads what `toBytes` wrote.
    #[wasm_bindgen(js_name = fromBytes)]
    pub fn from_bytes(bytes: &Uint8Array) -> JsResult<Tensor> {
        let restore = |bytes: Vec<u8>| {
            room_for(bytes.len())?;
            Ok(Self::new(tensor_from_bytes(&bytes)?))
        };
        copy_u8(bytes).and_then(restore).map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
