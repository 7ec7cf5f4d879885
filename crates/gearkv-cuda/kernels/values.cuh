// What a block of values adds to the outputs of four query heads: weights times scales in B, codes in A, as for keys.
#pragma once
#include "keys.cuh"

// Weights are at most 2^8 (attend.cuh), so that what scales are multiplied by has to stay below this.
#define MOST_WEIGHT_BITS 8.0f
#define WEIGHT_RANGE 64.0f

// A signed byte as a float, without the slow conversion: `byte` is what is left of it as a number from 0 on.
INLINE float signed_byte(u32 byte) { return __uint_as_float(0x4b000000u | (byte ^ 0x80u)) - 8388736.0f; }

// Sums of one warp. `UNITS` units of 64 channels.
template <int UNITS>
struct Gathered {
    float codes[4 * UNITS][4]; // C fragments: a tile of 16 channels each
    float zeros[UNITS][QUERIES]; // weights times zeros of each unit's channels, of this lane's tokens
};

template <int UNITS>
INLINE void clear(Gathered<UNITS>& sums) {
#pragma unroll
    for (int i = 0; i < 4 * UNITS; i++) {
#pragma unroll
        for (int j = 0; j < 4; j++) sums.codes[i][j] = 0.0f;
    }
#pragma unroll
    for (int i = 0; i < UNITS * QUERIES; i++) sums.zeros[i / QUERIES][i % QUERIES] = 0.0f;
}

// The largest logit grew: what was gathered shrinks. `factor`: of each query.
template <int UNITS>
INLINE void shrink(Gathered<UNITS>& sums, const Lane& own, const float (&factor)[QUERIES]) {
    float low = own.column % 2 ? factor[2] : factor[0], high = own.column % 2 ? factor[3] : factor[1];
#pragma unroll
    for (int i = 0; i < 4 * UNITS; i++) {
        sums.codes[i][0] *= low;
        sums.codes[i][1] *= high;
        sums.codes[i][2] *= low;
        sums.codes[i][3] *= high;
    }
#pragma unroll
    for (int i = 0; i < UNITS * QUERIES; i++) sums.zeros[i / QUERIES][i % QUERIES] *= factor[i % QUERIES];
}

// B's registers for all tiles of a record: [units, pairs of tokens, COLUMNS]. A lane does a pair of tokens, for all queries. `weights` and
// `words` may be the same memory where no more than 32 pairs are. `PLAIN`: see attend.cuh.
template <int UNITS, bool PLAIN>
INLINE void prepare_values(const Head* head, const ValueStart* start, const ValueRecord& record, const Lane& own, const float* weights,
                           float norm, u32* words, Gathered<UNITS>& sums) {
    u32 pairs = tiles_of(start) * 4, units = UNITS < 4 ? UNITS : head->units;
    bool small = PLAIN || head->form == SMALL, has_zeros = !PLAIN && head->mode == TOKEN;
    u32 stride = (has_zeros ? 16 : 8) * (small ? 1 : 2);
    float times = small ? norm * head->super_scale : norm, back = 1.0f / norm;
    // Levels of 8 bits are in 256ths, and their tokens the last.
    u32 fine_from = pairs;
#pragma unroll
    for (int i = 0; i < 4; i++)
        if (head->mode == LEVELS && head->widths[i] == 8) fine_from -= start->tiles[i] * 4;
#pragma unroll 1
    for (u32 first = 0; first < pairs; first += LANES) {
        u32 pair = first + own.lane, t0 = pair * 2, t1 = pair * 2 + 1;
        bool there = pair < pairs;
        if (there && record.order) {
            u32 two = ((const u16*)record.order)[pair];
            t0 = two & 0xff;
            t1 = two >> 8;
        }
        float4 low = ((const float4*)weights)[there ? t0 : BLOCK], high = ((const float4*)weights)[there ? t1 : BLOCK];
        __syncwarp();
        if (!there) continue;
        float p[QUERIES] = {low.x, low.y, low.z, low.w}, r[QUERIES] = {high.x, high.y, high.z, high.w};
        float factor = pair >= fine_from ? times * 0.5f : times;
        const u8* scale = record.scales + pair / 4 * units * stride + pair % 4 * (small ? 2 : 4);
#pragma unroll
        for (u32 unit = 0; unit < UNITS; unit++, scale += stride) {
            if (unit >= units) break;
            float s0, s1;
            if (small) {
                u32 two = *(const u16*)scale;
                s0 = small_scale(two & 0xff) * factor;
                s1 = small_scale(two >> 8) * factor;
            } else {
                u32 two = *(const u32*)scale;
                s0 = widen((u16)two) * factor;
                s1 = widen((u16)(two >> 16)) * factor;
            }
            if (has_zeros) {
                float z0, z1;
                if (small) {
                    u32 two = *(const u16*)(scale + 8);
                    float step = zero_unit(head->widths[0]) * back;
                    z0 = s0 * step * signed_byte(two & 0xff);
                    z1 = s1 * step * signed_byte(two >> 8);
                } else {
                    u32 two = *(const u32*)(scale + 16);
                    z0 = widen((u16)two);
                    z1 = widen((u16)(two >> 16));
                }
#pragma unroll
                for (int j = 0; j < QUERIES; j++) sums.zeros[unit][j] += p[j] * z0 + r[j] * z1;
            }
            uint4 rounded, rest;
            split(p[0] * s0, r[0] * s1, rounded.x, rest.x);
            split(p[1] * s0, r[1] * s1, rounded.y, rest.y);
            split(p[2] * s0, r[2] * s1, rounded.z, rest.z);
            split(p[3] * s0, r[3] * s1, rounded.w, rest.w);
            uint4* to = (uint4*)(words + (unit * pairs + pair) * COLUMNS);
            to[0] = rounded;
            to[1] = rest;
        }
    }
    __syncwarp();
}

