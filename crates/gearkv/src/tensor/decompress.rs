//! A tensor's tokens, decompressed.

use crate::error::{Cancel, NEVER, Result, check};
use crate::parallel;
use crate::shape::{KvShape, KvSlice};

use super::{GearTensor, Piece};

impl GearTensor {
    /// All tokens, in a new vector of `shape().elements()` values.
    ///
    /// # Errors
    /// `ABORTED`.
    pub fn decompress(&self, cancel: Cancel) -> Result<Vec<f32>> {
        let mut out = vec![0.0; self.shape().elements()];
        self.decompress_into(&mut out, cancel)?;
        Ok(out)
    }

    /// All tokens, `[batch, heads, tokens, head_dim]`, into `out`.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when `out` does not hold exactly `shape().elements()` values; `ABORTED`, which leaves `out` partly written.
    pub fn decompress_into(&self, out: &mut [f32], cancel: Cancel) -> Result<()> {
        KvSlice::F32(out).check_shape("the output", self.shape())?;
        parallel::for_each_chunk(out, self.tokens() * self.dim, self.config.threads, |plane, rows| {
            self.decompress_plane(plane, rows, cancel);
        });
        check(cancel)
    }

    /// The tokens of one head of a batch item after the other, in `room`, on the calling thread: for who takes them elsewhere, and need not
    /// hold all of them.
    ///
    /// # Errors
    /// `SHAPE_MISMATCH` when `room` is not `[tokens, head_dim]`.
    pub fn decompress_planes(&self, room: &mut [f32], mut each: impl FnMut(&[f32])) -> Result<()> {
        let shape = self.shape();
        KvSlice::F32(room).check_shape("the room for a head", KvShape { batch: 1, heads: 1, ..shape })?;
        for plane in 0..shape.batch * shape.heads {
            self.decompress_plane(plane, room, NEVER);
            each(room);
        }
        Ok(())
    }

    fn decompress_plane(&self, plane: usize, mut rest: &mut [f32], cancel: Cancel) {
        for part in self.pieces() {
            if cancel() {
                return;
            }
            let (rows, after) = rest.split_at_mut(part.tokens() * self.dim);
            match part {
                Piece::Raw(raw) => raw.rows(plane, 0, rows),
                Piece::Segment(view) => view.decompress_plane(plane, rows),
            }
            rest = after;
        }
    }
}
