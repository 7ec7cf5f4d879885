//! What a layer holds on the device, for tests: the same layer made elsewhere must hold the same.

use std::sync::Arc;

use cudarc::driver::CudaStream;
use gearkv::Result;

use crate::error::driver;
use crate::layer::DeviceLayer;

/// One block of compressed tokens: where it starts, how many tokens it has, and the bytes of head and record of its keys and of its values.
#[doc(hidden)]
#[derive(Debug, PartialEq)]
pub struct BlockContents {
    pub first: u32,
    pub tokens: u32,
    pub key_head: Vec<u8>,
    pub key: Vec<u8>,
    pub value_head: Vec<u8>,
    pub value: Vec<u8>,
}

impl DeviceLayer {
    /// The blocks of each plane whose keys and values are compressed, downloaded.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE`.
    #[doc(hidden)]
    pub fn contents(&self, stream: &Arc<CudaStream>) -> Result<Vec<Vec<BlockContents>>> {
        let failed = || driver("give back the layer");
        let words = stream.clone_dtoh(&self.blocks).map_err(failed())?;
        let data = stream.clone_dtoh(&self.data).map_err(failed())?;
        let bytes = |at: u32, length: u32| data[at as usize * 16..][..length as usize].to_vec();
        let head = |at: u32| {
            let word =
                |i: usize| u32::from_le_bytes(data[at as usize * 16 + 4 * i..][..4].try_into().unwrap_or_default());
            // `means_at` and `turned_means_at`, behind which there is nothing.
            let means = if word(10) == 0 { 0 } else { 4 * self.dim as u32 };
            bytes(at, (word(23) + means).next_multiple_of(16))
        };
        let of_block = |block: &[u32]| BlockContents {
            first: block[6],
            tokens: block[7],
            key_head: head(block[4]),
            key: bytes(block[0], block[2]),
            value_head: head(block[5]),
            value: bytes(block[1], block[3]),
        };
        let planes = words.chunks_exact((self.stride * 8).max(1));
        Ok(planes
            .take(self.batch * self.heads)
            .map(|words| words.chunks_exact(8).take(self.parts.coded).map(of_block).collect())
            .collect())
    }
}
