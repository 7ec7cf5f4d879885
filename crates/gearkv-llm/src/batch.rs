//! Several texts at once: every step reads the weights once for all of them, and each keeps a cache of its own length.

use gearkv::{Cancel, ErrorCode, GearConfig, GearError, Result};
use serde::Serialize;

use crate::generate::{GenerateOptions, Generation, Step};
use crate::intake::Intake;
use crate::model::Model;
use crate::pass::{GoOn, Progress};
use crate::session::Session;
use crate::timings::Timings;

/// Texts in the making.
pub struct Batch {
    sequences: Vec<Sequence>,
    /// Numbers of the sequences whose prompts are to be read; the last is next. Each goes through the layers by itself: so only
    /// one is ever uncompressed, and what becomes of it does not depend on the others.
    waiting: Vec<usize>,
    /// The pass under way: of the last that is waiting.
    intake: Option<Intake>,
    /// Tokens of the prompts that are behind us, and all there are.
    read: Progress,
}

struct Sequence {
    session: Session,
    generation: Generation,
    prompt: Vec<u32>,
    /// Its last step was handed out.
    ended: bool,
}

/// A step of one of the texts.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BatchStep {
    /// The text's number.
    pub index: usize,
    /// Its step.
    #[serde(flatten)]
    pub step: Step,
}

/// Sizes of a batch's caches, all sequences together.
#[derive(Debug, Clone, Copy, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BatchStats {
    /// Texts, ended ones included.
    pub sequences: usize,
    /// Texts that have not ended.
    pub active: usize,
    /// Tokens held.
    pub tokens: usize,
    /// Bytes of everything that the caches keep.
    pub byte_length: usize,
    /// Bytes that the same tokens take in float16.
    pub float16_byte_length: usize,
    /// Where the time went.
    pub timings: Timings,
}

impl Batch {
    /// One text behind each prompt, on caches of these configurations. Sequence `i` draws with seed `options.seed + i`. A prompt
    /// that is longer than the model's context ends with [`crate::Reason::Length`], without a token.
    ///
    /// # Errors
    /// `INVALID_OPTION`; `SHAPE_MISMATCH` when there is no prompt, or one without tokens; `OUT_OF_RANGE` for a token that the
    /// model does not know.
    pub fn new(
        model: &Model,
        key: &GearConfig,
        value: &GearConfig,
        prompts: Vec<Vec<u32>>,
        options: &GenerateOptions,
    ) -> Result<Self> {
        if prompts.is_empty() {
            return Err(GearError::new(ErrorCode::ShapeMismatch, "a batch has no prompts; expected at least one"));
        }
        let context = model.info().context_length;
        let mut sequences = Vec::with_capacity(prompts.len());
        for (index, prompt) in prompts.into_iter().enumerate() {
            if prompt.is_empty() {
                let message = format!("prompt {index} has no tokens; expected at least one");
                return Err(GearError::new(ErrorCode::ShapeMismatch, message));
            }
            model.check_tokens(&prompt)?;
            let seed = options.seed.wrapping_add(index as u32);
            let mut generation = Generation::new(GenerateOptions { seed, ..options.clone() })?;
            if prompt.len() > context {
                generation.end_for_length();
            }
            let session = model.session(key.clone(), value.clone())?;
            sequences.push(Sequence { session, generation, prompt, ended: false });
        }
        let fits = |&index: &usize| sequences[index].generation.ended().is_none();
        let length = |&index: &usize| sequences[index].prompt.len();
        let mut waiting: Vec<usize> = (0..sequences.len()).rev().filter(fits).collect();
        // The longest first, while the least memory is taken.
        waiting.sort_by_key(length);
        let read = Progress { done: 0, total: waiting.iter().map(length).sum() };
        Ok(Self { sequences, waiting, intake: None, read })
    }

    /// Takes the prompts in, as [`Session::read`] does; to be done before [`Self::next`].
    ///
    /// # Errors
    /// `ABORTED` and whatever a cache finds wrong; prompts that were through stay, and the others can be read again.
    pub fn read(&mut self, cancel: Cancel, go_on: GoOn) -> Result<Progress> {
        while let Some(&index) = self.waiting.last() {
            let Sequence { session, prompt, .. } = &mut self.sequences[index];
            let mut intake = match self.intake.take() {
                Some(under_way) => under_way,
                None => Intake::begin(&[&*session], &[prompt], true)?,
            };
            let (before, mut wanted) = (self.read, true);
            let progress = intake.advance(&mut [&mut *session], cancel, &mut |progress| {
                wanted = go_on(Progress { done: before.done + progress.done, ..before });
                wanted
            })?;
            if progress.finished() {
                intake.finish(&mut [session]);
                self.waiting.pop();
                self.read.done += progress.total;
            } else {
                self.intake = Some(intake);
            }
            if !wanted {
                return Ok(Progress { done: before.done + progress.done, ..before });
            }
        }
        Ok(self.read)
    }

    /// Whether a prompt is half taken in: caches have some of it then.
    pub fn reading(&self) -> bool {
        self.intake.is_some()
    }

    /// Gives up the prompts that are half taken in: [`Self::read`] begins them anew.
    pub fn abandon(&mut self) {
        if let (Some(_), Some(&index)) = (self.intake.take(), self.waiting.last()) {
            Intake::undo(&mut [&mut self.sequences[index].session]);
        }
    }

    /// The next token of each text that has not ended. Prompts that were not read yet are read first.
    /// Empty when all have ended.
    ///
    /// # Errors
    /// As [`Generation::next_all`].
    pub fn next(&mut self, cancel: Cancel) -> Result<Vec<BatchStep>> {
        self.read(cancel, &mut |_| true)?;
        let active = |sequence: &Sequence| !sequence.ended;
        let numbers = self.sequences.iter().enumerate().filter(|(_, sequence)| active(sequence));
        let numbers: Vec<usize> = numbers.map(|(index, _)| index).collect();
        let pairs = self.sequences.iter_mut().filter(|sequence| active(sequence));
        let (mut generations, mut sessions): (Vec<_>, Vec<_>) =
            pairs.map(|sequence| (&mut sequence.generation, &mut sequence.session)).unzip();
        let steps = Generation::next_all(&mut generations, &mut sessions, cancel)?;
        for (&index, step) in numbers.iter().zip(&steps) {
            self.sequences[index].ended = step.reason.is_some();
        }
        Ok(numbers.into_iter().zip(steps).map(|(index, step)| BatchStep { index, step }).collect())
    }

    /// Sizes and times.
    pub fn stats(&self) -> BatchStats {
        let mut stats = BatchStats {
            sequences: self.sequences.len(),
            active: self.sequences.iter().filter(|sequence| !sequence.ended).count(),
            tokens: 0,
            byte_length: 0,
            float16_byte_length: 0,
            timings: Timings::default(),
        };
        for Sequence { session, .. } in &self.sequences {
            stats.tokens += session.tokens().len();
            stats.byte_length += session.cache().byte_length();
            stats.float16_byte_length += session.cache().float16_byte_length();
            stats.timings.add_share(&session.timings(), 1.0);
        }
        stats
    }

    /// Sequence `index`'s session.
    pub fn session(&self, index: usize) -> Option<&Session> {
        self.sequences.get(index).map(|sequence| &sequence.session)
    }
}
