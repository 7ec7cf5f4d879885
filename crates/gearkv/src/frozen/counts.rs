//! What is counted to measure tables.

use super::tables::{OFFSET_UNIT, SYMBOLS, TABLES};

/// How often each symbol was seen in each table's place, and how far values were from its point.
#[derive(Clone)]
pub(crate) struct Counts {
    pub seen: Vec<[u32; SYMBOLS]>,
    /// In [`OFFSET_UNIT`]s.
    pub off: Vec<[i64; SYMBOLS]>,
    /// Bits that were written plainly.
    pub plain: u64,
}

impl Counts {
    pub fn new() -> Self {
        Self { seen: vec![[0; SYMBOLS]; TABLES], off: vec![[0; SYMBOLS]; TABLES], plain: 0 }
    }

    #[inline(always)]
    pub fn count(&mut self, table: usize, symbol: usize, off: f32, plain_bits: u32) {
        self.seen[table][symbol] += 1;
        self.off[table][symbol] += i64::from((off / OFFSET_UNIT) as i32);
        self.plain += u64::from(plain_bits);
    }

    pub fn add(&mut self, other: &Self) {
        for (mine, other) in self.seen.iter_mut().flatten().zip(other.seen.iter().flatten()) {
            *mine = mine.saturating_add(*other);
        }
        for (mine, other) in self.off.iter_mut().flatten().zip(other.off.iter().flatten()) {
            *mine += other;
        }
        self.plain += other.plain;
    }
}
