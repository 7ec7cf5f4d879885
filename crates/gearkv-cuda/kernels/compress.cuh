// A full buffer to a segment: the records that the core's compression and src/records would make of these tokens, to the last bit.
// Grid: [planes, 2]; keys, then values. A thread block has one side of one plane, all of whose tokens are in shared memory in float32.
//
// What is the same in all segments of a layer (heads, but for scales and means) comes from the host as a template for each plane.
#pragma once
#include "levels.cuh"
#include "attention.cuh"

#define MOST_CUTS 16 // blocks of one segment

struct Compression {
    Layer layer;
    const u8* templates;      // [planes][head of keys, head of values]
    float* surveyed;          // of values: [planes, tokens], where widths are dealt by their variances; [planes, tokens, 2], where heads share scales
    u32* key_marks;           // which values are outliers, a bit each: [planes, dim, words of tokens],
    u32* value_marks;         // and [items, tokens, heads, words of channels]
    const float* starts;      // [heads, rank, dim] of keys, then of values: where power iteration starts
    u32* value_range;         // bits of the largest scale of values
    Block* blocks;            // layer.blocks
    u8* data;                 // layer.data
    double gain, gain_over;   // what a unit's weight is multiplied by and divided by
    u32 tokens;               // of the segment
    u32 blocks_made;
    u32 cuts[MOST_CUTS + 1];  // where its blocks start, and its end
    // In units of 16 bytes. Where the segment starts: heads and records of keys of each plane; then records of values of each item.
    u32 at, plane_stride;
    u32 values_at, item_stride;
    u32 key_head_bytes, value_head_bytes, key_bytes, value_bytes; // the most that each takes; of records, without entries of outliers
    u32 key_group, key_channels;  // tokens, or channels, that share a scale
    u32 value_channels;
    u32 shared_scales;        // whether all heads share a token's scale of values
    Recipe key, value;
    u32 value_bits;           // the width of values, or the less of two
    u32 value_more_bits;      // the greater
    u32 units, raised;        // units of rows in a head that have one width, and how many of an item's have the greater
    u32 in_fours;             // whether a unit is four rows
    u32 key_slots;
    u32 heads;
    u32 key_side, value_side; // outliers at either end of a line: a channel's keys, a token's values in all heads
};

// Shared memory.
struct Bench {
    float* rows;    // [tokens, dim + 1]
    float* scales;  // as many as there are
    float* zeros;
    float* means;   // [dim], values alone
    u32* lists;     // [dim or BLOCK]: how long each is, in the place of means
    u32* words;     // [64 + 32]
    u32* found;     // [2, MOST_CUTS + 1]: outliers in each block of keys and of values, and those of values in the heads before
    double* gains;  // [heads, units]
    u16* order;     // [heads, tokens]: rows, the heaviest of each block first
    u8* widths;     // [tokens]
    // Factors: [rank, tokens], [rank, dim], and scales of the first.
    float *a, *b, *factor_scales;
};

INLINE u32 row_stride(u32 dim) { return dim + 1; }

// Outliers at either end of a line, and how many there are in each block.
INLINE u32 side_of(const Compression& a, bool keys) { return keys ? a.key_side : a.value_side; }
INLINE u32* found_of(const Bench& bench, bool keys) { return bench.found + (keys ? 0 : MOST_CUTS + 1); }

// A value in the buffer.
INLINE float buffered(const Compression& a, u32 plane, bool keys, u32 token, u32 channel) {
    u32 dim = a.layer.dim, width = keys ? raw_key_width(dim) : raw_value_width(dim);
    const u16* from = (keys ? a.layer.key_buffer : a.layer.value_buffer) + (u64)plane * a.layer.capacity * width;
    return widen(from[keys ? raw_key_index(token, channel, dim) : raw_value_index(token, channel, dim)]);
}

// Rows of one side of a plane to shared memory.
INLINE void load_rows(const Compression& a, u32 plane, bool keys, float* rows) {
    u32 dim = a.layer.dim;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * dim; i += blockDim.x)
        rows[i / dim * row_stride(dim) + i % dim] = buffered(a, plane, keys, i / dim, i % dim);
    __syncthreads();
}

// The largest of what all threads have, none of which is negative or no number. `words`: one.
INLINE float largest_of_block(float x, u32* words) {
    __syncthreads();
    if (threadIdx.x == 0) words[0] = 0;
    __syncthreads();
    atomicMax(words, __float_as_uint(x));
    __syncthreads();
    return __uint_as_float(words[0]);
}

INLINE u8* plane_at(const Compression& a, u32 plane) { return a.data + ((u64)a.at + (u64)plane * a.plane_stride) * 16; }

