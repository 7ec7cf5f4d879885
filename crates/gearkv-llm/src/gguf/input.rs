//! The header's bytes, with the number that is left.

use std::io::{BufReader, Read};

use gearkv::Result;

use super::{Source, corrupt, io_failed};

pub(crate) struct Input<'a> {
    reader: BufReader<&'a mut Box<dyn Source>>,
    position: u64,
    length: u64,
}

impl<'a> Input<'a> {
    pub fn new(source: &'a mut Box<dyn Source>, length: u64) -> Self {
        Self { reader: BufReader::new(source), position: 0, length }
    }

    pub fn position(&self) -> u64 {
        self.position
    }

    /// Fails unless `count` things of at least `size` bytes are left.
    pub fn expect(&self, count: u64, size: u64) -> Result<()> {
        let left = self.length - self.position;
        if count.checked_mul(size).is_none_or(|bytes| bytes > left) {
            return Err(corrupt(format!(
                "the GGUF's header is cut short: {count} values of {size} bytes at byte {}, where {left} bytes are left",
                self.position
            )));
        }
        Ok(())
    }

    fn fill(&mut self, out: &mut [u8]) -> Result<()> {
        self.expect(out.len() as u64, 1)?;
        self.reader.read_exact(out).map_err(|e| io_failed("the model's header", &e))?;
        self.position += out.len() as u64;
        Ok(())
    }

    pub fn array<const N: usize>(&mut self) -> Result<[u8; N]> {
        let mut out = [0; N];
        self.fill(&mut out)?;
        Ok(out)
    }

    pub fn u32(&mut self) -> Result<u32> {
        Ok(u32::from_le_bytes(self.array()?))
    }

    pub fn u64(&mut self) -> Result<u64> {
        Ok(u64::from_le_bytes(self.array()?))
    }

    pub fn bytes(&mut self, n: u64) -> Result<Vec<u8>> {
        self.expect(n, 1)?;
        let mut out = vec![0; n as usize];
        self.fill(&mut out)?;
        Ok(out)
    }

    pub fn string(&mut self) -> Result<String> {
        let n = self.u64()?;
        let bytes = self.bytes(n)?;
        // Some files have text that is not UTF-8 (and pad it with zeros); that must not make the model unusable.
        Ok(String::from_utf8_lossy(&bytes).trim_end_matches('\0').to_owned())
    }
}
