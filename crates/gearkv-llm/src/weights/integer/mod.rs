//! Products in integers, for WebAssembly: SIMD128 has no fused multiply-add, but one instruction multiplies eight pairs of 16-bit
//! integers and adds neighbours, twice as much as a product of floats and an addition do, and codes need not become floats first.
//!
//! Codes stay as they are, activations get 16 bits and a scale for each 32 of them. A block's products fit 32 bits
//! (255 · 32767 · 32 < 2³¹), so their sums are exact, and the same in every browser.

mod activations;
mod product;
mod vector;

pub(super) use activations::Activations;
pub(super) use product::multiply_panel;
