// What attention is given, and how shared memory is shared.
#pragma once
#include "values.cuh"

#define LOG2_E 1.44269504f
#define NOTHING (-__int_as_float(0x7f800000))

struct Attention {
    Layer layer;
    const void* queries;  // [batch, query heads, positions, dim]
    void* out;            // as queries
    float* partial;       // [planes, sets, splits, QUERIES, domains, dim]
    float* softmax;       // [planes, sets, splits, QUERIES, 2]: largest logit, sum
    const u32* visible;   // [batch, 2]: of each sequence the first position in sight and the one behind the last; 0: all are
    u32 query_heads, per_head; // in all, and of a KV head
    u32 positions;        // of queries, the newest of the layer; a set's queries are heads of one position, then of the next
    u32 limited;          // queries differ in what they see
    u32 causal, window;   // window 0: none
    u32 kind;             // of queries and outputs
    u32 splits;
    u32 first_seen;       // tokens before this position are out of sight
    float scale, softcap; // softcap 0: none
    u32 key_stage, value_stage; // bytes of the longest records of codes; of values, without what is unusual of their outliers
    u32 rank;             // the largest
    u32 key_slots;        // the most channels with padding
    u32 keys_turned;      // whether any codes of keys stand for turned rows
    u32 plain;            // whether it is a plain kernel
    u32 word_bytes;       // B's registers of the longest record
};

INLINE u32 max_u32(u32 a, u32 b) { return a > b ? a : b; }

// Shared memory: first what all warps read, then a share for each warp.
INLINE u32 query_bytes(const Attention& a) { return ((a.layer.dim + 32) * (a.keys_turned ? 2 : 1) + 5) * QUERIES * 4; }
INLINE u32 stage_bytes(const Attention& a) { return a.key_stage + max_u32(a.value_stage, a.layer.dim * QUERIES * 4); }
// Rows of sums of queries, which plain kernels do not need.
INLINE u32 sum_rows(const Attention& a) { return a.plain ? 0 : 16; }
// Rows that outputs and ordered queries take; plain kernels need either the one or the other.
INLINE u32 plain_rows(const Attention& a) { return a.plain ? 0 : a.layer.dim; }
// Logits, weights and B's registers: one after the other in the same place, as far as they can.
INLINE u32 room_bytes(const Attention& a) {
    u32 logits = BLOCK * COLUMNS * 4;
    return a.plain ? max_u32(logits, a.word_bytes) : logits + a.word_bytes;
}
// Of that place, weights take the end or, where B's registers are behind it, the start.
INLINE u32 weights_at(const Attention& a) { return a.plain ? room_bytes(a) - (BLOCK + 1) * QUERIES * 4 : 0; }
INLINE u32 warp_bytes(const Attention& a) {
    return aligned(stage_bytes(a) + room_bytes(a) + (a.key_slots / 8 + (plain_rows(a) + max_u32(a.key_slots, a.layer.dim) + 2 * a.rank + 2 + sum_rows(a)) * QUERIES) * 4 + 2 * sizeof(Head) + sizeof(Block));
}

struct Warp {
    u8 *keys, *values; // records on their way
    float* logits;     // [BLOCK, COLUMNS]
    float* weights;    // what comes of them: [BLOCK + 1, QUERIES]; the last row is zero
    u32* words;        // B's registers
    float* plain;      // [dim, QUERIES]: outputs that are not of codes
    float* ordered;    // [slots, QUERIES]: queries in the order of the keys' channels
    float* along;      // [rank, QUERIES]: B · q
    float* gathered;   // [rank, QUERIES]: weights · A, of values
    float* constant;   // [QUERIES]: q · mean, or in plain kernels weights before the present head; [QUERIES]: what logits are multiplied by
    float* sums;       // [16, QUERIES]: of queries, over groups of channels
    Head *key_head, *value_head; // the present ones
    Block* coming;     // the descriptor of the block after the next
    float* zero_units; // [units]: what a step of a zero is in steps of codes
};

