//! Caches on a GPU.

use std::sync::Arc;

use candle_core::cuda_backend::CudaDevice;
use candle_core::op::BackpropOp;
use candle_core::{CudaStorage, Storage, Tensor};
use gearkv::{Cancel, ErrorCode, GearCache, GearError, GearTensor, Result, Role};
use gearkv_cuda::cudarc::driver::{CudaStream, CudaView};
use gearkv_cuda::{DeviceLayer, Kernels, Workspace};

use super::caches::{LayerCaches, NewTokens};
use super::error;
use super::host::{buffer_tokens, hold};

/// Tokens that a layer's buffer has room for, before it has to grow.
const ROOM: usize = 256;

/// A GPU with the kernels loaded.
#[derive(Clone)]
pub(super) struct CudaBackend {
    device: CudaDevice,
    stream: Arc<CudaStream>,
    kernels: Arc<Kernels>,
}

impl CudaBackend {
    pub fn new(device: CudaDevice) -> Result<Self> {
        let stream = device.cuda_stream();
        Ok(Self { kernels: Kernels::load(stream.context())?, stream, device })
    }

    /// Layers that hold what `cache` holds.
    pub fn caches(&self, cache: &GearCache) -> Result<Box<dyn LayerCaches>> {
        let layers = (0..cache.shape().layers).map(|layer| self.uploaded(cache, layer)).collect::<Result<Vec<_>>>()?;
        let mut blank = cache.clone();
        blank.clear();
        Ok(Box::new(CudaCaches { gpu: self.clone(), layers, workspace: Workspace::default(), blank, prompt: None }))
    }

    fn uploaded(&self, cache: &GearCache, layer: usize) -> Result<CudaLayer> {
        let (key, value) = (cache.tensor(layer, Role::Key)?, cache.tensor(layer, Role::Value)?);
        let layer = DeviceLayer::upload(&self.kernels, &self.stream, key, value, ROOM)?;
        let core = layer.segment_tokens().is_err().then(|| (key.clone(), value.clone()));
        Ok(CudaLayer { layer, core })
    }
}

/// A layer on the GPU.
struct CudaLayer {
    layer: DeviceLayer,
    /// Its keys and values in the core, where the GPU does not compress them itself.
    core: Option<(GearTensor, GearTensor)>,
}

/// One [`DeviceLayer`] for each of the model's.
///
/// New tokens go to a layer's buffer, in float16, and are attended to there. What fills the buffer is compressed by the GPU when all layers have it,
/// so that an interrupted pass can be taken back. The first prompt is the core's, as everywhere: what its queries look for decides how it is
/// compressed. It goes to both, layer by layer, and a layer that has all of it is uploaded.
struct CudaCaches {
    gpu: CudaBackend,
    layers: Vec<CudaLayer>,
    workspace: Workspace,
    /// Without tokens.
    blank: GearCache,
    /// The first prompt while it comes, and how many tokens it has.
    prompt: Option<(GearCache, usize)>,
}

/// A contiguous tensor's values on the GPU.
fn on_device<R>(tensor: &Tensor, f: impl FnOnce(&CudaView<f32>) -> Result<R>) -> Result<R> {
    let (storage, layout) = tensor.storage_and_layout();
    let (Storage::Cuda(storage), Some((start, end))) = (&*storage, layout.contiguous_offsets()) else {
        return Err(GearError::new(ErrorCode::Internal, "expected a contiguous tensor on the GPU"));
    };
    f(&storage.as_cuda_slice::<f32>().map_err(error::device)?.slice(start..end))
}

impl LayerCaches for CudaCaches {
    fn begin(&mut self, tokens: usize) -> Result<()> {
        let is_empty = self.layers.first().is_none_or(|first| first.layer.tokens() == 0);
        self.prompt = (is_empty && tokens > buffer_tokens(&self.blank)?).then(|| (self.blank.clone(), tokens));
        Ok(())
    }

