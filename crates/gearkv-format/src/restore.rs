//! Tensors from their entries and bytes.

use std::borrow::Cow;

use gearkv::{
    ErrorCode, FrozenHeader, FrozenTensor, GearError, GearTensor, KvShape, Result, SegmentImage, TensorImage,
};

use crate::frame::corrupt;
use crate::header::{FrozenEntry, Section, TensorEntry};
use crate::layout::Piece;

/// A compressed tensor. `piece` holds its sections.
pub(crate) fn tensor(entry: &TensorEntry, piece: Piece) -> Result<GearTensor> {
    image(entry, piece).and_then(GearTensor::from_image).map_err(|e| as_corrupt(&entry.name, e))
}

/// A frozen tensor. What is coded is checked as codes when it is thawed.
pub(crate) fn frozen(entry: &FrozenEntry, piece: Piece) -> Result<FrozenTensor> {
    let bytes = piece.section(entry.section)?;
    let &FrozenEntry { role, shape, sink_tokens: sinks, weighted, rotation, .. } = entry;
    let header = FrozenHeader { role, shape, config: entry.config.clone(), sinks, weighted, rotation };
    FrozenTensor::from_bytes(header, bytes.into()).map_err(|e| as_corrupt(&entry.name, e))
}

/// Whatever the core finds wrong with an image, to the caller the file is what is wrong.
fn as_corrupt(name: &str, error: GearError) -> GearError {
    match error.code() {
        ErrorCode::UnsupportedVersion | ErrorCode::Internal => error,
        _ => corrupt(format!("entry {name:?}: {error}")),
    }
}

fn image<'a>(entry: &TensorEntry, piece: Piece<'a>) -> Result<TensorImage<'a>> {
    let KvShape { batch, heads, tokens, head_dim } = entry.shape;
    let shape = KvShape::new(batch, heads, tokens, head_dim)?;
    let bytes = |place: Section| piece.section(place).map(Cow::Borrowed);
    let segments = entry.segments.iter().map(|segment| {
        Ok(SegmentImage {
            tokens: segment.tokens,
            hidden: segment.hidden,
            visible: segment.visible,
            rank: segment.rank,
            codes: bytes(segment.sections.codes)?,
            scales: bytes(segment.sections.scales)?,
            factors: bytes(segment.sections.factors)?,
            outlier_indices: bytes(segment.sections.outlier_indices)?,
            outlier_values: bytes(segment.sections.outlier_values)?,
        })
    });
    Ok(TensorImage {
        role: entry.role,
        shape,
        config: entry.config.clone(),
        sink_tokens: entry.sink_tokens,
        sinks: bytes(entry.sinks)?,
        segments: segments.collect::<Result<_>>()?,
        buffer_tokens: entry.buffer_tokens,
        buffer: bytes(entry.buffer)?,
    })
}
