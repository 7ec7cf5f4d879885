//! Ways to keep keys and values that are no preset: what an evaluation compares GEAR with, and what is only being tried out.
//!
//! A method sees the exact keys and values, gives back what they become, and says what that takes. The evaluation puts the floats
//! into a float32 cache, so that nothing of a method has to be servable.

use gearkv::{Result, Role};

/// A way to keep keys and values.
pub trait Method: Send + Sync {
    /// What its row is called.
    fn name(&self) -> &str;

    /// Tokens that wait exactly behind the prompt until they are given to [`Keeper::keep`] together.
    fn buffer_tokens(&self) -> usize {
        64
    }

    /// Begins a sequence.
    fn begin(&self) -> Box<dyn Keeper>;
}

/// A method at work on one sequence.
pub trait Keeper: Send {
    /// Keeps new tokens of one layer: first those of the prompt, then a buffer of them at a time, each time layer by layer.
    ///
    /// # Errors
    /// Whatever the method finds wrong; the evaluation ends with it.
    fn keep(&mut self, tokens: LayerTokens) -> Result<Kept>;
}

/// Tokens of one layer, the new ones behind those that are kept.
#[derive(Debug, Clone)]
pub struct LayerTokens<'a> {
    /// The layer.
    pub layer: usize,
    /// KV heads.
    pub kv_heads: usize,
    /// Query heads; head `h` belongs to KV head `h · kv_heads / heads`.
    pub heads: usize,
    /// Channels of a head.
    pub head_dim: usize,
    /// What logits are multiplied by.
    pub scale: f32,
    /// Tokens that were kept before.
    pub held: usize,
    /// Tokens that are new.
    pub new: usize,
    /// `[kv_heads, held + new, head_dim]`: what was given back, and behind it the new tokens' exact keys, RoPE applied.
    pub keys: Vec<f32>,
    /// As `keys`.
    pub values: Vec<f32>,
    /// Queries of the new tokens, `[heads, new, head_dim]`, RoPE applied.
    pub queries: &'a [f32],
}

/// What [`Keeper::keep`] makes of tokens.
#[derive(Debug, Clone)]
pub struct Kept {
    /// `[kv_heads, tokens, head_dim]`: all tokens that attention will see, in order. There may be fewer than were given.
    pub keys: Vec<f32>,
    /// As `keys`.
    pub values: Vec<f32>,
    /// Bits that the layer takes more than before, everything counted.
    pub bits: f64,
}

impl LayerTokens<'_> {
    /// Leaves what is held as it is, and has `f` change the new keys and then the new values, `[kv_heads, new, head_dim]`, into what
    /// they become; it gives the bits that they take.
    pub fn replace_new(mut self, mut f: impl FnMut(Role, &mut [f32]) -> f64) -> Kept {
        let (plane, skip) = ((self.held + self.new) * self.head_dim, self.held * self.head_dim);
        let mut bits = 0.0;
        for (role, all) in [(Role::Key, &mut self.keys), (Role::Value, &mut self.values)] {
            let mut new: Vec<f32> = all.chunks_exact(plane).flat_map(|head| &head[skip..]).copied().collect();
            bits += f(role, &mut new);
            for (head, new) in all.chunks_exact_mut(plane).zip(new.chunks_exact(plane - skip)) {
                head[skip..].copy_from_slice(new);
            }
        }
        Kept { keys: self.keys, values: self.values, bits }
    }
}
