//! `uniform` (FlexGen): groups of g channels of one token, for K and for V alike.

use super::Grouping;

pub(super) fn grouping(group_size: usize) -> Grouping {
    Grouping::Token { channels: group_size }
}
