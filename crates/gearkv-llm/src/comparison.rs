//! An evaluation under way: window after window, first on the float16 cache, then on each candidate's.

use gearkv::{CacheShape, Cancel, FreezeOptions, GearCache, GearConfig, GearTensor, Result, Role};

use crate::eval::{Cache, Candidate, Evaluation, WindowFound, preset_pair};
use crate::forcing::Forcing;
use crate::freezing::{frozen, mean_squares};
use crate::layer_errors::{self, LayerSums};
use crate::model::Model;
use crate::pass::{GoOn, Progress};
use crate::perplexity::log_sum_exp;
use crate::queries::QueryLog;
use crate::recompress::Recompression;
use crate::session::Session;
use crate::substitution::Substitution;
use crate::sums::Sums;
use crate::texts::{Texts, Windows};

/// Presets beside a float16 cache, unit by unit.
pub struct EvalRun {
    model: Model,
    texts: Texts,
    candidates: Vec<Candidate>,
    baseline: Sums,
    /// One a candidate.
    sums: Vec<Sums>,
    /// Of the window and the candidate at hand.
    present: Sums,
    /// One a window that has begun, where they were asked for.
    windows: Vec<WindowFound>,
    window: usize,
    /// Windows done, once for each candidate and once for float16.
    done: usize,
    stage: Stage,
}

/// Where a window is.
enum Stage {
    /// Not begun.
    Next,
    /// The prompt is on its way into the float16 cache.
    Prompt(Box<Session>),
    /// The continuation is forced on that cache.
    Reference(Box<(Prompted, Forced)>),
    /// The prompt is compressed as a candidate wants it.
    Recompress(Box<(Prompted, Prompting)>),
    /// What the candidate made of the prompt is looked at, layer by layer.
    Inspect(Box<(Prompted, Forced)>),
    /// The continuation is forced on the candidate's cache.
    Compare(Box<(Prompted, Forced)>),
}

/// What all candidates of a window begin with.
struct Prompted {
    /// The prompt on a float16 cache.
    exact: Session,
    /// The prompt's queries, where a candidate needs them.
    queries: QueryLog,
    /// `[position][token]` log-probabilities of the continuation there.
    reference: Vec<Vec<f32>>,
    candidate: usize,
}

/// A prompt on its way into a candidate's cache.
enum Prompting {
    Gear(Recompression),
    /// The session on its float16 cache, and mean squares of its queries.
    Frozen(Session, FreezeOptions, Option<Vec<Vec<f32>>>),
    Method(Session, Substitution, QueryLog),
}

/// A continuation on its way.
struct Forced {
    session: Session,
    forcing: Forcing,
    method: Option<MethodForced>,
    /// Bits and elements of the prompt that are compressed.
    prompt: (f64, f64),
}

/// What a method makes of a continuation.
struct MethodForced {
    substitution: Substitution,
    /// Tokens of the continuation that it has kept.
    kept: usize,
    /// Bits and elements of them.
    size: (f64, f64),
}

