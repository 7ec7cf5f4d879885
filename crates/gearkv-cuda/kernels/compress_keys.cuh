// Keys of a segment: scales, codes and records.
#pragma once
#include "outliers.cuh"

// The width of a slot's unit.
INLINE u32 key_bits(const Head* head, u32 unit) {
    u32 i = 0, behind = head->widths[0] & 0xffff;
#pragma unroll 1
    while (unit >= behind && i < 5) behind += head->widths[++i] & 0xffff;
    return head->widths[i] >> 16;
}

INLINE Group key_group(const Compression& a, const Bench& bench, u32 g, u32 channel) {
    u32 stride = row_stride(a.layer.dim), first = g * a.key_group;
    return {bench.rows + first * stride + channel, a.tokens - first < a.key_group ? a.tokens - first : a.key_group, stride};
}

// Scales and zeros of channels: [groups, slots]. Gives the super-scale, 0 where there is none.
INLINE float channel_scales(const Compression& a, const Bench& bench, const Head* head, float& largest) {
    const u16* order = order_of(head);
    u32 slots = head->units * 8, groups = (a.tokens + a.key_group - 1) / a.key_group;
    float super_scale = 0.0f, least = 0.0f;
    if (a.key.small) {
        // Of each width, the largest that is asked for.
        if (threadIdx.x < 8) bench.words[threadIdx.x] = 0;
        __syncthreads();
#pragma unroll 1
        for (u32 i = threadIdx.x; i < slots * groups; i += blockDim.x) {
            u32 slot = i % slots;
            if (order[slot] == NO_CHANNEL) continue;
            float low, high;
            range_of(key_group(a, bench, i / slots, order[slot]), low, high);
            u32 bits = key_bits(head, slot / 8);
            if (high >= low) atomicMax(bench.words + (bits == 8 ? 0 : bits), __float_as_uint(asked_for(low, high, levels_of(bits), zero_unit(bits))));
        }
        __syncthreads();
        for (u32 i = 0; i < 6; i++)
            if (head->widths[i] & 0xffff) {
                u32 bits = head->widths[i] >> 16;
                super_scale = larger(super_scale_for(__uint_as_float(bench.words[bits == 8 ? 0 : bits])), super_scale);
            }
    }
#pragma unroll 1
    for (u32 i = threadIdx.x; i < slots * groups; i += blockDim.x) {
        u32 slot = i % slots;
        Pair pair = {0.0f, 0.0f};
        if (order[slot] != NO_CHANNEL) {
            Group group = key_group(a, bench, i / slots, order[slot]);
            float low, high;
            range_of(group, low, high);
            pair = fitted(group, low, high, key_bits(head, slot / 8), a.key.least_squares, super_scale);
            if (!a.key.small) {
                // What rounding took beyond the largest float16 is kept as infinity.
                if (!(absolute(pair.scale) <= 65504.0f)) pair.scale = times(pair.scale, INFINITE);
                if (!(absolute(pair.zero) <= 65504.0f)) pair.zero = times(pair.zero, INFINITE);
            }
        }
        bench.scales[i] = pair.scale;
        bench.zeros[i] = pair.zero;
        least = larger(pair.scale, least);
    }
    largest = largest_of_block(least, bench.words);
    return super_scale;
}

// A record's scales and zeros of channels: two of each for every pair of slots.
INLINE void store_channel_scales(const Compression& a, const Bench& bench, const Head* head, float super_scale, u32 g, u8* at) {
    const u16* order = order_of(head);
    u32 slots = head->units * 8;
#pragma unroll 1
    for (u32 slot = threadIdx.x; slot < slots; slot += blockDim.x) {
        Pair pair = {bench.scales[g * slots + slot], bench.zeros[g * slots + slot]};
        u16 scale = 0, zero = 0;
        if (order[slot] != NO_CHANNEL) {
            if (a.key.small) {
                // As the upper halves of float32: without the super-scale, and in steps.
                scale = (u16)(__float_as_uint(small_scale(nearest_scale_code(over(pair.scale, super_scale)))) >> 16);
                zero = (u16)(__float_as_uint((float)zero_steps(pair, zero_unit(key_bits(head, slot / 8)))) >> 16);
            } else {
                scale = narrow(pair.scale);
                zero = narrow(pair.zero);
            }
        }
        u16* four = (u16*)at + slot / 2 * 4;
        four[slot % 2] = scale;
        four[2 + slot % 2] = zero;
    }
}

// Scales and zeros where channels of a token share them: [tokens, groups]. Gives the super-scale, 0 where there is none. `ranges`: of as many
// `heads`, [heads, tokens, 2], where all channels of these share them.
INLINE float token_scales(const Bench& bench, u32 tokens, u32 dim, u32 channels, u32 bits, const Recipe& recipe, float& largest, const float* ranges = 0, u32 heads = 0) {
    u32 groups = (dim + channels - 1) / channels, stride = row_stride(dim);
    float super_scale = 0.0f, most = 0.0f;
    auto group_of = [&](u32 i) {
        u32 first = i % groups * channels;
        return Group{bench.rows + i / groups * stride + first, dim - first < channels ? dim - first : channels, 1};
    };
    auto range = [&](u32 i, float& low, float& high) {
        if (!ranges) return range_by_lanes(group_of(i), low, high);
        low = INFINITE;
        high = -INFINITE;
#pragma unroll 1
        for (u32 head = 0; head < heads; head++) {
            const float* of_head = ranges + (head * tokens + i) * 2;
            low = of_head[0] < low ? of_head[0] : low;
            high = of_head[1] > high ? of_head[1] : high;
        }
    };
    if (recipe.small) {
#pragma unroll 1
        for (u32 i = threadIdx.x; i < tokens * groups; i += blockDim.x) {
            float low, high;
            range(i, low, high);
            if (high >= low) most = larger(asked_for(low, high, levels_of(bits), zero_unit(bits)), most);
        }
        super_scale = super_scale_for(largest_of_block(most, bench.words));
        most = 0.0f;
    }
#pragma unroll 1
    for (u32 i = threadIdx.x; i < tokens * groups; i += blockDim.x) {
        Group group = group_of(i);
        float low, high;
        if (recipe.least_squares) range_of(group, low, high);
        else range(i, low, high);
        Pair pair = fitted(group, low, high, bits, recipe.least_squares, super_scale);
        bench.scales[i] = pair.scale;
        bench.zeros[i] = pair.zero;
        most = larger(pair.scale, most);
    }
    largest = largest_of_block(most, bench.words);
    return super_scale;
}