// Where the `i`-th record of a plane is, in units of 16 bytes. Records have room for all of them but entries of outliers, which lie closely:
// how many a record has is known only now, how many all have was known before. Rounding both up is made good by 16 bytes a record.
INLINE u32 record_at(const Compression& a, const Bench& bench, u32 plane, u32 i, bool keys) {
    u32 entries = 0;
    if (side_of(a, keys)) {
        const u32* found = found_of(bench, keys);
        entries = keys ? 0 : found[MOST_CUTS];
#pragma unroll 1
        for (u32 before = 0; before < i; before++) entries += found[before];
    }
    u32 start = keys ? plane * a.plane_stride + (a.key_head_bytes + a.value_head_bytes) / 16 : a.values_at + plane / a.heads * a.item_stride;
    u32 number = keys ? i : plane % a.heads * a.blocks_made + i;
    return a.at + start + number * ((keys ? a.key_bytes : a.value_bytes) / 16) + aligned(entries * 4) / 16;
}
INLINE u8* record_of(const Compression& a, const Bench& bench, u32 plane, u32 i, bool keys) {
    return a.data + (u64)record_at(a, bench, plane, i, keys) * 16;
}

INLINE void copy_template(u8* to, const u8* from, u32 bytes) {
#pragma unroll 1
    for (u32 i = threadIdx.x; i < bytes / 16; i += blockDim.x) ((uint4*)to)[i] = ((const uint4*)from)[i];
    __syncthreads();
}

// A lane's share of a unit: up to four words, and what wide codes have beside them.
struct Share {
    u32 words[4];
    u32 more;
};

INLINE void store_share(u8* unit, u32 bits, u32 lane, const Share& share) {
    if (bits == 8) ((uint4*)unit)[lane] = make_uint4(share.words[0], share.words[1], share.words[2], share.words[3]);
    else if (bits == 4 || bits == 6) {
        ((u32*)unit)[lane * 2] = share.words[0];
        ((u32*)unit)[lane * 2 + 1] = share.words[1];
    } else if (bits == 2 || bits == 3) ((u32*)unit)[lane] = share.words[0];
    else ((u16*)unit)[lane] = (u16)share.words[0];
    if (bits == 3) ((u16*)(unit + 128))[lane] = (u16)share.more;
    if (bits == 6) ((u32*)(unit + 256))[lane] = share.more;
}

// Codes of keys in the order of src/pack.rs, `put_key_code`; `code(field, half)` gives them.
template <class Code>
INLINE void pack_keys(u8* unit, u32 bits, u32 lane, const Code& code) {
    Share share = {};
#pragma unroll
    for (u32 k = 0; k < 8; k++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 c = code(k, half), row = k / 2, odd = k % 2;
            u32 two = (row & 1) * 2 + (row >> 1) * 8 + 4 * odd + 16 * half, one = row + 4 * odd + 8 * half;
            if (bits == 8) share.words[row] |= c << (8 * odd + 16 * half);
            else if (bits == 4 || bits == 6) share.words[row / 2] |= (c & 15u) << (row % 2 * 8 + 4 * odd + 16 * half);
            else if (bits == 2 || bits == 3) share.words[0] |= (c & 3u) << two;
            else share.words[0] |= c << one;
            if (bits == 3) share.more |= (c >> 2) << one;
            if (bits == 6) share.more |= (c >> 4) << two;
        }
    }
    store_share(unit, bits, lane, share);
}

// The same of values: `put_code`.
template <class Code>
INLINE void pack_values(u8* unit, u32 bits, u32 lane, const Code& code) {
    Share share = {};
#pragma unroll
    for (u32 k = 0; k < 8; k++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 c = code(k, half);
            if (bits == 8) share.words[k / 2] |= c << (8 * (k % 2) + 16 * half);
            else if (bits == 4) share.words[k / 4] |= c << (4 * (k % 4) + 16 * half);
            else share.words[0] |= (c & 3u) << (2 * k + 16 * half);
            if (bits == 3) share.more |= (c >> 2) << (k + 8 * half);
        }
    }
    store_share(unit, bits, lane, share);
}

// And of levels: `put_level`; `code(field, half, sign, number)`.
template <class Code>
INLINE void pack_levels(u8* unit, u32 bits, u32 lane, const Code& code) {
    Share share = {};
#pragma unroll
    for (u32 k = 0; k < 8; k++) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            u32 sign, number;
            code(k, half, sign, number);
            u32 nibble = k % 2 + k % 4 / 2 * 4 + half * 2, one = k + 8 * half;
            if (bits == 8) share.words[k / 2] |= (sign << 7 | number) << (8 * (k % 2) + 16 * half);
            else if (bits == 4) share.words[k / 4] |= number << (4 * nibble) | sign << (3 + 4 * (k % 4) + 16 * half);
            else if (bits == 3) {
                share.words[0] |= number << (4 * nibble + k / 4 * 2);
                share.more |= sign << one;
            } else if (bits == 2) share.words[0] |= number << (k + 16 * half) | sign << (8 + k + 16 * half);
            else share.words[0] |= sign << one;
        }
    }
    store_share(unit, bits, lane, share);
}

// A scale or zero as it is kept.
INLINE void store_kept(u8* at, u32 index, bool small, u32 code, float value) {
    if (small) at[index] = (u8)code;
    else ((u16*)at)[index] = narrow(value);
}
