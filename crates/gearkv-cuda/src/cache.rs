//! A whole model's cache: held by the core, and mirrored layer by layer on a device that attends to it.

use std::sync::{Arc, Mutex, PoisonError};

use cudarc::driver::DevicePtr;
use gearkv::{
    AttendOptions, Cancel, Chosen, ErrorCode, GearCache, GearError, GearTensor, KvSlice, NonFinite, Result, Role,
};

use crate::device::{Device, Scratch};
use crate::element::Element;
use crate::error::driver;
use crate::layer::DeviceLayer;

/// Tokens that a layer's buffer has room for when it is uploaded, before it has to grow.
const ROOM: usize = 256;

/// What happens when the device cannot do what it is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Otherwise {
    /// The call fails.
    Fail,
    /// The core does it, and everything after it; [`DeviceCache::given_up`] says why.
    Core,
}

/// A model's cache whose tensors come from and go to main memory.
///
/// The core holds all of it ([`Self::host`]) and compresses it; that is what is saved, and nothing is lost when a device falls over. A layer is
/// uploaded when something first attends to it. From then on tokens go to both, and the device compresses a full buffer by itself where
/// [`DeviceLayer::settle`] can: to the same codes. Whatever else changes a layer (a prompt that becomes a segment, ranks that heads share
/// by need, queries that say what to compress most exactly, shifts, tokens taken back beyond the buffer) has it uploaded anew before it is next
/// attended to.
///
/// ```no_run
/// use gearkv::{AttendOptions, GearCache, KvSlice, NEVER};
/// use gearkv_cuda::{Device, DeviceCache, Otherwise};
///
/// # fn example(host: &GearCache, k: &[f32], v: &[f32], q: &[f32], out: &mut [f32]) -> gearkv::Result<()> {
/// let mut cache = DeviceCache::new(host, Device::first()?, Otherwise::Core)?;
/// cache.append(0, KvSlice::F32(k), KvSlice::F32(v), 1, None, NEVER)?;
/// cache.attend(0, KvSlice::F32(q), 1, &AttendOptions::new(32), out, NEVER)?;
/// # Ok(())
/// # }
/// ```
pub struct DeviceCache {
    host: GearCache,
    device: Arc<Device>,
    otherwise: Otherwise,
    resident: Mutex<Resident>,
}

/// What is on the device. Forks share it until one of them changes a layer.
#[derive(Clone)]
struct Resident {
    layers: Vec<Option<Arc<DeviceLayer>>>,
    uploads: usize,
    given_up: Option<String>,
}

/// How many tokens of keys and of values wait, how many do not, and what preset `auto` chose.
#[derive(Clone, Copy, PartialEq)]
struct Extent {
    waiting: [usize; 2],
    settled: [usize; 2],
    chosen: [Option<Chosen>; 2],
}

/// New tokens of a layer.
#[derive(Clone, Copy)]
struct Tokens<'a> {
    k: KvSlice<'a>,
    v: KvSlice<'a>,
    count: usize,
}

impl DeviceCache {
    /// Puts a cache on a device.
    ///
    /// # Errors
    /// `INVALID_OPTION` for what a device does not hold, whatever `otherwise` says: the caller still has the cache.
    pub fn new(host: &GearCache, device: Arc<Device>, otherwise: Otherwise) -> Result<Self> {
        let layers = host.shape().layers;
        // An empty layer is refused as a full one would be. Layers differ in their bits alone.
        let blank = |role| {
            let tensor = host.tensor(0, role)?;
            let shape = tensor.shape();
            GearTensor::new(shape.batch, shape.heads, shape.head_dim, role, tensor.config().clone())
        };
        DeviceLayer::upload(device.kernels(), device.stream(), &blank(Role::Key)?, &blank(Role::Value)?, 0)?;
        Ok(Self {
            host: host.clone(),
            device,
            otherwise,
            resident: Mutex::new(Resident { layers: vec![None; layers], uploads: 0, given_up: None }),
        })
    }

    /// The cache in main memory, which has all that this one has.
    pub fn host(&self) -> &GearCache {
        &self.host
    }

    /// The device.
    pub fn device(&self) -> &Device {
        &self.device
    }

    /// Why the core has taken over, where it has.
    pub fn given_up(&self) -> Option<String> {
        self.resident(|resident| resident.given_up.clone())
    }

    /// Bytes of layers in the device's memory; forks share them until one changes.
    pub fn device_byte_length(&self) -> usize {
        self.resident(|resident| resident.layers.iter().flatten().map(|layer| layer.byte_length()).sum())
    }

    /// How many layers have been uploaded so far, those counted again that had to be uploaded anew.
    pub fn uploads(&self) -> usize {
        self.resident(|resident| resident.uploads)
    }

