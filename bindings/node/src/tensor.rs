//! One compressed K or V tensor.

use std::mem::size_of_val;
use std::sync::Arc;

use gearkv::{GearTensor, KvSlice, NEVER, Role, f16_slice};
use gearkv_format::{tensor_from_bytes, tensor_to_bytes};
use gearkv_marshal::{extents, info, options, whole};
use napi::Env;
use napi::bindgen_prelude::{Float32ArraySlice, ObjectFinalize, Uint8ArraySlice};
use napi_derive::napi;

use crate::arrays::writable;
use crate::guard::guard;
use crate::held::Held;

/// One compressed K or V tensor.
#[napi(custom_finalize)]
pub struct Tensor {
    pub(crate) held: Arc<Held<GearTensor>>,
}

impl Tensor {
    pub(crate) fn new(env: &Env, tensor: GearTensor) -> Self {
        Self { held: Held::new(env, tensor) }
    }

    #[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
    fn compress(
        env: &Env,
        input: KvSlice,
        batch: f64,
        heads: f64,
        tokens: f64,
        head_dim: f64,
        role: &str,
        options_json: &str,
    ) -> napi::Result<Self> {
        let tensor = guard(|| {
            let shape = extents(batch, heads, tokens, head_dim)?;
            let role = Role::parse(role)?;
            let config = options::config(options_json, role)?;
            Ok(GearTensor::compress(input, shape, role, config, NEVER)?)
        })?;
        Ok(Self::new(env, tensor))
    }

    fn append(&self, env: &Env, input: KvSlice, input_bytes: usize, tokens: f64) -> napi::Result<()> {
        self.held.change(|tensor| Ok(tensor.append(input, whole("tokens", tokens)?, NEVER)?))?;
        self.held.grew(env, input_bytes);
        Ok(())
    }
}

#[napi]
impl Tensor {
    /// Compresses float32 values laid out `[batch, heads, tokens, headDim]`.
    #[napi(js_name = "compressF32")]
    #[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
    pub fn compress_f32(
        env: &Env,
        input: &[f32],
        batch: f64,
        heads: f64,
        tokens: f64,
        head_dim: f64,
        role: String,
        options_json: String,
    ) -> napi::Result<Self> {
        Self::compress(env, KvSlice::F32(input), batch, heads, tokens, head_dim, &role, &options_json)
    }

    /// The same for the bits of float16 values.
    #[napi(js_name = "compressF16")]
    #[allow(clippy::too_many_arguments, reason = "JavaScript's arguments arrive one by one")]
    pub fn compress_f16(
        env: &Env,
        input: &[u16],
        batch: f64,
        heads: f64,
        tokens: f64,
        head_dim: f64,
        role: String,
        options_json: String,
    ) -> napi::Result<Self> {
        Self::compress(env, KvSlice::F16(f16_slice(input)), batch, heads, tokens, head_dim, &role, &options_json)
    }

    /// Appends tokens: all of them, or none when it fails.
    #[napi(js_name = "appendF32")]
    pub fn append_f32(&self, env: &Env, input: &[f32], tokens: f64) -> napi::Result<()> {
        self.append(env, KvSlice::F32(input), size_of_val(input), tokens)
    }

    /// The same for the bits of float16 values.
    #[napi(js_name = "appendF16")]
    pub fn append_f16(&self, env: &Env, input: &[u16], tokens: f64) -> napi::Result<()> {
        self.append(env, KvSlice::F16(f16_slice(input)), size_of_val(input), tokens)
    }

    /// Writes all values into `out`.
    #[napi]
    pub fn decompress_into(&self, mut out: Float32ArraySlice) -> napi::Result<()> {
        let out = writable::<f32>(&mut out, &[])?;
        self.held.read(|tensor| Ok(tensor.decompress_into(out, NEVER)?))
    }

    /// An independent copy that shares the compressed segments.
    #[napi]
    pub fn fork(&self, env: &Env) -> napi::Result<Tensor> {
        Ok(Self { held: self.held.fork(env)? })
    }

    /// Keeps the first `tokens` tokens.
    #[napi]
    pub fn truncate(&self, env: &Env, tokens: f64) -> napi::Result<()> {
        self.held.change(|tensor| Ok(tensor.truncate(whole("tokens", tokens)?)?))?;
        self.held.weigh(env);
        Ok(())
    }

    /// Removes all tokens.
    #[napi]
    pub fn clear(&self, env: &Env) -> napi::Result<()> {
        self.held.change(|tensor| {
            tensor.clear();
            Ok(())
        })?;
        self.held.weigh(env);
        Ok(())
    }

    /// Role, shape, configuration and sizes as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        self.held.read(info::tensor)
    }

    /// The tensor as a `.gear` container.
    #[napi]
    pub fn to_bytes<'env>(&self, env: &'env Env) -> napi::Result<Uint8ArraySlice<'env>> {
        let bytes = self.held.read(|tensor| Ok(tensor_to_bytes(tensor)?))?;
        Uint8ArraySlice::copy_from(env, bytes)
    }

    /// Reads what `toBytes` wrote.
    #[napi]
    pub fn from_bytes(env: &Env, bytes: &[u8]) -> napi::Result<Self> {
        let tensor = guard(|| Ok(tensor_from_bytes(bytes)?))?;
        Ok(Self::new(env, tensor))
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self, env: &Env) {
        self.held.release(env);
    }
}

impl ObjectFinalize for Tensor {
    fn finalize(self, env: Env) -> napi::Result<()> {
        self.held.forget(&env);
        Ok(())
    }
}
