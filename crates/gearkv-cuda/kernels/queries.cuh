// Queries as keys want them: scaled, turned, in the order of a segment's channels.
#pragma once
#include "attention.cuh"

INLINE float load_query(const Attention& a, u32 plane, u32 query, u32 channel) {
    u32 head = plane % a.layer.heads * a.per_head + query % a.per_head;
    u64 at = (((u64)(plane / a.layer.heads) * a.query_heads + head) * a.positions + query / a.per_head) * a.layer.dim + channel;
    return load_as(a.queries, at, a.kind);
}

// The exponent of a power of two that is above the magnitudes `largest` of all lanes, `room` times two.
INLINE int exponent_of_warp(float largest, int room) {
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) largest = fmaxf(largest, __shfl_xor_sync(~0u, largest, step));
    int exponent = (int)((__float_as_uint(largest) >> 23) & 255) + 1 - 127 + room;
    return exponent < -100 ? -100 : exponent > 100 ? 100 : exponent;
}

// Turns columns of [length, QUERIES] by the Hadamard matrix, in place; all threads of a thread block together.
INLINE void turn(float* columns, u32 dim) {
    u32 from = 0;
    while (from < dim) {
        u32 length = 1;
        while (length * 2 <= dim - from) length *= 2;
        for (u32 step = 1; step < length; step *= 2) {
#pragma unroll 1
            for (u32 i = threadIdx.x; i < length / 2 * QUERIES; i += blockDim.x) {
                u32 query = i % QUERIES, pair = i / QUERIES;
                u32 low = (pair / step * 2 * step + pair % step) * QUERIES + query, high = low + step * QUERIES;
                float* x = columns + from * QUERIES;
                float a = x[low], b = x[high];
                x[low] = a + b;
                x[high] = a - b;
            }
            __syncthreads();
        }
#pragma unroll 1
        for (u32 i = threadIdx.x; i < length * QUERIES; i += blockDim.x) columns[from * QUERIES + i] *= rsqrtf((float)length);
        __syncthreads();
        from += length;
    }
}

struct QueryTables {
    float *plain, *turned; // [dim + 32, QUERIES], scaled to at most 1; behind dim: zeros
    float* back;           // [QUERIES]: what undoes that, and makes logits base 2
    u32* seen;             // [2, QUERIES]: the first position that each query sees, and the one behind the last
    float* norms;          // what scales of values are multiplied by, and what undoes it
    u32* range;            // the first position that any of the queries sees, and the one behind the last
};

// What a query sees, where that is not all that is not before `first_seen`.
INLINE void find_limits(const Attention& a, u32 plane, u32 query, u32& first, u32& end) {
    u32 item = plane / a.layer.heads, tokens = a.layer.buffer_first + a.layer.buffered;
    first = a.visible ? a.visible[item * 2] : 0;
    end = tokens;
    if (a.causal) end -= a.positions - 1 - query / a.per_head;
    if (a.window && end - first > a.window && end > first) first = end - a.window;
    if (a.visible && a.visible[item * 2 + 1] < end) end = a.visible[item * 2 + 1];
}

INLINE QueryTables load_queries(const Attention& a, u8* shared, u32 plane, u32 set) {
    QueryTables tables;
    u32 dim = a.layer.dim, width = (dim + 32) * QUERIES;
    tables.plain = (float*)shared;
    tables.turned = a.keys_turned ? tables.plain + width : tables.plain;
    tables.back = tables.turned + width;
    tables.seen = (u32*)(tables.back + QUERIES);
    tables.norms = (float*)(tables.seen + 2 * QUERIES);
    tables.range = (u32*)(tables.norms + QUERIES);
    if (threadIdx.x == 0) {
        u32 queries = a.per_head * a.positions, last = set * QUERIES + QUERIES <= queries ? set * QUERIES + QUERIES - 1 : queries - 1, unused;
        tables.range[0] = a.first_seen;
        tables.range[1] = ~0u;
        if (a.limited) {
            find_limits(a, plane, set * QUERIES, tables.range[0], unused);
            find_limits(a, plane, last, unused, tables.range[1]);
        }
        tables.norms[0] = value_norm(a.layer);
        tables.norms[1] = value_back(a.layer, tables.norms[0]);
    }
    u32 lane = threadIdx.x % LANES;
    // A warp takes one query after the other.
#pragma unroll 1
    for (u32 j = threadIdx.x / LANES; j < QUERIES; j += blockDim.x / LANES) {
        u32 query = set * QUERIES + j;
        float largest = 0.0f;
#pragma unroll 1
        for (u32 channel = lane; channel < dim + 32; channel += LANES) {
            float x = channel < dim && query < a.per_head * a.positions ? load_query(a, plane, query, channel) * a.scale : 0.0f;
            tables.plain[channel * QUERIES + j] = x;
            largest = fmaxf(largest, fabsf(x));
        }
        // A power of two, so that nothing is rounded. Turning can make the largest √dim times as large, which is at most 2^4 here.
        int exponent = exponent_of_warp(largest, 4);
        float factor = __uint_as_float((u32)(127 - exponent) << 23);
#pragma unroll 1
        for (u32 channel = lane; channel < dim + 32; channel += LANES) {
            float* at = tables.plain + channel * QUERIES + j;
            *at *= factor;
            if (a.keys_turned) tables.turned[channel * QUERIES + j] = *at;
        }
        // Logits are base 2, but for those that a softcap is for.
        if (lane == 0 && a.limited && query < a.per_head * a.positions) find_limits(a, plane, query, tables.seen[j], tables.seen[QUERIES + j]);
        else if (lane == 0 && a.limited) tables.seen[j] = tables.seen[QUERIES + j] = 0;
        if (lane == 0) tables.back[j] = __uint_as_float((u32)(127 + exponent) << 23) * (a.softcap > 0.0f ? 1.0f : LOG2_E);
    }
    __syncthreads();
    if (a.keys_turned) turn(tables.turned, dim);
    return tables;
}

