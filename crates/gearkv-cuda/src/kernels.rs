//! The driver, and the kernels in it.

use std::sync::Arc;

use cudarc::driver::sys::CUdevice_attribute as Attribute;
use cudarc::driver::sys::CUfunction_attribute_enum as FunctionAttribute;
use cudarc::driver::{CudaContext, CudaFunction, DeviceRepr};
use cudarc::nvrtc::Ptx;
use gearkv::{ErrorCode, GearError, Result};

use crate::error::{driver, unavailable};
use crate::records::MOST_CUTS;

/// Made of `kernels/gear.cu` by `scripts/cuda/ptx.py`, and packed by `build.rs`.
const PTX_75: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gear.compute_75.ptx.deflate"));
const PTX_80: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/gear.compute_80.ptx.deflate"));

/// What the PTX was made with, as the driver numbers it.
const OLDEST_CUDA: i32 = 12_000;

/// The `ordinal`-th GPU.
///
/// # Errors
/// `BACKEND_UNAVAILABLE` where there is no driver, no such GPU, or one that is too old.
pub fn context(ordinal: usize) -> Result<Arc<CudaContext>> {
    // A program that is linked with the driver does not start without it.
    #[cfg(feature = "dynamic-loading")]
    // SAFETY: it loads the driver's library if there is one, which runs that library's own start-up code and nothing else.
    if !unsafe { cudarc::driver::sys::is_culib_present() } {
        return Err(unavailable("no CUDA driver is installed (libcuda was not found); use the CPU"));
    }
    let mut version = 0;
    // SAFETY: the driver writes one number.
    let known = unsafe { cudarc::driver::sys::cuDriverGetVersion(&mut version) }.result();
    known.map_err(driver("be asked for its driver's version"))?;
    if version < OLDEST_CUDA {
        return Err(unavailable(format!(
            "the NVIDIA driver knows CUDA {}.{}; expected 12.0 or newer (driver 525); update it or use the CPU",
            version / 1000,
            version % 1000 / 10
        )));
    }
    let context = CudaContext::new(ordinal).map_err(driver("be opened"))?;
    let (major, minor) = context.compute_capability().map_err(driver("be asked for its capability"))?;
    if (major, minor) < (7, 5) {
        return Err(unavailable(format!("the GPU has compute capability {major}.{minor}; expected 7.5 or newer")));
    }
    Ok(context)
}

/// The kernels, loaded into one context.
pub struct Kernels {
    /// For values of up to 64, 128 and 256 channels.
    pub(crate) attend: [CudaFunction; 3],
    /// The same for what the presets `gear-*` need, and no more.
    pub(crate) attend_plain: [CudaFunction; 3],
    /// For many queries, by the most channels of a head: 64, 128 and 256.
    pub(crate) attend_tile: [CudaFunction; 3],
    pub(crate) combine: CudaFunction,
    pub(crate) append: CudaFunction,
    pub(crate) decompress: CudaFunction,
    pub(crate) mark: CudaFunction,
    pub(crate) survey: CudaFunction,
    pub(crate) compress: CudaFunction,
    pub(crate) move_up: CudaFunction,
    /// Bytes of shared memory that a thread block, and that a multiprocessor may have.
    pub(crate) shared_of_block: usize,
    pub(crate) shared_of_processor: usize,
    pub(crate) processors: usize,
}

impl Kernels {
    /// Loads them.
    ///
    /// # Errors
    /// `BACKEND_UNAVAILABLE` when the driver does not take them.
    pub fn load(context: &Arc<CudaContext>) -> Result<Arc<Self>> {
        let (major, _) = context.compute_capability().map_err(driver("be asked for its capability"))?;
        let ptx = unpacked(if major >= 8 { PTX_80 } else { PTX_75 })?;
        let module = context.load_module(Ptx::from_src(ptx)).map_err(driver("load the kernels"))?;
        let function = |name: &str| module.load_function(name).map_err(driver("find a kernel"));
        let ask = |attribute| context.attribute(attribute).map_err(driver("be asked for what it has"));
        let shared_of_block = ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_BLOCK_OPTIN)?;
        let attend = [function("gear_attend_64")?, function("gear_attend_128")?, function("gear_attend_256")?];
        let attend_tile =
            [function("gear_attend_tile_64")?, function("gear_attend_tile_128")?, function("gear_attend_tile_256")?];
        let combine = function("gear_combine")?;
        let attend_plain =
            [function("gear_attend_plain_64")?, function("gear_attend_plain_128")?, function("gear_attend_plain_256")?];
        let (mark, survey, compress) = (function("gear_mark")?, function("gear_survey")?, function("gear_compress")?);
        for function in attend.iter().chain(&attend_plain).chain(&attend_tile).chain([&mark, &survey, &compress]) {
            function
                .set_attribute(FunctionAttribute::CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES, shared_of_block)
                .map_err(driver("give its shared memory"))?;
        }
        Ok(Arc::new(Self {
            attend,
            attend_plain,
            attend_tile,
            combine,
            append: function("gear_append")?,
            decompress: function("gear_decompress")?,
            mark,
            survey,
            compress,
            move_up: function("gear_move_up")?,
            shared_of_block: shared_of_block as usize,
            shared_of_processor: ask(Attribute::CU_DEVICE_ATTRIBUTE_MAX_SHARED_MEMORY_PER_MULTIPROCESSOR)? as usize,
            processors: ask(Attribute::CU_DEVICE_ATTRIBUTE_MULTIPROCESSOR_COUNT)? as usize,
        }))
    }
}

