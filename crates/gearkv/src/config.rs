//! A complete, checked configuration: what options resolve to.

use serde::{Deserialize, Serialize};

use crate::error::{GearError, Result};
use crate::shape::Role;

/// How values are held.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Storage {
    /// GEAR: segments of codes, low-rank and outliers behind a float16 buffer.
    Gear,
    /// Uncompressed, 16 bits a value.
    Float16,
    /// Uncompressed, 32 bits a value.
    Float32,
}

/// The quantization scheme under the low-rank and sparse parts (paper, section 3 and table 1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Backbone {
    /// FlexGen: groups of channels of one token, for K and for V.
    Uniform,
    /// K: one group a channel over the whole segment. V: one group a token over all heads.
    Kcvt,
    /// K: groups of tokens of one channel. V: groups of channels of one token.
    Kivi,
    /// K and V: channels' means removed, tokens turned by a Hadamard matrix, groups of channels of one token, Lloyd-Max levels.
    Rotated,
}

/// How a group's scale and zero are found.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Range {
    /// From the smallest to the largest value (paper, section 3).
    #[default]
    Minmax,
    /// The scale and zero of least squared error, by shrinking the range and least squares.
    Mse,
}

/// What to do with NaN and infinities in the input.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NonFinite {
    /// Refuse the input and name the first bad position.
    Reject,
    /// NaN becomes 0; what float16 cannot reach becomes ±65504.
    Replace,
}

/// A complete configuration of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GearConfig {
    /// The preset that it started from.
    pub preset: String,
    /// See [`crate::GearOptions::max_bits_per_element`]; 0 where no size is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_bits_per_element: f64,
    /// See [`crate::GearOptions::max_error`]; 0 where no error is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_error: f64,
    /// How values are held.
    pub storage: Storage,
    /// See [`crate::GearOptions::bits`].
    pub bits: u32,
    /// See [`crate::GearOptions::mean_bits`].
    #[serde(default)]
    pub mean_bits: f64,
    /// See [`crate::GearOptions::layer_bits`]; empty where all layers are alike, and in a tensor's configuration.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub layer_bits: Vec<f64>,
    /// See [`crate::GearOptions::backbone`].
    pub backbone: Backbone,
    /// See [`crate::GearOptions::group_size`].
    pub group_size: u32,
    /// See [`crate::GearOptions::range`].
    #[serde(default)]
    pub range: Range,
    /// See [`crate::GearOptions::scale_bits`].
    #[serde(default = "sixteen")]
    pub scale_bits: u32,
    /// See [`crate::GearOptions::factor_bits`].
    #[serde(default = "sixteen")]
    pub factor_bits: u32,
    /// See [`crate::GearOptions::rank`].
    pub rank: u32,
    /// See [`crate::GearOptions::decode_rank`].
    pub decode_rank: u32,
    /// See [`crate::GearOptions::rank_by_need`].
    #[serde(default)]
    pub rank_by_need: bool,
    /// See [`crate::GearOptions::power_iterations`].
    pub power_iterations: u32,
    /// See [`crate::GearOptions::sparsity`].
    pub sparsity: f64,
    /// See [`crate::GearOptions::sinks`].
    pub sinks: u32,
    /// See [`crate::GearOptions::buffer_tokens`].
    pub buffer_tokens: u32,
    /// See [`crate::GearOptions::seed`].
    pub seed: u32,
    /// See [`crate::GearOptions::threads`].
    pub threads: u32,
    /// See [`crate::GearOptions::non_finite`].
    pub non_finite: NonFinite,
}

/// What a configuration of before these fields were there means.
fn sixteen() -> u32 {
    16
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference; where usize has 32 bits it is none"
)]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
}

/// The longest segment; longer prompts become several. Bounds scratch memory and index widths.
pub const MAX_SEGMENT_TOKENS: usize = 65_536;

const MAX_RANK: u32 = 256;
const MAX_POWER_ITERATIONS: u32 = 64;
const MAX_SPARSITY: f64 = 0.5;
const MAX_SINKS: u32 = 65_536;
const MAX_THREADS: u32 = 256;
const MAX_LAYER_BITS: f64 = 7.0;
const MAX_PRESET_NAME: usize = 64;

