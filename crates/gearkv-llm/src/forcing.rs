//! A text whose tokens are given, to see what the model would have said at each of them.

use gearkv::{Cancel, Result, Role};

use crate::forward::logits;
use crate::intake::Intake;
use crate::session::Session;

/// Rows of logits that are made at once: memory does not grow with the text, and in WebAssembly a unit does not take long.
pub(crate) const LOGIT_ROWS: usize = if cfg!(target_arch = "wasm32") { 8 } else { 64 };

/// What gets a position, the logits behind it and the token that comes next.
pub(crate) type Look<'a> = &'a mut dyn FnMut(usize, &[f32], u32);

/// A text on its way into a session, as many tokens at a time as fill the buffer, so that compression works as in decoding.
pub(crate) struct Forcing {
    /// All but the last are given to the session.
    ids: Vec<u32>,
    stride: usize,
    intake: Option<Intake>,
    /// Tokens that the session has.
    given: usize,
    /// States of the last of them, `[tokens, width]`.
    states: Vec<f32>,
    /// Positions whose logits were looked at.
    seen: usize,
}

impl Forcing {
    pub fn new(session: &Session, ids: &[u32]) -> Self {
        Self::by(stride(session), ids)
    }

    /// `stride` tokens at a time.
    pub fn by(stride: usize, ids: &[u32]) -> Self {
        Self { ids: ids.to_vec(), stride, intake: None, given: 0, states: Vec::new(), seen: 0 }
    }

    /// Tokens that the session has of the text.
    pub fn given(&self) -> usize {
        self.given
    }

    /// Positions that were looked at, and all there are.
    pub fn seen(&self) -> (usize, usize) {
        (self.seen, self.ids.len().saturating_sub(1))
    }

    /// One unit of a pass, or some rows of logits; always of the same session. Whether all is done.
    ///
    /// # Errors
    /// As [`Session::read`].
    pub fn advance(&mut self, session: &mut Session, cancel: Cancel, look: Look) -> Result<bool> {
        let (_, all) = self.seen();
        if self.seen < self.given {
            self.look_at_some(session, look);
        } else if self.given < all {
            let until = (self.given + self.stride).min(all);
            let mut intake = match self.intake.take() {
                Some(intake) => intake,
                None => Intake::begin(&[&*session], &[&self.ids[self.given..until]], true)?,
            };
            if intake.advance(&mut [&mut *session], cancel, &mut |_| false)?.finished() {
                self.states = intake.append(&mut [session]);
                self.given = until;
            } else {
                self.intake = Some(intake);
            }
        }
        Ok(self.seen == all)
    }

    fn look_at_some(&mut self, session: &mut Session, look: Look) {
        let model = session.model.clone();
        let a = &model.0.architecture;
        let left = self.given - self.seen;
        let rows = left.min(LOGIT_ROWS);
        let start = self.states.len() - left * a.width;
        let (states, timings) = (&self.states[start..start + rows * a.width], &mut session.timings);
        let logits = model.on_threads(|| logits(&model.0, states, timings));
        for logits in logits.chunks_exact(a.vocabulary) {
            look(self.seen, logits, self.ids[self.seen + 1]);
            self.seen += 1;
        }
    }
}

/// As many tokens as fill the buffer.
fn stride(session: &Session) -> usize {
    let tensor = |role| session.cache().tensor(0, role);
    let buffer = [Role::Key, Role::Value]
        .into_iter()
        .filter_map(|role| tensor(role).ok())
        .map(|tensor| tensor.config().buffer_tokens as usize)
        .min();
    buffer.unwrap_or(1).max(1)
}
