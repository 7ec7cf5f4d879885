//! `.gear` containers of named tensors.

use std::cell::RefCell;

use gearkv_format::{Container as ParsedContainer, ContainerWriter as Writer};
use gearkv_marshal::{Slot, info, options};
use napi::Env;
use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use crate::guard::guard;
use crate::tensor::Tensor;

/// A container that was read and found intact.
#[napi]
pub struct Container {
    slot: RefCell<Slot<ParsedContainer<Vec<u8>>>>,
}

#[napi]
impl Container {
    /// Reads a container of any kind. The bytes are copied.
    #[napi]
    pub fn parse(bytes: &[u8]) -> napi::Result<Self> {
        let parsed = guard(|| Ok(ParsedContainer::parse(bytes.to_vec())?))?;
        Ok(Self { slot: RefCell::new(Slot::new("container", parsed)) })
    }

    /// The header with the size of each tensor, as JSON.
    #[napi]
    pub fn info(&self) -> napi::Result<String> {
        guard(|| info::container(self.slot.borrow().get()?))
    }

    /// A compressed tensor by its name.
    #[napi]
    pub fn tensor(&self, env: &Env, name: String) -> napi::Result<Tensor> {
        let tensor = guard(|| Ok(self.slot.borrow().get()?.tensor(&name)?))?;
        Ok(Tensor::new(env, tensor))
    }

    /// A raw array by its name.
    #[napi]
    pub fn raw<'env>(&self, env: &'env Env, name: String) -> napi::Result<Uint8ArraySlice<'env>> {
        let slot = self.slot.borrow();
        let bytes = guard(|| Ok(slot.get()?.raw(&name)?))?;
        Uint8ArraySlice::copy_from(env, bytes)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self) {
        self.slot.borrow_mut().release();
    }
}

/// Gathers tensors and raw arrays into a container.
#[napi]
pub struct ContainerWriter {
    slot: RefCell<Slot<Writer>>,
}

#[napi]
impl ContainerWriter {
    /// A writer with no entries.
    #[napi(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript makes one")]
    pub fn new() -> Self {
        Self { slot: RefCell::new(Slot::new("container writer", Writer::new())) }
    }

    /// A writer with no entries.
    #[napi]
    pub fn create() -> Self {
        Self::new()
    }

    /// Adds a compressed tensor as it is now, with a JSON object of metadata.
    #[napi]
    pub fn add_tensor(&self, name: String, tensor: &Tensor, metadata_json: String) -> napi::Result<()> {
        let (tensor, _) = tensor.held.copy()?;
        guard(|| {
            let metadata = options::metadata(&metadata_json)?;
            self.slot.borrow_mut().change(|writer| Ok(writer.add_tensor(&name, &tensor, metadata)?))
        })
    }

    /// Adds bytes to be kept as they are, under a safetensors data type.
    #[napi]
    pub fn add_raw(
        &self,
        name: String,
        dtype: String,
        shape_json: String,
        bytes: &[u8],
        metadata_json: String,
    ) -> napi::Result<()> {
        guard(|| {
            let (shape, metadata) = (options::shape(&shape_json)?, options::metadata(&metadata_json)?);
            self.slot.borrow_mut().change(|writer| Ok(writer.add_raw(&name, &dtype, &shape, bytes, metadata)?))
        })
    }

    /// The container. More may be added afterwards.
    #[napi]
    pub fn finish<'env>(&self, env: &'env Env) -> napi::Result<Uint8ArraySlice<'env>> {
        let bytes = guard(|| Ok(self.slot.borrow().get()?.finish()?))?;
        Uint8ArraySlice::copy_from(env, bytes)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self) {
        self.slot.borrow_mut().release();
    }
}
