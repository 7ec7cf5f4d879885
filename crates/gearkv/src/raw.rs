//! Tokens held uncompressed: sinks, the buffer, and everything under the presets `float16` and `float32`.
//!
//! One token is one row of all planes (`[tokens, batch · heads, head_dim]`), so that appending and truncating touch only the end.

use std::borrow::Cow;

use half::f16;

use crate::items::picked;
use crate::segment::Rows;
use crate::shape::{KvShape, KvSlice};
use crate::simd::{self, LANES, RawRows, RawValues};

/// Uncompressed tokens.
#[derive(Clone)]
pub(crate) struct RawTokens {
    row: usize,
    dim: usize,
    values: Values,
}

#[derive(Clone)]
enum Values {
    F16(Vec<f16>),
    F32(Vec<f32>),
}

impl RawTokens {
    pub fn new(planes: usize, dim: usize, float32: bool) -> Self {
        let values = if float32 { Values::F32(Vec::new()) } else { Values::F16(Vec::new()) };
        Self { row: planes * dim, dim, values }
    }

    pub fn tokens(&self) -> usize {
        match &self.values {
            Values::F16(x) => x.len() / self.row,
            Values::F32(x) => x.len() / self.row,
        }
    }

    pub fn byte_length(&self) -> usize {
        match &self.values {
            Values::F16(x) => size_of_val(x.as_slice()),
            Values::F32(x) => size_of_val(x.as_slice()),
        }
    }

    pub fn truncate(&mut self, tokens: usize) {
        let len = tokens.saturating_mul(self.row);
        match &mut self.values {
            Values::F16(x) => x.truncate(len),
            Values::F32(x) => x.truncate(len),
        }
    }

    /// Makes room for `tokens` tokens more, and no more than that.
    pub fn reserve(&mut self, tokens: usize) {
        let added = tokens.saturating_mul(self.row);
        match &mut self.values {
            Values::F16(x) => x.reserve_exact(added),
            Values::F32(x) => x.reserve_exact(added),
        }
    }

    /// Removes the first `tokens` tokens, and gives memory back beyond what `room` tokens need.
    pub fn remove_first(&mut self, tokens: usize, room: usize) {
        let (start, room) = (tokens.saturating_mul(self.row), room.saturating_mul(self.row));
        match &mut self.values {
            Values::F16(x) => remove_first(x, start, room),
            Values::F32(x) => remove_first(x, start, room),
        }
    }

    /// Makes batch item `i` what item `order[i]` of `batch` was.
    pub fn reorder(&mut self, order: &[u32], batch: usize) {
        let item = self.row / batch;
        match &mut self.values {
            Values::F16(x) => *x = picked(x, batch, item, order),
            Values::F32(x) => *x = picked(x, batch, item, order),
        }
        self.row = order.len() * item;
    }

    /// Removes tokens, and gives memory back beyond what `room` tokens need.
    pub fn remove(&mut self, range: std::ops::Range<usize>, room: usize) {
        let (values, room) = (range.start * self.row..range.end * self.row, room * self.row);
        match &mut self.values {
            Values::F16(x) => remove(x, values, room),
            Values::F32(x) => remove(x, values, room),
        }
    }

    /// Appends tokens `range` of `input`, which has `shape`.
    pub fn push(&mut self, input: KvSlice, shape: KvShape, range: std::ops::Range<usize>) {
        let dim = self.dim;
        let added = range.len() * self.row;
        match &mut self.values {
            Values::F16(x) => make_room(x, added),
            Values::F32(x) => make_room(x, added),
        }
        for t in range {
            for plane in 0..shape.planes() {
                let at = (plane * shape.tokens + t) * dim;
                match (&mut self.values, input) {
                    (Values::F16(x), KvSlice::F16(from)) => x.extend_from_slice(&from[at..at + dim]),
                    (Values::F32(x), KvSlice::F32(from)) => x.extend_from_slice(&from[at..at + dim]),
                    (Values::F16(x), KvSlice::F32(from)) => {
                        let start = x.len();
                        x.resize(start + dim, f16::ZERO);
                        simd::narrow(&from[at..at + dim], &mut x[start..]);
                    }
                    (Values::F32(x), KvSlice::F16(from)) => {
                        let start = x.len();
                        x.resize(start + dim, 0.0);
                        simd::widen(&from[at..at + dim], &mut x[start..]);
                    }
                }
            }
        }
    }

