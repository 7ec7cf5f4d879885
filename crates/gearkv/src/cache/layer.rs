//! One layer of a cache: its keys and its values, which change together.

use crate::attention::AttendOptions;
use crate::auto;
use crate::config::{GearConfig, Storage};
use crate::error::{Cancel, Result};
use crate::need::Observed;
use crate::shape::{KvShape, KvSlice};
use crate::tensor::GearTensor;

#[derive(Clone)]
pub(super) struct Layer {
    pub key: GearTensor,
    pub value: GearTensor,
    /// Queries of what will be compressed next.
    pub observed: Observed,
}

impl Layer {
    pub fn new(key: GearTensor, value: GearTensor) -> Self {
        Self { key, value, observed: Observed::default() }
    }

    pub fn byte_length(&self) -> usize {
        self.key.byte_length() + self.value.byte_length() + self.observed.byte_length()
    }

    /// Whether queries make a difference to what is compressed.
    pub fn heeds_queries(&self) -> bool {
        let heeds = |config: &GearConfig| config.storage == Storage::Gear && config.mean_bits != 0.0;
        heeds(self.key.config()) || heeds(self.value.config())
    }

    pub fn note(&mut self, q: KvSlice, queries: usize, options: &AttendOptions) {
        let KvShape { batch, head_dim, .. } = self.key.shape();
        self.observed.note(q, batch * options.query_heads, queries, head_dim, options);
    }

    /// Both sides are prepared before either is changed.
    pub fn hold(&mut self, k: KvSlice, v: KvSlice, tokens: usize) -> Result<()> {
        let key = self.key.prepare_hold(k, tokens)?;
        let value = self.value.prepare_hold(v, tokens)?;
        self.key.commit(key);
        self.value.commit(value);
        Ok(())
    }

    pub fn settle(&mut self, cancel: Cancel) -> Result<()> {
        if !self.key.is_full() && !self.value.is_full() {
            return Ok(());
        }
        let streamed = self.key.comes_from_buffer(self.key.buffer().tokens());
        let survey = (!self.observed.is_empty()).then(|| self.key.survey(&self.observed));
        let (key_config, value_config) = match auto::share(&self.key, &self.value, survey.as_ref(), cancel)? {
            Some((key, value)) => (Some(key), Some(value)),
            None => (None, None),
        };
        let key = self.key.prepare_settle(survey.as_ref(), key_config, cancel)?;
        let value = self.value.prepare_settle(survey.as_ref(), value_config, cancel)?;
        if let Some(key) = key {
            self.key.commit_settle(key);
        }
        if let Some(value) = value {
            self.value.commit_settle(value);
        }
        if streamed {
            self.observed.forget();
        } else {
            self.observed.clear();
        }
        Ok(())
    }
}