    fn attend(&mut self, layer: usize, new: &NewTokens, _cancel: Cancel) -> Result<Tensor> {
        let stream = &self.gpu.stream;
        let CudaLayer { layer: own, .. } = &mut self.layers[layer];
        if let Some((prompt, tokens)) = &mut self.prompt {
            if prompt.layer_tokens(layer)? == 0 {
                prompt.reserve(layer, *tokens)?;
                own.reserve(stream, *tokens)?;
            }
            hold(prompt, layer, new, *tokens)?;
        }
        on_device(new.keys, |k| on_device(new.values, |v| own.append::<f32>(stream, k, v, new.count)))?;
        let mut out = self.gpu.device.alloc_zeros::<f32>(new.queries.elem_count()).map_err(error::device)?;
        on_device(new.queries, |q| {
            own.attend_chunk::<f32>(stream, &mut self.workspace, q, new.count, &new.options, &mut out)
        })?;
        let storage = Storage::Cuda(CudaStorage::wrap_cuda_slice(out, self.gpu.device.clone()));
        Ok(Tensor::from_storage(storage, new.queries.shape(), BackpropOp::none(), false))
    }

    fn close(&mut self, layer: usize, cancel: Cancel) -> Result<()> {
        if let Some((prompt, _)) = &mut self.prompt {
            prompt.settle(layer, cancel)?;
            self.layers[layer] = self.gpu.uploaded(prompt, layer)?;
        }
        Ok(())
    }

    fn finish(&mut self, cancel: Cancel) -> Result<()> {
        if self.prompt.take().is_some() {
            return Ok(());
        }
        let stream = &self.gpu.stream;
        for CudaLayer { layer, core } in &mut self.layers {
            match core {
                None => layer.settle(stream)?,
                Some((key, value)) => {
                    let buffer = key.config().buffer_tokens as usize;
                    // Tokens that only wait stay where they are.
                    if layer.waiting() < buffer { 0 } else { layer.settle_on_host(stream, key, value, cancel)? }
                }
            };
        }
        Ok(())
    }

    fn truncate(&mut self, tokens: usize) -> Result<()> {
        self.prompt = None;
        let too_late = self.layers.iter().find(|own| own.layer.tokens() - own.layer.waiting() > tokens);
        match too_late {
            Some(_) if tokens == 0 => {
                let layers = (0..self.layers.len()).map(|layer| self.gpu.uploaded(&self.blank, layer));
                self.layers = layers.collect::<Result<_>>()?;
            }
            Some(CudaLayer { layer, .. }) => {
                return Err(GearError::new(
                    ErrorCode::OutOfRange,
                    format!(
                        "the first {} tokens are compressed on the GPU, which keeps all of them or none; they cannot be cut to {tokens}",
                        layer.tokens() - layer.waiting()
                    ),
                ));
            }
            None => {
                for CudaLayer { layer, core } in &mut self.layers {
                    layer.truncate(tokens.min(layer.tokens()));
                    if let Some((key, value)) = core {
                        key.truncate(tokens.min(key.tokens()))?;
                        value.truncate(tokens.min(value.tokens()))?;
                    }
                }
            }
        }
        Ok(())
    }

    fn fork(&self) -> Result<Box<dyn LayerCaches>> {
        let forked =
            |own: &CudaLayer| Ok(CudaLayer { layer: own.layer.fork(&self.gpu.stream)?, core: own.core.clone() });
        let layers = self.layers.iter().map(forked).collect::<Result<_>>()?;
        let (gpu, blank) = (self.gpu.clone(), self.blank.clone());
        Ok(Box::new(Self { gpu, layers, workspace: Workspace::default(), blank, prompt: None }))
    }

    fn byte_length(&self) -> usize {
        self.layers.iter().map(|own| own.layer.byte_length()).sum::<usize>() + self.workspace.byte_length()
    }
}

#[cfg(test)]
mod tests {
    use candle_core::Device;
    use gearkv::{AttendOptions, CacheShape, GearConfig, GearOptions, NEVER};

    use super::super::host::HostCaches;
    use super::*;

    const LAYERS: usize = 2;
    const KV_HEADS: usize = 2;
    const HEADS: usize = 4;
    const DIM: usize = 64;

    /// None, visibly, where there is no GPU.
    fn gpu() -> Option<Device> {
        match Device::new_cuda(0) {
            Ok(device) => Some(device),
            Err(error) => {
                assert!(std::env::var_os("GEARKV_CUDA_REQUIRED").is_none(), "there is no GPU: {error}");
                println!("skipped: there is no GPU: {error}");
                None
            }
        }
    }

