//! What all tensors of a frozen cache share: how keys turn, and how likely codes are.
//!
//! Some models turn the keys of some layers slower than those of others (Gemma 3): then there is more than one rotation, and a tensor
//! says which is its own.

use crate::error::{GearError, Result};
use crate::shape::Role;

use super::bytes::Reader;
use super::plane::{Frame, RUN};
use super::rotation::Rotation;
use super::tables::Tables;

/// More rotations than any model has.
pub(crate) const MOST_ROTATIONS: usize = 4;

/// What all tensors of a frozen cache share. Without it none of them can be read.
pub struct Statistics {
    dim: usize,
    rotations: Vec<Rotation>,
    still: Rotation,
    tables: [Tables; 2],
    bytes: Box<[u8]>,
}

impl Statistics {
    /// At least one rotation, and at most [`MOST_ROTATIONS`].
    pub(crate) fn new(dim: usize, rotations: Vec<Rotation>, tables: [Tables; 2]) -> Self {
        let mut bytes = vec![rotations.len() as u8];
        rotations.iter().for_each(|rotation| rotation.write(&mut bytes));
        tables.iter().for_each(|tables| tables.write(&mut bytes));
        Self { dim, rotations, still: Rotation::still(), tables, bytes: bytes.into() }
    }

    /// Number of rotations, rotations, tables of keys, tables of values.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Statistics from bytes that nobody vouches for, of tensors of this head_dim.
    ///
    /// # Errors
    /// `CORRUPT_DATA`.
    pub fn from_bytes(bytes: &[u8], head_dim: usize) -> Result<Self> {
        let mut reader = Reader::new("statistics", bytes);
        let count = usize::from(reader.u8()?);
        if count == 0 || count > MOST_ROTATIONS {
            return Err(reader.corrupt("has an impossible number of rotations"));
        }
        let rotations = (0..count).map(|_| Rotation::read(&mut reader, head_dim)).collect::<Result<_>>()?;
        let tables = [Tables::read(&mut reader)?, Tables::read(&mut reader)?];
        reader.finish()?;
        let statistics = Self::new(head_dim, rotations, tables);
        // There is one way to write them.
        if *statistics.bytes != *bytes {
            return Err(GearError::corrupt("damaged statistics: they are not written as they must be"));
        }
        Ok(statistics)
    }

    pub(crate) fn tables(&self, role: Role) -> &Tables {
        &self.tables[role as usize]
    }

    /// For tensors of at most `tokens` tokens.
    pub(crate) fn turns(&self, tokens: usize) -> Turns {
        Turns::new(&self.rotations, tokens, self.dim)
    }

    /// How many rotations there are.
    pub(crate) fn rotations(&self) -> usize {
        self.rotations.len()
    }

    /// For keys that turn as rotation `rotation` says, or for values. The first rotation stands for one that does not exist.
    pub(crate) fn frame<'a>(&'a self, turns: &'a Turns, role: Role, rotation: usize) -> Frame<'a> {
        let index = if rotation < self.rotations.len() { rotation } else { 0 };
        match role {
            Role::Key => Frame { dim: self.dim, rotation: &self.rotations[index], turns: &turns.turning[index] },
            Role::Value => Frame { dim: self.dim, rotation: &self.still, turns: &turns.still },
        }
    }
}

/// Cosines and sines of a run of tokens, of keys and of values.
pub(crate) struct Turns {
    /// Of each rotation.
    turning: Vec<(Vec<f32>, Vec<f32>)>,
    still: (Vec<f32>, Vec<f32>),
}

impl Turns {
    pub fn new(rotations: &[Rotation], tokens: usize, dim: usize) -> Self {
        let tokens = tokens.min(RUN);
        let turning = rotations.iter().map(|rotation| rotation.table(tokens, dim)).collect();
        Self { turning, still: Rotation::still().table(tokens, dim) }
    }
}
