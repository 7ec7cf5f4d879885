//! A conversation on another cache, without computing it again.

use gearkv::{Cancel, GearCache, GearConfig, KvSlice, Result, Role};

use crate::pass::{GoOn, Progress};
use crate::queries::QueryLog;
use crate::session::Session;
use crate::timings::{Stopwatch, Timings};

/// A session's tokens on their way into a cache of other configurations, layer by layer. What the session does meanwhile
/// changes nothing here.
pub struct Recompression {
    session: Session,
    cache: GearCache,
    layer: usize,
    timings: Timings,
    /// Those of all tokens, where they are known.
    queries: Option<QueryLog>,
}

impl Recompression {
    /// Of what `session` holds now. A prompt that is on its way into it is left out.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn new(session: &Session, key: GearConfig, value: GearConfig) -> Result<Self> {
        Ok(Self::into_cache(session, GearCache::new(session.cache().shape(), key, value)?))
    }

    /// Into an empty cache of the same shape.
    pub(crate) fn into_cache(session: &Session, cache: GearCache) -> Self {
        let mut session = session.fork();
        session.abandon();
        Self { session, cache, layer: 0, timings: Timings::default(), queries: None }
    }

    /// With the queries of all tokens at hand, as in a prefill.
    pub(crate) fn with_queries(self, queries: QueryLog) -> Self {
        Self { queries: Some(queries), ..self }
    }

    /// Layers that are done, and all there are.
    pub fn progress(&self) -> Progress {
        Progress { done: self.layer, total: self.cache.shape().layers }
    }

    /// One layer after the other, each compressed as one prompt, until all are done or `go_on` says no.
    ///
    /// # Errors
    /// `OUT_OF_RANGE`, `ABORTED`.
    pub fn advance(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        let Self { session, cache, layer, timings, queries } = self;
        let total = cache.shape().layers;
        let tokens = session.tokens().len();
        let mut clock = Stopwatch::start();
        session.model().on_threads(|| {
            while *layer < total {
                let keys = session.cache().tensor(*layer, Role::Key)?.decompress(cancel)?;
                let values = session.cache().tensor(*layer, Role::Value)?.decompress(cancel)?;
                // What an interruption left of this layer.
                if cache.layer_tokens(*layer)? == 0 {
                    cache.hold(*layer, KvSlice::F32(&keys), KvSlice::F32(&values), tokens)?;
                    if let Some(log) = queries {
                        let a = &session.model().0.architecture;
                        let queries = log.take(*layer, a.heads);
                        cache.observe(*layer, KvSlice::F32(&queries), tokens, &a.attend_options(*layer))?;
                    }
                }
                cache.settle(*layer, cancel)?;
                *layer += 1;
                if !go_on(Progress { done: *layer, total }) {
                    break;
                }
            }
            Ok(())
        })?;
        clock.lap(&mut timings.compression);
        Ok(self.progress())
    }

    /// The session on the new cache; to be called when [`Self::progress`] is at its end.
    pub fn finish(self) -> Session {
        self.session.with_cache(self.cache, self.timings)
    }
}
