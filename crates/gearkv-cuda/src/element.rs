//! What tensors on a device are made of.

use cudarc::driver::DeviceRepr;
use half::{bf16, f16};

mod sealed {
    use super::{bf16, f16};

    pub trait Sealed {}
    impl Sealed for f32 {}
    impl Sealed for f16 {}
    impl Sealed for bf16 {}
}

/// What queries, outputs and new tokens may be: `f32`, `f16` or `bf16`.
pub trait Element: DeviceRepr + sealed::Sealed {
    /// `Kind` in the kernels.
    #[doc(hidden)]
    const KIND: u32;
}

impl Element for f32 {
    const KIND: u32 = 0;
}

impl Element for f16 {
    const KIND: u32 = 1;
}

impl Element for bf16 {
    const KIND: u32 = 2;
}
