// Values of a segment: widths, means, scales, codes and records; and where the segment's blocks are.
#pragma once
#include "compress_keys.cuh"
#include "turn.cuh"

// Means of channels, from the first token to the last.
INLINE void value_means(const Compression& a, const Bench& bench) {
    u32 stride = row_stride(a.layer.dim);
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < a.layer.dim; channel += blockDim.x) {
        float sum = 0.0f, count = 0.0f;
#pragma unroll 1
        for (u32 t = 0; t < a.tokens; t++) {
            float x = bench.rows[t * stride + channel];
            sum = plus(sum, known(x));
            count = plus(count, x == x ? 1.0f : 0.0f);
        }
        bench.means[channel] = count > 0.0f ? over(sum, count) : 0.0f;
    }
    __syncthreads();
}

// Of each token the sum of squared distances from the means: what its width depends on; or, where heads share scales, its range. Grid: [planes].
INLINE void survey(const Compression& a, const Bench& bench) {
    u32 plane = blockIdx.x, dim = a.layer.dim;
    load_rows(a, plane, false, bench.rows);
    leave_out(a, bench, plane, false);
    if (a.shared_scales) {
#pragma unroll 1
        for (u32 t = threadIdx.x; t < a.tokens; t += blockDim.x) {
            float* range = a.surveyed + ((u64)plane * a.tokens + t) * 2;
            range_by_lanes({bench.rows + t * row_stride(dim), dim, 1}, range[0], range[1]);
        }
        return;
    }
    value_means(a, bench);
#pragma unroll 1
    for (u32 t = threadIdx.x; t < a.tokens; t += blockDim.x) {
        float sum = 0.0f;
#pragma unroll 1
        for (u32 channel = 0; channel < dim; channel++) {
            float off = known(minus(bench.rows[t * row_stride(dim) + channel], bench.means[channel]));
            sum = plus(sum, times(off, off));
        }
        a.surveyed[(u64)plane * a.tokens + t] = sum;
    }
}

// Widths of this plane's tokens. Rows are in units, four of about the same weight in a block; the heaviest units of an item, whatever their
// head, have the greater width.
INLINE void deal_widths(const Compression& a, const Bench& bench, u32 plane) {
    u32 tokens = a.tokens, units = a.units;
#pragma unroll 1
    for (u32 t = threadIdx.x; t < tokens; t += blockDim.x) bench.widths[t] = (u8)a.value_bits;
    __syncthreads();
    if (!a.raised) return;
    u32 first_plane = plane / a.heads * a.heads, own = plane - first_plane;
    const float* weights = a.surveyed + (u64)first_plane * tokens;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.heads * tokens; i += blockDim.x) {
        u32 t = i % tokens, place = t;
        if (a.in_fours) {
            const float* block = weights + i / BLOCK * BLOCK;
            float weight = weights[i];
            place = 0;
#pragma unroll 1
            for (u32 other = 0; other < BLOCK; other++) place += block[other] > weight || (block[other] == weight && other < t % BLOCK) ? 1 : 0;
            place += t / BLOCK * BLOCK;
        }
        bench.order[i - t + place] = (u16)t;
    }
    __syncthreads();
    u32 rows = a.in_fours ? 4 : 1;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.heads * units; i += blockDim.x) {
        const u16* order = bench.order + i / units * tokens + i % units * rows;
        double weight = 0.0;
#pragma unroll 1
        for (u32 r = 0; r < rows; r++) weight = __dadd_rn(weight, (double)weights[i / units * tokens + order[r]]);
        bench.gains[i] = __ddiv_rn(__dmul_rn(weight, a.gain), a.gain_over);
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < units; i += blockDim.x) {
        u32 unit = own * units + i, before = 0;
        double gain = bench.gains[unit];
#pragma unroll 1
        for (u32 other = 0; other < a.heads * units; other++) before += bench.gains[other] > gain || (bench.gains[other] == gain && other < unit) ? 1 : 0;
        if (before < a.raised)
            for (u32 r = 0; r < rows; r++) bench.widths[bench.order[own * tokens + i * rows + r]] = (u8)a.value_more_bits;
    }
    __syncthreads();
}

