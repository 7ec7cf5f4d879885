// Attention of many queries of a KV head: prompts, and whatever else comes in chunks. Keys and values of a block are brought to float16 once for 64 of
// them (tile.cuh), and the tensor core multiplies them as they then are: rounded, as weights are, which is what attention on float16 does.
//
// A thread block has up to 64 queries, 16 a warp, and a share of the context (a split). What it leaves is what decode attention leaves
// (attend.cuh), for the same kernel to join.
#pragma once
#include "queries.cuh"
#include "tile.cuh"

#define WARP_QUERIES 16

// Starts copying a record to shared memory; each warp has its share.
INLINE void copy_share(u8* shared, const Layer& layer, u32 record, u32 bytes) {
    u32 each = aligned((bytes + TILE_WARPS - 1) / TILE_WARPS), first = threadIdx.x / LANES * each;
    if (first < bytes) copy_run(shared + first, layer.data + (u64)record * 16 + first, bytes - first < each ? bytes - first : each, threadIdx.x % LANES);
}

// What its queries see, and what makes logits of sums.
struct TileQueries {
    float* back; // [TILE_QUERIES]
    u32* seen;   // [2, TILE_QUERIES]: the first position that each sees, and the one behind the last
    u32* range;  // the same of all of them
};

// A row of C's fragments: the largest logit so far, and this lane's share of the sum of weights.
struct TileSoftmax {
    float most[2], sum[2], before[2]; // before: the sum when the present head of values was entered
};

template <int WIDTH>
INLINE void load_tile_queries(const Attention& a, u32 plane, u32 first, const Tile<WIDTH>& tile, const TileQueries& q) {
    u32 dim = a.layer.dim, queries = a.per_head * a.positions, lane = threadIdx.x % LANES;
    u32 last = first + TILE_QUERIES <= queries ? first + TILE_QUERIES - 1 : queries - 1, unused;
    if (threadIdx.x == 0) {
        find_limits(a, plane, first, q.range[0], unused);
        find_limits(a, plane, last, unused, q.range[1]);
        q.range[0] = q.range[0] > a.first_seen ? q.range[0] : a.first_seen;
    }
    // Queries in 16 bits are exact but for their scale, which logits are multiplied by where it is no odd one.
    float scale = fabsf(a.scale), sign = a.scale < 0.0f ? -1.0f : 1.0f;
    bool apart = scale > 1e-6f && scale < 1e6f;
    float before = apart ? sign : a.scale;
    // A warp takes one query after the other.
#pragma unroll 1
    for (u32 row = threadIdx.x / LANES; row < TILE_QUERIES; row += TILE_WARPS) {
        u32 query = first + row;
        bool there = query < queries;
        float largest = 0.0f;
#pragma unroll 1
        for (u32 channel = lane; there && channel < dim; channel += LANES)
            largest = fmaxf(largest, fabsf(load_query(a, plane, query, channel) * before));
        // A power of two, so that float16 reaches all of them.
        int exponent = exponent_of_warp(largest, 0);
        float factor = __uint_as_float((u32)(127 - exponent) << 23);
#pragma unroll 1
        for (u32 channel = lane; channel < tile.stride; channel += LANES) {
            float x = there && channel < dim ? load_query(a, plane, query, channel) * before * factor : 0.0f;
            u16 rounded = narrow(x);
            tile.queries[row * tile.stride + channel] = rounded;
            if (a.kind == FLOAT32) tile.rests[row * tile.stride + channel] = narrow(x - widen(rounded));
        }
        if (lane == 0) {
            q.seen[row] = q.seen[TILE_QUERIES + row] = 0;
            if (there) find_limits(a, plane, query, q.seen[row], q.seen[TILE_QUERIES + row]);
            // Logits are base 2, but for those that a softcap is for.
            q.back[row] = __uint_as_float((u32)(127 + exponent) << 23) * (apart ? scale : 1.0f) * (a.softcap > 0.0f ? 1.0f : LOG2_E);
        }
    }
}