impl GearConfig {
    /// Checks every field's range.
    ///
    /// # Errors
    /// `INVALID_OPTION` naming the field, its value and its range.
    pub fn validate(&self) -> Result<()> {
        if !matches!(self.bits, 2 | 3 | 4 | 8) {
            return Err(GearError::option(format!("bits is {}; expected 2, 3, 4 or 8", self.bits)));
        }
        if self.mean_bits != 0.0 && !(1.0..=8.0).contains(&self.mean_bits) {
            return Err(GearError::option(format!("meanBits is {}; expected 0, or 1 to 8", self.mean_bits)));
        }
        for (field, value, most) in
            [("maxBitsPerElement", self.max_bits_per_element, 16.0), ("maxError", self.max_error, 1.0)]
        {
            if !(0.0..=most).contains(&value) {
                return Err(GearError::option(format!("{field} is {value}; expected 0 to {most}")));
            }
        }
        if self.has_goal() && (self.mean_bits == 0.0 || self.storage != Storage::Gear) {
            return Err(GearError::option(
                "maxBitsPerElement or maxError is given where there are no meanBits to choose",
            ));
        }
        self.check_layer_bits()?;
        if !matches!(self.scale_bits, 8 | 16) {
            return Err(GearError::option(format!("scaleBits is {}; expected 8 or 16", self.scale_bits)));
        }
        if !matches!(self.factor_bits, 4 | 8 | 16) {
            return Err(GearError::option(format!("factorBits is {}; expected 4, 8 or 16", self.factor_bits)));
        }
        let ranges = [
            ("groupSize", self.group_size, 1, MAX_SEGMENT_TOKENS as u32),
            ("rank", self.rank, 0, MAX_RANK),
            ("decodeRank", self.decode_rank, 0, MAX_RANK),
            ("powerIterations", self.power_iterations, 1, MAX_POWER_ITERATIONS),
            ("sinks", self.sinks, 0, MAX_SINKS),
            ("bufferTokens", self.buffer_tokens, 1, MAX_SEGMENT_TOKENS as u32),
            ("threads", self.threads, 0, MAX_THREADS),
        ];
        for (field, value, least, most) in ranges {
            if !(least..=most).contains(&value) {
                return Err(GearError::option(format!("{field} is {value}; expected {least} to {most}")));
            }
        }
        if !(0.0..=MAX_SPARSITY).contains(&self.sparsity) {
            return Err(GearError::option(format!(
                "sparsity is {}; expected a fraction from 0 to {MAX_SPARSITY} (2 % is 0.02)",
                self.sparsity
            )));
        }
        if self.preset.len() > MAX_PRESET_NAME {
            return Err(GearError::option("the preset's name is too long"));
        }
        Ok(())
    }

    fn check_layer_bits(&self) -> Result<()> {
        if !self.layer_bits.is_empty() && self.mean_bits == 0.0 {
            return Err(GearError::option("layerBits is given where there are no meanBits to add them to"));
        }
        match self.layer_bits.iter().position(|bits| !(-MAX_LAYER_BITS..=MAX_LAYER_BITS).contains(bits)) {
            Some(layer) => Err(GearError::option(format!(
                "layerBits of layer {layer} is {}; expected -{MAX_LAYER_BITS} to {MAX_LAYER_BITS}",
                self.layer_bits[layer]
            ))),
            None => Ok(()),
        }
    }

    /// The configuration of one of a cache's `layers` layers: `mean_bits` and the layer's share of `layer_bits`, kept within what codes can have.
    ///
    /// # Errors
    /// `INVALID_OPTION` where `layer_bits` are there for another number of layers.
    pub(crate) fn of_layer(&self, layer: usize, layers: usize) -> Result<Self> {
        if self.layer_bits.is_empty() {
            return Ok(self.clone());
        }
        if self.layer_bits.len() != layers {
            return Err(GearError::option(format!(
                "layerBits has {} numbers; expected one for each of the cache's {layers} layers",
                self.layer_bits.len()
            )));
        }
        let with =
            |bits: f64, most: f64| if bits == 0.0 { 0.0 } else { (bits + self.layer_bits[layer]).clamp(1.0, most) };
        // A bit halves the error.
        let error = self.max_error * libm::exp2(-self.layer_bits[layer]);
        Ok(Self {
            max_error: error.min(1.0),
            mean_bits: with(self.mean_bits, 8.0),
            max_bits_per_element: with(self.max_bits_per_element, 16.0),
            layer_bits: Vec::new(),
            ..self.clone()
        })
    }

    /// Checks what depends on whether keys or values are kept.
    ///
    /// # Errors
    /// `INVALID_OPTION` naming the field.
    pub fn check_role(&self, role: Role) -> Result<()> {
        if self.mean_bits != 0.0 && !self.can_spread(role) {
            return Err(GearError::option(format!(
                "meanBits is {} with backbone {:?} for {role:?}s; expected backbone \"rotated\", or \"kivi\" or \"kcvt\" for keys",
                self.mean_bits, self.backbone
            )));
        }
        Ok(())
    }

    /// Whether bits, rank and sparsity are for the tensor to choose (`auto`).
    pub(crate) fn has_goal(&self) -> bool {
        self.max_bits_per_element != 0.0 || self.max_error != 0.0
    }

    /// Whether codes can differ in width.
    pub(crate) fn can_spread(&self, role: Role) -> bool {
        match self.backbone {
            Backbone::Rotated => true,
            Backbone::Kivi | Backbone::Kcvt => role == Role::Key,
            Backbone::Uniform => false,
        }
    }

    /// Outliers on each side (largest, smallest) of a line of `n` values: `round(n·s/2)`, halves to even.
    pub(crate) fn outliers_per_side(&self, n: usize) -> usize {
        (n as f64 * self.sparsity / 2.0).round_ties_even() as usize
    }
}
