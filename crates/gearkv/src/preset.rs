//! Named configurations.
//!
//! `paper-*` repeat the paper's best rows (KIVI backbone, 2 % outliers, rank 4 for the prompt and 2 later); the bare
//! backbones are its baselines. `gear-*` are the best that is known here: keys per channel in groups of tokens, values turned
//! and without their mean, scales of least squared error in 8 bits, attention sinks, and a low-rank part in 4 and 8 bits where it pays.
//! Keys get a bit more than values where the sum does not come out even. Outliers win nothing at equal size, so that
//! `gear-l-*` differ from `gear-*` in name only, until a size is found where they do.

use crate::config::{Backbone, GearConfig, NonFinite, Range, Storage};
use crate::error::{GearError, Result};
use crate::shape::Role;

const PAPER_RANK: u32 = 4;
const PAPER_DECODE_RANK: u32 = 2;
const PAPER_SPARSITY: f64 = 0.02;
const PAPER_POWER_ITERATIONS: u32 = 3;
/// The paper's n_b, for the backbone whose K groups take the whole segment whatever its length.
const PAPER_BUFFER_TOKENS: u32 = 20;
/// The paper's groups; a buffer of the same length fills them exactly.
const GROUP_SIZE: u32 = 64;
const SINKS: u32 = 4;
/// More passes than the paper's: residuals of a good quantizer have a flat spectrum.
const GEAR_POWER_ITERATIONS: u32 = 6;

#[derive(Clone, Copy)]
enum Recipe {
    Backbone(Backbone),
    PaperGear {
        sparsity: f64,
    },
    /// Bits on the average; and bits of every value's code, where the average is given up.
    Gear {
        key_mean: f64,
        value_mean: f64,
        value_bits: u32,
    },
    Uncompressed(Storage),
}

/// A named configuration.
#[derive(Clone, Copy)]
pub struct Preset {
    name: &'static str,
    /// Of keys, and of values where the recipe does not say otherwise.
    bits: u32,
    recipe: Recipe,
}

const fn preset(name: &'static str, bits: u32, recipe: Recipe) -> Preset {
    Preset { name, bits, recipe }
}

/// Bits on the average of keys and of values in `gear-2`, `gear-3` and `gear-4`: the best splits for most layers of most models.
pub(crate) const MEANS: [(f64, f64); 3] = [(2.75, 2.4), (3.5, 3.25), (4.25, 4.0)];

const fn gear(means: (f64, f64), value_bits: u32) -> Recipe {
    Recipe::Gear { key_mean: means.0, value_mean: means.1, value_bits }
}

const GEAR_4: Recipe = gear(MEANS[2], 4);
const GEAR_3: Recipe = gear(MEANS[1], 3);
const GEAR_2: Recipe = gear(MEANS[0], 2);

const COUNT: usize = 19;
const PRESETS: [Preset; COUNT] = [
    preset("gear-4", 4, GEAR_4),
    preset("gear-3", 4, GEAR_3),
    preset("gear-2", 3, GEAR_2),
    preset("gear-l-4", 4, GEAR_4),
    preset("gear-l-3", 4, GEAR_3),
    preset("gear-l-2", 3, GEAR_2),
    preset("paper-gear-4", 4, Recipe::PaperGear { sparsity: PAPER_SPARSITY }),
    preset("paper-gear-2", 2, Recipe::PaperGear { sparsity: PAPER_SPARSITY }),
    preset("paper-gear-l-4", 4, Recipe::PaperGear { sparsity: 0.0 }),
    preset("paper-gear-l-2", 2, Recipe::PaperGear { sparsity: 0.0 }),
    preset("kivi-4", 4, Recipe::Backbone(Backbone::Kivi)),
    preset("kivi-2", 2, Recipe::Backbone(Backbone::Kivi)),
    preset("kcvt-4", 4, Recipe::Backbone(Backbone::Kcvt)),
    preset("kcvt-2", 2, Recipe::Backbone(Backbone::Kcvt)),
    preset("uniform-8", 8, Recipe::Backbone(Backbone::Uniform)),
    preset("uniform-4", 4, Recipe::Backbone(Backbone::Uniform)),
    preset("uniform-2", 2, Recipe::Backbone(Backbone::Uniform)),
    preset("float16", 8, Recipe::Uncompressed(Storage::Float16)),
    preset("float32", 8, Recipe::Uncompressed(Storage::Float32)),
];

/// What `auto` starts from, and what its first tokens have until it has chosen.
const AUTO: Preset = preset(Preset::AUTO, 4, GEAR_4);

const NAMES: [&str; COUNT] = {
    let mut names = [""; COUNT];
    let mut i = 0;
    while i < COUNT {
        names[i] = PRESETS[i].name;
        i += 1;
    }
    names
};

/// The names of all presets that need nothing beside their name, best first: all but `auto`.
pub fn preset_names() -> &'static [&'static str] {
    &NAMES
}

impl Preset {
    /// What an empty set of options means.
    pub const DEFAULT: &'static str = "gear-4";

    /// The preset that chooses for a goal (`maxBitsPerElement` or `maxError`).
    pub const AUTO: &'static str = "auto";

    /// The preset of this name.
    ///
    /// # Errors
    /// `INVALID_OPTION` listing the names there are.
    pub fn find(name: &str) -> Result<Self> {
        PRESETS.iter().chain([&AUTO]).find(|p| p.name == name).copied().ok_or_else(|| {
            GearError::option(format!("preset is {name:?}; expected one of {}, or auto", NAMES.join(", ")))
        })
    }

    /// Its complete configuration for keys or for values.
    pub fn config(&self, role: Role) -> GearConfig {
        let mut config = GearConfig {
            preset: self.name.to_owned(),
            max_bits_per_element: 0.0,
            max_error: 0.0,
            storage: Storage::Gear,
            bits: self.bits,
            mean_bits: 0.0,
            layer_bits: Vec::new(),
            backbone: Backbone::Kivi,
            group_size: GROUP_SIZE,
            range: Range::Minmax,
            scale_bits: 16,
            factor_bits: 16,
            rank: 0,
            decode_rank: 0,
            rank_by_need: false,
            power_iterations: PAPER_POWER_ITERATIONS,
            sparsity: 0.0,
            sinks: 0,
            buffer_tokens: GROUP_SIZE,
            seed: 0,
            threads: 0,
            non_finite: NonFinite::Reject,
        };
        match self.recipe {
            Recipe::Backbone(backbone) => {
                config.backbone = backbone;
                if backbone == Backbone::Kcvt {
                    config.buffer_tokens = PAPER_BUFFER_TOKENS;
                }
            }
            Recipe::PaperGear { sparsity } => {
                config.rank = PAPER_RANK;
                config.decode_rank = PAPER_DECODE_RANK;
                config.sparsity = sparsity;
            }
            Recipe::Gear { key_mean, value_mean, value_bits } => {
                config.mean_bits = key_mean;
                if role == Role::Value {
                    config.mean_bits = value_mean;
                    config.bits = value_bits;
                    config.backbone = Backbone::Rotated;
                }
                config.range = Range::Mse;
                config.scale_bits = 8;
                config.factor_bits = 4;
                config.power_iterations = GEAR_POWER_ITERATIONS;
                config.sinks = SINKS;
            }
            Recipe::Uncompressed(storage) => config.storage = storage,
        }
        config
    }
}
