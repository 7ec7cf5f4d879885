// How a layer lies on the device. src/records.rs writes it; a change here is a change there.
//
// Tokens are in blocks of up to 64. Each block of each plane (a KV head of a batch item) has a record of keys and one of values,
// each one run of bytes. Codes are in the order in which the tensor core wants them: a lane's share of
// a unit, 16 codes in 8 pairs ("fields"), lies together. A unit of keys is 8 channels by 64 tokens; a unit of values is 8 tokens by
// 64 channels.
#pragma once
#include "target.cuh"

#define BLOCK 64
#define QUERIES 4          // query heads that one thread block does together
#define LANES 32

enum Mode { RAW = 0, CHANNEL = 1, TOKEN = 2, LEVELS = 3 };
enum Form { SMALL = 0, HALF = 1, FLOAT = 2 };

struct Block {
    u32 key, value;             // where the records start, in units of 16 bytes
    u32 key_bytes, value_bytes; // 0: raw
    u32 key_head, value_head;   // where the heads start, in units of 16 bytes
    u32 first, tokens;          // position of the first token, and how many there are
};

// What all blocks of one segment and plane share.
struct Head {
    u32 mode;
    u32 form;           // of scales and zeros
    u32 units;          // keys: 8 channels each; values: 64
    u32 groups;         // keys with scales a token: groups of channels
    float super_scale;
    float norm;         // scales times this are at most 2^14
    float back;         // and what undoes it, and what makes whole numbers of codes
    u32 rank;
    u32 small_factors;  // A in 8 bits with scales, not in float16
    u32 outliers;
    u32 means_at;       // bytes from here to the means; 0: none
    u32 factors_at;     // to B: [rank, dim], float32
    u32 groups_at;      // keys with scales a token: units of each group, u16
    u32 widths[6];      // keys: bits << 16 | units, widest first. values: bits
    float offset;       // levels of 8 bits are (code / 128 + offset) · scale
    u32 turned;         // codes stand for turned rows
    u32 scales_at;      // keys: bytes from a record's start to its scales
    u32 rest_at;        // keys: to A and the outliers
    u32 turned_means_at; // values: to the means, turned as codes are. 96 bytes
    // then u16 order[8 or 64 a unit]: which channel stands where; 0xffff: none
};

#define NO_CHANNEL 0xffffu

struct Layer {
    const Block* blocks;      // [planes, stride]
    const u8* data;           // heads and records of fixed blocks
    const u16* key_buffer;    // [planes, capacity, raw width], in the tensor core's order
    const u16* value_buffer;
    const u16* value_order;   // channels of values' slots
    const u32* value_range;   // bits of the largest scale of values; compressing may raise it
    u32 planes, heads, dim;
    u32 coded, fixed, stride; // blocks whose values are codes, all that are not in the buffer, and room for
    u32 buffered, capacity;   // tokens in the buffer, and room for
    u32 buffer_first;         // position of the buffer's first token
    u32 rotated;              // values' codes stand for turned rows
};

// What scales of values are multiplied by, so that they are at most 2^6, and what makes outputs of sums of codes (in units of 2^-24; levels are
// in 128ths). The same in all of a launch.
INLINE float value_norm(const Layer& layer) {
    int exponent = (int)(*layer.value_range >> 23) - 126;
    exponent = exponent < -80 ? -80 : exponent > 80 ? 80 : exponent;
    return __uint_as_float((u32)(127 + 6 - exponent) << 23);
}
INLINE float value_back(const Layer& layer, float norm) { return (layer.rotated ? 131072.0f : 16777216.0f) / norm; }

// What tensors that come in and go out are made of.
enum Kind { FLOAT32 = 0, FLOAT16 = 1, BFLOAT16 = 2 };

INLINE float load_as(const void* from, u64 at, u32 kind) {
    if (kind == FLOAT16) return widen(((const u16*)from)[at]);
    if (kind == BFLOAT16) return __uint_as_float((u32)((const u16*)from)[at] << 16);
    return ((const float*)from)[at];
}
INLINE void store_as(void* to, u64 at, float x, u32 kind) {
    u32 bits = __float_as_uint(x);
    if (kind == FLOAT16) ((u16*)to)[at] = narrow(x);
    // Halves to even; what is no number stays none.
    else if (kind == BFLOAT16) ((u16*)to)[at] = (u16)(x == x ? (bits + 0x7fffu + (bits >> 16 & 1)) >> 16 : bits >> 16 | 0x40);
    else ((float*)to)[at] = x;
}

// Half-words of a token in a raw record.
INLINE u32 raw_key_width(u32 dim) { return (dim + 15) / 16 * 16; }
INLINE u32 raw_value_width(u32 dim) { return (dim + 31) / 32 * 32; }

