//! What a JavaScript object holds, and an account of its memory for the garbage collector, which sees only a handle.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, TryLockError};

use gearkv_llm::{Batch, Model, Session};
use gearkv_marshal::{BindingError, Result, Slot};
use napi::Env;

use crate::guard::guard;

/// A value with a name for messages and a size for the garbage collector.
pub(crate) trait Holdable {
    const WHAT: &'static str;

    fn bytes(&self) -> usize;
}

impl Holdable for Model {
    const WHAT: &'static str = "model";

    fn bytes(&self) -> usize {
        self.info().weight_bytes
    }
}

impl Holdable for Session {
    const WHAT: &'static str = "session";

    fn bytes(&self) -> usize {
        self.cache().byte_length()
    }
}

impl Holdable for Batch {
    const WHAT: &'static str = "batch";

    fn bytes(&self) -> usize {
        self.stats().byte_length
    }
}

pub(crate) struct Held<T> {
    slot: Mutex<Slot<T>>,
    /// Bytes that the garbage collector was told of.
    reported: AtomicUsize,
}

impl<T: Holdable> Held<T> {
    pub(crate) fn new(env: &Env, value: T) -> Arc<Self> {
        let held = Arc::new(Self { slot: Mutex::new(Slot::new(T::WHAT, value)), reported: AtomicUsize::new(0) });
        held.weigh(env);
        held
    }

    pub(crate) fn read<R>(&self, read: impl FnOnce(&T) -> Result<R>) -> napi::Result<R> {
        guard(|| read(self.lock()?.get()?))
    }

    /// Changes the value. When `change` fails it must leave a value that can be used.
    pub(crate) fn change<R>(&self, change: impl FnOnce(&mut T) -> Result<R>) -> napi::Result<R> {
        guard(|| self.lock()?.change(change))
    }

    pub(crate) fn release(&self, env: &Env) -> napi::Result<()> {
        guard(|| {
            self.lock()?.release();
            Ok(())
        })?;
        self.report(env, 0);
        Ok(())
    }

    /// Tells the garbage collector the value's present size.
    pub(crate) fn weigh(&self, env: &Env) {
        // A value that is released, broken or at work is left as it was reported.
        if let Ok(bytes) = self.read(|value| Ok(value.bytes())) {
            self.report(env, bytes);
        }
    }

    /// To be called when the JavaScript object is gone. A task may still hold the value; nobody else can reach it.
    pub(crate) fn forget(&self, env: &Env) {
        self.report(env, 0);
    }

    fn report(&self, env: &Env, bytes: usize) {
        let before = self.reported.swap(bytes, Ordering::Relaxed);
        let change = bytes as i64 - before as i64;
        if change != 0 {
            // A hint only: a runtime that does not take it collects later, nothing else.
            let _ = env.adjust_external_memory(change);
        }
    }

    /// Never waits: JavaScript's thread must not stand still while a task is at work on the value.
    fn lock(&self) -> Result<MutexGuard<'_, Slot<T>>> {
        match self.slot.try_lock() {
            Ok(slot) => Ok(slot),
            // A panic poisons the lock, but `Slot` itself stays sound.
            Err(TryLockError::Poisoned(poisoned)) => Ok(poisoned.into_inner()),
            Err(TryLockError::WouldBlock) => Err(BindingError::at_work(T::WHAT)),
        }
    }
}
