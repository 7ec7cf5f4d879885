//! How likely each code is: one table for each class of channel, quantizer and context.
//!
//! The same tables serve every head, layer and run of tokens, and what they take is paid once a cache. A table is measured where that pays for its own bytes, and built in otherwise: Student's
//! *t* of seven degrees, whose density needs only multiplications and divisions.

use std::num::NonZeroU16;

use crate::error::Result;

use super::bytes::Reader;
use super::classes::{CLASSES, CONTEXTS, variance_of};
use super::counts::Counts;

/// Probabilities are multiples of 2⁻¹².
pub(crate) const PRECISION: usize = 12;
pub(crate) const TOTAL: u32 = 1 << PRECISION;

/// No code is likelier than this, so that every code takes some room and a file cannot claim tokens that it does not have.
pub(crate) const LIKELIEST: u32 = TOTAL / 16 * 15;

/// Codes −31 to 31, then "none of these".
pub(crate) const SYMBOLS: usize = 64;
pub(crate) const ESCAPE: usize = SYMBOLS - 1;
/// The symbol of code 0.
pub(crate) const MIDDLE: i32 = 31;

pub(crate) const TABLES: usize = CLASSES * 2 * CONTEXTS;

/// Offsets of a code's mean from its point are multiples of this part of a half step.
pub(crate) const OFFSET_UNIT: f32 = 1.0 / 64.0;

/// Counts that the built-in table adds to what is measured, so that codes that were not seen can still be written.
const PRIOR: f64 = 16.0;

/// The probability of each symbol, and where its values lie.
#[derive(Clone)]
pub(crate) struct Table {
    masses: [u16; SYMBOLS],
    /// Sums of the masses before each symbol.
    below: [u16; SYMBOLS],
    /// The symbol at the first of each 16 quantiles.
    index: [u8; TOTAL as usize / 16],
    /// Of a code's mean from its point, in [`OFFSET_UNIT`]s.
    pub offsets: [i8; SYMBOLS],
    measured: bool,
}

impl Table {
    /// `masses` add up to [`TOTAL`].
    fn new(masses: [u16; SYMBOLS], offsets: [i8; SYMBOLS], measured: bool) -> Self {
        let mut below = [0; SYMBOLS];
        let mut sum = 0;
        for (below, mass) in below.iter_mut().zip(masses) {
            *below = sum;
            sum += mass;
        }
        let mut index = [0; TOTAL as usize / 16];
        let mut symbol = 0;
        for (i, entry) in index.iter_mut().enumerate() {
            while u32::from(below[symbol]) + u32::from(masses[symbol]) <= i as u32 * 16 {
                symbol += 1;
            }
            *entry = symbol as u8;
        }
        Self { masses, below, index, offsets, measured }
    }

    fn built_in(class: usize, odd: usize) -> Self {
        let variance = variance_of(class);
        let weights: Vec<f64> = (0..SYMBOLS)
            .map(|symbol| {
                if symbol == ESCAPE {
                    return 0.0;
                }
                let code = symbol as i32 - MIDDLE;
                let point = f64::from(crate::simd::point(code, odd as u8));
                let width = match (odd, code.abs()) {
                    (0, _) | (_, 2..) => 2.0,
                    (_, 1) => 1.5,
                    _ => 1.0,
                };
                // Points are what values were moved to, which adds what a third of a squared half step has.
                let spread = 1.0 + point * point / (5.0 * (variance + 0.33));
                width / (spread * spread * spread * spread)
            })
            .collect();
        Self::new(rounded_masses(&weights), [0; SYMBOLS], false)
    }

    #[inline(always)]
    pub fn mass(&self, symbol: usize) -> (u16, Option<NonZeroU16>) {
        (self.below[symbol], NonZeroU16::new(self.masses[symbol]))
    }

    /// The symbol at a quantile below [`TOTAL`].
    #[inline(always)]
    pub fn symbol_at(&self, quantile: u16) -> usize {
        let mut symbol = usize::from(self.index[usize::from(quantile >> 4) % (TOTAL as usize / 16)]);
        while symbol < ESCAPE && self.below[symbol + 1] <= quantile {
            symbol += 1;
        }
        symbol
    }

    /// Bits that symbols counted so take, in 2⁻¹⁶.
    fn cost(&self, counts: &[u32; SYMBOLS]) -> u64 {
        let costs = mass_costs();
        let bits = |symbol: usize| -> u64 {
            if self.masses[symbol] == 0 {
                // Written as an escape instead.
                costs[usize::from(self.masses[ESCAPE])] + (ESCAPE_BITS << 16)
            } else {
                costs[usize::from(self.masses[symbol])] + if symbol == ESCAPE { ESCAPE_BITS << 16 } else { 0 }
            }
        };
        counts.iter().enumerate().filter(|(_, n)| **n > 0).map(|(symbol, &n)| u64::from(n) * bits(symbol)).sum()
    }

