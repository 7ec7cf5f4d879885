//! What the tests of a device have in common: the device, and layers to put on it.

use std::ops::Range;
use std::sync::Arc;

use gearkv::{AttendOptions, CacheShape, GearCache, GearOptions, KvShape, KvSlice, NEVER, Role};
use gearkv_cuda::Kernels;
use gearkv_cuda::cudarc::driver::CudaStream;

/// Attention on the stand-in may differ from that of decompressed keys and values by this share of the largest output: weights and queries
/// have about 22 bits there.
pub const EXACT_TOLERANCE: f32 = 2e-5;

/// And on a GPU: tensor cores cut off what is behind the 24th bit of a sum instead of rounding it. Logits reach ±50 here.
pub const ATTENTION_TOLERANCE: f32 = 5e-4;

/// Many queries of a KV head at once: keys and values of codes, and weights, are rounded to float16 then, as they are where nothing is compressed. With
/// logits of ±50 that moves weights by some thousandths.
pub const TILE_TOLERANCE: f32 = 3e-3;

/// Queries of a KV head from which on that is so.
pub const WORTH_A_TILE: usize = 16;

/// The core's own attention rounds queries, keys and weights to integers; here, where logits are large, this is what that may come to.
pub const CORE_TOLERANCE: f32 = 3e-3;

/// Decompressed values may differ by this share of the largest: sums of rotated rows and of low-rank are in another order.
pub const DECOMPRESSION_TOLERANCE: f32 = 1e-6;

pub struct Device {
    pub kernels: Arc<Kernels>,
    pub stream: Arc<CudaStream>,
    /// What attention may be off by.
    pub tolerance: f32,
    /// As many copies of a sequence as keep the device so busy that none is cut: each warp goes through several blocks.
    pub copies: usize,
}

impl Device {
    /// What attention may be off by with so many queries of a KV head.
    pub fn tolerance_of(&self, queries: usize) -> f32 {
        if queries < WORTH_A_TILE { self.tolerance } else { TILE_TOLERANCE }
    }
}

/// The device; `None`, and a line that says why, where there is none. `GEARKV_CUDA_REQUIRED` makes that a failure.
pub fn device() -> Option<Device> {
    match gearkv_cuda::context(0) {
        Ok(context) => {
            let kernels = Kernels::load(&context).expect("the kernels load");
            let exact = context.name().is_ok_and(|name| name == "stand-in");
            let tolerance = if exact { EXACT_TOLERANCE } else { ATTENTION_TOLERANCE };
            let copies = if exact { 24 } else { 1200 };
            Some(Device { kernels, stream: context.default_stream(), tolerance, copies })
        }
        Err(error) => {
            assert!(std::env::var_os("GEARKV_CUDA_REQUIRED").is_none(), "{error}");
            assert_eq!(error.code(), gearkv::ErrorCode::BackendUnavailable);
            eprintln!("skipped: {error}");
            None
        }
    }
}

/// Numbers that look like keys and values: normally distributed, some channels far wider than others, a few far out.
pub struct Numbers(u64);

impl Numbers {
    pub fn new(seed: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1)
    }

    fn uniform(&mut self) -> f32 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 40) as f32 / (1 << 24) as f32
    }

    pub fn normal(&mut self) -> f32 {
        (0..6).map(|_| self.uniform()).sum::<f32>() * 1.414 - 4.243
    }

    pub fn rows(&mut self, rows: usize, dim: usize) -> Vec<f32> {
        let widths: Vec<f32> = (0..dim).map(|_| (self.normal() * 0.8).exp()).collect();
        let mut values = Vec::with_capacity(rows * dim);
        for _ in 0..rows {
            for width in &widths {
                let far = if self.uniform() < 0.005 { 6.0 } else { 1.0 };
                values.push(self.normal() * width * far);
            }
        }
        values
    }
}

/// Options from JSON.
pub fn options(json: &str) -> GearOptions {
    GearOptions::from_json(json).expect(json)
}

#[derive(Clone, Copy)]
pub struct Shape {
    pub batch: usize,
    pub heads: usize,
    pub dim: usize,
}

impl Shape {
    pub fn planes(&self) -> usize {
        self.batch * self.heads
    }
}

