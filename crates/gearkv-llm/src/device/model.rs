//! A model on a device.

use std::fs::File;
use std::io::Cursor;
use std::path::Path;
use std::sync::Arc;

use candle_core::{Device, Tensor};
use gearkv::{CacheShape, ErrorCode, GearCache, GearConfig, GearError, Result};

use super::caches::LayerCaches;
#[cfg(feature = "cuda")]
use super::cuda::CudaBackend;
use super::error;
use super::host::HostCaches;
use super::session::DeviceSession;
use super::weights::{Product, TensorLayer, vector};
use crate::architecture::Architecture;
use crate::gguf::{Source, io_failed};
use crate::model::{self, EMBEDDING, ModelInfo, OUTPUT, Opened};
use crate::tokenizer::Tokenizer;
use crate::weights::Matrix;

/// A language model on one of candle's devices. Cloning is cheap and shares the weights.
#[derive(Clone)]
pub struct DeviceModel(pub(super) Arc<TensorWeights>);

pub(super) struct TensorWeights {
    pub architecture: Architecture,
    pub tokenizer: Tokenizer,
    pub info: ModelInfo,
    pub device: Device,
    backend: Backend,
    /// In main memory: a token's row is all that is ever read.
    pub embedding: Matrix,
    pub layers: Vec<TensorLayer>,
    pub norm: Tensor,
    pub output: Product,
}

/// Where caches live.
enum Backend {
    Host,
    #[cfg(feature = "cuda")]
    Cuda(CudaBackend),
}

impl Backend {
    fn of(device: &Device) -> Result<Self> {
        match device {
            Device::Cpu => Ok(Self::Host),
            #[cfg(feature = "cuda")]
            Device::Cuda(cuda) => CudaBackend::new(cuda.clone()).map(Self::Cuda),
            _ => Err(GearError::new(
                ErrorCode::BackendUnavailable,
                format!(
                    "there are no caches on {:?}; expected the CPU, or with feature cuda an NVIDIA GPU",
                    device.location()
                ),
            )),
        }
    }
}

impl DeviceModel {
    /// Loads a GGUF file. Weights stay quantized as the file has them; those that are not become float32.
    ///
    /// # Errors
    /// As [`crate::Model::load`]; `BACKEND_UNAVAILABLE` for a device without caches, or one whose memory does not suffice.
    pub fn load(path: &Path, device: &Device) -> Result<Self> {
        let file = File::open(path).map_err(|e| io_failed(&format!("opening {}", path.display()), &e))?;
        Self::read(Box::new(file), device)
    }

    /// A model from a GGUF file's bytes.
    ///
    /// # Errors
    /// As [`Self::load`].
    pub fn from_bytes(bytes: Vec<u8>, device: &Device) -> Result<Self> {
        Self::read(Box::new(Cursor::new(bytes)), device)
    }

    fn read(source: Box<dyn Source>, device: &Device) -> Result<Self> {
        let backend = Backend::of(device)?;
        let Opened { mut gguf, architecture, tokenizer } = Opened::read(source)?;
        let a = &architecture;
        let output = if gguf.has(OUTPUT) { OUTPUT } else { EMBEDDING };
        let embedding = model::matrix_of_tokens(&mut gguf, a, EMBEDDING)?;
        let output = Product::read(&mut gguf, a.width, &[(output.to_owned(), a.vocabulary)], device)?;
        let norm = vector(&mut gguf, "output_norm.weight", a.width, device)?;
        let layers =
            (0..a.layers).map(|layer| TensorLayer::read(&mut gguf, a, layer, device)).collect::<Result<Vec<_>>>()?;
        let bytes = output.byte_length() + layers.iter().map(TensorLayer::byte_length).sum::<usize>();
        let info = model::info(&gguf, a, bytes);
        let device = device.clone();
        let weights = TensorWeights { architecture, tokenizer, info, device, backend, embedding, layers, norm, output };
        Ok(Self(Arc::new(weights)))
    }

    /// What it is; `weight_bytes` are those on the device.
    pub fn info(&self) -> &ModelInfo {
        &self.0.info
    }

    /// Its tokenizer and chat template.
    pub fn tokenizer(&self) -> &Tokenizer {
        &self.0.tokenizer
    }

    /// The shape of a cache for it.
    pub fn cache_shape(&self) -> CacheShape {
        self.0.architecture.cache_shape()
    }

    /// A session without tokens on caches of these configurations.
    ///
    /// # Errors
    /// `INVALID_OPTION`, also for what a GPU does not hold; `BACKEND_UNAVAILABLE` when its memory does not suffice.
    pub fn session(&self, key: GearConfig, value: GearConfig) -> Result<DeviceSession> {
        let cache = GearCache::new(self.cache_shape(), key, value)?;
        DeviceSession::restore(self, &cache, Vec::new())
    }

    /// Caches that hold what `cache` holds.
    pub(super) fn caches(&self, cache: &GearCache) -> Result<Box<dyn LayerCaches>> {
        match &self.0.backend {
            Backend::Host => Ok(Box::new(HostCaches::new(cache.clone(), self.0.device.clone()))),
            #[cfg(feature = "cuda")]
            Backend::Cuda(backend) => backend.caches(cache),
        }
    }

    /// What tokens are to the first layer, `[tokens, width]`.
    pub(super) fn embedded(&self, tokens: &[u32]) -> Result<Tensor> {
        let a = &self.0.architecture;
        let mut states = vec![0.0; tokens.len() * a.width];
        for (&token, state) in tokens.iter().zip(states.chunks_exact_mut(a.width)) {
            self.0.embedding.row(token as usize, state);
            state.iter_mut().for_each(|x| *x *= a.embedding_scale);
        }
        Tensor::from_vec(states, (tokens.len(), a.width), &self.0.device).map_err(error::device)
    }
}
