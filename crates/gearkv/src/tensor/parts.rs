//! What a tensor takes, part by part.

use serde::Serialize;

/// Bytes of each part of a tensor.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Parts {
    /// Packed codes of the backbone, and their widths where these differ.
    pub codes: usize,
    /// Scales, zeros and means of the backbone.
    pub scales: usize,
    /// Both low-rank factors.
    pub low_rank: usize,
    /// Values and indices of outliers.
    pub sparse: usize,
    /// Leading tokens kept in float16.
    pub sinks: usize,
    /// Newest tokens, not yet compressed (or all, where the storage does not compress).
    pub buffer: usize,
    /// What the structures themselves take.
    pub headers: usize,
}

impl Parts {
    /// All of it.
    pub fn total(&self) -> usize {
        self.without_headers() + self.headers
    }

    /// What the paper counts.
    pub fn without_headers(&self) -> usize {
        self.codes + self.scales + self.low_rank + self.sparse + self.sinks + self.buffer
    }
}
