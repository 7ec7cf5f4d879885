//! What a layer's records say about themselves, and what becomes of it when one comes.

use crate::kernels::LayerArgument;
use crate::records::Template;

/// What the records say about themselves.
#[derive(Clone)]
pub(crate) struct Parts {
    pub fixed: usize,
    pub coded: usize,
    pub buffer_first: usize,
    pub key_stage: usize,
    pub value_stage: usize,
    pub rank: usize,
    pub key_slots: usize,
    pub keys_turned: bool,
    pub plain: bool,
    /// Whether keys and values can be taken apart into tiles: keys are not turned, and turned values have nothing beside their codes.
    pub tiled: bool,
    pub word_bytes: usize,
}

impl Parts {
    /// A segment more, whose tokens were the first in the buffer.
    pub fn include(&mut self, template: &Template) {
        self.fixed += template.blocks();
        self.coded += template.blocks();
        self.buffer_first += template.tokens;
        self.key_stage = self.key_stage.max(template.key_stage);
        self.value_stage = self.value_stage.max(template.value_stage);
        self.key_slots = self.key_slots.max(template.key_slots);
        self.word_bytes = self.word_bytes.max(template.word_bytes);
        self.plain &= template.plain;
        self.tiled &= template.tiled;
        self.rank = self.rank.max(template.ranks[0]).max(template.ranks[1]);
    }

    /// The layer as kernels get it: planes, heads, head_dim and descriptors of a plane; tokens in the buffer, room there and whether values are
    /// turned; addresses as in [`LayerArgument`].
    pub fn argument(
        &self,
        (planes, heads, dim, stride): (usize, usize, usize, usize),
        (buffered, capacity, rotated): (usize, usize, bool),
        [blocks, data, key_buffer, value_buffer, value_order, value_range]: [u64; 6],
    ) -> LayerArgument {
        LayerArgument {
            blocks,
            data,
            key_buffer,
            value_buffer,
            value_order,
            value_range,
            planes: planes as u32,
            heads: heads as u32,
            dim: dim as u32,
            coded: self.coded as u32,
            fixed: self.fixed as u32,
            stride: stride as u32,
            buffered: buffered as u32,
            capacity: capacity as u32,
            buffer_first: self.buffer_first as u32,
            rotated: u32::from(rotated),
        }
    }
}
