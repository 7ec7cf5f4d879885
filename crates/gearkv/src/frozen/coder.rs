//! Codes as bytes: asymmetric numeral systems (Duda, arXiv 1311.2540) from `constriction`, two coders side by side, so that one
//! need not wait for the other.

use std::borrow::Borrow;
use std::num::NonZeroU16;

use constriction::stream::model::{DecoderModel, EncoderModel, EntropyModel};
use constriction::stream::stack::DefaultAnsCoder;
use constriction::stream::{Code, Decode, Encode};

use crate::error::{ErrorCode, GearError, Result};

use super::tables::{ESCAPE, MIDDLE, PRECISION, Table};

/// Coders of a run of tokens; channel *c* is in coder *c* mod [`CODERS`].
pub(crate) const CODERS: usize = 2;

/// What a coder's state is before anything is written. From here on every code makes it larger, so that the words that a run
/// takes bound the codes that it can hold.
const FIRST_STATE: u64 = 1 << 32;

/// Bits of one plain digit behind an escape, of which there are two.
const DIGIT_BITS: u32 = 12;

/// A place among the probabilities.
struct Place {
    below: u16,
    mass: NonZeroU16,
}

impl EntropyModel<PRECISION> for Place {
    type Symbol = ();
    type Probability = u16;
}

impl EncoderModel<PRECISION> for Place {
    #[inline(always)]
    fn left_cumulative_and_probability(&self, _: impl Borrow<()>) -> Option<(u16, NonZeroU16)> {
        Some((self.below, self.mass))
    }
}

/// A number below 2^bits, each as likely as the other; at most [`PRECISION`] bits.
struct Plain {
    bits: u32,
}

impl Plain {
    #[inline(always)]
    fn mass(&self) -> NonZeroU16 {
        NonZeroU16::new(1 << (PRECISION as u32 - self.bits)).unwrap_or(NonZeroU16::MIN)
    }
}

impl EntropyModel<PRECISION> for Plain {
    type Symbol = u16;
    type Probability = u16;
}

impl EncoderModel<PRECISION> for Plain {
    #[inline(always)]
    fn left_cumulative_and_probability(&self, symbol: impl Borrow<u16>) -> Option<(u16, NonZeroU16)> {
        Some((*symbol.borrow() << (PRECISION as u32 - self.bits), self.mass()))
    }
}

impl DecoderModel<PRECISION> for Plain {
    #[inline(always)]
    fn quantile_function(&self, quantile: u16) -> (u16, u16, NonZeroU16) {
        let symbol = quantile >> (PRECISION as u32 - self.bits);
        (symbol, symbol << (PRECISION as u32 - self.bits), self.mass())
    }
}

impl EntropyModel<PRECISION> for Table {
    type Symbol = usize;
    type Probability = u16;
}

impl DecoderModel<PRECISION> for Table {
    #[inline(always)]
    fn quantile_function(&self, quantile: u16) -> (usize, u16, NonZeroU16) {
        let symbol = self.symbol_at(quantile);
        let (below, mass) = self.mass(symbol);
        // A symbol that a quantile falls to has a mass.
        (symbol, below, mass.unwrap_or(NonZeroU16::MIN))
    }
}

/// The symbol of a code without its plain bits, and whether it is one that needs to be written behind an escape.
#[inline(always)]
pub(crate) fn symbol_of(high: i32) -> usize {
    let symbol = high + MIDDLE;
    if (0..ESCAPE as i32).contains(&symbol) { symbol as usize } else { ESCAPE }
}

/// Takes codes last first, as the coder gives them back first.
pub(crate) struct Writer {
    coders: [DefaultAnsCoder; CODERS],
}

impl Writer {
    pub fn new() -> Self {
        Self { coders: std::array::from_fn(|_| DefaultAnsCoder::from_raw_parts(Vec::new(), FIRST_STATE)) }
    }

    #[inline(always)]
    pub fn push(&mut self, channel: usize, code: i32, table: &Table, plain_bits: u32) -> Result<()> {
        let coder = &mut self.coders[channel % CODERS];
        if plain_bits > 0 {
            let low = (code & ((1 << plain_bits) - 1)) as u32;
            plain(coder, low, plain_bits)?;
        }
        let high = code >> plain_bits;
        let symbol = symbol_of(high);
        let (below, mass) = table.mass(symbol);
        if let (Some(mass), true) = (mass, symbol != ESCAPE) {
            return place(coder, below, mass);
        }
        // Zigzag: the sign in the lowest bit.
        let number = (high << 1 ^ high >> 31) as u32;
        plain(coder, number, 2 * DIGIT_BITS)?;
        let (below, mass) = table.mass(ESCAPE);
        place(coder, below, mass.unwrap_or(NonZeroU16::MIN))
    }