// Means as they are kept, in the head and in turned form; rows become what they are without them, turned.
INLINE void take_means(const Compression& a, const Bench& bench, Head* head) {
    u32 dim = a.layer.dim;
    value_means(a, bench);
    float most = 0.0f;
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < dim; channel += blockDim.x) most = larger(absolute(bench.means[channel]), most);
    float step = widen(narrow(over(largest_of_block(most, bench.words), 127.0f)));
    float *kept = (float*)((u8*)head + head->means_at), *turned = (float*)((u8*)head + head->turned_means_at);
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < dim; channel += blockDim.x) {
        float mean = bench.means[channel];
        if (a.value.small) {
            float multiple = step > 0.0f ? nearest_whole(over(mean, step)) : 0.0f;
            multiple = multiple < -127.0f ? -127.0f : multiple > 127.0f ? 127.0f : multiple;
            // Whole numbers have no sign at zero.
            mean = times((float)(int)multiple, step);
            bench.means[channel] = times(multiple, step);
        } else {
            mean = widen(narrow(mean));
            bench.means[channel] = mean;
        }
        kept[channel] = mean;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * dim; i += blockDim.x) {
        float* at = bench.rows + i / dim * row_stride(dim) + i % dim;
        // Outliers count as their channel's mean, and what that leaves is theirs to carry.
        *at = known(minus(*at, bench.means[i % dim]));
    }
    __syncthreads();
    turn_in_place(bench.rows, a.tokens, row_stride(dim), dim, false);
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < dim; channel += blockDim.x) bench.means[channel] = kept[channel];
    __syncthreads();
    turn_in_place(bench.means, 1, dim, dim, true);
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < dim; channel += blockDim.x) turned[channel] = bench.means[channel];
}

// Scales of turned rows, as they are kept: [tokens, groups].
INLINE float turned_scales(const Compression& a, const Bench& bench, float& largest) {
    u32 dim = a.layer.dim, channels = a.value_channels, groups = (dim + channels - 1) / channels;
    float most = 0.0f, super_scale = 0.0f;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * groups; i += blockDim.x) {
        u32 first = i % groups * channels;
        Group group = {bench.rows + i / groups * row_stride(dim) + first, dim - first < channels ? dim - first : channels, 1};
        float scale = level_scale(group, bench.widths[i / groups]);
        bench.scales[i] = scale;
        most = larger(scale, most);
    }
    most = largest_of_block(most, bench.words);
    if (a.value.small) super_scale = half_above(over(most, LARGEST_SCALE));
    most = 0.0f;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * groups; i += blockDim.x) {
        float scale = bench.scales[i];
        if (a.value.small) {
            u32 code = super_scale > 0.0f ? nearest_scale_code(over(scale, super_scale)) : 0;
            bench.zeros[i] = __uint_as_float(code);
            scale = scale_of(code, super_scale);
        } else {
            scale = widen(narrow(scale));
        }
        bench.scales[i] = scale;
        most = larger(scale, most);
    }
    largest = largest_of_block(most, bench.words);
    return super_scale;
}

// Which token of a block stands where: those of one width together, filled up to whole tiles. Gives how many slots there are.
INLINE u32 place_tokens(const Bench& bench, const Head* head, u32 first, u32 tokens, u32* slots, u32 (&tiles)[4], bool& in_order) {
    u32 count = 0;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BLOCK + 32; i += blockDim.x) slots[i] = BLOCK;
    __syncthreads();
    in_order = true;