impl EvalRun {
    /// As [`crate::eval_windows`], before the first window.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn new(model: &Model, windows: Windows, candidates: Vec<Candidate>) -> Result<Self> {
        Self::of_texts(model, windows.try_into()?, candidates)
    }

    /// As [`crate::eval_texts`], before the first text.
    ///
    /// # Errors
    /// `INVALID_OPTION`.
    pub fn of_texts(model: &Model, texts: Texts, candidates: Vec<Candidate>) -> Result<Self> {
        texts.check()?;
        let sums = vec![Sums::default(); candidates.len()];
        let (model, baseline, present) = (model.clone(), Sums::default(), Sums::default());
        let (windows, stage) = (Vec::new(), Stage::Next);
        Ok(Self { model, texts, candidates, baseline, sums, present, windows, window: 0, done: 0, stage })
    }

    /// Windows that are done, once for each candidate and once for float16, and all there are.
    pub fn progress(&self) -> Progress {
        Progress { done: self.done, total: self.texts.items.len() * (self.candidates.len() + 1) }
    }

    /// One unit of work after the other, until none is left or `go_on` says no. Not to be called again after an error.
    ///
    /// # Errors
    /// `INVALID_OPTION`, `OUT_OF_RANGE` when a window does not suit the model, `ABORTED`.
    pub fn advance(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        while !self.progress().finished() {
            self.stage = match std::mem::replace(&mut self.stage, Stage::Next) {
                Stage::Next => self.begin()?,
                Stage::Prompt(session) => self.read(session, cancel)?,
                Stage::Reference(work) => self.refer(work, cancel)?,
                Stage::Recompress(work) => self.recompress(work, cancel)?,
                Stage::Inspect(work) => self.inspect(work, cancel)?,
                Stage::Compare(work) => self.compare(work, cancel)?,
            };
            if !go_on(self.progress()) {
                break;
            }
        }
        Ok(self.progress())
    }

    /// What was found, once all windows are done.
    pub fn found(&self) -> Evaluation {
        let rows = self.candidates.iter().zip(&self.sums).map(|(candidate, sums)| sums.row(&candidate.name)).collect();
        Evaluation { float16_perplexity: self.baseline.perplexity(), rows, windows: self.windows.clone() }
    }

    /// The continuation of the present window, and one token more.
    fn continuation(&self) -> &[u32] {
        let text = &self.texts.items[self.window];
        &text.token_ids[text.prompt_tokens..]
    }

    fn begin(&mut self) -> Result<Stage> {
        let (key, value) = preset_pair("float16")?;
        let mut session = self.model.session(key, value)?;
        let needed = self.texts.layer_errors || self.candidates.iter().any(|candidate| candidate.cache.needs_queries());
        session.queries = needed.then(QueryLog::default);
        let text = &self.texts.items[self.window];
        session.begin(&text.token_ids[..text.prompt_tokens])?;
        Ok(Stage::Prompt(Box::new(session)))
    }

    fn read(&self, mut exact: Box<Session>, cancel: Cancel) -> Result<Stage> {
        if !exact.read(cancel, &mut |_| false)?.finished() {
            return Ok(Stage::Prompt(exact));
        }
        let queries = exact.queries.take().unwrap_or_default();
        let forced = Forced::new(exact.fork(), self.continuation());
        let prompted = Prompted { exact: *exact, queries, reference: Vec::new(), candidate: 0 };
        Ok(Stage::Reference(Box::new((prompted, forced))))
    }

    fn refer(&mut self, mut work: Box<(Prompted, Forced)>, cancel: Cancel) -> Result<Stage> {
        let (prompted, Forced { session, forcing, .. }) = &mut *work;
        let sums = &mut self.present;
        let finished = forcing.advance(session, cancel, &mut |_, logits, next| {
            let normalizer = log_sum_exp(logits) as f32;
            let row: Vec<f32> = logits.iter().map(|x| x - normalizer).collect();
            sums.loss -= f64::from(row[next as usize]);
            sums.positions += 1;
            prompted.reference.push(row);
        })?;
        if !finished {
            return Ok(Stage::Reference(work));
        }
        let found = std::mem::take(&mut self.present);
        if self.texts.per_window {
            let prompt_tokens = self.texts.items[self.window].prompt_tokens;
            self.windows.push(WindowFound {
                prompt_tokens,
                continuation_tokens: found.positions,
                float16_perplexity: found.perplexity(),
                rows: Vec::new(),
            });
        }
        self.baseline.add(found);
        self.next_candidate(work.0)
    }

    fn recompress(&mut self, mut work: Box<(Prompted, Prompting)>, cancel: Cancel) -> Result<Stage> {
        let progress = match &mut work.1 {
            Prompting::Gear(recompression) => recompression.advance(cancel, &mut |_| false)?,
            // Its layers are frozen together.
            Prompting::Frozen(..) => Progress { done: 1, total: 1 },
            Prompting::Method(session, substitution, queries) => {
                substitution.advance(session, session.tokens().len(), queries, cancel)?
            }
        };
        if !progress.finished() {
            return Ok(Stage::Recompress(work));
        }
        let (prompted, prompting) = *work;
        let (forced, (bits, elements)) = match prompting {
            Prompting::Gear(recompression) => {
                let forced = Forced::new(recompression.finish(), self.continuation());
                let prompt = size(forced.session.cache());
                (forced, prompt)
            }
            Prompting::Frozen(session, options, queries) => {
                let (session, prompt) = frozen(session, &options, queries.as_deref(), cancel)?;
                (Forced::new(session, self.continuation()), prompt)
            }
            Prompting::Method(mut session, mut substitution, _) => {
                let prompt = substitution.exchange(&mut session)?;
                (Forced::by(substitution, session, self.continuation()), prompt)
            }
        };
        self.present.prompt_bits += bits;
        self.present.prompt_elements += elements;
        let work = Box::new((prompted, forced));
        Ok(if self.texts.layer_errors { Stage::Inspect(work) } else { Stage::Compare(work) })
    }

    /// One layer.
    fn inspect(&mut self, work: Box<(Prompted, Forced)>, cancel: Cancel) -> Result<Stage> {
        let (Prompted { exact, queries, .. }, Forced { session, .. }) = &*work;
        let layers = &mut self.present.layers;
        let sums: LayerSums = layer_errors::compare(exact, session, queries, layers.len(), cancel)?;
        layers.push(sums);
        let finished = layers.len() == exact.cache().shape().layers;
        Ok(if finished { Stage::Compare(work) } else { Stage::Inspect(work) })
    }

    fn compare(&mut self, mut work: Box<(Prompted, Forced)>, cancel: Cancel) -> Result<Stage> {
        let (Prompted { reference, candidate, .. }, Forced { session, forcing, method, prompt }) = &mut *work;
        let (sums, per_window) = (&mut self.present, self.texts.per_window);
        let finished = forcing.advance(session, cancel, &mut |position, logits, next| {
            sums.look(&reference[position], logits, next, per_window);
        })?;
        if let Some(method) = method {
            method.keep(forcing.given(), session, cancel)?;
        }
        if !finished {
            return Ok(Stage::Compare(work));
        }
        let compressed = match method {
            Some(method) => method.size,
            None => compressed_size(session.cache()),
        };
        sums.decode_bits += compressed.0 - prompt.0;
        sums.decode_elements += compressed.1 - prompt.1;
        let found = std::mem::take(sums);
        if let Some(window) = self.windows.last_mut() {
            window.rows.push(found.window_row(&self.candidates[*candidate].name));
        }
        self.sums[*candidate].add(found);
        work.0.candidate += 1;
        self.next_candidate(work.0)
    }

    /// A candidate's or the float16 cache's part of a window is done.
    fn next_candidate(&mut self, prompted: Prompted) -> Result<Stage> {
        self.done += 1;
        let Some(candidate) = self.candidates.get(prompted.candidate) else {
            self.window += 1;
            return Ok(Stage::Next);
        };
        let work = match &candidate.cache {
            cache @ Cache::Gear { key, value, .. } => {
                prompting(cache, &prompted, Recompression::new(&prompted.exact, key.clone(), value.clone())?)
            }
            cache @ Cache::Half { layer, role, config } => {
                let half = with_half(self.model.cache_shape(), *layer, *role, config)?;
                prompting(cache, &prompted, Recompression::into_cache(&prompted.exact, half))
            }
            Cache::Frozen { options, queries } => {
                let squares = queries.then(|| {
                    let (mut log, a) = (prompted.queries.clone(), &self.model.0.architecture);
                    let squares = |layer| mean_squares(&log.take(layer, a.heads), a.heads, a.kv_heads, a.head_dim);
                    (0..a.layers).map(squares).collect()
                });
                Prompting::Frozen(prompted.exact.fork(), options.clone(), squares)
            }
            Cache::Method(method) => {
                let substitution = Substitution::new(&**method, &prompted.exact)?;
                Prompting::Method(prompted.exact.fork(), substitution, prompted.queries.clone())
            }
        };
        Ok(Stage::Recompress(Box::new((prompted, work))))
    }
}