fn unpacked(ptx: &[u8]) -> Result<String> {
    let damaged = || GearError::new(ErrorCode::Internal, "the kernels in this program are damaged");
    let text = miniz_oxide::inflate::decompress_to_vec(ptx).map_err(|_| damaged())?;
    String::from_utf8(text).map_err(|_| damaged())
}

/// `Layer` in `kernels/layout.cuh`. Addresses are the device's.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LayerArgument {
    pub blocks: u64,
    pub data: u64,
    pub key_buffer: u64,
    pub value_buffer: u64,
    pub value_order: u64,
    pub value_range: u64,
    pub planes: u32,
    pub heads: u32,
    pub dim: u32,
    pub coded: u32,
    pub fixed: u32,
    pub stride: u32,
    pub buffered: u32,
    pub capacity: u32,
    pub buffer_first: u32,
    pub rotated: u32,
}

/// `Attention` in `kernels/attend.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AttentionArgument {
    pub layer: LayerArgument,
    pub queries: u64,
    pub out: u64,
    pub partial: u64,
    pub softmax: u64,
    pub visible: u64,
    pub query_heads: u32,
    pub per_head: u32,
    pub positions: u32,
    pub limited: u32,
    pub causal: u32,
    pub window: u32,
    pub kind: u32,
    pub splits: u32,
    pub first_seen: u32,
    pub scale: f32,
    pub softcap: f32,
    pub key_stage: u32,
    pub value_stage: u32,
    pub rank: u32,
    pub key_slots: u32,
    pub keys_turned: u32,
    pub plain: u32,
    pub word_bytes: u32,
}

/// `Appending` in `kernels/append.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct AppendArgument {
    pub keys: u64,
    pub values: u64,
    pub key_buffer: u64,
    pub value_buffer: u64,
    pub planes: u32,
    pub dim: u32,
    pub tokens: u32,
    pub buffered: u32,
    pub capacity: u32,
    pub kind: u32,
}

/// `Compression` in `kernels/compress.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct CompressArgument {
    pub layer: LayerArgument,
    pub templates: u64,
    pub surveyed: u64,
    pub key_marks: u64,
    pub value_marks: u64,
    pub starts: u64,
    pub value_range: u64,
    pub blocks: u64,
    pub data: u64,
    pub gain: f64,
    pub gain_over: f64,
    pub tokens: u32,
    pub blocks_made: u32,
    pub cuts: [u32; MOST_CUTS + 1],
    pub at: u32,
    pub plane_stride: u32,
    pub values_at: u32,
    pub item_stride: u32,
    pub key_head_bytes: u32,
    pub value_head_bytes: u32,
    pub key_bytes: u32,
    pub value_bytes: u32,
    pub key_group: u32,
    pub key_channels: u32,
    pub value_channels: u32,
    pub shared_scales: u32,
    /// `Recipe` of keys, then of values.
    pub recipes: [[u32; 5]; 2],
    pub value_bits: u32,
    pub value_more_bits: u32,
    pub units: u32,
    pub raised: u32,
    pub in_fours: u32,
    pub key_slots: u32,
    pub heads: u32,
    /// Outliers at either end of a line, of keys and of values.
    pub sides: [u32; 2],
}

/// `Decompression` in `kernels/decompress.cuh`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct DecompressArgument {
    pub layer: LayerArgument,
    pub out: u64,
    pub of_keys: u32,
    pub tokens: u32,
}

// SAFETY: plain numbers in C's order, as the kernels declare them.
unsafe impl DeviceRepr for AttentionArgument {}
// SAFETY: as above.
unsafe impl DeviceRepr for AppendArgument {}
// SAFETY: as above.
unsafe impl DeviceRepr for DecompressArgument {}
// SAFETY: as above.
unsafe impl DeviceRepr for CompressArgument {}

const _: () = assert!(size_of::<LayerArgument>() == 88);
const _: () = assert!(size_of::<AttentionArgument>() == 200);
const _: () = assert!(size_of::<AppendArgument>() == 56);
const _: () = assert!(size_of::<DecompressArgument>() == 104);
const _: () = assert!(size_of::<CompressArgument>() == 368);