// Weights of a warp's queries, in the place of the sums of a block's keys; what was gathered shrinks where a larger logit came.
template <int TILES>
INLINE void weigh_tile(const Attention& a, const Block& block, const TileQueries& q, u32 first_row, u32 column, float (&s)[8][4], TileSoftmax& state,
                       float (&out)[TILES][4]) {
    float factor[2];
    bool grew = false;
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        u32 row = first_row + half * 8;
        float back = block.key_bytes ? q.back[row] / KEPT : q.back[row];
        if (a.softcap > 0.0f) {
#pragma unroll
            for (u32 i = 0; i < 16; i++) s[i / 2][half * 2 + i % 2] = a.softcap * LOG2_E * tanhf(s[i / 2][half * 2 + i % 2] * back / a.softcap);
            back = 1.0f;
        }
        // Tokens of the block that the row sees: mostly all.
        int first = (int)(q.seen[row] - block.first), end = (int)(q.seen[TILE_QUERIES + row] - block.first);
        end = end < (int)block.tokens ? end : (int)block.tokens;
        if (first > 0 || end < BLOCK)
#pragma unroll
            for (u32 i = 0; i < 16; i++) {
                int token = (int)(i / 2 * 8 + column * 2 + i % 2);
                float& x = s[i / 2][half * 2 + i % 2];
                x = token >= first && token < end ? x : NOTHING;
            }
        float most = NOTHING;
#pragma unroll
        for (u32 i = 0; i < 16; i++) most = fmaxf(most, s[i / 2][half * 2 + i % 2]);
        // Four lanes have a row.
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 1));
        most = fmaxf(most, __shfl_xor_sync(~0u, most, 2));
        float now = fmaxf(state.most[half], most * back);
        factor[half] = now == state.most[half] ? 1.0f : power_of_two(state.most[half] - now);
        grew |= now != state.most[half];
        state.most[half] = now;
        state.sum[half] *= factor[half];
        state.before[half] *= factor[half];
        // Who has seen nothing has nothing to be relative to.
        float reference = now == NOTHING ? 0.0f : now;
#pragma unroll
        for (u32 i = 0; i < 16; i++) {
            float& x = s[i / 2][half * 2 + i % 2];
            x = power_of_two(fmaf(x, back, -reference));
            state.sum[half] += x;
        }
    }
    if (!__any_sync(~0u, grew)) return;
#pragma unroll
    for (u32 i = 0; i < TILES; i++) {
        out[i][0] *= factor[0];
        out[i][1] *= factor[0];
        out[i][2] *= factor[1];
        out[i][3] *= factor[1];
    }
}

// Sixteen queries times a block's keys, of 16 channels. Both point to where a lane's share starts.
template <int WIDTH>
INLINE void add_products(float (&s)[8][4], const u32* queries, const u32* keys) {
    constexpr u32 EIGHT = 8 * (Tile<WIDTH>::stride / 2);
    u32 low[2] = {queries[0], queries[EIGHT]}, high[2] = {queries[4], queries[EIGHT + 4]};
#pragma unroll
    for (u32 n = 0; n < 8; n++) multiply_add(s[n], low[0], low[1], high[0], high[1], keys[n * EIGHT], keys[n * EIGHT + 4]);
}

