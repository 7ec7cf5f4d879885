// Logits of a block of up to 64 keys for four query heads.
//
// Scales of channels are multiplied into the queries, so that the tensor core works on the codes themselves. Queries are in the eight
// columns of B twice: rounded to float16 in the first four, and what the rounding left over in the last four. Their sum has
// about 22 bits.
#pragma once
#include "unpack.cuh"

#define RANGE 16384.0f // 2^14: what is multiplied into B stays below it
#define COLUMNS 8      // of B and C: each query's halves

// What one warp works with. Everything but the lane is the same in all its lanes.
struct Lane {
    u32 lane, row, column, query; // row: lane / 4, which is B's column; column: lane % 4
    float rest;                   // 1 in B's last four columns, 0 in the first
};

INLINE Lane this_lane() {
    Lane lane;
    lane.lane = threadIdx.x % LANES;
    lane.row = lane.lane / 4;
    lane.column = lane.lane % 4;
    lane.query = lane.row % 4;
    lane.rest = lane.row < 4 ? 0.0f : 1.0f;
    return lane;
}

// B's register: two numbers in float16, or what their rounding leaves.
INLINE u32 weights_of(float x, float y, float rest) {
    u32 rounded = narrow2(x, y);
    x = fmaf(-rest, widen((u16)rounded), x);
    y = fmaf(-rest, widen((u16)(rounded >> 16)), y);
    return narrow2(x, y);
}

// Two numbers in float16, and what their rounding leaves.
INLINE void split(float x, float y, u32& rounded, u32& rest) {
    rounded = narrow2(x, y);
    rest = narrow2(x - widen((u16)rounded), y - widen((u16)(rounded >> 16)));
}

// B's registers for all units of a record, [units, lanes], of ordered queries and scales of channels. Gives queries times zeros: of this
// lane's share of channels. `PLAIN`: see attend.cuh. A lane does both halves of every other unit, and hands one to the lane that needs it;
// there is an even number of units.
template <bool PLAIN>
INLINE float prepare_keys(const Head* head, const Lane& own, const float* ordered, const float* zero_units, const u8* scales, u32* words) {
    u32 units = head->units, later = own.row / 4;
    bool of_channels = PLAIN || head->mode == CHANNEL, small = PLAIN || head->form == SMALL;
    const float* q = ordered + (later * 8 + own.column * 2) * QUERIES + own.query;
    float zero = 0.0f;
    u32* to = words + own.lane;
#pragma unroll PLAIN ? 4 : 1
    for (u32 first = 0; first < units; first += 2) {
        u32 unit = first + later;
        float x = q[0], y = q[QUERIES];
        if (of_channels) {
            // Scales and zeros of two channels.
            uint2 four = ((const uint2*)scales)[unit * 4 + own.column];
            if (small) {
                // As the upper halves of float32.
                x *= __uint_as_float(four.x << 16);
                y *= __uint_as_float(four.x & 0xffff0000u);
                float of_unit = fmaf(x, __uint_as_float(four.y << 16), y * __uint_as_float(four.y & 0xffff0000u));
                zero = fmaf(of_unit, zero_units[unit], zero);
            } else {
                zero += x * widen((u16)four.y) + y * widen((u16)(four.y >> 16));
                x *= widen((u16)four.x);
                y *= widen((u16)(four.x >> 16));
            }
        }
        q += 16 * QUERIES;
        u32 rounded, rest;
        split(x, y, rounded, rest);
        u32 other = exchange(later ? rounded : rest, 16);
        to[0] = later ? other : rounded;
        to[LANES] = later ? rest : other;
        to += 2 * LANES;
    }
    __syncwarp();
    return zero;
}

// `count` units of one width: C += codes · B.
template <int BITS, bool IS_LEVELS>
INLINE void key_units(const Lane& own, const u8*& codes, const u32*& words, u32 count, float (&c)[4][4]) {
#pragma unroll BITS < 6 ? 2 : 1
    for (u32 i = 0; i < count; i++) {
        u32 pairs[8], b = words[own.lane];
        words += LANES;
        if (IS_LEVELS) unpack_levels<BITS>(codes, own.lane, pairs);
        else unpack_keys<BITS>(codes, own.lane, pairs);
        codes += unit_bytes(BITS);
#pragma unroll
        for (int k = 0; k < 4; k++) multiply_add(c[k], pairs[2 * k], pairs[2 * k + 1], b);
    }
    // The widest come first: from here on all are alike.
    if (BITS == 8)
#pragma unroll
        for (int k = 0; k < 4; k++) {
            c[k][2] *= ODD_FIELDS;
            c[k][3] *= ODD_FIELDS;
        }
}

template <bool PLAIN>
INLINE void key_units_of(u32 bits, const Head* head, const Lane& own, const u8*& codes, const u32*& words, u32 count, float (&c)[4][4]) {
#define UNITS(BITS, IS_LEVELS) key_units<BITS, IS_LEVELS>(own, codes, words, count, c)
    if (!PLAIN && head->mode == LEVELS && bits < 8) {
        if (bits == 4) UNITS(4, true);
        else if (bits == 3) UNITS(3, true);
        else UNITS(2, true);
    } else {
        if (bits == 4) UNITS(4, false);
        else if (bits == 3) UNITS(3, false);
        else if (bits == 6) UNITS(6, false);
        else if (bits == 2) UNITS(2, false);
        else if (bits == 8) UNITS(8, false);
        else UNITS(1, false);
    }
#undef UNITS
}

