//! What a tensor shows of a segment. Segments never change, so that forks can share them: what changes is the view.

use std::borrow::Cow;
use std::sync::Arc;

use crate::segment::Segment;
use crate::spread::Widths;

/// What a list of items takes beside its numbers, where addresses have 64 bits: sizes are the same on every machine.
const ITEMS_HEADER_BYTES: usize = 40;
const _: () = assert!(size_of::<Vec<u32>>() + 2 * size_of::<usize>() <= ITEMS_HEADER_BYTES);

type Items = Arc<Vec<u32>>;

/// A segment, of which the first `visible` tokens count, and of them the batch items that `items` names.
#[derive(Clone)]
pub(crate) struct SegmentView {
    pub segment: Arc<Segment>,
    /// Truncating hides tokens, it does not compress again.
    visible: u32,
    /// Of each of the tensor's batch items, which of the segment's it is; `None` where they are the same.
    items: Option<Items>,
}

impl SegmentView {
    /// The first `visible` tokens, and every item.
    pub fn new(segment: Segment, visible: usize) -> Self {
        Self { segment: Arc::new(segment), visible: visible as u32, items: None }
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
        self.segment.decompress_plane(self.plane(plane), out);
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
                Some(items) => Arc::new(order.iter().map(|&item| items[item as usize]).collect()),
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