    /// Words of each coder.
    pub fn finish(self) -> Result<[Vec<u32>; CODERS]> {
        let mut words = [const { Vec::new() }; CODERS];
        for (words, coder) in words.iter_mut().zip(self.coders) {
            *words = coder.into_compressed().map_err(|_| defect())?;
        }
        Ok(words)
    }
}

#[inline(always)]
fn place(coder: &mut DefaultAnsCoder, below: u16, mass: NonZeroU16) -> Result<()> {
    coder.encode_symbol((), Place { below, mass }).map_err(|_| defect())
}

/// Digits of at most [`DIGIT_BITS`] bits; the lowest is read first, so it is written last.
fn plain(coder: &mut DefaultAnsCoder, number: u32, bits: u32) -> Result<()> {
    let digits = bits.div_ceil(DIGIT_BITS);
    for digit in (0..digits).rev() {
        let first = digit * DIGIT_BITS;
        let width = (bits - first).min(DIGIT_BITS);
        let part = (number >> first) & ((1 << width) - 1);
        coder.encode_symbol(part as u16, Plain { bits: width }).map_err(|_| defect())?;
    }
    Ok(())
}

fn defect() -> GearError {
    GearError::new(ErrorCode::Internal, "the entropy coder refused a code")
}

/// Gives codes first to last.
pub(crate) struct Source {
    coders: [DefaultAnsCoder; CODERS],
}

impl Source {
    /// `None` for words that no coder leaves behind.
    pub fn new(words: [Vec<u32>; CODERS]) -> Option<Self> {
        let [a, b] = words.map(|words| DefaultAnsCoder::from_compressed(words).ok());
        Some(Self { coders: [a?, b?] })
    }

    #[inline(always)]
    pub fn next(&mut self, channel: usize, table: &Table, plain_bits: u32) -> (usize, i32) {
        let coder = &mut self.coders[channel % CODERS];
        let Ok(symbol) = coder.decode_symbol(TableRef(table));
        let high = if symbol == ESCAPE {
            let number = digits(coder, 2 * DIGIT_BITS);
            (number >> 1) as i32 ^ -((number & 1) as i32)
        } else {
            symbol as i32 - MIDDLE
        };
        if plain_bits == 0 {
            return (symbol, high);
        }
        let low = digits(coder, plain_bits) as i32;
        (symbol, (high << plain_bits) | low)
    }

    /// Whether the words held exactly the codes that were taken: damage that a checksum does not see ends elsewhere.
    pub fn is_exhausted(&self) -> bool {
        self.coders.iter().all(|coder| coder.bulk().is_empty() && coder.state() == FIRST_STATE)
    }
}

fn digits(coder: &mut DefaultAnsCoder, bits: u32) -> u32 {
    let mut number = 0;
    for digit in 0..bits.div_ceil(DIGIT_BITS) {
        let first = digit * DIGIT_BITS;
        let Ok(part) = coder.decode_symbol(Plain { bits: (bits - first).min(DIGIT_BITS) });
        number |= u32::from(part) << first;
    }
    number
}

/// A table that is borrowed.
struct TableRef<'a>(&'a Table);

impl EntropyModel<PRECISION> for TableRef<'_> {
    type Symbol = usize;
    type Probability = u16;
}

impl DecoderModel<PRECISION> for TableRef<'_> {
    #[inline(always)]
    fn quantile_function(&self, quantile: u16) -> (usize, u16, NonZeroU16) {
        self.0.quantile_function(quantile)
    }
}

#[cfg(test)]
mod tests {
    use super::super::tables::Tables;
    use super::*;

    #[test]
    fn what_goes_in_last_comes_out_first_whatever_its_size() {
        let tables = Tables::built_in();
        let codes: Vec<i32> =
            (0..2000).map(|i| (i * i * 7 % 41 - 20) << (i % 5)).chain([1 << 20, -(1 << 20)]).collect();
        let plain = |i: usize| if i.is_multiple_of(3) { 0 } else { (i % 17) as u32 };
        let mut writer = Writer::new();
        for (i, &code) in codes.iter().enumerate().rev() {
            writer.push(i, code, tables.get(i % 150), plain(i)).unwrap();
        }
        let mut source = Source::new(writer.finish().unwrap()).unwrap();
        for (i, &code) in codes.iter().enumerate() {
            assert_eq!(source.next(i, tables.get(i % 150), plain(i)).1, code, "code {i}");
        }
        assert!(source.is_exhausted());
    }

    #[test]
    fn any_words_give_codes_and_no_panic() {
        let tables = Tables::built_in();
        let words = |seed: u32| -> Vec<u32> {
            (1..50).map(|i: u32| i.wrapping_mul(2_654_435_761).wrapping_add(seed)).collect()
        };
        let mut source = Source::new([words(1), words(99)]).unwrap();
        for i in 0..10_000 {
            source.next(i, tables.get(i % 150), (i % 25) as u32);
        }
        assert!(Source::new([vec![0], vec![]]).is_none());
    }
}