    /// First symbol, last symbol, then a mass and an offset for each from one to the other, and the escape's mass. No symbol
    /// between them is without mass, and none outside has any.
    fn write(&self, out: &mut Vec<u8>) {
        let with_mass = |symbol: &usize| self.masses[*symbol] > 0;
        let first = (0..ESCAPE).find(with_mass).unwrap_or(0);
        let last = (0..ESCAPE).rev().find(with_mass).unwrap_or(0);
        out.extend([first as u8, last as u8]);
        for symbol in (first..=last).chain([ESCAPE]) {
            let mass = self.masses[symbol];
            // One byte for small masses, two for others.
            if mass < 0xf0 {
                out.push(mass as u8);
            } else {
                out.extend([0xf0 | (mass >> 8) as u8, mass as u8]);
            }
        }
        out.extend(self.offsets[first..=last].iter().map(|offset| *offset as u8));
    }

    fn read(reader: &mut Reader) -> Result<Self> {
        let (first, last) = (usize::from(reader.u8()?), usize::from(reader.u8()?));
        if first > last || last >= ESCAPE {
            return Err(reader.corrupt("has a table of symbols that do not exist"));
        }
        let (mut masses, mut offsets) = ([0u16; SYMBOLS], [0; SYMBOLS]);
        let mut sum = 0;
        for symbol in (first..=last).chain([ESCAPE]) {
            let byte = u16::from(reader.u8()?);
            let mass = if byte < 0xf0 { byte } else { (byte & 0x0f) << 8 | u16::from(reader.u8()?) };
            if mass == 0 || u32::from(mass) > LIKELIEST {
                return Err(reader.corrupt("has a table with an impossible probability"));
            }
            sum += u32::from(mass);
            masses[symbol] = mass;
        }
        if sum != TOTAL {
            return Err(reader.corrupt("has a table whose probabilities do not add up"));
        }
        for (offset, byte) in offsets[first..=last].iter_mut().zip(reader.bytes(last + 1 - first)?) {
            *offset = *byte as i8;
        }
        Ok(Self::new(masses, offsets, true))
    }
}

/// Bits of a code behind an escape.
const ESCAPE_BITS: u64 = 24;

/// Bits of a symbol of each mass, in 2⁻¹⁶.
fn mass_costs() -> &'static [u64; TOTAL as usize + 1] {
    static COSTS: std::sync::OnceLock<Box<[u64; TOTAL as usize + 1]>> = std::sync::OnceLock::new();
    COSTS.get_or_init(|| {
        let mut costs = Box::new([0; TOTAL as usize + 1]);
        for (mass, cost) in costs.iter_mut().enumerate().skip(1) {
            *cost = libm::rint((PRECISION as f64 - libm::log2(mass as f64)) * 65_536.0) as u64;
        }
        costs
    })
}

/// Weights as masses that add up to [`TOTAL`]: at least 1 for a weight that is not zero and for the escape, at most
/// [`LIKELIEST`].
fn rounded_masses(weights: &[f64]) -> [u16; SYMBOLS] {
    let sum: f64 = weights.iter().sum::<f64>().max(f64::MIN_POSITIVE);
    let mut masses = [0u16; SYMBOLS];
    for (symbol, (mass, weight)) in masses.iter_mut().zip(weights).enumerate() {
        if *weight > 0.0 || symbol == ESCAPE {
            *mass = libm::rint(weight / sum * f64::from(TOTAL)).clamp(1.0, f64::from(LIKELIEST)) as u16;
        }
    }
    // What rounding left over or took too much goes to the likeliest symbols, which it changes least.
    loop {
        let sum: u32 = masses.iter().map(|m| u32::from(*m)).sum();
        if sum == TOTAL {
            return masses;
        }
        let fits = |mass: u16| if sum > TOTAL { mass > 1 } else { mass > 0 && u32::from(mass) < LIKELIEST };
        let pick = (0..SYMBOLS).filter(|s| fits(masses[*s])).max_by_key(|s| (masses[*s], usize::MAX - s));
        let Some(pick) = pick else { return masses };
        let most = (u32::from(masses[pick]) / 8).max(1);
        if sum > TOTAL {
            masses[pick] -= (sum - TOTAL).min(most).min(u32::from(masses[pick]) - 1) as u16;
        } else {
            masses[pick] += (TOTAL - sum).min(most).min(LIKELIEST - u32::from(masses[pick])) as u16;
        }
    }
}

/// The tables of all keys, or of all values.
#[derive(Clone)]
pub(crate) struct Tables(Vec<Table>);

impl Tables {
    pub fn built_in() -> Self {
        let place = |i: usize| (i / (2 * CONTEXTS), i / CONTEXTS % 2);
        Self((0..TABLES).map(|i| Table::built_in(place(i).0, place(i).1)).collect())
    }

