//! One value of a GGUF's metadata.

use gearkv::Result;

use super::corrupt;
use super::input::Input;

/// A metadata value; numbers of all widths are one of two kinds.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Value {
    Integer(i64),
    Float(f64),
    Bool(bool),
    Text(String),
    Integers(Vec<i64>),
    Floats(Vec<f32>),
    Bools(Vec<bool>),
    Texts(Vec<String>),
    /// Arrays of arrays, which no model needs.
    Nested,
}

const TEXT: u32 = 8;
const ARRAY: u32 = 9;
/// Arrays inside arrays are read and dropped, so deep ones must not exhaust the stack.
const MAX_DEPTH: u32 = 4;

impl Value {
    pub fn read(input: &mut Input) -> Result<Self> {
        match input.u32()? {
            TEXT => Ok(Self::Text(input.string()?)),
            ARRAY => Self::read_array(input, 0),
            kind => Self::read_scalar(input, kind),
        }
    }

    fn read_scalar(input: &mut Input, kind: u32) -> Result<Self> {
        Ok(match kind {
            0 => Self::Integer(i64::from(u8::from_le_bytes(input.array()?))),
            1 => Self::Integer(i64::from(i8::from_le_bytes(input.array()?))),
            2 => Self::Integer(i64::from(u16::from_le_bytes(input.array()?))),
            3 => Self::Integer(i64::from(i16::from_le_bytes(input.array()?))),
            4 => Self::Integer(i64::from(u32::from_le_bytes(input.array()?))),
            5 => Self::Integer(i64::from(i32::from_le_bytes(input.array()?))),
            6 => Self::Float(f64::from(f32::from_le_bytes(input.array()?))),
            7 => Self::Bool(input.array::<1>()? != [0]),
            // Beyond i64 there is nothing that a model could mean.
            10 => Self::Integer(i64::try_from(input.u64()?).unwrap_or(i64::MAX)),
            11 => Self::Integer(i64::from_le_bytes(input.array()?)),
            12 => Self::Float(f64::from_le_bytes(input.array()?)),
            kind => return Err(corrupt(format!("a metadata value has type {kind}; expected 0 to 12"))),
        })
    }

    fn read_array(input: &mut Input, depth: u32) -> Result<Self> {
        let kind = input.u32()?;
        let n = input.u64()?;
        let size = match kind {
            0 | 1 | 7 => 1,
            2 | 3 => 2,
            4..=6 => 4,
            TEXT | 10..=12 => 8,
            ARRAY => 12,
            _ => return Err(corrupt(format!("a metadata array has elements of type {kind}; expected 0 to 12"))),
        };
        input.expect(n, size)?;
        let n = n as usize;
        match kind {
            TEXT => (0..n).map(|_| input.string()).collect::<Result<_>>().map(Self::Texts),
            ARRAY if depth == MAX_DEPTH => Err(corrupt("metadata arrays are nested too deeply")),
            ARRAY => {
                for _ in 0..n {
                    Self::read_array(input, depth + 1)?;
                }
                Ok(Self::Nested)
            }
            6 | 12 => {
                let mut out = Vec::with_capacity(n);
                for _ in 0..n {
                    if let Self::Float(x) = Self::read_scalar(input, kind)? {
                        out.push(x as f32);
                    }
                }
                Ok(Self::Floats(out))
            }
            7 => {
                let bytes = input.bytes(n as u64)?;
                Ok(Self::Bools(bytes.into_iter().map(|b| b != 0).collect()))
            }
            _ => {
                let mut out = Vec::new();
                for _ in 0..n {
                    if let Self::Integer(x) = Self::read_scalar(input, kind)? {
                        out.push(x);
                    }
                }
                Ok(Self::Integers(out))
            }
        }
    }

    pub fn integer(&self) -> Option<i64> {
        if let Self::Integer(x) = self { Some(*x) } else { None }
    }

    pub fn number(&self) -> Option<f64> {
        match self {
            Self::Integer(x) => Some(*x as f64),
            Self::Float(x) => Some(*x),
            _ => None,
        }
    }

    pub fn boolean(&self) -> Option<bool> {
        if let Self::Bool(x) = self { Some(*x) } else { None }
    }

    pub fn text(&self) -> Option<&str> {
        if let Self::Text(x) = self { Some(x) } else { None }
    }

    pub fn texts(&self) -> Option<&[String]> {
        if let Self::Texts(x) = self { Some(x) } else { None }
    }

    pub fn integers(&self) -> Option<&[i64]> {
        if let Self::Integers(x) = self { Some(x) } else { None }
    }

    pub fn floats(&self) -> Option<&[f32]> {
        if let Self::Floats(x) = self { Some(x) } else { None }
    }
}