INLINE Warp share_of(const Attention& a, u8* shared, u32 warp) {
    Warp own;
    u8* at = shared + query_bytes(a) + warp * warp_bytes(a);
    own.keys = at;
    own.values = at + a.key_stage;
    own.logits = (float*)(at + aligned(stage_bytes(a)));
    own.weights = (float*)((u8*)own.logits + weights_at(a));
    own.words = (u32*)(a.plain ? own.logits : own.logits + BLOCK * COLUMNS);
    own.plain = (float*)((u8*)own.logits + room_bytes(a));
    own.ordered = own.plain + plain_rows(a) * QUERIES;
    own.along = own.ordered + max_u32(a.key_slots, a.layer.dim) * QUERIES;
    own.gathered = own.along + a.rank * QUERIES;
    own.constant = own.gathered + a.rank * QUERIES;
    own.sums = own.constant + 2 * QUERIES;
    own.key_head = (Head*)(own.sums + sum_rows(a) * QUERIES);
    own.value_head = own.key_head + 1;
    own.coming = (Block*)(own.value_head + 1);
    own.zero_units = (float*)(own.coming + 1);
    return own;
}

// A block's descriptor, whether it is one of the layer's own or of the buffer.
INLINE Block block_at(const Layer& layer, u32 plane, u32 i) {
    if (i < layer.fixed) return layer.blocks[(u64)plane * layer.stride + i];
    u32 first = (i - layer.fixed) * BLOCK;
    Block block = {};
    block.first = layer.buffer_first + first;
    block.tokens = layer.buffered - first < BLOCK ? layer.buffered - first : BLOCK;
    return block;
}

// Where its keys and values are: `record` is what the descriptor says.
INLINE const u8* keys_at(const Layer& layer, u32 plane, u32 i, u32 record) {
    if (i < layer.fixed) return layer.data + (u64)record * 16;
    return (const u8*)(layer.key_buffer + ((u64)plane * layer.capacity + (i - layer.fixed) * BLOCK) * raw_key_width(layer.dim));
}
INLINE const u8* values_at(const Layer& layer, u32 plane, u32 i, u32 record) {
    if (i < layer.fixed) return layer.data + (u64)record * 16;
    return (const u8*)(layer.value_buffer + ((u64)plane * layer.capacity + (i - layer.fixed) * BLOCK) * raw_value_width(layer.dim));
}

// The `run`-th of `runs` shares of `count`: its first.
INLINE u32 share_start(u32 count, u32 run, u32 runs) { return (u32)((u64)count * run / runs); }

// Blocks in float16: those of the layer, and of the buffer.
INLINE u32 raw_blocks(const Layer& layer) { return layer.fixed + (layer.buffered + BLOCK - 1) / BLOCK - layer.coded; }

// Whether any query sees any of a block's tokens: `range` is the first position that one sees, and the one behind the last.
INLINE bool in_sight(const u32* range, const Block& block) { return block.first + block.tokens > range[0] && block.first < range[1]; }

INLINE const Head* head_at(const Layer& layer, u32 at) { return (const Head*)(layer.data + (u64)at * 16); }

// Starts copying a block's descriptor, for when its turn comes; it goes with the next group of copies.
INLINE void call_block(const Layer& layer, u32 plane, u32 i, Block* to, u32 lane) {
    if (i < layer.fixed) copy_run((u8*)to, (const u8*)(layer.blocks + (u64)plane * layer.stride + i), sizeof(Block), lane);
}

// Bytes of a record of values that are copied: outliers of one that is longer are read where they are.
INLINE u32 staged_bytes(const Attention& a, u32 bytes) { return bytes < a.value_stage ? bytes : a.value_stage; }
INLINE const u8* outliers_of(const Attention& a, const ValueRecord& record, const u8* staged, u32 at, u32 bytes) {
    return bytes > a.value_stage ? a.layer.data + (u64)at * 16 + (record.outliers - staged) : record.outliers;
}

INLINE void start_copy(u8* shared, const Layer& layer, u32 record, u32 bytes, u32 lane) {
    copy_run(shared, layer.data + (u64)record * 16, bytes, lane);
    close_group();
}
