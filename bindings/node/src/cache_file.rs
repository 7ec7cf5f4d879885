//! A cache's container, frozen or not, piece by piece: written and read.

use std::cell::RefCell;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gearkv_format::{CacheReader as Reader, CacheWriter as Writer, Kind};
use gearkv_marshal::{Slot, about};
use napi::Env;
use napi::bindgen_prelude::Uint8ArraySlice;
use napi_derive::napi;

use crate::cache::Cache;
use crate::frozen::Frozen;
use crate::guard::guard;

/// A container in the making, of a cache as it was.
#[napi]
pub struct CacheWriter {
    pub(crate) shared: Arc<SharedWriter>,
}

/// A writer that a background task works on, too.
pub struct SharedWriter(Mutex<Slot<Writer>>);

impl SharedWriter {
    /// Does all work that the next bytes take.
    pub(crate) fn prepare(&self) -> napi::Result<()> {
        guard(|| self.lock().change(|writer| Ok(writer.prepare()?)))
    }

    fn lock(&self) -> MutexGuard<'_, Slot<Writer>> {
        // A panic poisons the lock, but `Slot` itself stays sound.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl CacheWriter {
    pub(crate) fn new(writer: Writer) -> Self {
        Self { shared: Arc::new(SharedWriter(Mutex::new(Slot::new("cache writer", writer)))) }
    }
}

#[napi]
impl CacheWriter {
    /// Bytes that are still to come.
    #[napi]
    pub fn remaining(&self) -> napi::Result<f64> {
        guard(|| self.shared.lock().change(|writer| Ok(writer.remaining()? as f64)))
    }

    /// Writes the next bytes into `out`, and says how many; none at the end.
    #[napi]
    pub fn next_into(&self, mut out: Uint8ArraySlice) -> napi::Result<f64> {
        guard(|| {
            self.shared.lock().change(|writer| {
                let bytes = writer.next_bytes(out.len())?;
                // SAFETY: no JavaScript runs before the call returns, and the writer's memory is its own.
                let out = unsafe { out.as_mut() };
                out[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len() as f64)
            })
        })
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self) {
        self.shared.lock().release();
    }
}

/// A cache that comes in pieces.
#[napi]
pub struct CacheReader {
    slot: RefCell<Slot<Reader>>,
}

#[napi]
impl CacheReader {
    /// A reader of kind `cache` or `frozen`, or with any other word of either.
    #[napi]
    pub fn create(kind: String) -> Self {
        let reader = Reader::new(Kind::of_cache(&kind));
        Self { slot: RefCell::new(Slot::new("cache reader", reader)) }
    }

    /// Takes the next bytes.
    #[napi]
    pub fn push(&self, bytes: &[u8]) -> napi::Result<()> {
        guard(|| self.slot.borrow_mut().change(|reader| Ok(reader.push(bytes)?)))
    }

    /// Bytes that are needed before it is known what the cache is, the next part of them; 0 when it is known.
    #[napi]
    pub fn missing_to_know(&self) -> napi::Result<f64> {
        guard(|| Ok(self.slot.borrow().get()?.missing_to_know() as f64))
    }

    /// What the container says of the cache, as JSON, as soon as its header was read.
    #[napi]
    pub fn about(&self) -> napi::Result<String> {
        guard(|| about::to_json_of(self.slot.borrow().get()?))
    }

    /// The bytes of token ids and arrays.
    #[napi]
    pub fn about_bytes<'env>(&self, env: &'env Env) -> napi::Result<Uint8ArraySlice<'env>> {
        let bytes = guard(|| about::bytes_of(self.slot.borrow().get()?))?;
        Uint8ArraySlice::copy_from(env, bytes)
    }

    /// The cache, once all of it came; the reader is empty then.
    #[napi]
    pub fn cache(&self, env: &Env) -> napi::Result<Cache> {
        Ok(Cache::new(env, guard(|| Ok(self.take()?.into_cache()?.0))?))
    }

    /// The frozen cache, once all of it came; the reader is empty then.
    #[napi]
    pub fn frozen(&self, env: &Env) -> napi::Result<Frozen> {
        Ok(Frozen::new(env, guard(|| Ok(self.take()?.into_frozen()?.0))?))
    }

    /// Frees the memory now. Any later call fails with `DISPOSED`.
    #[napi]
    pub fn release(&self) {
        self.slot.borrow_mut().release();
    }

    fn take(&self) -> gearkv_marshal::Result<Reader> {
        self.slot.borrow_mut().change(|reader| Ok(std::mem::take(reader)))
    }
}