    /// Measured where `share` times what was counted gains more than the table takes; `share` is how much larger the whole is
    /// than what was counted.
    pub fn measured(counts: &Counts, share: f64) -> Self {
        let mut tables = Self::built_in().0;
        for (i, table) in tables.iter_mut().enumerate() {
            let (seen, off) = (&counts.seen[i], &counts.off[i]);
            let total: u32 = seen.iter().sum();
            if total == 0 {
                continue;
            }
            let mut weights: Vec<f64> = seen.iter().map(|n| f64::from(*n)).collect();
            for (weight, mass) in weights.iter_mut().zip(table.masses) {
                // Symbols that are next to impossible would make every table as long as the longest.
                let prior = PRIOR * f64::from(mass) / f64::from(TOTAL);
                *weight += if prior >= 0.02 { prior } else { 0.0 };
            }
            fill_gaps(&mut weights);
            let mut offsets = [0; SYMBOLS];
            for symbol in 0..ESCAPE {
                let n = i64::from(seen[symbol]);
                // Of a few, the mean is chance; the prior counts as values at the point.
                offsets[symbol] = (off[symbol] / (n + 8)).clamp(-127, 127) as i8;
            }
            let measured = Table::new(rounded_masses(&weights), offsets, true);
            let mut bytes = Vec::new();
            measured.write(&mut bytes);
            let gain = (table.cost(seen) as f64 - measured.cost(seen) as f64) / 65_536.0 * share;
            if gain > 8.0 * bytes.len() as f64 {
                *table = measured;
            }
        }
        Self(tables)
    }

    #[inline(always)]
    pub fn get(&self, table: usize) -> &Table {
        &self.0[table]
    }

    /// Bits that what was counted takes.
    pub fn bits(&self, counts: &Counts) -> f64 {
        let coded: u64 = self.0.iter().zip(&counts.seen).map(|(table, seen)| table.cost(seen)).sum();
        coded as f64 / 65_536.0 + counts.plain as f64
    }

    /// A bit a table that says whether it is measured, then those that are.
    pub fn write(&self, out: &mut Vec<u8>) {
        for tables in self.0.chunks(8) {
            out.push(tables.iter().enumerate().map(|(i, table)| u8::from(table.measured) << i).sum());
        }
        for table in self.0.iter().filter(|table| table.measured) {
            table.write(out);
        }
    }

    /// # Errors
    /// `CORRUPT_DATA`.
    pub fn read(reader: &mut Reader) -> Result<Self> {
        let mut tables = Self::built_in().0;
        let flags = reader.bytes(TABLES.div_ceil(8))?;
        for (i, table) in tables.iter_mut().enumerate() {
            if flags[i / 8] >> (i % 8) & 1 == 1 {
                *table = Table::read(reader)?;
            }
        }
        if TABLES < 8 * flags.len() && flags[TABLES / 8] >> (TABLES % 8) != 0 {
            return Err(reader.corrupt("has more tables than there are classes"));
        }
        Ok(Self(tables))
    }
}

/// Masses are written from the first symbol that has one to the last: none between them may be without.
fn fill_gaps(weights: &mut [f64]) {
    let first = weights[..ESCAPE].iter().position(|w| *w > 0.0).unwrap_or(0);
    let last = weights[..ESCAPE].iter().rposition(|w| *w > 0.0).unwrap_or(0);
    for weight in &mut weights[first..=last] {
        *weight = weight.max(1e-3);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sum(table: &Table) -> u32 {
        table.masses.iter().map(|m| u32::from(*m)).sum()
    }

    #[test]
    fn built_in_tables_add_up_and_find_every_symbol() {
        for table in &Tables::built_in().0 {
            assert_eq!(sum(table), TOTAL);
            assert!(table.masses.iter().all(|m| u32::from(*m) <= LIKELIEST));
            for quantile in 0..TOTAL as u16 {
                let symbol = table.symbol_at(quantile);
                let (below, mass) = table.mass(symbol);
                assert!(below <= quantile && quantile < below + mass.unwrap().get());
            }
        }
    }

    #[test]
    fn a_table_is_measured_where_that_pays_and_comes_back_from_its_bytes() {
        let mut counts = Counts::new();
        for i in 0..5000 {
            counts.count(70, (31 + i % 5) as usize, 0.25, 0);
        }
        counts.count(71, 40, 0.0, 0);
        let tables = Tables::measured(&counts, 1.0);
        assert!(tables.get(70).measured && !tables.get(71).measured);
        assert_eq!(sum(tables.get(70)), TOTAL);
        assert!(tables.bits(&counts) < Tables::built_in().bits(&counts) / 1.2);
        let mut bytes = Vec::new();
        tables.write(&mut bytes);
        let mut reader = Reader::new("test", &bytes);
        let read = Tables::read(&mut reader).unwrap();
        reader.finish().unwrap();
        assert_eq!(read.get(70).masses, tables.get(70).masses);
        assert_eq!(read.get(70).offsets, tables.get(70).offsets);
        // 16 is a quarter of a half step.
        assert_eq!(read.get(70).offsets[31], 15);
    }

    #[test]
    fn one_symbol_alone_is_not_certain() {
        let mut weights = vec![0.0; SYMBOLS];
        weights[31] = 1.0;
        let masses = rounded_masses(&weights);
        assert_eq!(masses.iter().map(|m| u32::from(*m)).sum::<u32>(), TOTAL);
        assert!(u32::from(masses[31]) <= LIKELIEST);
    }
}
