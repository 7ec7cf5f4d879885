//! Memory that `attend` works in. Each thread keeps its own from one call to the next, so that a step of decoding allocates nothing,
//! caches can be shared between threads as they are, and nobody has to carry anything from call to call.

use std::cell::Cell;

use crate::segment::{BlockScratch, ValuePlan};
use crate::simd::{KeyRoom, Outlier, ValueRoom};

use super::keys::Keys;
use super::softmax::Softmax;
use super::values::Values;
use super::walk::Stretch;

/// Decoding takes less than this with any model; what a prompt's chunk takes beyond it goes back.
const MOST_KEPT_BYTES: usize = 4 << 20;

#[derive(Default)]
pub(super) struct Room {
    /// Queries of the heads, times the scale: `[heads, rows, head_dim]`.
    pub q: Vec<f32>,
    /// Of a stretch: `[heads, rows, tokens]`.
    pub logits: Vec<f32>,
    /// The present stretch and the next one.
    pub stretches: [Stretch; 2],
    pub heads: Vec<HeadRoom>,
    pub block: BlockRoom,
}

/// What is kept of one KV head from block to block.
#[derive(Default)]
pub(super) struct HeadRoom {
    pub keys: Keys,
    pub values: Values,
    pub softmax: Softmax,
    /// Whether products with the present stretch's keys were rounded to bytes, for any row.
    pub is_rough: bool,
}

/// Memory for a few blocks at a time, whichever head they are of.
#[derive(Default)]
pub(super) struct BlockRoom {
    /// `[tokens, head_dim]`
    pub rows: Vec<f32>,
    pub scratch: BlockScratch,
    pub outliers: Vec<Outlier>,
    /// One number for each rank.
    pub along: Vec<f32>,
    pub key: KeyRoom,
    pub value: ValueRoom,
    pub plan: ValuePlan,
}

thread_local! {
    static KEPT: Cell<Option<Box<Room>>> = const { Cell::new(None) };
}

/// Runs `f` in the calling thread's room.
pub(super) fn with<R>(f: impl FnOnce(&mut Room) -> R) -> R {
    // It is taken out while it is in use: whoever attends meanwhile on the same thread (from `cancel`) gets another one.
    let mut room = KEPT.take().unwrap_or_default();
    let result = f(&mut room);
    if room.byte_length() <= MOST_KEPT_BYTES {
        KEPT.set(Some(room));
    }
    result
}

impl Room {
    /// Bytes of what grows with the number of queries.
    fn byte_length(&self) -> usize {
        let heads: usize = self.heads.iter().map(|head| head.keys.capacity() + head.values.capacity()).sum();
        size_of::<f32>() * (self.q.capacity() + self.logits.capacity() + heads)
    }
}