template <int WIDTH>
INLINE void attend_tile(const Attention& a) {
    SHARED(shared);
    constexpr u32 TILES = WIDTH / 8;
    const Layer& layer = a.layer;
    u32 dim = layer.dim, plane = blockIdx.y, split = blockIdx.x, lane = threadIdx.x % LANES, warp = threadIdx.x / LANES;
    u32 row = lane / 4, column = lane % 4, first_row = warp * WARP_QUERIES + row, first_query = blockIdx.z * TILE_QUERIES;
    Tile<WIDTH> tile;
    tile.queries = (u16*)shared;
    tile.rests = tile.queries + TILE_QUERIES * tile.stride;
    tile.keys = a.kind == FLOAT32 ? tile.rests + TILE_QUERIES * tile.stride : tile.rests;
    tile.values = (u32*)(tile.keys + BLOCK * tile.stride);
    TileQueries q;
    q.back = (float*)(tile.values + BLOCK / 2 * tile.stride);
    q.seen = (u32*)(q.back + TILE_QUERIES);
    q.range = q.seen + 2 * TILE_QUERIES;
    load_tile_queries(a, plane, first_query, tile, q);
    // Channels that are padding stay 0.
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BLOCK * tile.stride; i += blockDim.x) ((u32*)tile.keys)[i] = 0;
    __syncthreads();

    // This split's blocks: first those whose values are codes, then those in float16.
    u32 raw = raw_blocks(layer), coded_first = share_start(layer.coded, split, a.splits), raw_first = share_start(raw, split, a.splits);
    u32 own_coded = share_start(layer.coded, split + 1, a.splits) - coded_first;
    u32 own = own_coded + share_start(raw, split + 1, a.splits) - raw_first;

    float out[TILES][4] = {};
    TileSoftmax state;
    state.most[0] = state.most[1] = NOTHING;
    state.sum[0] = state.sum[1] = state.before[0] = state.before[1] = 0.0f;
    // What turned values of codes come times; others come as `KEPT` says.
    float norm = value_norm(layer);
    u32 value_head = 0;
    u32 domains = layer.rotated ? 2 : 1, sets = (a.per_head * a.positions + QUERIES - 1) / QUERIES;
    // Where a row's sums go: `domain` 1 is that of turned rows.
    auto slot_of = [&](u32 half) {
        u32 query = first_query + first_row + half * 8;
        return ((u64)(plane * sets + query / QUERIES) * a.splits + split) * QUERIES + query % QUERIES;
    };
    auto to = [&](u32 half, u32 domain) { return a.partial + (slot_of(half) * domains + domain) * dim; };
    auto is_there = [&](u32 half) { return first_query + first_row + half * 8 < a.per_head * a.positions; };
    auto store = [&](u32 domain) {
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            if (!is_there(half)) continue;
            float* sums = to(half, domain);
#pragma unroll
            for (u32 i = 0; i < 2 * TILES; i++) {
                u32 channel = i / 2 * 8 + column * 2 + i % 2;
                if (channel < dim) sums[channel] = out[i / 2][half * 2 + i % 2];
            }
        }
    };
    float turned_most[2] = {NOTHING, NOTHING};
    // Means of the values since the head was entered.
    auto leave_head = [&] {
        const Head* head = head_at(layer, value_head);
        const float* means = (const float*)((const u8*)head + head->turned_means_at);
        float sums[2];
#pragma unroll
        for (u32 half = 0; half < 2; half++) {
            sums[half] = state.sum[half] - state.before[half];
            sums[half] += __shfl_xor_sync(~0u, sums[half], 1);
            sums[half] += __shfl_xor_sync(~0u, sums[half], 2);
            sums[half] *= norm;
            state.before[half] = state.sum[half];
        }
#pragma unroll
        for (u32 i = 0; i < 2 * TILES; i++) {
            u32 channel = i / 2 * 8 + column * 2 + i % 2;
            float mean = channel < dim ? means[channel] : 0.0f;
            out[i / 2][i % 2] = fmaf(sums[0], mean, out[i / 2][i % 2]);
            out[i / 2][2 + i % 2] = fmaf(sums[1], mean, out[i / 2][2 + i % 2]);
            // Registers do not suffice for all of them at once.
            if (i % 8 == 7) __syncwarp();
        }
    };
    auto leave_codes = [&] {
        float back = layer.rotated ? 1.0f / norm : 1.0f / KEPT;
#pragma unroll
        for (u32 i = 0; i < TILES; i++) {
            out[i][0] *= back;
            out[i][1] *= back;
            out[i][2] *= back;
            out[i][3] *= back;
        }
        if (!layer.rotated) return;
        store(1);
        turned_most[0] = state.most[0];
        turned_most[1] = state.most[1];
#pragma unroll
        for (u32 i = 0; i < TILES; i++) out[i][0] = out[i][1] = out[i][2] = out[i][3] = 0.0f;
    };
    // The first block from `i` on that any query sees; records of codes start on their way. All threads find the same.
    u8 *staged_keys = (u8*)(q.range + 4), *staged_values = staged_keys + a.key_stage;
    auto number_of = [&](u32 i) { return i < own_coded ? coded_first + i : layer.coded + raw_first + i - own_coded; };
    auto call = [&](u32 i) {
#pragma unroll 1
        for (; i < own; i++) {
            Block block = block_at(layer, plane, number_of(i));
            if (!in_sight(q.range, block)) continue;
            if (block.key_bytes) copy_share(staged_keys, layer, block.key, block.key_bytes);
            if (block.value_bytes) copy_share(staged_values, layer, block.value, staged_bytes(a, block.value_bytes));
            break;
        }
        close_group();
        return i;
    };
    const u32* queries = (const u32*)tile.queries + first_row * (tile.stride / 2) + column;
    const u32* keys = (const u32*)tile.keys + row * (tile.stride / 2) + column;
    const u32* values = tile.values + column * tile.stride + row;
    u32 i = call(0);
    bool in_codes = true;
