//! A GPU that caches share, and memory on it for what comes in and goes out.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use cudarc::driver::{CudaSlice, CudaStream, CudaView, CudaViewMut, DeviceRepr, ValidAsZeroBits};
use gearkv::Result;
use half::f16;

use crate::attend::Workspace;
use crate::error::driver;
use crate::kernels::{Kernels, context};

/// A GPU with the kernels loaded, and the stream that everything runs on.
pub struct Device {
    kernels: Arc<Kernels>,
    stream: Arc<CudaStream>,
    name: String,
    scratch: Mutex<Scratch>,
}

impl Device {
    /// The first GPU that the driver shows (`CUDA_VISIBLE_DEVICES` says which), opened once a process. The first time its driver compiles
    /// the kernels, which takes some ten seconds; it keeps what it compiled for other processes.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` where there is no driver, no GPU, or one that is too old.
    pub fn first() -> Result<Arc<Self>> {
        static FIRST: Mutex<Option<Arc<Device>>> = Mutex::new(None);
        let mut first = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(device) = &*first {
            return Ok(Arc::clone(device));
        }
        let context = context(0)?;
        let device = Arc::new(Self {
            kernels: Kernels::load(&context)?,
            stream: context.default_stream(),
            name: context.name().map_err(driver("say its name"))?,
            scratch: Mutex::default(),
        });
        Ok(Arc::clone(first.insert(device)))
    }

    /// What the driver calls it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The kernels.
    pub fn kernels(&self) -> &Arc<Kernels> {
        &self.kernels
    }

    /// The stream.
    pub fn stream(&self) -> &Arc<CudaStream> {
        &self.stream
    }

    pub(crate) fn scratch(&self) -> MutexGuard<'_, Scratch> {
        // What is in it is written before it is read.
        self.scratch.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Memory for one call at a time, of whatever cache. What a call enqueues the next one follows, on the same stream.
#[derive(Default)]
pub(crate) struct Scratch {
    pub workspace: Workspace,
    pub singles: [Staging<f32>; 2],
    pub halves: [Staging<f16>; 2],
}

/// An array on the device that grows with what it has to hold: memory that is given back and taken again at every step costs more than the step.
pub(crate) struct Staging<T>(Option<CudaSlice<T>>);

impl<T> Default for Staging<T> {
    fn default() -> Self {
        Self(None)
    }
}

impl<T: DeviceRepr + ValidAsZeroBits> Staging<T> {
    fn at_least(&mut self, stream: &Arc<CudaStream>, length: usize) -> Result<&mut CudaSlice<T>> {
        let kept = self.0.take().filter(|slice| slice.len() >= length);
        let slice = match kept {
            Some(slice) => slice,
            None => stream.alloc_zeros(length.max(1)).map_err(driver("make room for a call"))?,
        };
        Ok(self.0.insert(slice))
    }

    /// The values, on the device.
    pub fn put(&mut self, stream: &Arc<CudaStream>, values: &[T]) -> Result<CudaView<'_, T>> {
        let slice = self.at_least(stream, values.len())?;
        // From memory that is not page-locked the driver has copied all of it when this returns, so that the caller may change it.
        stream.memcpy_htod(values, slice).map_err(driver("take what is sent"))?;
        Ok(slice.slice(..values.len()))
    }

    /// Room for `length` values.
    pub fn room(&mut self, stream: &Arc<CudaStream>, length: usize) -> Result<CudaViewMut<'_, T>> {
        Ok(self.at_least(stream, length)?.slice_mut(..length))
    }
}
