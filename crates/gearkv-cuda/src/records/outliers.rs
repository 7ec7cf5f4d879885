//! Outliers behind records: their lists, and what these take.

use super::parts::{BLOCK, align, push_halves, push_words};
use crate::source::Outlier;

/// What outliers take behind the records of one side.
#[derive(Clone, Copy)]
pub(super) struct Entries {
    /// Of a line.
    each: usize,
    /// That each record has.
    lists: usize,
}

impl Entries {
    const BYTES: usize = 4;

    pub(super) fn of(side: usize, lists: usize) -> Self {
        Self { each: 2 * side, lists }
    }

    /// Where the lists of a record start.
    fn bounds(self) -> usize {
        if self.each > 0 { ((self.lists + 1) * 2).next_multiple_of(16) } else { 0 }
    }

    /// What a record has beside its entries: these are rounded up to 16 bytes, and so is where it starts.
    pub(super) fn room(self) -> usize {
        self.bounds() + if self.each > 0 { 16 } else { 0 }
    }

    /// Of so many lines.
    pub(super) fn bytes(self, lines: usize) -> usize {
        lines * self.each * Self::BYTES
    }

    /// The most that a record with `length` values of each of so many lines can have.
    pub(super) fn most_bytes(self, length: usize, lines: usize) -> usize {
        self.bounds() + (lines * self.each.min(length) * Self::BYTES).next_multiple_of(16)
    }

    /// The most that one of values has in shared memory, of a block in one of so many heads: twice the head's share of them. Some have more, which
    /// are read where they are.
    pub(super) fn usual_bytes(self, heads: usize) -> usize {
        const SHARES: usize = 2;
        let entries = (self.each.min(self.lists) * BLOCK).min(SHARES * (self.each * BLOCK).div_ceil(heads));
        self.bounds() + (entries * Self::BYTES).next_multiple_of(16)
    }
}

/// Lists of outliers, one for each of `lists` tokens or channels: where each starts, then the entries.
pub(super) fn push_outliers(found: &[(usize, usize, u16)], lists: usize, record: &mut Vec<u8>) {
    let mut bounds = vec![0u16; lists + 1];
    found.iter().for_each(|(list, ..)| bounds[list + 1] += 1);
    for i in 0..lists {
        bounds[i + 1] += bounds[i];
    }
    push_halves(record, bounds);
    align(record);
    push_words(record, found.iter().map(|&(_, other, value)| u32::from(value) << 16 | other as u32));
    align(record);
}

/// Outliers of a block's tokens, in lists of tokens or of channels.
pub(super) fn outliers_of(
    outliers: &[Outlier],
    first: usize,
    tokens: usize,
    by_token: bool,
) -> Vec<(usize, usize, u16)> {
    let own = outliers.iter().filter(|outlier| (first..first + tokens).contains(&outlier.token));
    let mut found: Vec<_> = own
        .map(
            |&Outlier { token, channel, value }| {
                if by_token { (token - first, channel, value) } else { (channel, token - first, value) }
            },
        )
        .collect();
    found.sort_by_key(|&(list, other, _)| (list, other));
    found
}