    /// Rows of one plane from token `first` on, as many as `out` (`[tokens, head_dim]`) holds.
    pub fn rows(&self, plane: usize, first: usize, out: &mut [f32]) {
        for (t, out) in out.chunks_exact_mut(self.dim).enumerate() {
            let at = (first + t) * self.row + plane * self.dim;
            match &self.values {
                Values::F16(x) => simd::widen(&x[at..at + self.dim], out),
                Values::F32(x) => out.copy_from_slice(&x[at..at + self.dim]),
            }
        }
    }

    /// The rows of `tokens` tokens of one plane from `first` on, where they lie; what is read next lies `ahead` rows of one plane behind each.
    /// `None` where their length does not suit the loops on them.
    pub fn rows_in_place(&self, plane: usize, first: usize, tokens: usize, ahead: usize) -> Option<RawRows<'_>> {
        let start = first * self.row + plane * self.dim;
        let values = match &self.values {
            Values::F16(x) => RawValues::F16(&x[start..]),
            Values::F32(x) => RawValues::F32(&x[start..]),
        };
        self.dim.is_multiple_of(LANES).then_some(RawRows {
            values,
            stride: self.row,
            tokens,
            dim: self.dim,
            ahead: ahead * self.dim,
        })
    }

    /// Little-endian bytes of all values.
    pub fn bytes(&self) -> Cow<'_, [u8]> {
        match &self.values {
            Values::F16(x) => f16_bytes(x),
            Values::F32(x) if cfg!(target_endian = "little") => Cow::Borrowed(bytemuck::cast_slice(x)),
            Values::F32(x) => x.iter().flat_map(|x| x.to_le_bytes()).collect(),
        }
    }

    /// Replaces all values by `bytes`, which must be whole tokens; `false`, and no change, when a value is not finite or the
    /// length does not fit.
    pub fn load(&mut self, bytes: &[u8], tokens: usize) -> bool {
        match &mut self.values {
            Values::F16(x) => {
                let Some(values) = f16_from_bytes(bytes, tokens * self.row) else { return false };
                if !values.iter().all(|x| x.is_finite()) {
                    return false;
                }
                *x = values;
            }
            Values::F32(x) => {
                let (chunks, rest) = bytes.as_chunks::<4>();
                if !rest.is_empty() || chunks.len() != tokens * self.row {
                    return false;
                }
                let values: Vec<f32> = chunks.iter().map(|b| f32::from_le_bytes(*b)).collect();
                if !values.iter().all(|x| x.is_finite()) {
                    return false;
                }
                *x = values;
            }
        }
        true
    }
}

/// Room for `added` values. Grows by an eighth, not to the double: without compression this is the whole cache.
fn make_room<T>(values: &mut Vec<T>, added: usize) {
    if values.capacity() - values.len() < added {
        values.reserve_exact(added.max(values.len() / 8));
    }
}

fn remove<T: Copy>(values: &mut Vec<T>, range: std::ops::Range<usize>, room: usize) {
    let left = values.len() - range.len();
    values.copy_within(range.end.., range.start);
    values.truncate(left);
    values.shrink_to(room);
}

fn remove_first<T: Copy>(values: &mut Vec<T>, start: usize, room: usize) {
    if values.capacity() <= room {
        remove(values, 0..start.min(values.len()), room);
        return;
    }
    // In a place of its own: shrunk in its old place, what is left of a layer's prompt would break up the room that the next
    // layer's prompt needs, and the process would keep all of it.
    let left = &values[start.min(values.len())..];
    let mut kept = Vec::with_capacity(room.max(left.len()));
    kept.extend_from_slice(left);
    *values = kept;
}

impl Rows for RawTokens {
    fn load(&self, plane: usize, first: usize, out: &mut [f32]) {
        self.rows(plane, first, out);
    }
}

/// Little-endian bytes of float16 values, borrowed where the machine is little-endian itself.
pub(crate) fn f16_bytes(values: &[f16]) -> Cow<'_, [u8]> {
    if cfg!(target_endian = "little") {
        Cow::Borrowed(bytemuck::cast_slice(values))
    } else {
        values.iter().flat_map(|x| x.to_le_bytes()).collect()
    }
}

/// Exactly `count` float16 values; `None` when the length differs.
pub(crate) fn f16_from_bytes(bytes: &[u8], count: usize) -> Option<Vec<f16>> {
    let (pairs, rest) = bytes.as_chunks::<2>();
    (rest.is_empty() && pairs.len() == count).then(|| pairs.iter().map(|b| f16::from_le_bytes(*b)).collect())
}

/// As [`f16_from_bytes`], and `None` when a value is not finite.
pub(crate) fn finite_f16(bytes: &[u8], count: usize) -> Option<Vec<f16>> {
    f16_from_bytes(bytes, count).filter(|values| values.iter().all(|x| x.is_finite()))
}