impl Forced {
    fn new(session: Session, continuation: &[u32]) -> Self {
        let (forcing, prompt) = (Forcing::new(&session, continuation), compressed_size(session.cache()));
        Self { session, forcing, method: None, prompt }
    }

    /// On what a method made of the prompt.
    fn by(substitution: Substitution, mut session: Session, continuation: &[u32]) -> Self {
        let forcing = Forcing::by(substitution.stride, continuation);
        session.queries = Some(QueryLog::default());
        let method = Some(MethodForced { substitution, kept: 0, size: (0.0, 0.0) });
        Self { session, forcing, method, prompt: (0.0, 0.0) }
    }
}

impl MethodForced {
    /// Has the method keep what came since it last did, once that is enough.
    fn keep(&mut self, given: usize, session: &mut Session, cancel: Cancel) -> Result<()> {
        let new = self.substitution.stride;
        if given - self.kept < new {
            return Ok(());
        }
        let mut queries = session.queries.take().unwrap_or_default();
        while !self.substitution.advance(session, new, &mut queries, cancel)?.finished() {}
        let (bits, elements) = self.substitution.exchange(session)?;
        session.queries = Some(QueryLog::default());
        self.kept = given;
        self.size = (self.size.0 + bits, self.size.1 + elements);
        Ok(())
    }
}

