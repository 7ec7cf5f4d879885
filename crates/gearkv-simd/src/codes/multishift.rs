//! Rows of codes taken apart 64 at a time.

use std::arch::x86_64::{
    _mm512_and_si512, _mm512_loadu_si512, _mm512_mask_storeu_epi8, _mm512_maskz_loadu_epi8,
    _mm512_multishift_epi64_epi8, _mm512_permutexvar_epi8, _mm512_set1_epi8,
};

use super::row_bytes;

const CODES: usize = 64;

/// Where each byte of eight times eight codes comes from: those of eight codes first, whatever behind them.
const fn spread(bits: usize) -> [u8; CODES] {
    let mut from = [0; CODES];
    let mut i = 0;
    while i < CODES {
        from[i] = (i / 8 * bits + i % 8) as u8;
        i += 1;
    }
    from
}

/// The first bit of each code among its eight.
const fn shifts(bits: usize) -> [u8; CODES] {
    let mut shifts = [0; CODES];
    let mut i = 0;
    while i < CODES {
        shifts[i] = (i % 8 * bits) as u8;
        i += 1;
    }
    shifts
}

/// The lowest `n` bits, up to 64.
fn lowest(n: usize) -> u64 {
    if n == CODES { u64::MAX } else { (1 << n) - 1 }
}

/// As [`super::unpack_rows`], of 1, 2, 3, 4 or 6 bits.
///
/// # Safety
/// The machine must have what [`crate::level::Level::Avx512`] stands for.
#[target_feature(enable = "avx512f,avx512bw,avx512vbmi")]
pub(super) unsafe fn unpack<const BITS: usize>(packed: &[u8], dim: usize, codes: &mut [u8], stride: usize) {
    let (spread, shifts) = (const { spread(BITS) }, const { shifts(BITS) });
    // SAFETY: the constants have 64 bytes; elsewhere only bytes of the slices are loaded and stored, by their masks.
    unsafe {
        let (spread, shifts) = (_mm512_loadu_si512(spread.as_ptr().cast()), _mm512_loadu_si512(shifts.as_ptr().cast()));
        let mask = _mm512_set1_epi8((1 << BITS) - 1);
        for (packed, codes) in packed.chunks_exact(row_bytes(dim, BITS as u32)).zip(codes.chunks_mut(stride)) {
            for (bytes, codes) in packed.chunks(CODES * BITS / 8).zip(codes[..dim].chunks_mut(CODES)) {
                let some = _mm512_maskz_loadu_epi8(lowest(bytes.len()), bytes.as_ptr().cast());
                let apart = _mm512_multishift_epi64_epi8(shifts, _mm512_permutexvar_epi8(spread, some));
                let whole = _mm512_and_si512(apart, mask);
                _mm512_mask_storeu_epi8(codes.as_mut_ptr().cast(), lowest(codes.len()), whole);
            }
        }
    }
}
