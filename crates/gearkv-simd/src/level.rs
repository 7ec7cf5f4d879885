//! Which instructions the kernels of attention on codes run on (`tile/`). Loops compiled by `multiversion` choose for themselves: their
//! results are the same to the last bit whatever they choose.

/// An instruction set for which kernels were written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// AVX-512 with VNNI, VBMI and VBMI2: Ice Lake, Zen 4 and later.
    #[cfg(target_arch = "x86_64")]
    Avx512,
    /// AVX2, FMA and F16C.
    #[cfg(target_arch = "x86_64")]
    Avx2,
    /// NEON with dot products of bytes: Apple's M1, Graviton 2, Cortex-A76 (Raspberry Pi 5) and later.
    #[cfg(target_arch = "aarch64")]
    Dot,
    /// NEON.
    #[cfg(target_arch = "aarch64")]
    Neon,
    /// What every machine of this target has: SIMD128 in WebAssembly where it was built for it, otherwise loops that a compiler vectorizes.
    Portable,
}

/// Every one that this machine can run, the best first.
pub fn levels() -> Vec<Level> {
    let mut levels = beyond_the_baseline();
    levels.push(Level::Portable);
    levels
}

#[cfg(target_arch = "x86_64")]
fn beyond_the_baseline() -> Vec<Level> {
    use std::arch::is_x86_feature_detected as has;
    let mut levels = Vec::new();
    let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512dq") && has!("avx512vl");
    if avx512 && has!("avx512vnni") && has!("avx512vbmi") && has!("avx512vbmi2") {
        levels.push(Level::Avx512);
    }
    if has!("avx2") && has!("fma") && has!("f16c") {
        levels.push(Level::Avx2);
    }
    levels
}

#[cfg(target_arch = "aarch64")]
fn beyond_the_baseline() -> Vec<Level> {
    let mut levels = vec![Level::Neon];
    if std::arch::is_aarch64_feature_detected!("dotprod") {
        levels.insert(0, Level::Dot);
    }
    levels
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
fn beyond_the_baseline() -> Vec<Level> {
    Vec::new()
}

/// The best one, or the one that the environment variable `GEARKV_SIMD` asks for (`avx512`, `avx2`, `dotprod`, `neon`, `scalar`), where this machine has it.
pub fn level() -> Level {
    static CHOSEN: std::sync::OnceLock<Level> = std::sync::OnceLock::new();
    *CHOSEN.get_or_init(|| {
        let levels = levels();
        let wanted = match std::env::var("GEARKV_SIMD").as_deref() {
            Ok("scalar") => Some(Level::Portable),
            #[cfg(target_arch = "x86_64")]
            Ok("avx2") => Some(Level::Avx2),
            #[cfg(target_arch = "aarch64")]
            Ok("neon") => Some(Level::Neon),
            _ => None,
        };
        wanted.filter(|level| levels.contains(level)).unwrap_or(levels[0])
    })
}

/// Asks for so many bytes from the start of `ahead` on, which will be read soon.
pub fn prefetch<T>(ahead: &[T], bytes: usize) {
    #[cfg(target_arch = "x86_64")]
    for line in (0..bytes).step_by(64) {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        // SAFETY: every machine of this target has it, and it may be given any address.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(ahead.as_ptr().cast::<i8>().wrapping_add(line)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (ahead, bytes);
}
