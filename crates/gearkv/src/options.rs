//! Options as a caller gives them, to be resolved to a [`GearConfig`].

use serde::{Deserialize, Serialize};

use crate::config::{Backbone, GearConfig, NonFinite, Range, Storage};
use crate::error::{GearError, Result};
use crate::json::object_from_json;
use crate::preset::Preset;
use crate::shape::Role;

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
    /// Only of a cache: how many bits of a code each of its layers has more on the average than `mean_bits`, or less; one number a layer.
    pub layer_bits: Option<Vec<f64>>,
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
    /// Threads to work on: 0 for one a physical core ([`crate::default_threads`]), 1 for the calling thread.
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
        object_from_json(json.as_bytes()).map_err(|e| GearError::option(format!("options: {e}")))
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
            ($($field:ident),*) => { $(if let Some(value) = self.$field.clone() { config.$field = value; })* };
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
        take!(layer_bits, rank_by_need, buffer_tokens, seed, threads, non_finite);
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
            ("layerBits", self.layer_bits.is_some()),
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
