//! Reading bytes that nobody vouches for, little-endian.

use half::f16;

use crate::error::{GearError, Result};

/// What is left of some bytes.
pub(crate) struct Reader<'a> {
    rest: &'a [u8],
    what: &'static str,
}

impl<'a> Reader<'a> {
    pub fn new(what: &'static str, bytes: &'a [u8]) -> Self {
        Self { rest: bytes, what }
    }

    /// # Errors
    /// `CORRUPT_DATA` when there are fewer.
    pub fn bytes(&mut self, count: usize) -> Result<&'a [u8]> {
        let Some((bytes, rest)) = self.rest.split_at_checked(count) else {
            return Err(self.corrupt("ends too early"));
        };
        self.rest = rest;
        Ok(bytes)
    }

    /// `count` pieces of `N` bytes.
    pub fn words<const N: usize>(&mut self, count: usize) -> Result<&'a [[u8; N]]> {
        let length = count.checked_mul(N).ok_or_else(|| self.corrupt("claims more than a machine can hold"))?;
        Ok(self.bytes(length)?.as_chunks().0)
    }

    pub fn u8(&mut self) -> Result<u8> {
        Ok(self.words::<1>(1)?[0][0])
    }

    pub fn i16(&mut self) -> Result<i16> {
        Ok(i16::from_le_bytes(self.words::<2>(1)?[0]))
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.words::<4>(1)?[0]))
    }

    pub fn f32(&mut self) -> Result<f32> {
        Ok(f32::from_le_bytes(self.words::<4>(1)?[0]))
    }

    /// Finite float16 values, widened.
    pub fn halves(&mut self, count: usize) -> Result<Vec<f32>> {
        let values: Vec<f32> = self.words::<2>(count)?.iter().map(|b| f16::from_le_bytes(*b).to_f32()).collect();
        if values.iter().all(|x| x.is_finite()) {
            Ok(values)
        } else {
            Err(self.corrupt("has numbers that are not finite"))
        }
    }

    /// # Errors
    /// `CORRUPT_DATA` when something is left.
    pub fn finish(self) -> Result<()> {
        if self.rest.is_empty() { Ok(()) } else { Err(self.corrupt("is longer than what it describes")) }
    }

    pub fn corrupt(&self, how: &str) -> GearError {
        GearError::corrupt(format!("damaged {}: it {how}", self.what))
    }
}
