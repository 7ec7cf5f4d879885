//! How many ranks of a segment's low-rank part each head has: all the same number, or by need (`rankByNeed`).
//!
//! What a rank takes away is the square of its singular value, and spectra differ from head to head: one has a few directions
//! that hold most of its error, another's is flat. Every rank of every head takes the same bytes, so a batch item's stock of
//! them goes to the largest singular values of all of its heads.

use std::ops::Range;

/// By need, a head has at most so many times its even share.
const MOST_SHARES: usize = 3;
/// What a byte can say.
const MOST: usize = u8::MAX as usize;

/// The ranks of all planes of a segment.
pub(crate) enum Ranks {
    Even(usize),
    /// `[planes]`
    ByNeed(Box<[u8]>),
}

/// The largest rank a head can have by need, where `share` is what it has otherwise and `usable` what its matrix allows.
pub(crate) fn most(share: usize, usable: usize) -> usize {
    (share * MOST_SHARES).min(usable).min(MOST).max(share)
}

/// Whether a segment whose heads have `share` ranks on the average can keep them by need.
pub(crate) fn can_differ(share: usize) -> bool {
    (1..=MOST).contains(&share)
}

impl Ranks {
    /// Deals out `heads · share` ranks of one batch item. `gains` has for each head what each of its ranks takes away, the first
    /// one first; no head gets more than it has gains, and all together have at least as many as there are to deal.
    pub fn deal(gains: &[Vec<f32>], share: usize) -> Vec<u8> {
        let mut ranks = vec![0u8; gains.len()];
        for _ in 0..gains.len() * share {
            let next = |head: usize| gains[head].get(usize::from(ranks[head])).copied();
            // Of equals the head with fewer ranks, so that nothing to gain is spread evenly.
            let best = (0..gains.len()).filter(|&head| next(head).is_some()).max_by(|&a, &b| {
                let by_gain = next(a).unwrap_or(0.0).total_cmp(&next(b).unwrap_or(0.0));
                by_gain.then(ranks[b].cmp(&ranks[a])).then(b.cmp(&a))
            });
            let Some(best) = best else { break };
            ranks[best] += 1;
        }
        ranks
    }

    /// Which rows of the factors are a plane's.
    pub fn rows(&self, plane: usize) -> Range<usize> {
        match self {
            Self::Even(rank) => plane * rank..(plane + 1) * rank,
            Self::ByNeed(ranks) => {
                let first = ranks[..plane].iter().map(|&rank| usize::from(rank)).sum();
                first..first + usize::from(ranks[plane])
            }
        }
    }

    pub fn byte_length(&self) -> usize {
        self.bytes().len()
    }

    /// As they are saved: one byte a plane, or none.
    pub fn bytes(&self) -> &[u8] {
        match self {
            Self::Even(_) => &[],
            Self::ByNeed(ranks) => ranks,
        }
    }

    /// Ranks of `bytes`, one a plane; `None` where those of an item (`heads` planes) do not add up to `heads · share`, or one is
    /// more than `most`.
    pub fn from_bytes(bytes: &[u8], heads: usize, share: usize, most: usize) -> Option<Self> {
        let total = |item: &[u8]| item.iter().map(|&rank| usize::from(rank)).sum::<usize>();
        let fits = bytes.iter().all(|&rank| usize::from(rank) <= most)
            && bytes.chunks(heads).all(|item| item.len() == heads && total(item) == heads * share);
        fits.then(|| Self::ByNeed(bytes.into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks_go_to_the_largest_gains_and_all_are_dealt_out() {
        let gains = [vec![9.0, 8.0, 7.0, 6.0], vec![5.0, 0.5, 0.4], vec![10.0, 1.0, 0.9]];
        assert_eq!(Ranks::deal(&gains, 2), [4, 1, 1]);
        // The first has no more to take.
        assert_eq!(Ranks::deal(&gains, 3), [4, 2, 3]);
        assert_eq!(Ranks::deal(&[vec![0.0; 6], vec![0.0; 6], vec![0.0; 6]], 2), [2, 2, 2]);
    }

    #[test]
    fn rows_of_planes_follow_one_another() {
        let ranks = Ranks::from_bytes(&[3, 1, 0, 4], 2, 2, 6).unwrap();
        assert_eq!([0, 1, 2, 3].map(|plane| ranks.rows(plane)), [0..3, 3..4, 4..4, 4..8]);
        assert_eq!(Ranks::Even(2).rows(3), 6..8);
    }

    #[test]
    fn ranks_that_do_not_add_up_are_refused() {
        assert!(Ranks::from_bytes(&[3, 1, 0, 3], 2, 2, 6).is_none());
        assert!(Ranks::from_bytes(&[3, 1, 4], 2, 2, 6).is_none());
        assert!(Ranks::from_bytes(&[4, 0], 2, 2, 3).is_none());
    }
}