INLINE void copy_head(Head* to, const Head* from, u32 lane) {
    // Until here others may read the one that was there.
    __syncwarp();
    if (lane < sizeof(Head) / 4) ((u32*)to)[lane] = ((const u32*)from)[lane];
    __syncwarp();
}

// What depends on the queries and a segment's head of keys.
template <bool PLAIN>
INLINE void enter_key_head(const Head* from, const Warp& own, const Lane& lane, const QueryTables& q, u32 dim) {
    copy_head(own.key_head, from, lane.lane);
    const Head* head = own.key_head;
    const u16* order = order_of(from);
    const float* queries = !PLAIN && head->turned ? q.turned : q.plain;
    float times = PLAIN || (head->mode == CHANNEL && head->form == SMALL) ? head->norm * head->super_scale : head->norm;
#pragma unroll 2
    for (u32 slot = lane.lane; slot < head->units * 8; slot += LANES) {
        u32 channel = order[slot];
        float4 x = channel == NO_CHANNEL ? make_float4(0.0f, 0.0f, 0.0f, 0.0f) : ((const float4*)queries)[channel];
        ((float4*)own.ordered)[slot] = make_float4(x.x * times, x.y * times, x.z * times, x.w * times);
    }
#pragma unroll 1
    for (u32 unit = lane.lane; unit < head->units; unit += LANES) {
        u32 i = 0, behind = head->widths[0] & 0xffff;
#pragma unroll 1
        while (unit >= behind && i < 5) behind += head->widths[++i] & 0xffff;
        own.zero_units[unit] = zero_unit(head->widths[i] >> 16);
    }
    if (lane.lane < QUERIES) own.constant[QUERIES + lane.lane] = head->back * q.back[lane.lane];
    __syncwarp();
    if (PLAIN) return;
    u32 query = lane.lane / 8; // 8 lanes a query
    if (head->mode != CHANNEL) {
        const u16* units = (const u16*)((const u8*)from + head->groups_at);
        u32 first = 0;
#pragma unroll 1
        for (u32 g = 0; g < head->groups; g++) {
            float sum = 0.0f;
#pragma unroll 1
            for (u32 i = lane.lane % 8; i < (u32)units[g] * 8; i += 8) sum += own.ordered[(first * 8 + i) * QUERIES + query];
            for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
            if (lane.lane % 8 == 0) own.sums[g * QUERIES + query] = sum;
            first += units[g];
        }
    }
    const float* rows = (const float*)((const u8*)from + head->factors_at);
    const float* means = (const float*)((const u8*)from + head->means_at);
#pragma unroll 1
    for (u32 r = 0; r < head->rank + 1; r++) {
        const float* row = r < head->rank ? rows + r * dim : means;
        float sum = 0.0f;
        if (r < head->rank || head->means_at)
#pragma unroll 1
            for (u32 i = lane.lane % 8; i < dim; i += 8) sum += q.plain[i * QUERIES + query] * row[i];
        for (int step = 1; step < 8; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
        float* at = r < head->rank ? own.along + r * QUERIES : own.constant;
        if (lane.lane % 8 == 0) at[query] = sum * q.back[query];
    }
    __syncwarp();
}
