//! `kivi`: K in groups of g tokens of one channel; V in groups of g channels of one token.

use super::Grouping;
use crate::shape::Role;

pub(super) fn grouping(role: Role, group_size: usize) -> Grouping {
    match role {
        Role::Key => Grouping::Channel { tokens: group_size },
        Role::Value => Grouping::Token { channels: group_size },
    }
}
