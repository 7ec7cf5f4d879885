//! The way through the tokens of both tensors.

use crate::tensor::{GearTensor, Piece, SegmentView};

use super::{BLOCK, STRETCH};

/// A block of one tensor: tokens of one piece, from `first` of it on.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    pub piece: Piece<'a>,
    /// Which piece that is.
    pub index: usize,
    pub first: usize,
    pub tokens: usize,
}

impl<'a> Place<'a> {
    /// Whether nothing of its piece is before it.
    pub fn begins(self) -> bool {
        self.first == self.piece.first()
    }

    /// A block's tokens. A piece that begins inside a tile begins with what is left of that, so that the next block is a whole one.
    fn whole_block(self) -> usize {
        let most = if self.begins() { BLOCK - self.first % BLOCK } else { BLOCK };
        self.tokens.min(most)
    }

    /// The codes of one head from there on, where these are tiles.
    pub fn codes(self, plane: usize) -> &'a [u8] {
        match self.piece {
            Piece::Raw(_) => &[],
            Piece::Segment(view) => view.segment.codes_from(view.plane(plane), self.first),
        }
    }
}

/// A block of keys and the same tokens' values: which piece each is of, and its first token there.
#[derive(Clone, Copy)]
pub(super) struct Step {
    pub key: (usize, usize),
    pub value: (usize, usize),
    /// Its first token, and how many.
    pub token: usize,
    pub tokens: usize,
}

/// Walks the pieces of both tensors, in blocks that are cut where either changes its piece.
pub(super) struct Walk<'a> {
    pub key: Pieces<'a>,
    pub value: Pieces<'a>,
    pub token: usize,
}

impl<'a> Walk<'a> {
    pub fn new(key: &'a GearTensor, value: &'a GearTensor) -> Self {
        Self { key: Pieces::new(key), value: Pieces::new(value), token: 0 }
    }

    /// What is left of the present pieces; `None` at the end.
    pub fn rest(&self) -> (Option<Place<'a>>, Option<Place<'a>>) {
        (self.key.rest(), self.value.rest())
    }

    /// The next block, of at most so many tokens, none of which is cut in two where it would fit the next time.
    pub fn next(&mut self, most: usize) -> Option<Step> {
        let (Some(key), Some(value)) = self.rest() else { return None };
        let tokens = key.whole_block().min(value.whole_block());
        if tokens > most {
            return None;
        }
        let step = Step { key: (key.index, key.first), value: (value.index, value.first), token: self.token, tokens };
        self.key.take(tokens);
        self.value.take(tokens);
        self.token += tokens;
        Some(step)
    }
}

/// The pieces of one tensor, and how far they have been gone through.
pub(super) struct Pieces<'a> {
    tensor: &'a GearTensor,
    /// The present one: empty only at the end.
    pub index: usize,
    offset: usize,
}

impl<'a> Pieces<'a> {
    pub fn new(tensor: &'a GearTensor) -> Self {
        let mut pieces = Self { tensor, index: 0, offset: 0 };
        pieces.take(0);
        pieces
    }

    pub fn rest(&self) -> Option<Place<'a>> {
        let Self { tensor, index, offset } = *self;
        (index < tensor.piece_count()).then(|| {
            let piece = tensor.piece(index);
            Place { piece, index, first: piece.first() + offset, tokens: piece.tokens() - offset }
        })
    }

    /// Moves on.
    fn take(&mut self, tokens: usize) {
        self.offset += tokens;
        while self.rest().is_some_and(|rest| rest.tokens == 0) {
            self.index += 1;
            self.offset = 0;
        }
    }
}

/// Segments that will be read soon. One of few tokens has little in each of many places, none of which would be there in time if it were asked
/// for only when its turn comes.
pub(super) struct Coming<'a> {
    segments: &'a [SegmentView],
    /// So many have been asked for: their headers, and what these say where it is.
    headers: usize,
    arrays: usize,
}

impl<'a> Coming<'a> {
    pub fn new(tensor: &'a GearTensor) -> Self {
        Self { segments: tensor.segments(), headers: 0, arrays: 0 }
    }

    /// Asks for what a stretch behind the first `done` segments needs, and for the headers of those of another.
    pub fn fetch(&mut self, done: usize) {
        const AT_ONCE: usize = STRETCH / BLOCK;
        let until = |from: usize, end: usize| from..end.clamp(from, self.segments.len().max(from));
        let headers = until(self.headers, done + 2 * AT_ONCE);
        let arrays = until(self.arrays, (done + AT_ONCE).min(self.headers));
        self.segments[headers.clone()].iter().for_each(|view| view.segment.prefetch_header());
        self.segments[arrays.clone()].iter().for_each(|view| view.segment.prefetch_arrays());
        (self.headers, self.arrays) = (headers.end, arrays.end);
    }
}

/// The block of so many tokens from `first` of a piece on.
pub(super) fn place(tensor: &GearTensor, (index, first): (usize, usize), tokens: usize) -> Place<'_> {
    Place { piece: tensor.piece(index), index, first, tokens }
}