    /// The layer as it is on the device, where it is there.
    pub fn device_layer(&self, layer: usize) -> Option<Arc<DeviceLayer>> {
        self.resident(|resident| resident.layers.get(layer).cloned().flatten())
    }

    /// Appends tokens to one layer, as [`GearCache::append`], or with their queries as [`GearCache::append_with_queries`]. Nothing waits for the
    /// device. What fails on the device fails when the layer is next attended to.
    ///
    /// # Errors
    /// As these; nothing is changed then.
    pub fn append(
        &mut self,
        layer: usize,
        k: KvSlice,
        v: KvSlice,
        tokens: usize,
        queries: Option<(KvSlice, &AttendOptions)>,
        cancel: Cancel,
    ) -> Result<()> {
        let before = self.extent(layer)?;
        match queries {
            None => self.host.append(layer, k, v, tokens, cancel)?,
            Some((q, how)) => self.host.append_with_queries(layer, k, v, tokens, q, how, cancel)?,
        }
        if tokens == 0 {
            return Ok(());
        }
        let after = self.extent(layer)?;
        let new = Tokens { k, v, count: tokens };
        // The device knows of no queries: a segment that they have a say in is the core's.
        let by_queries = queries.is_some() && self.host.heeds_queries(layer)?;
        let suits = self.took_as_they_are(layer, new)? && !(by_queries && after.settled != before.settled);
        let device = Arc::clone(&self.device);
        let slot = &mut self.resident_mut().layers[layer];
        *slot = slot.take().filter(|_| suits).and_then(|mut kept| {
            // Where a fork has it, too, it stays with that one.
            let own = Arc::get_mut(&mut kept)?;
            follow(own, &device, before, after, new).ok()?.then_some(kept)
        });
        Ok(())
    }

    /// Attention of `queries` positions over one layer, as [`GearCache::attend`]. Waits for the device, whose result it gives.
    ///
    /// # Errors
    /// As that; `INVALID_OPTION` for a layer that the device cannot attend to and `BACKEND_UNAVAILABLE` when it fails, unless the core then does.
    pub fn attend(
        &self,
        layer: usize,
        q: KvSlice,
        queries: usize,
        options: &AttendOptions,
        out: &mut [f32],
        cancel: Cancel,
    ) -> Result<()> {
        self.host.check_queries(layer, q, queries, options)?;
        let tokens = self.host.layer_tokens(layer)?;
        // What the core refuses it refuses here; more queries than tokens, which see them all, are not what a device is for.
        if queries == 0 || queries > tokens || out.len() != q.len() || self.has_given_up() {
            return self.host.attend(layer, q, queries, options, out, cancel);
        }
        match self.attend_there(layer, q, queries, options, out) {
            Err(error) if self.otherwise == Otherwise::Core => {
                self.give_up(&error);
                self.host.attend(layer, q, queries, options, out, cancel)
            }
            result => result,
        }
    }

    /// As [`GearCache::truncate`]. What is taken back from the buffer is forgotten on the device, too; a layer that loses more is uploaded anew.
    ///
    /// # Errors
    /// As that.
    pub fn truncate(&mut self, tokens: usize) -> Result<()> {
        self.host.truncate(tokens)?;
        for slot in &mut self.resident_mut().layers {
            let mut kept = slot.take();
            let stays = kept.as_mut().is_some_and(|layer| {
                layer.tokens() == tokens || Arc::get_mut(layer).is_some_and(|own| own.truncate(tokens))
            });
            *slot = kept.filter(|_| stays);
        }
        Ok(())
    }