// C to shared memory: [tokens, COLUMNS]. Rows 8 to 15 times `odd`.
INLINE void store_logits(const Lane& own, const float (&c)[4][4], float odd, float* logits) {
#pragma unroll
    for (int i = 0; i < 4; i++) {
        float* at = logits + (i * 16 + own.row) * COLUMNS + own.column * 2;
        *(float2*)at = make_float2(c[i][0], c[i][1]);
        *(float2*)(at + 8 * COLUMNS) = make_float2(c[i][2] * odd, c[i][3] * odd);
    }
}

// Logits are `((half + other half) · times + more) · back`, of each query.
struct Finish {
    float times, more[QUERIES], back[QUERIES];
};

// Scales that tokens have in one group of channels: C times them, and `sums` of queries times zeros, are added up in shared memory.
INLINE void scale_logits(const Head* head, const Lane& own, const u8* scales, u32 bits, const float* sums, float (&c)[4][4],
                         bool adds, float* logits) {
    u32 form = head->form;
    bool has_zeros = head->mode == TOKEN;
    const u8* zeros = scales + BLOCK * form_bytes(form);
    float times = has_zeros ? SUBNORMAL_ONE : SUBNORMAL_ONE / 128.0f, step = zero_unit(bits);
#pragma unroll
    for (int i = 0; i < 4; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 token = i * 16 + half * 8 + own.row;
            float scale = load_scale(scales, token, form, head->super_scale);
            float zero = has_zeros ? load_zero(zeros, token, form, step, scale) : scale * head->offset;
#pragma unroll
            for (int j = 0; j < 2; j++) {
                float* at = logits + token * COLUMNS + own.column * 2 + j;
                // What rounding left of a query has no share in its sums.
                float sum = own.column < 2 ? sums[own.column * 2 + j] : 0.0f;
                float back = half && !(head->mode == LEVELS && bits < 8) ? 1.0f / ODD_FIELDS : 1.0f;
                *at = (adds ? *at : 0.0f) + (scale * times * back * c[i][2 * half + j] + zero * sum);
                c[i][2 * half + j] = 0.0f;
            }
        }
    }
}

// Logits of codes, without low-rank, outliers and means. `sums`: of the queries of each group of channels. `units`: of those groups.
template <bool PLAIN>
INLINE Finish coded_logits(const Head* head, const u16* units, const float* back, const KeyRecord& record, const Lane& own,
                           const float* ordered, const float* zero_units, const float* sums, u32* room, float* logits) {
    const u8* codes = record.codes;
    const u32* words = room;
    bool of_channels = PLAIN || head->mode == CHANNEL;
    float c[4][4] = {};
    Finish finish = {};
    finish.times = of_channels ? SUBNORMAL_ONE : 1.0f;
#pragma unroll
    for (int j = 0; j < QUERIES; j++) finish.back[j] = back[j];
    float zero = prepare_keys<PLAIN>(head, own, ordered, zero_units, record.scales, room);
    u32 runs = of_channels ? 6 : head->groups;
#pragma unroll 1
    for (u32 i = 0; i < runs; i++) {
        // Channels of one width, or of one group.
        u32 width = head->widths[of_channels ? i : 0], bits = width >> 16, count = of_channels ? width & 0xffff : units[i];
        if (!count) break;
        key_units_of<PLAIN>(bits, head, own, codes, words, count, c);
        if (!of_channels)
            scale_logits(head, own, record.scales + i * BLOCK * (head->mode == TOKEN ? 2 : 1) * form_bytes(head->form), bits,
                         sums + i * QUERIES, c, i > 0, logits);
    }
    if (of_channels) {
        __syncwarp();
        store_logits(own, c, 1.0f / ODD_FIELDS, logits);
        // Lanes of one query.
        zero += __shfl_xor_sync(~0u, zero, 1);
        zero += __shfl_xor_sync(~0u, zero, 2);
        zero += __shfl_xor_sync(~0u, zero, 16);
#pragma unroll
        for (int j = 0; j < QUERIES; j++) finish.more[j] = __shfl_sync(~0u, zero, j * 4);
    }
    return finish;
}

// Logits of tokens in float16. `q`: [dim + padding, queries].
INLINE Finish raw_logits(const u16* keys, u32 dim, u32 tokens, const Lane& own, const float* q, const float* back, float* logits) {
    float c[4][4] = {};
    Finish finish = {};
    finish.times = 1.0f / RANGE;
#pragma unroll
    for (int j = 0; j < QUERIES; j++) finish.back[j] = back[j];
    u32 pairs = raw_key_width(dim) / 16;
    const uint4* at = (const uint4*)keys + own.lane;
#pragma unroll 2
    for (u32 i = 0; i < pairs; i++) {
        const float* x = q + (i * 16 + own.column * 2) * QUERIES + own.query;
        uint4 words[4];
#pragma unroll
        for (u32 tile = 0; tile < 4; tile++)
            words[tile] = tile * 16 < tokens ? at[(tile * pairs + i) * LANES] : make_uint4(0, 0, 0, 0);
        u32 low = weights_of(x[0] * RANGE, x[QUERIES] * RANGE, own.rest);
        u32 high = weights_of(x[8 * QUERIES] * RANGE, x[9 * QUERIES] * RANGE, own.rest);
#pragma unroll
        for (int tile = 0; tile < 4; tile++) {
            multiply_add(c[tile], words[tile].x, words[tile].y, low);
            multiply_add(c[tile], words[tile].z, words[tile].w, high);
        }
    }
    store_logits(own, c, 1.0f, logits);
    return finish;
}
