//! What all tensors of a frozen cache share: how keys turn, and how likely codes are.

use crate::error::{GearError, Result};
use crate::shape::Role;

use super::bytes::Reader;
use super::plane::{Frame, RUN};
use super::rotation::Rotation;
use super::tables::Tables;

/// What all tensors of a frozen cache share. Without it none of them can be read.
pub struct Statistics {
    dim: usize,
    rotation: Rotation,
    still: Rotation,
    tables: [Tables; 2],
    bytes: Box<[u8]>,
}

impl Statistics {
    pub(crate) fn new(dim: usize, rotation: Rotation, tables: [Tables; 2]) -> Self {
        let mut bytes = Vec::new();
        rotation.write(&mut bytes);
        tables.iter().for_each(|tables| tables.write(&mut bytes));
        Self { dim, rotation, still: Rotation::still(), tables, bytes: bytes.into() }
    }

    /// Rotation, tables of keys, tables of values.
    pub fn bytes(&self) -> &[u8] {
        &self.bytes
    }

    /// Statistics from bytes that nobody vouches for, of tensors of this head_dim.
    ///
    /// # Errors
    /// `CORRUPT_DATA`.
    pub fn from_bytes(bytes: &[u8], head_dim: usize) -> Result<Self> {
        let mut reader = Reader::new("statistics", bytes);
        let rotation = Rotation::read(&mut reader, head_dim)?;
        let tables = [Tables::read(&mut reader)?, Tables::read(&mut reader)?];
        reader.finish()?;
        let statistics = Self::new(head_dim, rotation, tables);
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
        Turns::new(&self.rotation, tokens, self.dim)
    }

    pub(crate) fn frame<'a>(&'a self, turns: &'a Turns, role: Role) -> Frame<'a> {
        match role {
            Role::Key => Frame { dim: self.dim, rotation: &self.rotation, turns: &turns.turning },
            Role::Value => Frame { dim: self.dim, rotation: &self.still, turns: &turns.still },
        }
    }
}

/// Cosines and sines of a run of tokens, of keys and of values.
pub(crate) struct Turns {
    pub turning: (Vec<f32>, Vec<f32>),
    pub still: (Vec<f32>, Vec<f32>),
}

impl Turns {
    pub fn new(rotation: &Rotation, tokens: usize, dim: usize) -> Self {
        let tokens = tokens.min(RUN);
        Self { turning: rotation.table(tokens, dim), still: Rotation::still().table(tokens, dim) }
    }
}