/// A cache of one layer with a prompt of `prompt` tokens and `later` more, which came one by one.
pub fn cache(options: [&GearOptions; 2], shape: Shape, prompt: usize, later: usize, seed: u64) -> GearCache {
    let Shape { batch, heads, dim } = shape;
    let [key, value] = options;
    let (key, value) = (key.resolve(Role::Key).expect("key"), value.resolve(Role::Value).expect("value"));
    let shape = CacheShape { layers: 1, batch, kv_heads: heads, head_dim: dim };
    let mut cache = GearCache::new(shape, key, value).expect("a cache");
    let mut numbers = Numbers::new(seed);
    let mut append = |cache: &mut GearCache, tokens: usize| {
        let k = numbers.rows(batch * heads * tokens, dim);
        let v = numbers.rows(batch * heads * tokens, dim);
        cache.append(0, KvSlice::F32(&k), KvSlice::F32(&v), tokens, NEVER).expect("an append");
    };
    append(&mut cache, prompt);
    (0..later).for_each(|_| append(&mut cache, 1));
    cache
}

/// The largest difference, as a share of the largest expected value.
pub fn difference(got: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(got.len(), expected.len());
    let largest = expected.iter().fold(f32::MIN_POSITIVE, |most, x| most.max(x.abs()));
    let apart = |(x, y): (&f32, &f32)| if x.is_finite() { (x - y).abs() } else { f32::INFINITY };
    got.iter().zip(expected).map(apart).fold(0.0, f32::max) / largest
}

/// `softmax(q Kᵀ) V` of decompressed keys and values, in float64: `q` is `[batch, query_heads, 1, head_dim]`.
pub fn exact_attention(cache: &GearCache, q: &[f32], options: &AttendOptions) -> Vec<f32> {
    let KvShape { tokens, head_dim: dim, .. } = cache.tensor(0, Role::Key).expect("a layer").shape();
    let first = options.window.map_or(0, |window| tokens.saturating_sub(window));
    exact_sums(cache, q, 1, &vec![first..tokens; q.len() / dim], options)
}

/// The same of `positions` positions (`q` is `[batch, query_heads, positions, head_dim]`), of each row over the tokens that it sees.
pub fn exact_sums(
    cache: &GearCache,
    q: &[f32],
    positions: usize,
    seen: &[Range<usize>],
    options: &AttendOptions,
) -> Vec<f32> {
    let [key, value] = [Role::Key, Role::Value].map(|role| cache.tensor(0, role).expect("a layer"));
    let KvShape { heads, tokens, head_dim: dim, .. } = key.shape();
    let [keys, values] = [key, value].map(|tensor| tensor.decompress(NEVER).expect("decompression"));
    let scale = options.scale.map_or(1.0 / (dim as f64).sqrt(), f64::from);
    let mut out = Vec::with_capacity(q.len());
    for (row, (q, seen)) in q.chunks_exact(dim).zip(seen).enumerate() {
        let row = row / positions;
        let (item, head) = (row / options.query_heads, row % options.query_heads / (options.query_heads / heads));
        let plane = (item * heads + head) * tokens * dim;
        let own = plane + seen.start * dim..plane + seen.end * dim;
        let logits = keys[own.clone()].chunks_exact(dim).map(|key| {
            let logit = key.iter().zip(q).map(|(k, q)| f64::from(*k) * f64::from(*q)).sum::<f64>() * scale;
            options.softcap.map_or(logit, |cap| f64::from(cap) * (logit / f64::from(cap)).tanh())
        });
        let logits: Vec<f64> = logits.collect();
        let largest = logits.iter().fold(f64::NEG_INFINITY, |most, &x| most.max(x));
        let weights: Vec<f64> = logits.iter().map(|x| (x - largest).exp()).collect();
        let mut sums = vec![0.0f64; dim];
        for (weight, value) in weights.iter().zip(values[own].chunks_exact(dim)) {
            sums.iter_mut().zip(value).for_each(|(sum, v)| *sum += weight * f64::from(*v));
        }
        let all: f64 = weights.iter().sum();
        out.extend(sums.iter().map(|sum| if all > 0.0 { (sum / all) as f32 } else { 0.0 }));
    }
    out
}
