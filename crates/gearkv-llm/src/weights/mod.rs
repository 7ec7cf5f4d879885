//! Weight matrices as the model multiplies with them.
//!
//! candle's kernels for quantized weights are chosen when they are compiled, so a binary that runs everywhere gets the scalar
//! ones. Here the file's codes are kept as they are (4 or 8 bits, a scale and a zero for each 32 of them, so nothing is lost for the
//! usual types), laid out for loops that the compiler vectorizes for each instruction set. Activations stay in float32; in
//! WebAssembly they become integers of 16 bits, see `integer`.

mod blocks;
mod few;
#[cfg(any(test, target_feature = "simd128"))]
mod integer;
mod kernels;
mod matrix;
mod order;
#[cfg(test)]
mod products;
#[cfg(test)]
mod tests;

#[cfg(feature = "tensors")]
pub(crate) use matrix::check_finite;
pub(crate) use matrix::{Matrix, MatrixBuilder, Workers};

/// Rows of a panel: its codes for one column are neighbours, one AVX-512 register of float32.
pub(crate) const PANEL: usize = 16;
/// Columns that share a scale and a zero.
pub(crate) const BLOCK: usize = 32;
