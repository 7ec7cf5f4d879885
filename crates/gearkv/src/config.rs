//! Options as a caller gives them, and the complete configuration that they resolve to.

use serde::{Deserialize, Serialize};

use crate::error::{GearError, Result};
use crate::preset::Preset;
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

/// Options: a preset, then any field on top of it. A field left out keeps the preset's value.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, default)]
pub struct GearOptions {
    /// Name of a preset; `gear-4` when left out.
    pub preset: Option<String>,
    /// Only with preset `auto`, which needs this or `max_error`: bits an element at most, 1 to 16, everything counted.
    pub max_bits_per_element: Option<f64>,
    /// Only with preset `auto`: relative error at most, more than 0 and at most 1.
    pub max_error: Option<f64>,
    /// Bits a code: 2, 3, 4 or 8.
    pub bits: Option<u32>,
    /// Bits of a code on the average, 1 to 8, where channels of keys (`kivi`, `kcvt`) or tokens (`rotated`) get more of them the
    /// more they matter; 0 leaves every code its `bits`.
    pub mean_bits: Option<f64>,
    /// Quantization scheme.
    pub backbone: Option<Backbone>,
    /// Values that share one scale (not used by `kcvt`).
    pub group_size: Option<u32>,
    /// How a group's scale and zero are found.
    pub range: Option<Range>,
    /// Bits of a scale and of a zero: 16, or 8 under a float16 super-scale a head.
    pub scale_bits: Option<u32>,
    /// Bits of the low-rank factors: 16; 8; or 4, which leaves 8 to B.
    pub factor_bits: Option<u32>,
    /// Rank of the low-rank part of a prompt's segment; 0 leaves it out.
    pub rank: Option<u32>,
    /// Rank of the low-rank part of segments that come from the buffer.
    pub decode_rank: Option<u32>,
    /// Whether heads have their ranks by need: as many in all as `rank` a head, but each where it takes most error away.
    pub rank_by_need: Option<bool>,
    /// Passes of the power iteration.
    pub power_iterations: Option<u32>,
    /// Fraction of values kept as outliers, half of them the largest, half the smallest: 0.02 is 2 %.
    pub sparsity: Option<f64>,
    /// Leading tokens kept in float16.
    pub sinks: Option<u32>,
    /// Tokens that wait in the buffer before they become a segment.
    pub buffer_tokens: Option<u32>,
    /// Seed of the power iteration's start.
    pub seed: Option<u32>,
    /// Threads to work on: 0 for as many as the machine has, 1 for the calling thread.
    pub threads: Option<u32>,
    /// What to do with NaN and infinities.
    pub non_finite: Option<NonFinite>,
}

impl GearOptions {
    /// Reads options from JSON.
    ///
    /// # Errors
    /// `INVALID_OPTION` for a field that does not exist or has the wrong type.
    pub fn from_json(json: &str) -> Result<Self> {
        // serde would also read a struct from an array of its fields.
        if !json.trim_start().starts_with('{') {
            return Err(GearError::option("options: expected a JSON object"));
        }
        serde_json::from_str(json).map_err(|e| GearError::option(format!("options: {e}")))
    }

    /// The preset with these fields on top of it, checked. A preset may mean one thing for keys and another for values.
    ///
    /// # Errors
    /// `INVALID_OPTION` when the preset is unknown, a value is out of range, or a field has no effect on the preset.
    pub fn resolve(&self, role: Role) -> Result<GearConfig> {
        let mut config = Preset::find(self.preset.as_deref().unwrap_or(Preset::DEFAULT))?.config(role);
        if config.storage != Storage::Gear {
            self.refuse_compression_fields(&config.preset)?;
        }
        self.check_goal(&config.preset)?;
        macro_rules! take {
            ($($field:ident),*) => { $(if let Some(value) = self.$field { config.$field = value; })* };
        }
        take!(max_bits_per_element, max_error);
        take!(
            bits,
            mean_bits,
            backbone,
            group_size,
            range,
            scale_bits,
            factor_bits,
            rank,
            power_iterations,
            sparsity,
            sinks
        );
        take!(rank_by_need, buffer_tokens, seed, threads, non_finite);
        // A smaller rank for the prompt bounds the later ones too, unless they are given by themselves.
        config.decode_rank = match (self.decode_rank, self.rank) {
            (Some(decode), _) => decode,
            (None, Some(rank)) => config.decode_rank.min(rank),
            (None, None) => config.decode_rank,
        };
        // Bits that are given by themselves are meant for every code, and so are those of a backbone that cannot spread them.
        if self.mean_bits.is_none() && (self.bits.is_some() || !config.can_spread(role)) {
            config.mean_bits = 0.0;
        }
        config.validate()?;
        config.check_role(role)?;
        Ok(config)
    }

