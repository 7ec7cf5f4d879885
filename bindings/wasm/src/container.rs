//! `.gear` containers of named tensors.

use gearkv_format::{Container as ParsedContainer, ContainerWriter as Writer};
use gearkv_marshal::{Slot, info, options};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, copy_u8, room_for, thrown};
use crate::tensor::Tensor;

/// A container that was read and found intact.
#[wasm_bindgen]
pub struct Container {
    slot: Slot<ParsedContainer<Vec<u8>>>,
}

#[wasm_bindgen]
impl Container {
    /// Reads a container of any kind.
    pub fn parse(bytes: &Uint8Array) -> JsResult<Container> {
        let parsed = copy_u8(bytes).and_then(|bytes| Ok(ParsedContainer::parse(bytes)?));
        Ok(Self { slot: Slot::new("container", parsed.map_err(thrown)?) })
    }

    /// The header with the size of each tensor, as JSON.
    pub fn info(&self) -> JsResult<String> {
        self.slot.get().and_then(info::container).map_err(thrown)
    }

    /// A compressed tensor by its name.
    pub fn tensor(&self, name: &str) -> JsResult<Tensor> {
        let restore = |container: &ParsedContainer<Vec<u8>>| {
            let entry = container.entries().iter().find(|entry| entry.name() == name);
            let bytes = entry.map_or(0, |entry| entry.sections().iter().map(|section| section.1).sum::<u64>());
            room_for(usize::try_from(bytes).unwrap_or(usize::MAX))?;
            Ok(Tensor::new(container.tensor(name)?))
        };
        self.slot.get().and_then(restore).map_err(thrown)
    }

    /// A raw array by its name.
    pub fn raw(&self, name: &str) -> JsResult<Uint8Array> {
        self.slot.get().and_then(|container| Ok(Uint8Array::from(container.raw(name)?))).map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}

/// Gathers tensors and raw arrays into a container.
#[wasm_bindgen]
pub struct ContainerWriter {
    slot: Slot<Writer>,
}

#[wasm_bindgen]
impl ContainerWriter {
    /// A writer with no entries.
    #[wasm_bindgen(constructor)]
    #[allow(clippy::new_without_default, reason = "only JavaScript makes one")]
    pub fn new() -> Self {
        Self { slot: Slot::new("container writer", Writer::new()) }
    }

    /// A writer with no entries.
    pub fn create() -> Self {
        Self::new()
    }

    /// Adds a compressed tensor as it is now, with a JSON object of metadata.
    #[wasm_bindgen(js_name = addTensor)]
    pub fn add_tensor(&mut self, name: &str, tensor: &Tensor, metadata_json: &str) -> JsResult<()> {
        let mut add = || {
            let (tensor, metadata) = (tensor.get()?, options::metadata(metadata_json)?);
            self.slot.change(|writer| Ok(writer.add_tensor(name, tensor, metadata)?))
        };
        add().map_err(thrown)
    }

    /// Adds bytes to be kept as they are, under a safetensors data type.
    #[wasm_bindgen(js_name = addRaw)]
    pub fn add_raw(
        &mut self,
        name: &str,
        dtype: &str,
        shape_json: &str,
        bytes: &Uint8Array,
        metadata_json: &str,
    ) -> JsResult<()> {
        let mut add = || {
            let (shape, metadata) = (options::shape(shape_json)?, options::metadata(metadata_json)?);
            let bytes = copy_u8(bytes)?;
            self.slot.change(|writer| Ok(writer.add_raw(name, dtype, &shape, &bytes, metadata)?))
        };
        add().map_err(thrown)
    }

    /// The container. More may be added afterwards.
    pub fn finish(&self) -> JsResult<Uint8Array> {
        let bytes = self.slot.get().and_then(|writer| Ok(writer.finish()?)).map_err(thrown)?;
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
