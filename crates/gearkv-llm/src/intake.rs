//! New tokens of one session, or of several at once: a pass and the sessions that it belongs to.

use std::borrow::{Borrow, BorrowMut};
use std::sync::Arc;

use gearkv::{Cancel, ErrorCode, GearError, Result};

use crate::forward::logits;
use crate::model::Model;
use crate::pass::{GoOn, Lane, Part, Pass, Progress, TOGETHER};
use crate::session::Session;
use crate::timings::Timings;

/// Tokens on their way into sessions of one model. Every method must be given the same sessions.
#[derive(Clone)]
pub(crate) struct Intake {
    model: Model,
    pass: Pass,
    /// Those of each session.
    tokens: Vec<Vec<u32>>,
    /// What beginning took; it counts with the first unit.
    timings: Timings,
}

impl Intake {
    /// Each session gets its own tokens, at least one. Nothing is changed yet.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when sessions and lists of tokens differ in number, `INVALID_OPTION` when the sessions are of different
    /// models, `OUT_OF_RANGE` for a token that the model does not know or a context beyond its limit.
    pub fn begin<S: Borrow<Session>>(sessions: &[S], tokens: &[&[u32]], exact: bool) -> Result<Self> {
        if sessions.len() != tokens.len() {
            return Err(GearError::new(
                ErrorCode::ShapeMismatch,
                format!("{} lists of tokens for {} sessions; expected one each", tokens.len(), sessions.len()),
            ));
        }
        let Some(first) = sessions.first() else {
            return Err(GearError::new(ErrorCode::ShapeMismatch, "no sessions; expected at least one"));
        };
        let model = first.borrow().model.clone();
        if sessions.iter().any(|session| !Arc::ptr_eq(&session.borrow().model.0, &model.0)) {
            return Err(GearError::new(ErrorCode::InvalidOption, "the sessions are of different models"));
        }
        tokens.iter().try_for_each(|tokens| model.check_tokens(tokens))?;
        let held = sessions.iter().map(|session| session.borrow().tokens.len());
        let parts: Vec<Part> = held.zip(tokens).map(|(held, tokens)| Part { held, tokens, exact }).collect();
        let mut timings = Timings::default();
        let pass = Pass::new(&model.0, &parts, &mut timings)?;
        Ok(Self { model, pass, tokens: tokens.iter().map(|tokens| tokens.to_vec()).collect(), timings })
    }

    /// As [`Pass::progress`].
    pub fn progress(&self) -> Progress {
        self.pass.progress()
    }

    /// One unit after the other, until none is left or `go_on` says no.
    ///
    /// # Errors
    /// Whatever a cache finds wrong, and `ABORTED`; the sessions are what they were before it began.
    pub fn advance<S>(&mut self, sessions: &mut [S], cancel: Cancel, go_on: GoOn) -> Result<Progress>
    where
        S: BorrowMut<Session> + Send,
    {
        let mut timings = std::mem::take(&mut self.timings);
        let Self { model, pass, .. } = self;
        let result = model.on_threads(|| {
            let mut lanes: Vec<Lane> = sessions.iter_mut().map(|session| session.borrow_mut().lane()).collect();
            while !pass.finished() {
                pass.advance(&model.0, &mut lanes, &mut timings, cancel)?;
                if !go_on(pass.progress()) {
                    break;
                }
            }
            Ok(pass.progress())
        });
        self.share(sessions, &timings);
        if result.is_err() {
            Self::undo(sessions);
        }
        result
    }

    /// Appends the tokens, which are through all layers, and leaves each session with the logits of its next token.
    pub fn finish<S: BorrowMut<Session>>(self, sessions: &mut [S]) {
        let (width, vocabulary) = (self.model.0.architecture.width, self.model.0.architecture.vocabulary);
        let mut end = 0;
        let mut last = Vec::with_capacity(self.tokens.len() * width);
        for tokens in &self.tokens {
            end += tokens.len() * width;
            last.extend_from_slice(&self.pass.states()[end - width..end]);
        }
        let mut timings = Timings::default();
        let at_once = last.chunks(TOGETHER * width);
        let rows: Vec<f32> =
            self.model.on_threads(|| at_once.flat_map(|states| logits(&self.model.0, states, &mut timings)).collect());
        self.share(sessions, &timings);
        for (session, logits) in sessions.iter_mut().zip(rows.chunks_exact(vocabulary)) {
            let session = session.borrow_mut();
            session.logits.clear();
            session.logits.extend_from_slice(logits);
        }
        self.append(sessions);
    }

    /// Appends the tokens, and gives their states behind the last layer, `[tokens, width]`, session by session.
    pub fn append<S: BorrowMut<Session>>(self, sessions: &mut [S]) -> Vec<f32> {
        for (session, tokens) in sessions.iter_mut().zip(&self.tokens) {
            session.borrow_mut().tokens.extend_from_slice(tokens);
        }
        self.pass.into_states()
    }

    /// Takes back what layers of the caches have of tokens that were not appended.
    pub fn undo<S: BorrowMut<Session>>(sessions: &mut [S]) {
        for session in sessions {
            let session = session.borrow_mut();
            // Every layer has at least the tokens of its session, so that this cannot fail.
            let _ = session.cache.truncate(session.tokens.len());
        }
    }

    /// Work that was done together counts in proportion to the tokens.
    fn share<S: BorrowMut<Session>>(&self, sessions: &mut [S], timings: &Timings) {
        let all: usize = self.tokens.iter().map(Vec::len).sum();
        for (session, tokens) in sessions.iter_mut().zip(&self.tokens) {
            session.borrow_mut().timings.add_share(timings, tokens.len() as f64 / all as f64);
        }
    }
}