/// Bits and elements of everything.
fn size(cache: &GearCache) -> (f64, f64) {
    let mut bits = 0.0;
    let mut elements = 0.0;
    for_each_tensor(cache, |tensor| {
        bits += tensor.parts().without_headers() as f64 * 8.0;
        elements += tensor.shape().elements() as f64;
    });
    (bits, elements)
}

/// Bits and elements of the segments alone.
fn compressed_size(cache: &GearCache) -> (f64, f64) {
    let (mut bits, mut elements) = (0.0, 0.0);
    for_each_tensor(cache, |tensor| {
        let parts = tensor.parts();
        let raw = parts.sinks + parts.buffer;
        let wide = if tensor.config().storage == gearkv::Storage::Float32 { 4 } else { 2 };
        bits += (parts.without_headers() - raw) as f64 * 8.0;
        elements += (tensor.shape().elements() - raw / wide) as f64;
    });
    (bits, elements)
}

fn for_each_tensor(cache: &GearCache, mut f: impl FnMut(&gearkv::GearTensor)) {
    for layer in 0..cache.shape().layers {
        for role in [Role::Key, Role::Value] {
            if let Ok(tensor) = cache.tensor(layer, role) {
                f(tensor);
            }
        }
    }
}

fn prompting(cache: &Cache, prompted: &Prompted, recompression: Recompression) -> Prompting {
    Prompting::Gear(if cache.needs_queries() {
        recompression.with_queries(prompted.queries.clone())
    } else {
        recompression
    })
}

/// An empty float16 cache but for one half of one layer.
fn with_half(shape: CacheShape, layer: usize, role: Role, config: &GearConfig) -> Result<GearCache> {
    let (key, value) = preset_pair("float16")?;
    let tensor =
        |role, config: &GearConfig| GearTensor::new(shape.batch, shape.kv_heads, shape.head_dim, role, config.clone());
    let tensors = (0..shape.layers).map(|at| {
        let of = |half, exact| if (at, half) == (layer, role) { config } else { exact };
        Ok((tensor(Role::Key, of(Role::Key, &key))?, tensor(Role::Value, of(Role::Value, &value))?))
    });
    GearCache::from_tensors(shape, tensors.collect::<Result<_>>()?)
}
