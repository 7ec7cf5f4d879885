//! The way through the tokens of both tensors.

use crate::segment::Run;
use crate::shape::Role;
use crate::simd::TILE;
use crate::tensor::{GearTensor, Piece, SegmentView};

use super::{BLOCK, Columns, SHORT_STRETCH};

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
    key: (usize, usize),
    value: (usize, usize),
    /// Its first token, and how many.
    pub token: usize,
    pub tokens: usize,
}

impl Step {
    /// The piece, and the first token there.
    fn of(&self, role: Role) -> (usize, usize) {
        match role {
            Role::Key => self.key,
            Role::Value => self.value,
        }
    }
}

/// Neighboring blocks whose logits are taken together.
#[derive(Default)]
pub(super) struct Stretch {
    pub steps: Vec<Step>,
    /// Of all of them.
    pub tokens: usize,
}

impl Stretch {
    /// Its first token.
    pub fn first(&self) -> usize {
        self.steps.first().map_or(0, |step| step.token)
    }
}

/// The blocks of a stretch in one of the tensors, for one head.
#[derive(Clone, Copy)]
pub(super) struct Blocks<'a> {
    pub tensor: &'a GearTensor,
    pub role: Role,
    pub now: &'a Stretch,
    /// The stretch behind it.
    pub next: &'a Stretch,
    /// Which one it is of the heads that are gone through together, and how many these are; the first one's plane.
    pub head: usize,
    pub heads: usize,
    pub first_plane: usize,
}

/// Where heads are gone through together, codes are asked for so many heads before they are read.
const HEADS_AHEAD: usize = 2;

/// Where one head is gone through alone, rows that are not compressed are asked for so many tokens before they are read.
const ROWS_AHEAD: usize = 16;

impl<'a> Blocks<'a> {
    pub fn len(&self) -> usize {
        self.now.steps.len()
    }

    /// The head's.
    pub fn plane(&self) -> usize {
        self.first_plane + self.head
    }

    /// Where the `s`-th is.
    pub fn place(&self, s: usize) -> Place<'a> {
        self.place_of(&self.now.steps[s])
    }

    /// Which piece the `s`-th is of.
    pub fn index(&self, s: usize) -> usize {
        self.now.steps[s].of(self.role).0
    }

    /// Those to whose codes low-rank or outliers belong.
    pub fn that_lack(self) -> impl Iterator<Item = usize> {
        self.whose_segments(move |view| view.segment.lacks(view.plane(self.plane())))
    }

    /// Whether any of them is of a segment with outliers.
    pub fn have_outliers(&self) -> bool {
        self.whose_segments(|view| view.segment.layout.per_line > 0).next().is_some()
    }

    /// Those that are of a segment of which something holds; it is asked once a segment.
    fn whose_segments(self, holds: impl Fn(&SegmentView) -> bool) -> impl Iterator<Item = usize> {
        let mut known = (usize::MAX, false);
        (0..self.len()).filter(move |&s| {
            let index = self.index(s);
            if known.0 != index {
                known = (index, matches!(self.tensor.piece(index), Piece::Segment(view) if holds(view)));
            }
            known.1
        })
    }

    /// How many blocks from the `s`-th on are of one piece, and their tokens.
    pub fn of_one_piece(&self, s: usize) -> (usize, usize) {
        self.same_piece(s).fold((0, 0), |(count, tokens), step| (count + 1, tokens + step.tokens))
    }

    /// Blocks from the `s`-th on that are of its piece.
    fn same_piece(&self, s: usize) -> impl Iterator<Item = &'a Step> {
        let (index, role) = (self.index(s), self.role);
        self.now.steps[s..].iter().take_while(move |step| step.of(role).0 == index)
    }

    /// The columns of the `s`-th in rows of logits.
    pub fn columns(&self, s: usize) -> Columns {
        Columns { first: self.now.steps[s].token - self.now.first(), stride: self.now.tokens }
    }

    /// As many blocks from the `s`-th on as are of one piece, and of `most` tokens at most, where whole tiles end with the last one; otherwise the
    /// `s`-th alone. Returns how many these are, too.
    pub fn run(&self, s: usize, most: usize) -> (Run<'a>, usize) {
        let step = &self.now.steps[s];
        let (_, first) = step.of(self.role);
        let (mut tokens, mut count, mut sum) = (step.tokens, 1, 0);
        for (i, step) in self.same_piece(s).enumerate() {
            sum += step.tokens;
            if sum > most {
                break;
            }
            if sum.is_multiple_of(TILE) {
                (tokens, count) = (sum, i + 1);
            }
        }
        (Run { first, tokens, ahead: self.codes_ahead(s, count), column: self.columns(s).first }, count)
    }

    /// Codes that will be read some time after those of `count` blocks from the `s`-th on: a stretch later or, where heads take turns, some
    /// heads later.
    fn codes_ahead(&self, s: usize, count: usize) -> &'a [u8] {
        let head = self.head + HEADS_AHEAD;
        let (step, head) = match self.heads {
            1 => (self.next.steps.get(s), 0),
            heads if head < heads => (self.now.steps.get(s), head),
            heads => (self.now.steps.get(s + count).or(self.next.steps.first()), (head - heads).min(heads - 1)),
        };
        step.map_or(&[], |step| self.place_of(step).codes(self.first_plane + head))
    }

    /// How many rows of one head lie between those of the `s`-th and what will be read next, where tokens are not compressed: that of the next
    /// head, or the first head's of the next block.
    pub fn rows_ahead(&self, s: usize) -> usize {
        let all = self.tensor.shape().planes();
        if self.head + 1 < self.heads {
            1
        } else if self.heads == 1 {
            ROWS_AHEAD * all
        } else {
            self.now.steps[s].tokens * all - (self.heads - 1)
        }
    }

    fn place_of(&self, step: &Step) -> Place<'a> {
        let (index, first) = step.of(self.role);
        Place { piece: self.tensor.piece(index), index, first, tokens: step.tokens }
    }
}

