//! Methods that change each token by itself, whatever its neighbours are.

use std::sync::Arc;

use gearkv::Result;
use gearkv_llm::{Keeper, Kept, LayerTokens, Method};

/// A method that changes each head's channels of a token by themselves.
pub trait Codec: Send + Sync {
    /// Changes `head`, `[head_dim]`, into what its codes stand for, and gives the bits that they take, everything counted.
    fn pass(&self, head: &mut [f32]) -> f64;
}

/// A codec in an evaluation.
#[derive(Clone)]
pub struct CodecMethod {
    /// What its row is called.
    pub name: String,
    /// What it does to keys and to values.
    pub codec: Arc<dyn Codec>,
}

impl Method for CodecMethod {
    fn name(&self) -> &str {
        &self.name
    }

    fn begin(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }
}

impl Keeper for CodecMethod {
    fn keep(&mut self, tokens: LayerTokens) -> Result<Kept> {
        let dim = tokens.head_dim;
        Ok(tokens.replace_new(|_, new| new.chunks_exact_mut(dim).map(|head| self.codec.pass(head)).sum()))
    }
}