// Where a value stands in a raw record.
INLINE u32 raw_key_index(u32 token, u32 channel, u32 dim) {
    u32 pairs = raw_key_width(dim) / 16, unit = channel >> 3, lane = (token & 7) * 4 + ((channel & 7) >> 1);
    return ((((token >> 4) * pairs + (unit >> 1)) * LANES + lane) * 4 + (unit & 1) * 2 + ((token >> 3) & 1)) * 2 + (channel & 1);
}
INLINE u32 raw_value_index(u32 token, u32 channel, u32 dim) {
    u32 pairs = raw_value_width(dim) / 32, tile = channel >> 4, lane = (channel & 7) * 4 + ((token & 7) >> 1);
    return ((((token >> 3) * pairs + (tile >> 1)) * LANES + lane) * 4 + (tile & 1) * 2 + ((channel >> 3) & 1)) * 2 + (token & 1);
}

INLINE u32 aligned(u32 bytes) { return (bytes + 15) & ~15u; }
INLINE u32 unit_bytes(u32 bits) { return 64 * bits; }

INLINE u32 form_bytes(u32 form) { return form == SMALL ? 1 : form == HALF ? 2 : 4; }

// A scale of 4 exponent and 4 mantissa bits, before the super-scale (crates/gearkv/src/backbone/scales.rs).
INLINE float small_scale(u32 code) { return __uint_as_float((code << 19) + (1776u << 19)); }

// What a step of a small zero is in steps of codes.
INLINE float zero_unit(u32 bits) { return (float)((1u << bits) - 1) * (1.0f / 32.0f); }

INLINE float load_scale(const u8* at, u32 index, u32 form, float super_scale) {
    if (form == SMALL) return __fmul_rn(super_scale, small_scale(at[index]));
    if (form == HALF) return widen(((const u16*)at)[index]);
    return ((const float*)at)[index];
}
// A zero as it is kept: of 8 bits in steps of codes.
INLINE float kept_zero(const u8* at, u32 index, u32 form, float unit) {
    if (form == SMALL) return __fmul_rn((float)((const signed char*)at)[index], unit);
    if (form == HALF) return widen(((const u16*)at)[index]);
    return ((const float*)at)[index];
}
INLINE float load_zero(const u8* at, u32 index, u32 form, float unit, float scale) {
    float zero = kept_zero(at, index, form, unit);
    return form == SMALL ? __fmul_rn(zero, scale) : zero;
}

INLINE const u16* order_of(const Head* head) { return (const u16*)(head + 1); }

// Bytes of A in a record.
INLINE u32 factor_bytes(const Head* head) {
    if (!head->rank) return 0;
    return head->small_factors ? aligned(16 + head->rank * (BLOCK + 8)) : head->rank * BLOCK * 2;
}

// Outliers behind a record: lists of keys are by token, those of values by channel. Where each list starts, then the entries: the value in the upper
// half, its channel or token in the lower.
struct OutlierLists {
    u32 count;
    const u16* bounds;
    const u32* entries;
};
INLINE u32 bound_bytes(u32 lists) { return aligned((lists + 1) * 2); }
INLINE OutlierLists outlier_lists(const u8* at, bool keys, u32 dim) {
    u32 count = keys ? BLOCK : dim;
    return {count, (const u16*)at, (const u32*)(at + bound_bytes(count))};
}

// Parts of a record of keys.
struct KeyRecord {
    const u8 *codes, *scales, *factors, *outliers;
};
INLINE KeyRecord key_record(const Head* head, const u8* at) {
    return {at, at + head->scales_at, at + head->rest_at, at + head->rest_at + factor_bytes(head)};
}

// Parts of a record of values.
struct ValueStart {
    u8 tiles[4];   // of 8 tokens, of each width
    u32 order;     // whether tokens are out of order; then which one stands where comes next
    u32 scales_at; // bytes from the record's start
    u32 rest_at;   // to A and the outliers
};
struct ValueRecord {
    const u8 *order, *codes, *scales, *factors, *outliers;
};
INLINE u32 tiles_of(const ValueStart* start) { return start->tiles[0] + start->tiles[1] + start->tiles[2] + start->tiles[3]; }
INLINE ValueRecord value_record(const Head* head, const u8* at) {
    const ValueStart* start = (const ValueStart*)at;
    const u8* next = at + sizeof(ValueStart);
    u32 order_bytes = start->order ? aligned(tiles_of(start) * 8) : 0;
    return {start->order ? next : 0, next + order_bytes, at + start->scales_at, at + start->rest_at,
            at + start->rest_at + factor_bytes(head)};
}

// A[rank, token] of a block.
INLINE float load_factor(const Head* head, const u8* factors, u32 rank, u32 token) {
    if (!head->small_factors) return widen(((const u16*)factors)[rank * BLOCK + token]);
    // Scales are for 32 tokens each, counted from where the segment starts.
    u32 behind = *(const u32*)factors;
    const float* scales = (const float*)(factors + 16 + head->rank * BLOCK);
    float code = (float)((const signed char*)(factors + 16))[rank * BLOCK + token];
    return __fmul_rn(code, scales[rank * 2 + ((behind + token) >> 5 & 1)]);
}
