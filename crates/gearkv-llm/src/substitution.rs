//! Tokens of a float32 cache in exchange for what a method makes of them.

use gearkv::{Cancel, ErrorCode, GearCache, GearError, KvSlice, Result, Role};

use crate::eval::preset_pair;
use crate::method::{Keeper, Kept, LayerTokens, Method};
use crate::pass::Progress;
use crate::queries::QueryLog;
use crate::session::Session;

/// A sequence that a method keeps.
pub(crate) struct Substitution {
    keeper: Box<dyn Keeper>,
    /// Tokens that it keeps at a time, behind the prompt.
    pub stride: usize,
    /// What the method made of all tokens so far.
    cache: GearCache,
    layer: usize,
    /// Bits and elements since they were last taken.
    size: (f64, f64),
}

impl Substitution {
    /// Nothing is kept yet.
    ///
    /// # Errors
    /// None in practice.
    pub fn new(method: &dyn Method, session: &Session) -> Result<Self> {
        let cache = empty(session)?;
        Ok(Self { keeper: method.begin(), stride: method.buffer_tokens().max(1), cache, layer: 0, size: (0.0, 0.0) })
    }

    /// Layers that are done, and all there are.
    pub fn progress(&self) -> Progress {
        Progress { done: self.layer, total: self.cache.shape().layers }
    }

    /// Has the method keep the last `new` tokens of `session` in the next layer. `queries` are theirs.
    ///
    /// # Errors
    /// What the method finds wrong; `SHAPE_MISMATCH` when it gives back something else than whole tokens, no more than it was given,
    /// `INVALID_OPTION` when it drops tokens of a layer with a sliding window, `NOT_FINITE`.
    pub fn advance(
        &mut self,
        session: &Session,
        new: usize,
        queries: &mut QueryLog,
        cancel: Cancel,
    ) -> Result<Progress> {
        let (layer, a) = (self.layer, &session.model.0.architecture);
        let tokens = session.cache.layer_tokens(layer)?;
        let queries = queries.take(layer, a.heads);
        let given = LayerTokens {
            layer,
            kv_heads: a.kv_heads,
            heads: a.heads,
            head_dim: a.head_dim,
            scale: a.attention_scale,
            held: tokens - new,
            new,
            keys: session.cache.tensor(layer, Role::Key)?.decompress(cancel)?,
            values: session.cache.tensor(layer, Role::Value)?.decompress(cancel)?,
            queries: &queries,
        };
        let Kept { keys, values, bits } = self.keeper.keep(given)?;
        let token = a.kv_heads * a.head_dim;
        let kept = keys.len() / token;
        if keys.len() != values.len()
            || keys.len() != kept * token
            || kept > tokens
            || !(bits.is_finite() && bits >= 0.0)
        {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!(
                    "the method gave back {} keys and {} values in {bits} bits; expected as many of each, in tokens of {token}, no more than {tokens}",
                    keys.len(),
                    values.len()
                ),
            ));
        }
        if kept < tokens && a.layer_window(layer).is_some() {
            return Err(GearError::new(
                ErrorCode::InvalidOption,
                format!("the method drops tokens of layer {layer}, which counts them in its sliding window"),
            ));
        }
        self.cache.hold(layer, KvSlice::F32(&keys), KvSlice::F32(&values), kept)?;
        self.size.0 += bits;
        self.size.1 += (2 * new * token) as f64;
        self.layer += 1;
        Ok(self.progress())
    }

    /// Once all layers are done: puts what the method made into `session`, and is ready for the next tokens. Bits and elements since
    /// this was last called.
    ///
    /// # Errors
    /// None in practice.
    pub fn exchange(&mut self, session: &mut Session) -> Result<(f64, f64)> {
        session.cache = std::mem::replace(&mut self.cache, empty(session)?);
        self.layer = 0;
        Ok(std::mem::take(&mut self.size))
    }
}

fn empty(session: &Session) -> Result<GearCache> {
    let (key, value) = preset_pair("float32")?;
    GearCache::new(session.model.cache_shape(), key, value)
}