#pragma unroll
    for (u32 w = 0; w < 4; w++) {
        u32 width = head->widths[w], found = 0;
        tiles[w] = 0;
        if (!width) continue;
#pragma unroll 1
        for (u32 t = 0; t < tokens; t++) {
            // Every thread counts, one writes.
            if (bench.widths[first + t] != width) continue;
            if (threadIdx.x == 0) slots[count + found] = t;
            in_order = in_order && count + found == t;
            found++;
        }
        tiles[w] = (found + 7) / 8;
        count += tiles[w] * 8;
    }
    __syncthreads();
    return count;
}

INLINE void compress_values(const Compression& a, const Bench& bench, u32 plane) {
    u32 dim = a.layer.dim, warps = blockDim.x / LANES, warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    u8* own = plane_at(a, plane);
    Head* head = (Head*)(own + a.key_head_bytes);
    copy_template((u8*)head, a.templates + (u64)plane * (a.key_head_bytes + a.value_head_bytes) + a.key_head_bytes, a.value_head_bytes);
    load_rows(a, plane, false, bench.rows);
    leave_out(a, bench, plane, false);
    deal_widths(a, bench, plane);
    bool turned = head->mode == LEVELS;
    u32 channels = a.value_channels, groups = (dim + channels - 1) / channels, units_of_group = (channels + 63) / 64;
    float largest, super_scale;
    if (turned) {
        take_means(a, bench, head);
        super_scale = turned_scales(a, bench, largest);
    } else {
        super_scale = token_scales(bench, a.tokens, dim, channels, a.value_bits, a.value, largest,
                                   a.shared_scales ? a.surveyed + (u64)(plane / a.heads) * a.heads * a.tokens * 2 : 0, a.heads);
        restore(a, bench, plane, false);
    }
    // Descriptors are written here, of keys as well.
    count_outliers(a, bench, plane, true, [](u32, u32) {});
    u32 outliers = 0;
#pragma unroll 1
    for (u32 i = 0; a.value_side && i < a.blocks_made; i++) outliers += found_of(bench, false)[i];
    if (threadIdx.x == 0) {
        head->outliers = outliers ? 1 : 0;
        head->super_scale = super_scale;
        atomicMax(a.value_range, __float_as_uint(largest));
    }
    const u16* order = order_of(head);
    u32 kinds = turned ? 1 : 2, form = a.value.small ? 1 : 2, units = head->units, raw = a.layer.fixed - a.layer.coded;
    Block* blocks = a.blocks + (u64)plane * a.layer.stride;
    const Head* key_head = (const Head*)(a.templates + (u64)plane * (a.key_head_bytes + a.value_head_bytes));
    if (threadIdx.x == 0)
#pragma unroll 1
        for (u32 i = raw; i > 0; i--) blocks[a.layer.coded + a.blocks_made + i - 1] = blocks[a.layer.coded + i - 1];
#pragma unroll 1
    for (u32 i = 0; i < a.blocks_made; i++) {
        u32 first = a.cuts[i], tokens = a.cuts[i + 1] - first, tiles[4];
        bool in_order;
        u32 count = place_tokens(bench, head, first, tokens, bench.words, tiles, in_order);
        const u32* slots = bench.words;
        u32 record_starts = record_at(a, bench, plane, i, false);
        u8* record = a.data + (u64)record_starts * 16;
        u32 codes_at = sizeof(ValueStart) + (in_order ? 0 : aligned(count)), scales_at = codes_at;
#pragma unroll
        for (u32 w = 0; w < 4; w++) scales_at += tiles[w] * units * unit_bytes(head->widths[w]);
        u32 rest_at = scales_at + aligned(count / 8 * units * 8 * kinds * form);
        if (threadIdx.x == 0) {
            ValueStart* start = (ValueStart*)record;
#pragma unroll
            for (u32 w = 0; w < 4; w++) start->tiles[w] = (u8)tiles[w];
            start->order = in_order ? 0 : 1;
            start->scales_at = scales_at;
            start->rest_at = rest_at;
            Block block;
            block.key = record_at(a, bench, plane, i, true);
            block.value = record_starts;
            block.key_bytes = key_head->rest_at + aligned(factor_bytes(key_head)) + (a.key_side ? list_bytes(BLOCK, found_of(bench, true)[i]) : 0);
            block.value_bytes = rest_at + aligned(factor_bytes(head)) + (outliers ? list_bytes(dim, found_of(bench, false)[i]) : 0);
            block.key_head = a.at + plane * a.plane_stride;
            block.value_head = block.key_head + a.key_head_bytes / 16;
            block.first = a.layer.buffer_first + first;
            block.tokens = tokens;
            blocks[a.layer.coded + i] = block;
        }
        if (!in_order)
#pragma unroll 1
            for (u32 j = threadIdx.x; j < count; j += blockDim.x) record[sizeof(ValueStart) + j] = (u8)slots[j];
        u8* codes = record + codes_at;
        u32 tile = 0;
#pragma unroll
        for (u32 w = 0; w < 4; w++) {
            u32 bits = head->widths[w];
#pragma unroll 1
            for (u32 j = warp; j < tiles[w] * units; j += warps) {
                const u32* of_tile = slots + (tile + j / units) * 8;
                u32 unit = j % units;
                u8* to = codes + j * unit_bytes(bits);
                // Where a field's value is; false where there is none.
                auto place = [&](u32 k, u32 half, u32& row, u32& channel) {
                    u32 token = of_tile[lane % 4 * 2 + half];
                    channel = order[unit * 64 + k / 2 * 16 + k % 2 * 8 + lane / 4];
                    row = first + token;
                    return token < BLOCK && channel != NO_CHANNEL;
                };
                if (turned)
                    pack_levels(to, bits, lane, [&](u32 k, u32 half, u32& sign, u32& number) {
                        u32 row, channel;
                        sign = number = 0;
                        if (!place(k, half, row, channel)) return;
                        level_code(bench.rows[row * row_stride(dim) + channel], bench.scales[row * groups + channel / channels], bits, sign, number);
                    });
                else
                    pack_values(to, bits, lane, [&](u32 k, u32 half) -> u32 {
                        u32 row, channel;
                        if (!place(k, half, row, channel)) return 0;
                        u32 at = row * groups + channel / channels;
                        return code_of(bench.rows[row * row_stride(dim) + channel], {bench.scales[at], bench.zeros[at]}, levels_of(bits));
                    });
            }
            codes += tiles[w] * units * unit_bytes(bits);
            tile += tiles[w];
        }
        u8* scales = record + scales_at;
#pragma unroll 1
        for (u32 j = threadIdx.x; j < count * units; j += blockDim.x) {
            u32 slot = j / (8 * units) * 8 + j % 8, unit = j / 8 % units, token = slots[slot];
            u32 from = (first + token) * groups + unit / units_of_group, at = (slot / 8 * units + unit) * 8 * kinds + slot % 8;
            if (turned) store_kept(scales, at, a.value.small, token < BLOCK ? __float_as_uint(bench.zeros[from]) : 0, token < BLOCK ? bench.scales[from] : 0.0f);
            else store_token_scale(bench, from, token < BLOCK, a.value.small, super_scale, a.value_bits, scales, at, at + 8);
        }
    }
}

