//! What a tensor shows of a segment. Segments never change, so that forks can share them: what changes is the view.

use std::borrow::Cow;
use std::sync::Arc;

use crate::items::picked;
use crate::segment::Segment;
use crate::spread::Widths;

/// What a list of items takes beside its numbers, where addresses have 64 bits: sizes are the same on every machine.
const ITEMS_HEADER_BYTES: usize = 40;
const _: () = assert!(size_of::<Vec<u32>>() + 2 * size_of::<usize>() <= ITEMS_HEADER_BYTES);

type Items = Arc<Vec<u32>>;

/// A segment, of which the tokens from `hidden` on count, `visible` of them, and the batch items that `items` names.
#[derive(Clone)]
pub(crate) struct SegmentView {
    pub segment: Arc<Segment>,
    /// Dropping the first tokens hides them, and so does truncating: nothing is compressed again.
    hidden: u32,
    visible: u32,
    /// Of each of the tensor's batch items, which of the segment's it is; `None` where they are the same.
    items: Option<Items>,
}

impl SegmentView {
    /// All tokens and every item.
    pub fn new(segment: Segment) -> Self {
        Self { hidden: 0, visible: segment.tokens() as u32, segment: Arc::new(segment), items: None }
    }

    /// Of the tokens that count only `tokens`, from the `first`-th on.
    pub fn part(&self, first: usize, tokens: usize) -> Self {
        debug_assert!(first + tokens <= self.visible());
        Self { hidden: self.hidden + first as u32, visible: tokens as u32, ..self.clone() }
    }

    /// The segment's first token that counts.
    pub fn hidden(&self) -> usize {
        self.hidden as usize
    }

    /// How many tokens count.
    pub fn visible(&self) -> usize {
        self.visible as usize
    }

    /// Shows no more than `tokens` tokens.
    pub fn truncate(&mut self, tokens: usize) {
        self.visible = self.visible.min(u32::try_from(tokens).unwrap_or(u32::MAX));
    }

    /// Which plane of the segment a plane of the tensor is.
    pub fn plane(&self, plane: usize) -> usize {
        let heads = self.segment.layout.heads;
        match &self.items {
            None => plane,
            Some(items) => items[plane / heads] as usize * heads + plane % heads,
        }
    }

    /// Which of the segment's batch items the tensor's are, where they are not the same.
    pub fn items(&self) -> Option<&[u32]> {
        self.items.as_ref().map(|items| items.as_slice())
    }

    /// Bytes of the names of its items, where the view before it, if any, does not have the same list.
    pub fn item_bytes(&self, before: Option<&Self>) -> usize {
        let shared = before.is_some_and(|before| same(self.items.as_ref(), before.items.as_ref()));
        self.items().filter(|_| !shared).map_or(0, |items| ITEMS_HEADER_BYTES + size_of_val(items))
    }

    /// The widths of its codes, as the tensor's planes have them.
    pub fn widths(&self) -> Cow<'_, Widths> {
        match &self.items {
            None => Cow::Borrowed(&self.segment.widths),
            Some(items) => Cow::Owned(self.segment.widths.picked(items, self.segment.layout.heads)),
        }
    }

    /// Decompresses a plane of the tensor: as many tokens as `out` (`[tokens, head_dim]`) holds.
    pub fn decompress_plane(&self, plane: usize, out: &mut [f32]) {
        self.segment.decompress_rows(self.plane(plane), self.hidden(), out);
    }
}

/// Makes item `i` of each view what item `order[i]` was. Views that named their items alike go on sharing them.
pub(super) fn reorder(views: &mut [SegmentView], order: &[u32]) {
    let mut latest: Option<(Option<Items>, Items)> = None;
    for view in views {
        let next = match &latest {
            Some((before, next)) if same(before.as_ref(), view.items.as_ref()) => Arc::clone(next),
            _ => match &view.items {
                None => Arc::new(order.to_vec()),
                Some(items) => Arc::new(picked(items, items.len(), 1, order)),
            },
        };
        let before = view.items.replace(Arc::clone(&next));
        latest = Some((before, next));
    }
}

fn same(a: Option<&Items>, b: Option<&Items>) -> bool {
    match (a, b) {
        (None, None) => true,
        (Some(a), Some(b)) => Arc::ptr_eq(a, b),
        _ => false,
    }
}
