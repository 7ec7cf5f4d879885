//! The few vector instructions that products of integers need: SIMD128's own, and for tests elsewhere arrays.
//!
//! Only what gives the same bits in every browser: no relaxed SIMD.

#[cfg(target_feature = "simd128")]
pub(super) use simd128::*;

#[cfg(not(target_feature = "simd128"))]
pub(super) use arrays::*;

#[cfg(target_feature = "simd128")]
mod simd128 {
    use core::arch::wasm32::{
        f32x4_add, f32x4_convert_i32x4, f32x4_mul, f32x4_splat, i16x8_splat, i32x4_add, i32x4_dot_i16x8, i32x4_shl,
        i32x4_shr, i32x4_splat, u16x8_shr, v128, v128_and,
    };
    use half::f16;

    /// Eight 16-bit integers: two columns of four rows.
    pub type Pairs = v128;
    /// Four 32-bit sums, one a row.
    pub type Sums = v128;
    /// Four floats, one a row.
    pub type Floats = v128;

    pub const NO_SUMS: Sums = core::arch::wasm32::i32x4(0, 0, 0, 0);
    pub const NO_PAIRS: Pairs = NO_SUMS;

    // By reference: of an array that is passed by value the compiler makes 16 loads of a byte.
    #[inline(always)]
    pub fn load(bytes: &[u8; 16]) -> Pairs {
        bytemuck::pod_read_unaligned(bytes)
    }

    #[inline(always)]
    pub fn load_halves(x: &[f16; 8]) -> Pairs {
        bytemuck::pod_read_unaligned(bytemuck::bytes_of(x))
    }

    #[inline(always)]
    pub fn load_floats(x: &[f32; 4]) -> Floats {
        bytemuck::pod_read_unaligned(bytemuck::bytes_of(x))
    }

    #[inline(always)]
    pub fn store(x: Floats) -> [f32; 4] {
        bytemuck::cast(x)
    }

    /// Bits `SHIFT` on of each 16, as many as `mask` has.
    #[inline(always)]
    pub fn field<const SHIFT: u32>(x: Pairs, mask: i16) -> Pairs {
        let shifted = if SHIFT == 0 { x } else { u16x8_shr(x, SHIFT) };
        // The highest field has nothing above it.
        if mask as u16 >> (15 - SHIFT) == 1 { shifted } else { v128_and(shifted, i16x8_splat(mask)) }
    }

    /// `sums + a · b` over both columns; `b` is one pair for all rows.
    #[inline(always)]
    pub fn add_products(sums: Sums, a: Pairs, b: i32) -> Sums {
        i32x4_add(sums, i32x4_dot_i16x8(a, i32x4_splat(b)))
    }

    #[inline(always)]
    pub fn to_floats(x: Sums) -> Floats {
        f32x4_convert_i32x4(x)
    }

    #[inline(always)]
    pub fn splat(x: f32) -> Floats {
        f32x4_splat(x)
    }

    #[inline(always)]
    pub fn add(a: Floats, b: Floats) -> Floats {
        f32x4_add(a, b)
    }

    #[inline(always)]
    pub fn multiply(a: Floats, b: Floats) -> Floats {
        f32x4_mul(a, b)
    }

    /// Two finite float16 of each 32 bits, the lower first.
    #[inline(always)]
    pub fn widen_both(x: Pairs) -> (Floats, Floats) {
        const SIGN_AND_MAGNITUDE: i32 = 0x8FFF_FFFFu32 as i32;
        let gap = f32x4_splat(f32::from_bits((127 + 112) << 23));
        let widen = |x| f32x4_mul(v128_and(x, i32x4_splat(SIGN_AND_MAGNITUDE)), gap);
        (widen(i32x4_shr(i32x4_shl(x, 16), 3)), widen(v128_and(i32x4_shr(x, 3), i32x4_splat(!0x1FFF))))
    }
}

#[cfg(not(target_feature = "simd128"))]
mod arrays {
    use half::f16;

    pub type Pairs = [i16; 8];
    pub type Sums = [i32; 4];
    pub type Floats = [f32; 4];

    pub const NO_SUMS: Sums = [0; 4];
    pub const NO_PAIRS: Pairs = [0; 8];

    pub fn load(bytes: &[u8; 16]) -> Pairs {
        std::array::from_fn(|i| i16::from_le_bytes([bytes[2 * i], bytes[2 * i + 1]]))
    }

    pub fn load_halves(x: &[f16; 8]) -> Pairs {
        x.map(|x| x.to_bits() as i16)
    }

    pub fn load_floats(x: &[f32; 4]) -> Floats {
        *x
    }

    pub fn store(x: Floats) -> [f32; 4] {
        x
    }

    pub fn field<const SHIFT: u32>(x: Pairs, mask: i16) -> Pairs {
        x.map(|x| (x as u16 >> SHIFT) as i16 & mask)
    }

    pub fn add_products(sums: Sums, a: Pairs, b: i32) -> Sums {
        let (low, high) = (i32::from(b as i16), b >> 16);
        std::array::from_fn(|r| sums[r] + i32::from(a[2 * r]) * low + i32::from(a[2 * r + 1]) * high)
    }

    pub fn to_floats(x: Sums) -> Floats {
        x.map(|x| x as f32)
    }

    pub fn splat(x: f32) -> Floats {
        [x; 4]
    }

    pub fn add(a: Floats, b: Floats) -> Floats {
        std::array::from_fn(|r| a[r] + b[r])
    }

    pub fn multiply(a: Floats, b: Floats) -> Floats {
        std::array::from_fn(|r| a[r] * b[r])
    }

    pub fn widen_both(x: Pairs) -> (Floats, Floats) {
        let widen = |i: usize| f16::from_bits(x[i] as u16).to_f32();
        (std::array::from_fn(|r| widen(2 * r)), std::array::from_fn(|r| widen(2 * r + 1)))
    }
}