// `tiles` tiles of 8 tokens whose codes have one width. `stride`: between the words of units.
template <int UNITS, int BITS, bool IS_LEVELS>
INLINE void value_tiles(u32 units, u32 tiles, u32 stride, const Lane& own, const u8*& codes, const u32*& words, Gathered<UNITS>& sums) {
#pragma unroll 1
    for (u32 tile = 0; tile < tiles; tile++) {
#pragma unroll
        for (u32 unit = 0; unit < UNITS; unit++) {
            if (UNITS == 4 && unit >= units) break;
            u32 pairs[8], b = words[unit * stride + own.column * COLUMNS + own.row];
            if (IS_LEVELS) unpack_levels<BITS>(codes, own.lane, pairs);
            else unpack<BITS>(codes, own.lane, pairs);
            codes += unit_bytes(BITS);
#pragma unroll
            for (int i = 0; i < 4; i++) multiply_add(sums.codes[unit * 4 + i], pairs[2 * i], pairs[2 * i + 1], b);
        }
        words += 4 * COLUMNS;
    }
}

// A record of codes.
template <int UNITS, bool PLAIN>
INLINE void add_codes(const Head* head, const u8* at, const ValueRecord& record, const Lane& own, const float* weights, float norm,
                      u32* room, Gathered<UNITS>& sums) {
    const ValueStart* start = (const ValueStart*)at;
    prepare_values<UNITS, PLAIN>(head, start, record, own, weights, norm, room, sums);
    const u8* codes = record.codes;
    const u32* words = room;
    u32 stride = tiles_of(start) * 4 * COLUMNS, units = head->units;
#pragma unroll 1
    for (u32 i = 0; i < 4; i++) {
        u32 tiles = start->tiles[i], bits = head->widths[i];
        if (!tiles) continue;
#define TILES(BITS, IS_LEVELS) value_tiles<UNITS, BITS, IS_LEVELS>(units, tiles, stride, own, codes, words, sums)
        if (PLAIN || head->mode == LEVELS) {
            if (bits == 4) TILES(4, true);
            else if (bits == 3) TILES(3, true);
            else if (bits == 2) TILES(2, true);
            else if (bits == 1) TILES(1, true);
            else TILES(8, true);
        } else {
            if (bits == 4) TILES(4, false);
            else if (bits == 2) TILES(2, false);
            else if (bits == 3) TILES(3, false);
            else TILES(8, false);
        }
#undef TILES
    }
}

// Tokens in float16.
template <int UNITS>
INLINE void add_raw(const u16* values, u32 dim, u32 tokens, const Lane& own, const float* weights, Gathered<UNITS>& sums) {
    u32 pairs = raw_value_width(dim) / 32;
    const uint4* at = (const uint4*)values + own.lane;
#pragma unroll 2
    for (u32 tile = 0; tile < (tokens + 7) / 8; tile++) {
        const float* p = weights + (tile * 8 + own.column * 2) * QUERIES + own.query;
        u32 b = weights_of(p[0] * WEIGHT_RANGE, p[QUERIES] * WEIGHT_RANGE, own.rest);
#pragma unroll
        for (u32 i = 0; i < 2 * UNITS; i++) {
            if (i < pairs) {
                uint4 words = at[(tile * pairs + i) * LANES];
                multiply_add(sums.codes[2 * i], words.x, words.y, b);
                multiply_add(sums.codes[2 * i + 1], words.z, words.w, b);
            }
        }
    }
}