/// Walks the pieces of both tensors, in blocks that are cut where either changes its piece.
pub(super) struct Walk<'a> {
    pub key: Pieces<'a>,
    pub value: Pieces<'a>,
    token: usize,
}

impl<'a> Walk<'a> {
    pub fn new(key: &'a GearTensor, value: &'a GearTensor) -> Self {
        Self { key: Pieces::new(key), value: Pieces::new(value), token: 0 }
    }

    /// The next blocks with tokens from `in_sight` on, of at most so many tokens in all: into `stretch`, which is empty where none are left.
    pub fn stretch(&mut self, most: usize, in_sight: usize, stretch: &mut Stretch) {
        stretch.steps.clear();
        stretch.tokens = 0;
        while stretch.tokens < most
            && let Some(step) = self.next(most - stretch.tokens)
        {
            if step.token + step.tokens > in_sight {
                stretch.tokens += step.tokens;
                stretch.steps.push(step);
            }
        }
    }

    /// The next block, of at most so many tokens, none of which is cut in two where it would fit the next time.
    fn next(&mut self, most: usize) -> Option<Step> {
        let (Some(key), Some(value)) = (self.key.rest(), self.value.rest()) else { return None };
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
    fn new(tensor: &'a GearTensor) -> Self {
        let mut pieces = Self { tensor, index: 0, offset: 0 };
        pieces.take(0);
        pieces
    }

    fn rest(&self) -> Option<Place<'a>> {
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
        const AT_ONCE: usize = SHORT_STRETCH / BLOCK;
        let until = |from: usize, end: usize| from..end.clamp(from, self.segments.len().max(from));
        let headers = until(self.headers, done + 2 * AT_ONCE);
        let arrays = until(self.arrays, (done + AT_ONCE).min(self.headers));
        self.segments[headers.clone()].iter().for_each(|view| view.segment.prefetch_header());
        self.segments[arrays.clone()].iter().for_each(|view| view.segment.prefetch_arrays());
        (self.headers, self.arrays) = (headers.end, arrays.end);
    }
}
