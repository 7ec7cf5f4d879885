//! How a kernel that is written over [`Vector`](super::Vector) is compiled for each instruction set.

/// `kernel!(fn name(argument: Type) = generic)` defines a function that runs `generic::<V>` for the best instruction set of a level, which is its first
/// argument.
macro_rules! kernel {
    ($vis:vis fn $name:ident($($argument:ident: $type:ty),* $(,)?) $(-> $result:ty)? = $generic:ident) => {
        $vis fn $name(level: $crate::level::Level, $($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx512f,avx512bw,avx512dq,avx512vl,avx512vnni,avx512vbmi,avx512vbmi2")]
            unsafe fn avx512($($argument: $type),*) $(-> $result)? {
                // SAFETY: as the caller vouches for.
                unsafe { $generic::<$crate::vector::Avx512>($($argument),*) }
            }
            #[cfg(target_arch = "x86_64")]
            #[target_feature(enable = "avx2,fma,f16c")]
            unsafe fn avx2($($argument: $type),*) $(-> $result)? {
                // SAFETY: as the caller vouches for.
                unsafe { $generic::<$crate::vector::Avx2>($($argument),*) }
            }
            #[cfg(target_arch = "aarch64")]
            #[target_feature(enable = "neon,dotprod")]
            unsafe fn dot($($argument: $type),*) $(-> $result)? {
                // SAFETY: as the caller vouches for.
                unsafe { $generic::<$crate::vector::Neon<true>>($($argument),*) }
            }
            // SAFETY: a level is only named where the machine has it.
            unsafe {
                match level {
                    #[cfg(target_arch = "x86_64")]
                    $crate::level::Level::Avx512 => avx512($($argument),*),
                    #[cfg(target_arch = "x86_64")]
                    $crate::level::Level::Avx2 => avx2($($argument),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::level::Level::Dot => dot($($argument),*),
                    #[cfg(target_arch = "aarch64")]
                    $crate::level::Level::Neon => $generic::<$crate::vector::Neon<false>>($($argument),*),
                    $crate::level::Level::Portable => $generic::<$crate::vector::Portable>($($argument),*),
                }
            }
        }
    };
}

pub(crate) use kernel;
