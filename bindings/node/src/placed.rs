//! A cache in main memory, or on a GPU as well.

use gearkv::{AttendOptions, GearCache, KvSlice, NEVER};
use gearkv_marshal::{Device, NewTokens, Result, shift};

use crate::held::Holdable;

#[cfg(any(target_os = "linux", target_os = "windows"))]
use gpu::Gpu;
#[cfg(not(any(target_os = "linux", target_os = "windows")))]
use no_gpu::Gpu;

/// A cache, wherever it is.
#[derive(Clone)]
pub(crate) enum Placed {
    /// In main memory; and why, where a GPU was asked for.
    Main(GearCache, Option<String>),
    Gpu(Gpu),
}

impl Holdable for Placed {
    const WHAT: &'static str = "cache";

    fn bytes(&self) -> usize {
        self.host().byte_length()
    }
}

impl Placed {
    /// The cache in main memory, which has everything.
    pub(crate) fn host(&self) -> &GearCache {
        match self {
            Self::Main(cache, _) => cache,
            Self::Gpu(gpu) => gpu.host(),
        }
    }

    /// Puts it on a GPU; where that cannot be done, it stays where it is and `or_main` says whether that will do.
    pub(crate) fn place(&mut self, or_main: bool) -> Result<()> {
        let Self::Main(cache, reason) = self else { return Ok(()) };
        match Gpu::new(cache, or_main) {
            Ok(gpu) => *self = Self::Gpu(gpu),
            Err(error) if or_main => *reason = Some(error.to_string()),
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// Opens the GPU; what it is, or why there is none where `or_main` says that this will do.
    pub(crate) fn open(or_main: bool) -> Result<Device> {
        match Gpu::open() {
            Err(error) if or_main => Ok(Device::Cpu { reason: Some(error.to_string()) }),
            opened => Ok(opened?),
        }
    }

    pub(crate) fn device(&self) -> Device {
        match self {
            Self::Main(_, reason) => Device::Cpu { reason: reason.clone() },
            Self::Gpu(gpu) => gpu.device(),
        }
    }

    pub(crate) fn append(&mut self, new: NewTokens) -> Result<()> {
        match self {
            Self::Main(cache, _) => new.append_to(cache),
            Self::Gpu(gpu) => gpu.append(new),
        }
    }

    pub(crate) fn attend(
        &self,
        layer: usize,
        q: KvSlice,
        queries: usize,
        options: &AttendOptions,
        out: &mut [f32],
    ) -> Result<()> {
        match self {
            Self::Main(cache, _) => cache.attend(layer, q, queries, options, out, NEVER)?,
            Self::Gpu(gpu) => gpu.attend(layer, q, queries, options, out)?,
        }
        Ok(())
    }

    pub(crate) fn truncate(&mut self, tokens: usize) -> Result<()> {
        match self {
            Self::Main(cache, _) => cache.truncate(tokens)?,
            Self::Gpu(gpu) => gpu.truncate(tokens)?,
        }
        Ok(())
    }

    pub(crate) fn shift(&mut self, drop: f64, keep: Option<f64>) -> Result<()> {
        self.change(|cache| shift(cache, drop, keep))
    }

    pub(crate) fn reorder(&mut self, order: &[u32]) -> Result<()> {
        self.change(|cache| Ok(cache.reorder(order)?))
    }

    pub(crate) fn clear(&mut self) -> Result<()> {
        self.change(|cache| {
            cache.clear();
            Ok(())
        })
    }

    fn change(&mut self, change: impl FnOnce(&mut GearCache) -> Result<()>) -> Result<()> {
        match self {
            Self::Main(cache, _) => change(cache),
            Self::Gpu(gpu) => gpu.change(change),
        }
    }
}

#[cfg(any(target_os = "linux", target_os = "windows"))]
mod gpu {
    use gearkv_cuda::{DeviceCache, Otherwise};

    use super::*;

    #[derive(Clone)]
    pub(crate) struct Gpu(DeviceCache);

    impl Gpu {
        pub(super) fn open() -> gearkv::Result<Device> {
            let first = gearkv_cuda::Device::first()?;
            Ok(Device::Cuda { name: first.name().to_owned(), byte_length: 0 })
        }

        pub(super) fn new(cache: &GearCache, or_main: bool) -> gearkv::Result<Self> {
            let otherwise = if or_main { Otherwise::Core } else { Otherwise::Fail };
            Ok(Self(DeviceCache::new(cache, gearkv_cuda::Device::first()?, otherwise)?))
        }

        pub(super) fn host(&self) -> &GearCache {
            self.0.host()
        }

        pub(super) fn device(&self) -> Device {
            match self.0.given_up() {
                Some(reason) => Device::Cpu { reason: Some(reason) },
                None => {
                    Device::Cuda { name: self.0.device().name().to_owned(), byte_length: self.0.device_byte_length() }
                }
            }
        }

        pub(super) fn append(&mut self, new: NewTokens) -> Result<()> {
            let NewTokens { key, value, .. } = new;
            new.hand_to(|layer, tokens, queries| self.0.append(layer, key, value, tokens, queries, NEVER))
        }

        pub(super) fn attend(
            &self,
            layer: usize,
            q: KvSlice,
            queries: usize,
            options: &AttendOptions,
            out: &mut [f32],
        ) -> gearkv::Result<()> {
            self.0.attend(layer, q, queries, options, out, NEVER)
        }

        pub(super) fn truncate(&mut self, tokens: usize) -> gearkv::Result<()> {
            self.0.truncate(tokens)
        }

        pub(super) fn change(&mut self, change: impl FnOnce(&mut GearCache) -> Result<()>) -> Result<()> {
            self.0.change(change)
        }
    }
}

#[cfg(not(any(target_os = "linux", target_os = "windows")))]
mod no_gpu {
    use gearkv::{ErrorCode, GearError};

    use super::*;

    /// There is none.
    #[derive(Clone)]
    pub(crate) enum Gpu {}

    impl Gpu {
        pub(super) fn open() -> gearkv::Result<Device> {
            let message = "there are no CUDA drivers for this operating system; use the CPU";
            Err(GearError::new(ErrorCode::BackendUnavailable, message))
        }

        pub(super) fn new(_: &GearCache, _: bool) -> gearkv::Result<Self> {
            Self::open().and_then(|device| Err(GearError::new(ErrorCode::Internal, format!("{device:?} is nowhere"))))
        }

        pub(super) fn host(&self) -> &GearCache {
            match *self {}
        }

        pub(super) fn device(&self) -> Device {
            match *self {}
        }

        pub(super) fn append(&mut self, _: NewTokens) -> Result<()> {
            match *self {}
        }

        pub(super) fn attend(
            &self,
            _: usize,
            _: KvSlice,
            _: usize,
            _: &AttendOptions,
            _: &mut [f32],
        ) -> gearkv::Result<()> {
            match *self {}
        }

        pub(super) fn truncate(&mut self, _: usize) -> gearkv::Result<()> {
            match *self {}
        }

        pub(super) fn change(&mut self, _: impl FnOnce(&mut GearCache) -> Result<()>) -> Result<()> {
            match *self {}
        }
    }
}
