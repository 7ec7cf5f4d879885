//! The hot loops, written so that the compiler vectorizes them, and compiled once for each instruction set.
//!
//! Every loop adds in a fixed order over a fixed number of lanes, and nothing is contracted to a fused multiply-add, so
//! each instruction set gives the same bits. The set is chosen once, at run time, by `multiversion`; on wasm and
//! aarch64 the target's own baseline (SIMD128, NEON) is used.

mod codebook;
mod codes;
mod convert;
mod expand;
mod feedback;
mod fit;
mod level;
mod linear;
mod order;
mod range;
mod rotate;
mod rows;
mod scales;
mod sparse;
mod stripes;
mod tile;
mod trellis;
mod triangle;
mod turning;
mod vector;

pub use codebook::{LEVELS_1, LEVELS_2, LEVELS_3, LEVELS_4, fit_levels, nearest_codes};
pub use codes::{pack_rows, quantize_groups, quantize_rows, row_bytes, unpack_rows};
pub use convert::{
    SoftmaxRow, exp_in_place, largest, largest_magnitude, narrow, round_to_f16, rounded_to_f16, softmax_row, sum, widen,
};
pub use expand::{LowRank, Meaning, expand_rows};
pub use feedback::{Grade, quantize_with_feedback};
pub use fit::{Grid, cover, range_scale, stripe_scales};
pub use level::{Level, level, prefetch};
pub use linear::{accumulate_rows, add_low_rank, columns, dot_rows, transpose, weigh_rows};
pub use order::{gather_rows, scatter};
pub use range::{add_column_squares, add_columns, column_range, group_ranges, next_outside, row_variances};
pub use rotate::rotate_rows;
pub use rows::{Rows as RawRows, Values as RawValues, dot_raw, weigh_raw};
pub use scales::{SmallGrid, narrow_magnitudes, narrow_scales, widen_multiples, widen_scales, widen_zeros};
pub use sparse::{IndexWidth, Outlier, OutlierLines, outliers_of_channels, outliers_of_tokens};
pub use stripes::{Stripe, turned_stripes};
pub use tile::{
    KeyRoom, KeyScales, KeyTiles, Levels, MOST_TILES, TILE, TileOrder, UnitRun, ValueRoom, ValueTiles, add_values,
    key_logits, levels_of_codes, pack_channels, pack_tokens, tile_order, unpack_channels, unpack_tokens,
};
pub use trellis::{NEXT_STATE, TrellisRoom, point, trellis_codes};
pub use triangle::{factorize, invert_lower};
pub use turning::{add_turning, subtract_turning, turning_sums};

/// Lanes of every reduction: one AVX-512 register, two AVX2 registers, four SIMD128 or NEON registers.
pub const LANES: usize = 16;

/// The instruction set that attention on codes runs on: `avx512`, `avx2`, `dotprod` (NEON with `sdot`), `neon`, `simd128` or `scalar`. The environment
/// variable `GEARKV_SIMD` (one of these but `simd128`) chooses a lesser one than the machine has.
pub fn simd_level() -> &'static str {
    match level() {
        #[cfg(target_arch = "x86_64")]
        Level::Avx512 => "avx512",
        #[cfg(target_arch = "x86_64")]
        Level::Avx2 => "avx2",
        #[cfg(target_arch = "aarch64")]
        Level::Dot => "dotprod",
        #[cfg(target_arch = "aarch64")]
        Level::Neon => "neon",
        Level::Portable if cfg!(target_feature = "simd128") => "simd128",
        Level::Portable => "scalar",
    }
}
