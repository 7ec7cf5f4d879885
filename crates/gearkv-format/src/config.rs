//! A tensor's configuration in the header (FORMAT.md, "A tensor entry").
//!
//! Fields that a later version added are left out where they say what was meant before, so that whatever an earlier version
//! could hold is still written as that version, byte for byte.

use gearkv::{Backbone, GearConfig, NonFinite, Range, Result, Storage};
use serde::Serialize;

use crate::fields::Fields;
use crate::parse;

/// [`GearConfig`], field by field.
#[derive(Serialize)]
#[serde(remote = "GearConfig", rename_all = "camelCase")]
pub(crate) struct ConfigFields {
    preset: String,
    #[serde(skip_serializing_if = "is_zero")]
    max_bits_per_element: f64,
    #[serde(skip_serializing_if = "is_zero")]
    max_error: f64,
    storage: Storage,
    bits: u32,
    #[serde(skip_serializing_if = "is_zero")]
    mean_bits: f64,
    /// A tensor has none.
    #[serde(skip)]
    layer_bits: Vec<f64>,
    backbone: Backbone,
    group_size: u32,
    #[serde(skip_serializing_if = "is_minmax")]
    range: Range,
    #[serde(skip_serializing_if = "is_sixteen")]
    scale_bits: u32,
    #[serde(skip_serializing_if = "is_sixteen")]
    factor_bits: u32,
    rank: u32,
    decode_rank: u32,
    #[serde(skip_serializing_if = "is_false")]
    rank_by_need: bool,
    power_iterations: u32,
    sparsity: f64,
    sinks: u32,
    buffer_tokens: u32,
    seed: u32,
    threads: u32,
    non_finite: NonFinite,
}

/// A configuration from its fields.
pub(crate) fn read(mut fields: Fields) -> Result<GearConfig> {
    let config = GearConfig {
        preset: fields.text("preset")?,
        max_bits_per_element: fields.number_or_0("maxBitsPerElement")?,
        max_error: fields.number_or_0("maxError")?,
        storage: parse::storage(&mut fields)?,
        bits: fields.small("bits")?,
        mean_bits: fields.number_or_0("meanBits")?,
        layer_bits: Vec::new(),
        backbone: fields.word("backbone")?,
        group_size: fields.small("groupSize")?,
        range: parse::range(&mut fields)?,
        scale_bits: fields.small_or("scaleBits", 16)?,
        factor_bits: fields.small_or("factorBits", 16)?,
        rank: fields.small("rank")?,
        decode_rank: fields.small("decodeRank")?,
        rank_by_need: fields.truth_or_false("rankByNeed")?,
        power_iterations: fields.small("powerIterations")?,
        sparsity: fields.number("sparsity")?,
        sinks: fields.small("sinks")?,
        buffer_tokens: fields.small("bufferTokens")?,
        seed: fields.small("seed")?,
        threads: fields.small("threads")?,
        non_finite: fields.word("nonFinite")?,
    };
    fields.finish()?;
    Ok(config)
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_sixteen(bits: &u32) -> bool {
    *bits == 16
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_minmax(range: &Range) -> bool {
    *range == Range::Minmax
}

#[allow(
    clippy::trivially_copy_pass_by_ref,
    reason = "serde calls it with a reference; where usize has 32 bits it is none"
)]
fn is_zero(bits: &f64) -> bool {
    *bits == 0.0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it with a reference")]
fn is_false(value: &bool) -> bool {
    !value
}

/// The least format version that can hold a tensor of this configuration.
pub(crate) fn version(config: &GearConfig) -> u32 {
    if config.rank_by_need {
        return 5;
    }
    if !is_zero(&config.mean_bits) {
        return 4;
    }
    let known = config.backbone != Backbone::Rotated;
    let first = known && is_minmax(&config.range) && is_sixteen(&config.scale_bits) && is_sixteen(&config.factor_bits);
    if first { 1 } else { 2 }
}
