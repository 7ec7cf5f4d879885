//! A model's own cache, recorded while it reads a text.

use std::sync::{Arc, Mutex};

use gearkv::{ErrorCode, GearError, KvShape, NEVER, Result};
use gearkv_llm::{Candidate, Keeper, Kept, LayerTokens, Method, Model, Windows, eval_windows};

use crate::fixture::{Fixture, Layer};

/// As many tokens, queries behind them and layers as the recorded fixture has.
const TOKENS: usize = 512;
const QUERIES: usize = 32;
const LAYERS: usize = 4;

impl Fixture {
    /// Records keys and values of the first tokens of the first text, and the queries of the tokens behind them, in layers from the
    /// first to the last.
    ///
    /// # Errors
    /// As [`eval_windows`].
    pub fn record(model: &Model, windows: &Windows) -> Result<Self> {
        let cache = model.cache_shape();
        let last = cache.layers - 1;
        let mut wanted: Vec<usize> = (0..LAYERS).map(|i| i * last / (LAYERS - 1)).collect();
        wanted.dedup();
        let tape = Tape { wanted, layers: Arc::default() };
        let tokens = TOKENS.min(windows.prompt_tokens);
        let first = windows.token_ids.first().into_iter();
        let text = Windows {
            prompt_tokens: tokens,
            continuation_tokens: QUERIES,
            names: Vec::new(),
            token_ids: first.map(|ids| ids.iter().take(tokens + QUERIES + 1).copied().collect()).collect(),
        };
        eval_windows(model, &text, &[Candidate::method(Arc::new(tape.clone()))], NEVER, &mut |_, _| {})?;
        let layers = std::mem::take(&mut *tape.lock()?);
        let shape = KvShape::new(1, cache.kv_heads, tokens, cache.head_dim)?;
        Self::new(shape, model.info().heads, QUERIES, layers)
    }
}

/// Notes what it is given and changes nothing.
#[derive(Clone)]
struct Tape {
    wanted: Vec<usize>,
    layers: Arc<Mutex<Vec<Layer>>>,
}

impl Tape {
    fn lock(&self) -> Result<std::sync::MutexGuard<'_, Vec<Layer>>> {
        self.layers.lock().map_err(|_| GearError::new(ErrorCode::Internal, "recording a cache was interrupted"))
    }
}

impl Method for Tape {
    fn name(&self) -> &str {
        "recording"
    }

    fn buffer_tokens(&self) -> usize {
        QUERIES
    }

    fn begin(&self) -> Box<dyn Keeper> {
        Box::new(self.clone())
    }
}

impl Keeper for Tape {
    fn keep(&mut self, tokens: LayerTokens) -> Result<Kept> {
        if let Some(at) = self.wanted.iter().position(|&layer| layer == tokens.layer) {
            let mut layers = self.lock()?;
            if tokens.held == 0 {
                layers.push(Layer { key: tokens.keys.clone(), value: tokens.values.clone(), ..Layer::default() });
            } else {
                layers[at].query = tokens.queries.to_vec();
                layers[at].scale = tokens.scale;
            }
        }
        Ok(tokens.replace_new(|_, _| 0.0))
    }
}