    /// Any other change: what was on the device is uploaded anew.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn change<R, E>(
        &mut self,
        change: impl FnOnce(&mut GearCache) -> std::result::Result<R, E>,
    ) -> std::result::Result<R, E> {
        let result = change(&mut self.host)?;
        self.resident_mut().layers.fill(None);
        Ok(result)
    }

    fn attend_there(
        &self,
        layer: usize,
        q: KvSlice,
        queries: usize,
        options: &AttendOptions,
        out: &mut [f32],
    ) -> Result<()> {
        let on_device = match self.device_layer(layer) {
            Some(on_device) => on_device,
            None => self.upload(layer)?,
        };
        let stream = self.device.stream();
        let Scratch { workspace, singles: [sent, got], .. } = &mut *self.device.scratch();
        let wide: Vec<f32>;
        let q = match q {
            KvSlice::F32(q) => q,
            KvSlice::F16(q) => {
                wide = q.iter().map(|x| x.to_f32()).collect();
                &wide
            }
        };
        let q = sent.put(stream, q)?;
        let mut result = got.room(stream, out.len())?;
        on_device.attend_chunk::<f32>(stream, workspace, &q, queries, options, &mut result)?;
        stream.memcpy_dtoh(&result, out).map_err(driver("give back what it computed"))?;
        stream.synchronize().map_err(driver("attend"))
    }

    fn upload(&self, layer: usize) -> Result<Arc<DeviceLayer>> {
        let tensor = |role| self.host.tensor(layer, role);
        let (key, value) = (tensor(Role::Key)?, tensor(Role::Value)?);
        let uploaded = DeviceLayer::upload(self.device.kernels(), self.device.stream(), key, value, ROOM)?;
        let uploaded = Arc::new(uploaded);
        self.resident(|resident| {
            resident.uploads += 1;
            resident.layers[layer] = Some(Arc::clone(&uploaded));
        });
        Ok(uploaded)
    }

    fn give_up(&self, error: &GearError) {
        self.resident(|resident| {
            resident.layers.fill(None);
            resident.given_up = Some(error.to_string());
        });
    }

    fn has_given_up(&self) -> bool {
        self.resident(|resident| resident.given_up.is_some())
    }

    fn extent(&self, layer: usize) -> Result<Extent> {
        let of = |role| {
            let tensor = self.host.tensor(layer, role)?;
            Ok::<_, GearError>((tensor.waiting(), tensor.tokens() - tensor.waiting(), tensor.chosen()))
        };
        let (key, value) = (of(Role::Key)?, of(Role::Value)?);
        Ok(Extent { waiting: [key.0, value.0], settled: [key.1, value.1], chosen: [key.2, value.2] })
    }

    /// Whether the core kept these numbers and mended none of them.
    fn took_as_they_are(&self, layer: usize, Tokens { k, v, .. }: Tokens) -> Result<bool> {
        for (role, values) in [(Role::Key, k), (Role::Value, v)] {
            if self.host.tensor(layer, role)?.config().non_finite == NonFinite::Replace && !fits_half(values) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    fn resident<R>(&self, with: impl FnOnce(&mut Resident) -> R) -> R {
        // Each change of it is a single assignment.
        with(&mut self.resident.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn resident_mut(&mut self) -> &mut Resident {
        self.resident.get_mut().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A fork: it shares what neither of the two has changed, on the device as well.
impl Clone for DeviceCache {
    fn clone(&self) -> Self {
        Self {
            host: self.host.clone(),
            device: Arc::clone(&self.device),
            otherwise: self.otherwise,
            resident: Mutex::new(self.resident(|resident| resident.clone())),
        }
    }
}

/// Does on the device what the core did with new tokens; says whether the layer is what the core's is.
fn follow(layer: &mut DeviceLayer, device: &Device, before: Extent, after: Extent, new: Tokens) -> Result<bool> {
    if after.settled == before.settled {
        append(layer, device, new)?;
        return Ok(true);
    }
    // One segment from a full buffer, of keys and of values: the device has the same tokens waiting, and compresses them to the same.
    let Ok(tokens) = layer.segment_tokens() else { return Ok(false) };
    let one_segment = after.settled == before.settled.map(|settled| settled + tokens)
        && before.waiting == [layer.waiting(); 2]
        && before.waiting[0] + new.count < 2 * tokens
        && after.chosen == before.chosen;
    if one_segment {
        append(layer, device, new)?;
        layer.settle(device.stream())?;
    }
    Ok(one_segment && after.waiting == [layer.waiting(); 2])
}

fn append(layer: &mut DeviceLayer, device: &Device, Tokens { k, v, count }: Tokens) -> Result<()> {
    let stream = device.stream();
    let Scratch { singles: [k_single, v_single], halves: [k_half, v_half], .. } = &mut *device.scratch();
    match (k, v) {
        (KvSlice::F32(k), KvSlice::F32(v)) => {
            put(layer, device, &k_single.put(stream, k)?, &v_single.put(stream, v)?, count)
        }
        (KvSlice::F16(k), KvSlice::F16(v)) => {
            put(layer, device, &k_half.put(stream, k)?, &v_half.put(stream, v)?, count)
        }
        _ => Err(GearError::new(
            ErrorCode::InvalidOption,
            "keys and values are float32 both or float16 both on a device",
        )),
    }
}

fn put<T: Element>(
    layer: &mut DeviceLayer,
    device: &Device,
    k: &impl DevicePtr<T>,
    v: &impl DevicePtr<T>,
    tokens: usize,
) -> Result<()> {
    layer.append::<T>(device.stream(), k, v, tokens)
}

fn fits_half(values: KvSlice) -> bool {
    const MOST: f32 = 65504.0;
    match values {
        // Also false for NaN.
        KvSlice::F32(values) => values.iter().all(|x| x.abs() <= MOST),
        KvSlice::F16(values) => values.iter().all(|x| x.is_finite()),
    }
}
