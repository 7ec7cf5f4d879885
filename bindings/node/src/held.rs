//! What a JavaScript object holds: a value that may be released, changed, or replaced by a background task, and an
//! account of its memory for the garbage collector, which sees only a few bytes of handle otherwise.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use gearkv::{FrozenCache, GearTensor};
use gearkv_marshal::{Result, Slot};
use napi::Env;

use crate::guard::guard;

/// Weighing walks all segments, so it waits until this much input has come in.
const WEIGH_AFTER_BYTES: usize = 1 << 20;

/// A value with a name for messages and a size for the garbage collector.
pub(crate) trait Holdable: Clone {
    const WHAT: &'static str;

    fn bytes(&self) -> usize;
}

impl Holdable for GearTensor {
    const WHAT: &'static str = "tensor";

    fn bytes(&self) -> usize {
        self.byte_length()
    }
}

impl Holdable for FrozenCache {
    const WHAT: &'static str = "frozen cache";

    fn bytes(&self) -> usize {
        self.byte_length()
    }
}

pub(crate) struct Held<T> {
    slot: Mutex<Slot<T>>,
    /// Bytes that a fork shared with its original when it was made. They count once, with the original.
    shared: usize,
    /// Bytes that the garbage collector was told of.
    reported: AtomicUsize,
    /// Bytes of input since the value was last weighed.
    unweighed: AtomicUsize,
}

impl<T: Holdable> Held<T> {
    pub(crate) fn new(env: &Env, value: T) -> Arc<Self> {
        Self::with_shared(env, value, 0)
    }

    fn with_shared(env: &Env, value: T, shared: usize) -> Arc<Self> {
        let held = Arc::new(Self {
            slot: Mutex::new(Slot::new(T::WHAT, value)),
            shared,
            reported: AtomicUsize::new(0),
            unweighed: AtomicUsize::new(0),
        });
        held.weigh(env);
        held
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> Result<R>) -> napi::Result<R> {
        guard(|| read(self.lock().get()?))
    }

    /// Changes the value in place. `change` must leave it as it was when it fails.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> Result<R>) -> napi::Result<R> {
        guard(|| self.lock().change(change))
    }

    pub(crate) fn fork(&self, env: &Env) -> napi::Result<Arc<Self>> {
        let (copy, shared) = self.read(|value| Ok((value.clone(), value.bytes())))?;
        Ok(Self::with_shared(env, copy, shared))
    }

    /// A copy to work on elsewhere, and the revision that [`Held::replace`] wants back.
    pub(crate) fn copy(&self) -> napi::Result<(T, u64)> {
        guard(|| {
            let slot = self.lock();
            Ok((slot.get()?.clone(), slot.revision()))
        })
    }

    pub(crate) fn replace(&self, env: &Env, revision: u64, value: T) -> napi::Result<()> {
        guard(|| self.lock().replace(revision, value))?;
        self.weigh(env);
        Ok(())
    }

    pub(crate) fn release(&self, env: &Env) {
        self.lock().release();
        self.weigh(env);
    }

    /// To be called after an append of so many bytes.
    pub(crate) fn grew(&self, env: &Env, input_bytes: usize) {
        let unweighed = self.unweighed.fetch_add(input_bytes, Ordering::Relaxed).saturating_add(input_bytes);
        if unweighed >= WEIGH_AFTER_BYTES {
            self.weigh(env);
        }
    }

    /// Tells the garbage collector the value's present size.
    pub(crate) fn weigh(&self, env: &Env) {
        // A value that is released or broken weighs nothing.
        let bytes = self.read(|value| Ok(value.bytes())).unwrap_or(0);
        self.report(env, bytes.saturating_sub(self.shared));
    }

    /// To be called when the JavaScript object is gone. A task may still hold the value; nobody else can reach it.
    pub(crate) fn forget(&self, env: &Env) {
        self.report(env, 0);
    }

    fn report(&self, env: &Env, bytes: usize) {
        self.unweighed.store(0, Ordering::Relaxed);
        let before = self.reported.swap(bytes, Ordering::Relaxed);
        let change = bytes as i64 - before as i64;
        if change != 0 {
            // A hint only: a runtime that does not take it collects later, nothing else.
            let _ = env.adjust_external_memory(change);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Slot<T>> {
        // A panic poisons the lock, but `Slot` itself stays sound.
        self.slot.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
