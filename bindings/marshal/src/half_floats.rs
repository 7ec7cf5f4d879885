//! Sixteen-bit floats, for which JavaScript has no arithmetic: as bits in, as floats out, and back.

use gearkv::{ErrorCode, GearError};
use half::slice::{HalfBitsSliceExt, HalfFloatSliceExt};
use half::{bf16, f16};

use crate::Result;

/// Which sixteen bits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HalfKind {
    /// IEEE binary16.
    F16,
    /// The upper half of an IEEE binary32.
    Bf16,
}

impl HalfKind {
    /// Reads `"f16"` or `"bf16"`.
    ///
    /// # Errors
    /// `INVALID_OPTION` for anything else.
    pub fn parse(name: &str) -> Result<Self> {
        match name {
            "f16" => Ok(Self::F16),
            "bf16" => Ok(Self::Bf16),
            other => {
                let message = format!("kind is {other:?}; expected \"f16\" or \"bf16\"");
                Err(GearError::new(ErrorCode::InvalidOption, message).into())
            }
        }
    }
}

/// Exact. `floats` must be as long as `bits`.
pub fn widen(bits: &[u16], kind: HalfKind, floats: &mut [f32]) {
    match kind {
        HalfKind::F16 => bits.reinterpret_cast::<f16>().convert_to_f32_slice(floats),
        HalfKind::Bf16 => bits.reinterpret_cast::<bf16>().convert_to_f32_slice(floats),
    }
}

/// To the nearest, ties to even; what is too large becomes infinite. `bits` must be as long as `floats`.
pub fn narrow(floats: &[f32], kind: HalfKind, bits: &mut [u16]) {
    match kind {
        HalfKind::F16 => bits.reinterpret_cast_mut::<f16>().convert_from_f32_slice(floats),
        HalfKind::Bf16 => bits.reinterpret_cast_mut::<bf16>().convert_from_f32_slice(floats),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_half_survives_widening_and_narrowing() {
        let bits: Vec<u16> = (0..=u16::MAX).collect();
        for kind in [HalfKind::F16, HalfKind::Bf16] {
            let mut floats = vec![0.0; bits.len()];
            let mut back = vec![0; bits.len()];
            widen(&bits, kind, &mut floats);
            narrow(&floats, kind, &mut back);
            for ((&given, &float), &returned) in bits.iter().zip(&floats).zip(&back) {
                // A NaN may come back quieted.
                assert!(given == returned || float.is_nan(), "{kind:?} {given:#06x} became {returned:#06x}");
            }
        }
    }

    #[test]
    fn narrowing_rounds_to_nearest_even() {
        let mut bits = [0; 3];
        narrow(&[1.0 + 1.0 / 2048.0, 1.0 + 3.0 / 2048.0, 1e6], HalfKind::F16, &mut bits);
        assert_eq!(bits, [0x3c00, 0x3c02, 0x7c00]);
    }

    #[test]
    fn other_kinds_are_refused() {
        assert_eq!(HalfKind::parse("f8").unwrap_err().code(), "INVALID_OPTION");
    }
}