// What codes leave of values, behind their records.
INLINE void add_what_is_left(const Compression& a, const Bench& bench, u32 plane, Head* head) {
    u32 dim = a.layer.dim, stride = row_stride(dim), channels = a.value_channels, groups = (dim + channels - 1) / channels;
    bool turned = head->mode == LEVELS;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * dim; i += blockDim.x) {
        u32 token = i / dim, channel = i % dim, at = token * groups + channel / channels;
        float* x = bench.rows + token * stride + channel;
        *x = turned ? level_value(*x, bench.scales[at], bench.widths[token]) : what_is_left(*x, {bench.scales[at], bench.zeros[at]}, levels_of(a.value_bits));
    }
    __syncthreads();
    if (turned) {
        turn_in_place(bench.rows, a.tokens, stride, dim, false);
        const float* means = (const float*)((const u8*)head + head->means_at);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < a.tokens * dim; i += blockDim.x) {
            float* x = bench.rows + i / dim * stride + i % dim;
            *x = minus(buffered(a, plane, false, i / dim, i % dim), plus(*x, means[i % dim]));
        }
    }
    store_what_is_left(a, a.value, bench, plane, false, a.starts + (a.heads * a.key.rank + plane % a.heads * a.value.rank) * dim, head, [&](u32 i) {
        u8* record = record_of(a, bench, plane, i, false);
        return record + ((const ValueStart*)record)->rest_at;
    });
}