#pragma unroll 1
    while (true) {
        Block block = {};
        if (i < own) block = block_at(layer, plane, number_of(i));
        u32 head = i < own_coded && layer.rotated ? block.value_head : 0;
        if (head != value_head) {
            if (value_head) leave_head();
            value_head = head;
        }
        if (in_codes && i >= own_coded) {
            leave_codes();
            in_codes = false;
        }
        if (i == own) break;
        await_groups<0>();
        __syncthreads();
        put_block(tile, a, block, plane, number_of(i), staged_keys, staged_values, norm);
        __syncthreads();
        i = call(i + 1);
        // A warp behind the last query only helps with the codes.
        if (first_query + warp * WARP_QUERIES >= a.per_head * a.positions) continue;
        float s[8][4] = {};
        const u32 *of_queries = queries, *of_keys = keys;
        // 16 channels at a time, of which the last may be padding.
#pragma unroll 1
        for (u32 channel = 0; channel < dim; channel += 16, of_queries += 8, of_keys += 8) {
            add_products<WIDTH>(s, of_queries, of_keys);
            // What rounding left of queries in float32.
            if (a.kind == FLOAT32) add_products<WIDTH>(s, of_queries + TILE_QUERIES * (tile.stride / 2), of_keys);
        }
        weigh_tile(a, block, q, first_row, column, s, state, out);
        u32 weights[8][2], left[8][2];
#pragma unroll
        for (u32 n = 0; n < 8; n++) {
            ::split(s[n][0], s[n][1], weights[n][0], left[n][0]);
            ::split(s[n][2], s[n][3], weights[n][1], left[n][1]);
        }
        // What rounding left of them comes in a second turn, where queries are in float32.
        u32 turns = a.kind == FLOAT32 ? 2 : 1;
#pragma unroll 1
        for (u32 turn = 0; turn < turns; turn++) {
#pragma unroll
            for (u32 t = 0; t < TILES; t += 4) {
                if (t * 8 >= dim) break;
#pragma unroll
                for (u32 n = 0; n < 8; n += 2) {
                    const u32 *low = values + n * 4 * tile.stride, *high = low + 4 * tile.stride;
#pragma unroll
                    for (u32 j = t; j < t + 4; j++)
                        multiply_add(out[j], weights[n][0], weights[n][1], weights[n + 1][0], weights[n + 1][1], low[j * 8], high[j * 8]);
                }
            }
#pragma unroll
            for (u32 n = 0; n < 8; n++) {
                weights[n][0] = left[n][0];
                weights[n][1] = left[n][1];
            }
        }
    }
    store(0);
#pragma unroll
    for (u32 half = 0; half < 2; half++) {
        state.sum[half] += __shfl_xor_sync(~0u, state.sum[half], 1);
        state.sum[half] += __shfl_xor_sync(~0u, state.sum[half], 2);
        if (!is_there(half)) continue;
        if (layer.rotated) {
            // Each lane has written these itself.
            float factor = turned_most[half] == NOTHING ? 0.0f : power_of_two(turned_most[half] - state.most[half]);
            float* sums = to(half, 1);
#pragma unroll 1
            for (u32 i = 0; i < 2 * TILES; i++) {
                u32 channel = i / 2 * 8 + column * 2 + i % 2;
                if (channel < dim) sums[channel] *= factor;
            }
        }
        if (column == 0) {
            float* softmax = a.softmax + slot_of(half) * 2;
            softmax[0] = state.most[half];
            softmax[1] = state.sum[half];
        }
    }
}
