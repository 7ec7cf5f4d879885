//! Indices of outliers in as few bytes as their line needs, and the loops over them.

/// Bytes of one outlier index.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum IndexWidth {
    One,
    Two,
    Four,
}

impl IndexWidth {
    pub fn for_line(length: usize) -> Self {
        match length {
            0..=0x100 => Self::One,
            0x101..=0x1_0000 => Self::Two,
            _ => Self::Four,
        }
    }

    pub fn bytes(self) -> usize {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Four => 4,
        }
    }

    pub fn push(self, index: u32, out: &mut Vec<u8>) {
        out.extend_from_slice(&index.to_le_bytes()[..self.bytes()]);
    }

    /// The `i`-th index of packed `indices`.
    #[inline(always)]
    pub fn get(self, indices: &[u8], i: usize) -> usize {
        match self {
            Self::One => usize::from(indices[i]),
            Self::Two => usize::from(u16::from_le_bytes([indices[2 * i], indices[2 * i + 1]])),
            Self::Four => {
                let at = 4 * i;
                u32::from_le_bytes([indices[at], indices[at + 1], indices[at + 2], indices[at + 3]]) as usize
            }
        }
    }
}