INLINE Bench bench_of(const Compression& a, u8* shared) {
    Bench bench;
    u32 dim = a.layer.dim, key_groups = (a.tokens + a.key_group - 1) / a.key_group * a.key_slots;
    u32 of_keys = a.tokens * ((dim + a.key_channels - 1) / a.key_channels), of_values = a.tokens * ((dim + a.value_channels - 1) / a.value_channels);
    u32 scales = max_u32(key_groups, max_u32(of_keys, of_values));
    bench.gains = (double*)shared;
    bench.rows = (float*)(bench.gains + a.heads * a.units);
    bench.scales = bench.rows + a.tokens * row_stride(dim);
    bench.zeros = bench.scales + scales;
    bench.means = bench.zeros + scales;
    bench.lists = (u32*)bench.means;
    bench.words = bench.lists + max_u32(dim, BLOCK);
    bench.found = bench.words + BLOCK + 32;
    u32 rank = max_u32(a.key.rank, a.value.rank);
    bench.a = (float*)(bench.found + 2 * (MOST_CUTS + 1));
    bench.b = bench.a + rank * a.tokens;
    bench.factor_scales = bench.b + rank * dim;
    bench.order = (u16*)(bench.factor_scales + rank * ((a.tokens + 31) / 32));
    bench.widths = (u8*)(bench.order + (a.units ? a.heads * a.tokens : 0));
    return bench;
}

INLINE void compress(const Compression& a) {
    SHARED(shared);
    Bench bench = bench_of(a, shared);
    if (blockIdx.y == 0) compress_keys(a, bench, blockIdx.x);
    else compress_values(a, bench, blockIdx.x);
    if (blockIdx.y == 1 && (a.value.rank || a.value_side)) add_what_is_left(a, bench, blockIdx.x, (Head*)(plane_at(a, blockIdx.x) + a.key_head_bytes));
}

INLINE void survey_values(const Compression& a) {
    SHARED(shared);
    survey(a, bench_of(a, shared));
}

// What is behind the segment moves to the front of the buffer. Grid: [planes].
INLINE void move_up(const Compression& a) {
    u32 dim = a.layer.dim, left = a.layer.buffered - a.tokens;
    u16* keys = (u16*)a.layer.key_buffer + (u64)blockIdx.x * a.layer.capacity * raw_key_width(dim);
    u16* values = (u16*)a.layer.value_buffer + (u64)blockIdx.x * a.layer.capacity * raw_value_width(dim);
    // As many tokens at a time as are free by now.
#pragma unroll 1
    for (u32 first = 0; first < left; first += a.tokens) {
        u32 tokens = left - first < a.tokens ? left - first : a.tokens;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < tokens * dim; i += blockDim.x) {
            u32 to = first + i / dim, from = to + a.tokens, channel = i % dim;
            keys[raw_key_index(to, channel, dim)] = keys[raw_key_index(from, channel, dim)];
            values[raw_value_index(to, channel, dim)] = values[raw_value_index(from, channel, dim)];
        }
        __syncthreads();
    }
}