    fn cache(preset: &str) -> GearCache {
        let config = |role| -> GearConfig {
            GearOptions { preset: Some(preset.into()), ..Default::default() }.resolve(role).expect("a preset")
        };
        let shape = CacheShape { layers: LAYERS, batch: 1, kv_heads: KV_HEADS, head_dim: DIM };
        GearCache::new(shape, config(Role::Key), config(Role::Value)).expect("a cache")
    }

    /// The same pass through caches in main memory and on the GPU: how far results are from each other.
    struct Both {
        host: HostCaches,
        there: Box<dyn LayerCaches>,
        gpu: Device,
        state: u64,
    }

    impl Both {
        fn new(cache: &GearCache, gpu: &Device) -> Self {
            let Device::Cuda(cuda) = gpu else { panic!("expected a GPU") };
            let there = CudaBackend::new(cuda.clone()).expect("kernels").caches(cache).expect("caches");
            Self { host: HostCaches::new(cache.clone(), Device::Cpu), there, gpu: gpu.clone(), state: 7 }
        }

        fn rows(&mut self, heads: usize, tokens: usize) -> [Tensor; 2] {
            let values: Vec<f32> = (0..heads * tokens * DIM)
                .map(|i| {
                    self.state = self.state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    ((self.state >> 40) as f32 / (1 << 23) as f32 - 1.0) * (1.0 + (i % 7) as f32)
                })
                .collect();
            [&Device::Cpu, &self.gpu]
                .map(|device| Tensor::from_slice(&values, (heads, tokens, DIM), device).expect("memory"))
        }

        fn pass(&mut self, chunks: &[usize]) -> f32 {
            let tokens = chunks.iter().sum();
            self.host.begin(tokens).expect("a pass");
            self.there.begin(tokens).expect("a pass");
            let mut off = 0.0f32;
            for layer in 0..LAYERS {
                for &count in chunks {
                    let ([q, there_q], [k, there_k], [v, there_v]) =
                        (self.rows(HEADS, count), self.rows(KV_HEADS, count), self.rows(KV_HEADS, count));
                    let options = AttendOptions::new(HEADS);
                    let new = NewTokens { queries: &q, keys: &k, values: &v, count, options: options.clone() };
                    let expected = self.host.attend(layer, &new, NEVER).expect("attention");
                    let new = NewTokens { queries: &there_q, keys: &there_k, values: &there_v, count, options };
                    let got = self.there.attend(layer, &new, NEVER).expect("attention");
                    assert_eq!(got.shape(), expected.shape());
                    let values = |tensor: &Tensor| super::super::host::fetched(tensor).expect("memory");
                    let pairs = values(&got).into_iter().zip(values(&expected));
                    off = pairs.fold(off, |off, (a, b)| off.max((a - b).abs()));
                }
                self.host.close(layer, NEVER).expect("compression");
                self.there.close(layer, NEVER).expect("compression");
            }
            self.host.finish(NEVER).expect("compression");
            self.there.finish(NEVER).expect("compression");
            off
        }
    }

    #[test]
    fn caches_on_a_gpu_are_those_in_main_memory() {
        let Some(gpu) = gpu() else { return };
        for preset in ["gear-4", "gear-2", "kivi-4", "paper-gear-4", "float16"] {
            // A prompt first, or from the first token on; what fills the buffer in between.
            for first in [&[100, 50][..], &[1], &[40]] {
                let mut both = Both::new(&cache(preset), &gpu);
                let mut off = both.pass(first);
                for _ in 0..70 {
                    off = off.max(both.pass(&[1]));
                }
                // Few enough that no buffer overflows: the core makes one segment of all that waits then, a GPU one of `bufferTokens`.
                off = off.max(both.pass(&[4, 3])).max(both.pass(&[1]));
                println!("{preset} behind {first:?}: off by {off}");
                assert!(off < 2e-2, "{preset} behind {first:?}: off by {off}");
                let held = first.iter().sum::<usize>() + 70 + 8;
                both.host.truncate(held - 1).expect("fewer tokens");
                both.there.truncate(held - 1).expect("fewer tokens");
                let off = both.pass(&[1]);
                assert!(off < 2e-2, "{preset}, a token taken back: off by {off}");
                both.host.truncate(0).expect("no tokens");
                both.there.truncate(0).expect("no tokens");
                let off = both.pass(&[90]).max(both.pass(&[1]));
                assert!(off < 2e-2, "{preset}, begun anew: off by {off}");
                assert!(both.there.byte_length() > 0);
            }
        }
    }
}