    /// Preset `auto` needs a goal, and chooses for itself what would decide it; no other preset has one.
    fn check_goal(&self, preset: &str) -> Result<()> {
        let goals =
            [("maxBitsPerElement", self.max_bits_per_element, 1.0..=16.0), ("maxError", self.max_error, 1e-6..=1.0)];
        if preset != Preset::AUTO {
            return match goals.iter().find(|(_, value, _)| value.is_some()) {
                Some((field, ..)) => Err(GearError::option(format!(
                    "{field} is given with preset {preset:?}; only preset \"auto\" heeds it"
                ))),
                None => Ok(()),
            };
        }
        if self.max_bits_per_element.is_some() == self.max_error.is_some() {
            return Err(GearError::option(
                "preset \"auto\" needs a goal; expected exactly one of maxBitsPerElement and maxError",
            ));
        }
        for (field, value, range) in goals {
            if let Some(value) = value.filter(|value| !range.contains(value)) {
                let (least, most) = (range.start(), range.end());
                return Err(GearError::option(format!("{field} is {value}; expected {least} to {most}")));
            }
        }
        let chosen = [
            ("bits", self.bits.is_some()),
            ("meanBits", self.mean_bits.is_some()),
            ("backbone", self.backbone.is_some()),
            ("rank", self.rank.is_some()),
            ("decodeRank", self.decode_rank.is_some()),
            ("sparsity", self.sparsity.is_some()),
        ];
        match chosen.iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) => Err(GearError::option(format!(
                "{field} is given with preset \"auto\", which chooses it; leave it out or choose another preset"
            ))),
            None => Ok(()),
        }
    }

    fn refuse_compression_fields(&self, preset: &str) -> Result<()> {
        let given = [
            ("bits", self.bits.is_some()),
            ("meanBits", self.mean_bits.is_some()),
            ("backbone", self.backbone.is_some()),
            ("groupSize", self.group_size.is_some()),
            ("range", self.range.is_some()),
            ("scaleBits", self.scale_bits.is_some()),
            ("factorBits", self.factor_bits.is_some()),
            ("rank", self.rank.is_some()),
            ("decodeRank", self.decode_rank.is_some()),
            ("rankByNeed", self.rank_by_need.is_some()),
            ("powerIterations", self.power_iterations.is_some()),
            ("sparsity", self.sparsity.is_some()),
            ("sinks", self.sinks.is_some()),
            ("bufferTokens", self.buffer_tokens.is_some()),
        ];
        match given.iter().find(|(_, is_given)| *is_given) {
            Some((field, _)) => Err(GearError::option(format!(
                "{field} is given with preset \"{preset}\", which does not compress; leave it out or choose another preset"
            ))),
            None => Ok(()),
        }
    }
}

/// A complete configuration of one tensor.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub struct GearConfig {
    /// The preset that it started from.
    pub preset: String,
    /// See [`GearOptions::max_bits_per_element`]; 0 where no size is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_bits_per_element: f64,
    /// See [`GearOptions::max_error`]; 0 where no error is asked for.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub max_error: f64,
    /// How values are held.
    pub storage: Storage,
    /// See [`GearOptions::bits`].
    pub bits: u32,
    /// See [`GearOptions::mean_bits`].
    #[serde(default)]
    pub mean_bits: f64,
    /// See [`GearOptions::backbone`].
    pub backbone: Backbone,
    /// See [`GearOptions::group_size`].
    pub group_size: u32,
    /// See [`GearOptions::range`].
    #[serde(default)]
    pub range: Range,
    /// See [`GearOptions::scale_bits`].
    #[serde(default = "sixteen")]
    pub scale_bits: u32,
    /// See [`GearOptions::factor_bits`].
    #[serde(default = "sixteen")]
    pub factor_bits: u32,
    /// See [`GearOptions::rank`].
    pub rank: u32,
    /// See [`GearOptions::decode_rank`].
    pub decode_rank: u32,
    /// See [`GearOptions::rank_by_need`].
    #[serde(default)]
    pub rank_by_need: bool,
    /// See [`GearOptions::power_iterations`].
    pub power_iterations: u32,
    /// See [`GearOptions::sparsity`].
    pub sparsity: f64,
    /// See [`GearOptions::sinks`].
    pub sinks: u32,
    /// See [`GearOptions::buffer_tokens`].
    pub buffer_tokens: u32,
    /// See [`GearOptions::seed`].
    pub seed: u32,
    /// See [`GearOptions::threads`].
    pub threads: u32,
    /// See [`GearOptions::non_finite`].
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
    fn can_spread(&self, role: Role) -> bool {
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