// A record's scales and zeros of one token and group, `index` being its place among the scales and `zero_index` that of its zero.
INLINE void store_token_scale(const Bench& bench, u32 from, bool there, bool small, float super_scale, u32 bits, u8* at, u32 index, u32 zero_index) {
    Pair pair = {there ? bench.scales[from] : 0.0f, there ? bench.zeros[from] : 0.0f};
    store_kept(at, index, small, there ? nearest_scale_code(over(pair.scale, super_scale)) : 0, pair.scale);
    store_kept(at, zero_index, small, there ? (u32)zero_steps(pair, zero_unit(bits)) : 0, pair.zero);
}

INLINE void compress_keys(const Compression& a, const Bench& bench, u32 plane) {
    u32 dim = a.layer.dim, warps = blockDim.x / LANES, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    u8* own = plane_at(a, plane);
    Head* head = (Head*)own;
    copy_template(own, a.templates + (u64)plane * (a.key_head_bytes + a.value_head_bytes), a.key_head_bytes);
    load_rows(a, plane, true, bench.rows);
    leave_out(a, bench, plane, true);
    bool of_channels = head->mode == CHANNEL;
    u32 slots = head->units * 8, groups = (dim + a.key_channels - 1) / a.key_channels;
    float largest, super_scale = of_channels ? channel_scales(a, bench, head, largest)
                                             : token_scales(bench, a.tokens, dim, a.key_channels, head->widths[0] >> 16, a.key, largest);
    if (threadIdx.x == 0) {
        int exponent = of_channels ? exponent_above(largest) : 0;
        head->super_scale = super_scale;
        head->norm = exact_power_of_two(14 - exponent);
        head->back = exact_power_of_two(exponent - 14);
    }
    restore(a, bench, plane, true);
    const u16* order = order_of(head);
    // A segment's codes first: what they leave takes the rows' place.
#pragma unroll 1
    for (u32 i = 0; i < a.blocks_made; i++) {
        u32 first = a.cuts[i], tokens = a.cuts[i + 1] - first;
        u8* record = record_of(a, bench, plane, i, true);
        u32 band = 0, of_band = 0;
        u8* codes = record;
#pragma unroll 1
        for (u32 unit = 0; unit < head->units; unit++) {
            while (of_band == (head->widths[band] & 0xffff)) {
                of_band = 0;
                band++;
            }
            u32 bits = head->widths[band] >> 16;
            float levels = levels_of(bits);
            of_band++;
            if (unit % warps == warp)
                pack_keys(codes, bits, lane, [&](u32 k, u32 half) -> u32 {
                    u32 token = k / 2 * 16 + k % 2 * 8 + lane / 4, slot = unit * 8 + lane % 4 * 2 + half, channel = order[slot];
                    if (channel == NO_CHANNEL || token >= tokens) return 0;
                    u32 at = of_channels ? first / a.key_group * slots + slot : (first + token) * groups + channel / a.key_channels;
                    return code_of(bench.rows[(first + token) * row_stride(dim) + channel], {bench.scales[at], bench.zeros[at]}, levels);
                });
            codes += unit_bytes(bits);
        }
        u8* scales = record + head->scales_at;
        if (of_channels) {
            store_channel_scales(a, bench, head, super_scale, first / a.key_group, scales);
        } else {
            u32 form = a.key.small ? 1 : 2;
#pragma unroll 1
            for (u32 j = threadIdx.x; j < groups * BLOCK; j += blockDim.x) {
                u32 group = j / BLOCK, token = j % BLOCK;
                store_token_scale(bench, (first + token) * groups + group, token < tokens, a.key.small, super_scale, head->widths[0] >> 16,
                                  scales + group * 2 * BLOCK * form, token, BLOCK + token);
            }
        }
    }
    if (!a.key.rank && !a.key_side) return;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * (of_channels ? slots : dim); i += blockDim.x) {
        u32 per_row = of_channels ? slots : dim, token = i / per_row, channel = of_channels ? order[i % per_row] : i % per_row;
        if (channel == NO_CHANNEL) continue;
        u32 at = of_channels ? token / a.key_group * slots + i % per_row : token * groups + channel / a.key_channels;
        u32 bits = of_channels ? key_bits(head, i % per_row / 8) : head->widths[0] >> 16;
        float* x = bench.rows + token * row_stride(dim) + channel;
        *x = what_is_left(*x, {bench.scales[at], bench.zeros[at]}, levels_of(bits));
    }
    store_what_is_left(a, a.key, bench, plane, true, a.starts + plane % a.heads * a.key.rank * dim, head,
                       [&](u32 i) { return record_of(a, bench, plane, i, true) + head->rest_at; });
}
