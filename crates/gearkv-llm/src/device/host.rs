//! Caches in main memory, for devices that have no layers of their own.

use candle_core::{Device, Tensor};
use gearkv::{Cancel, GearCache, KvSlice, Result};

use super::caches::{LayerCaches, NewTokens};
use super::error;

/// A [`GearCache`] behind tensors, which are fetched for it.
pub(super) struct HostCaches {
    cache: GearCache,
    device: Device,
    /// Tokens of the pass that is under way.
    coming: usize,
}

impl HostCaches {
    pub fn new(cache: GearCache, device: Device) -> Self {
        Self { cache, device, coming: 0 }
    }
}

/// A tensor's values in main memory.
pub(super) fn fetched(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all().and_then(|flat| flat.to_vec1()).map_err(error::device)
}

/// Puts tokens of a prompt into a layer, uncompressed; queries of one that will be compressed say what it is for. Gives the queries.
pub(super) fn hold(cache: &mut GearCache, layer: usize, new: &NewTokens, prompt: usize) -> Result<Vec<f32>> {
    let [queries, keys, values] = [new.queries, new.keys, new.values].map(fetched);
    let (queries, keys, values) = (queries?, keys?, values?);
    cache.hold(layer, KvSlice::F32(&keys), KvSlice::F32(&values), new.count)?;
    if prompt > buffer_tokens(cache)? {
        cache.observe(layer, KvSlice::F32(&queries), new.count, &new.options)?;
    }
    Ok(queries)
}

/// Tokens that wait before they are compressed.
pub(super) fn buffer_tokens(cache: &GearCache) -> Result<usize> {
    Ok(cache.tensor(0, gearkv::Role::Key)?.config().buffer_tokens as usize)
}

impl LayerCaches for HostCaches {
    fn begin(&mut self, tokens: usize) -> Result<()> {
        self.coming = tokens;
        Ok(())
    }

    fn attend(&mut self, layer: usize, new: &NewTokens, cancel: Cancel) -> Result<Tensor> {
        let queries = hold(&mut self.cache, layer, new, self.coming)?;
        let mut out = vec![0.0; queries.len()];
        self.cache.attend(layer, KvSlice::F32(&queries), new.count, &new.options, &mut out, cancel)?;
        Tensor::from_vec(out, new.queries.shape(), &self.device).map_err(error::device)
    }

    fn close(&mut self, layer: usize, cancel: Cancel) -> Result<()> {
        self.cache.settle(layer, cancel)
    }

    fn finish(&mut self, _cancel: Cancel) -> Result<()> {
        Ok(())
    }

    fn truncate(&mut self, tokens: usize) -> Result<()> {
        self.cache.truncate(tokens)
    }

    fn fork(&self) -> Result<Box<dyn LayerCaches>> {
        Ok(Box::new(Self { cache: self.cache.clone(), device: self.device.clone(), coming: 0 }))
    }

    fn byte_length(&self) -> usize {
        self.cache.byte_length()
    }
}
