//! Several answers at once.

use gearkv_llm::Batch as LiveBatch;
use gearkv_marshal::{BindingError, Slot, info};
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, thrown};
use crate::slice::Slice;

/// Answers in the making, each with its cache.
#[wasm_bindgen]
pub struct Batch {
    slot: Slot<LiveBatch>,
}

impl Batch {
    pub(crate) fn new(batch: LiveBatch) -> Self {
        Self { slot: Slot::new("batch", batch) }
    }
}

#[wasm_bindgen]
impl Batch {
    /// Goes on to take the prompts in for about `milliseconds`, at least by one chunk of a layer: tokens that are through, and
    /// all.
    pub fn read(&mut self, milliseconds: f64) -> JsResult<Vec<u32>> {
        let slice = Slice::of(milliseconds);
        let read = |batch: &mut LiveBatch| Ok(slice.counts(batch.read(gearkv::NEVER, &mut |_| slice.lasts())?));
        self.slot.change(read).map_err(thrown)
    }

    /// Gives up the prompts that are half taken in.
    pub fn abandon(&mut self) -> JsResult<()> {
        let abandoned = self.slot.change(|batch| {
            batch.abandon();
            Ok(())
        });
        abandoned.map_err(thrown)
    }

    /// The next token of each answer that has not ended: JSON of `[{index, token, text, reason}, …]`.
    pub fn next(&mut self) -> JsResult<String> {
        self.slot.change(|batch| info::to_json(&batch.next(gearkv::NEVER)?)).map_err(thrown)
    }

    /// Sizes of all caches, and where the time went, as JSON.
    pub fn info(&self) -> JsResult<String> {
        let describe = |batch: &LiveBatch| {
            if batch.reading() { Err(BindingError::at_work("batch")) } else { info::to_json(&batch.stats()) }
        };
        self.slot.get().and_then(describe).map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}
