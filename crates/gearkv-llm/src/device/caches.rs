//! Where keys and values of a session on a device live.

use candle_core::Tensor;
use gearkv::{AttendOptions, Cancel, Result};

/// New tokens of one layer, `[heads, tokens, head_dim]` each, and how they attend.
pub(super) struct NewTokens<'a> {
    pub queries: &'a Tensor,
    pub keys: &'a Tensor,
    pub values: &'a Tensor,
    pub count: usize,
    pub options: AttendOptions,
}

/// The caches of all layers of one sequence. A pass is: [`Self::begin`]; then layer by layer [`Self::attend`] for each chunk of its tokens and
/// [`Self::close`]; then [`Self::finish`], or [`Self::truncate`] where it was interrupted.
pub(super) trait LayerCaches: Send {
    /// `tokens` tokens are about to come to every layer.
    fn begin(&mut self, tokens: usize) -> Result<()>;

    /// Appends tokens to a layer and gives what their queries attend to, `[heads, tokens, head_dim]`: to all that was there, and each to no token
    /// behind its own.
    fn attend(&mut self, layer: usize, new: &NewTokens, cancel: Cancel) -> Result<Tensor>;

    /// All tokens of the pass have come to this layer.
    fn close(&mut self, layer: usize, cancel: Cancel) -> Result<()>;

    /// All tokens have come to all layers: what was kept exact until now is compressed.
    fn finish(&mut self, cancel: Cancel) -> Result<()>;

    /// Keeps the first `tokens` tokens.
    ///
    /// # Errors
    /// `OUT_OF_RANGE` where some of the others cannot be taken back; nothing is changed then.
    fn truncate(&mut self, tokens: usize) -> Result<()>;

    /// Caches that go on from here.
    fn fork(&self) -> Result<Box<dyn LayerCaches>>;

    /// Bytes that the caches take on the device.
    fn byte_length(&self) -> usize;
}
