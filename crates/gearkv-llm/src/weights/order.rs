//! Where codes and scales lie in a panel: block by block of 16 rows × 32 columns, in the order in which they are multiplied.

#[cfg(any(test, not(target_feature = "simd128")))]
use super::BLOCK;
use super::PANEL;
use super::blocks::Width;

/// The order within a block.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Rows are neighbours, for [`super::kernels`]: `[column][row]` bytes; of 4-bit codes a byte has column `i` in its lower half and
    /// `i + 16` in its upper. Scales are `[scale, zero][row]`.
    #[cfg(any(test, not(target_feature = "simd128")))]
    Columns,
    /// For [`super::integer`]: a vector is four rows × two neighbouring columns × 16 bits, which are the codes of two (8-bit) or four
    /// (4-bit) pairs of columns, so that a shift and a mask give what is multiplied next. Scales are `[row][scale, zero]`.
    #[cfg(any(test, target_feature = "simd128"))]
    Pairs,
}

/// The one for which there are fast instructions.
#[cfg(not(target_feature = "simd128"))]
pub(super) const FASTEST: Order = Order::Columns;
#[cfg(target_feature = "simd128")]
pub(super) const FASTEST: Order = Order::Pairs;

impl Order {
    /// The byte, within its block, and the lowest bit within that byte, of a row's code of a column.
    pub fn code(self, width: Width, column: usize, lane: usize) -> (usize, usize) {
        match self {
            #[cfg(any(test, not(target_feature = "simd128")))]
            Self::Columns if width == Width::Four => (column % (BLOCK / 2) * PANEL + lane, column / (BLOCK / 2) * 4),
            #[cfg(any(test, not(target_feature = "simd128")))]
            Self::Columns => (column * PANEL + lane, 0),
            #[cfg(any(test, target_feature = "simd128"))]
            Self::Pairs => {
                let bits = if width == Width::Four { 4 } else { 8 };
                let (pairs, pair) = (16 / bits, column / 2);
                let vector = pair / pairs * (PANEL / 4) + lane / 4;
                let bit = pair % pairs * bits;
                ((vector * 8 + lane % 4 * 2 + column % 2) * 2 + bit / 8, bit % 8)
            }
        }
    }

    /// Of a row's scale and zero within their block.
    pub fn scale_and_zero(self, lane: usize) -> (usize, usize) {
        match self {
            #[cfg(any(test, not(target_feature = "simd128")))]
            Self::Columns => (lane, lane + PANEL),
            #[cfg(any(test, target_feature = "simd128"))]
            Self::Pairs => (2 * lane, 2 * lane + 1),
        }
    }
}
