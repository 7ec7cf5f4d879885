//! A cache's container, frozen or not, piece by piece: written and read.

use gearkv_format::{CacheReader as Reader, CacheWriter as Writer, Kind};
use gearkv_marshal::{Result, Slot, about};
use js_sys::Uint8Array;
use wasm_bindgen::prelude::wasm_bindgen;

use crate::arrays::{JsResult, resize, room_for, thrown};
use crate::cache::Cache;
use crate::frozen::Frozen;

/// A container in the making, of a cache as it was.
#[wasm_bindgen]
pub struct CacheWriter {
    slot: Slot<Writer>,
}

impl CacheWriter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { slot: Slot::new("cache writer", writer) }
    }
}

#[wasm_bindgen]
impl CacheWriter {
    /// Bytes that are still to come.
    pub fn remaining(&mut self) -> JsResult<f64> {
        self.slot.change(|writer| Ok(writer.remaining()? as f64)).map_err(thrown)
    }

    /// Writes the next bytes into `out`, and says how many; none at the end.
    #[wasm_bindgen(js_name = nextInto)]
    pub fn next_into(&mut self, out: &Uint8Array) -> JsResult<f64> {
        let next = self.slot.change(|writer| {
            let bytes = writer.next_bytes(out.length() as usize)?;
            out.subarray(0, bytes.len() as u32).copy_from(bytes);
            Ok(bytes.len() as f64)
        });
        next.map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }
}

/// A cache that comes in pieces.
#[wasm_bindgen]
pub struct CacheReader {
    slot: Slot<Reader>,
}

#[wasm_bindgen]
impl CacheReader {
    /// A reader of kind `cache` or `frozen`, or with any other word of either.
    pub fn create(kind: &str) -> CacheReader {
        Self { slot: Slot::new("cache reader", Reader::new(Kind::of_cache(kind))) }
    }

    /// Takes the next bytes.
    pub fn push(&mut self, bytes: &Uint8Array) -> JsResult<()> {
        let length = bytes.length();
        let push = |reader: &mut Reader| {
            let mut piece = Vec::new();
            let mut start = 0;
            while start < length {
                // A part at a time, as it is read, so that none is put together of two.
                let count = (length - start).min(u32::try_from(reader.missing()).unwrap_or(u32::MAX).max(1));
                // What is read of a container takes about as much again.
                room_for(reader.held().saturating_add(count as usize))?;
                resize(&mut piece, count)?;
                bytes.subarray(start, start + count).copy_to(&mut piece);
                reader.push(&piece)?;
                start += count;
            }
            Ok(())
        };
        self.slot.change(push).map_err(thrown)
    }

    /// Bytes that are needed before it is known what the cache is, the next part of them; 0 when it is known.
    #[wasm_bindgen(js_name = missingToKnow)]
    pub fn missing_to_know(&self) -> JsResult<f64> {
        self.slot.get().map(|reader| reader.missing_to_know() as f64).map_err(thrown)
    }

    /// What the container says of the cache, as JSON, as soon as its header was read.
    pub fn about(&self) -> JsResult<String> {
        self.slot.get().and_then(about::to_json_of).map_err(thrown)
    }

    /// The bytes of token ids and arrays.
    #[wasm_bindgen(js_name = aboutBytes)]
    pub fn about_bytes(&self) -> JsResult<Uint8Array> {
        let bytes = self.slot.get().and_then(about::bytes_of).map_err(thrown)?;
        Ok(Uint8Array::from(&bytes[..]))
    }

    /// The cache, once all of it came; the reader is empty then.
    pub fn cache(&mut self) -> JsResult<Cache> {
        self.take().and_then(|reader| Ok(Cache::new(reader.into_cache()?.0))).map_err(thrown)
    }

    /// The frozen cache, once all of it came; the reader is empty then.
    pub fn frozen(&mut self) -> JsResult<Frozen> {
        self.take().and_then(|reader| Ok(Frozen::new(reader.into_frozen()?.0))).map_err(thrown)
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    pub fn release(&mut self) {
        self.slot.release();
    }

    fn take(&mut self) -> Result<Reader> {
        self.slot.change(|reader| Ok(std::mem::take(reader)))
    }
}
