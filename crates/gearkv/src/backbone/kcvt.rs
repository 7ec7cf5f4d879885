//! `kcvt`: K in one group a channel over all tokens of the segment; V in one group a token over all heads and channels.

use super::Grouping;
use crate::shape::Role;

pub(super) fn grouping(role: Role, segment_tokens: usize) -> Grouping {
    match role {
        Role::Key => Grouping::Channel { tokens: segment_tokens.max(1) },
        Role::Value => Grouping::TokenAllHeads,
    }
}
