// A block's keys and values in float16, as a thread block that has many queries wants them: codes are taken apart once for all of these.
#pragma once
#include "attention.cuh"

#define TILE_QUERIES 64
#define TILE_WARPS 4
#define KEPT 0.5f // keys and values of codes are brought to half of what they are: no rounding takes them beyond float16

// Half-words of a row of queries or keys, and words of a row of pairs of values: so that no two lanes meet in a bank.
template <int WIDTH>
struct Tile {
    static const u32 stride = WIDTH + 8;
    u16* queries; // [TILE_QUERIES, stride]
    u16* rests;   // the same: what rounding left of them, where they come in float32
    u16* keys;    // [BLOCK, stride]
    u32* values;  // [BLOCK / 2, stride]: of two tokens each
};

// What makes numbers of two codes. Scales and zeros in float16 are what they are; of those in 8 bits, zeros are in steps of codes, so that no rounding
// is larger than the number's own.
struct Affine {
    u32 scale, zero, rest; // rest: what rounding leaves of such a zero
};

// One half of each: `times` is what codes come times.
INLINE Affine affine_of(bool small, float low, float high, float low_zero, float high_zero, float times) {
    Affine affine;
    affine.scale = narrow2(low * (KEPT / times), high * (KEPT / times));
    if (small) split(low_zero * times, high_zero * times, affine.zero, affine.rest);
    else affine.zero = narrow2(low_zero * KEPT, high_zero * KEPT);
    return affine;
}

// 1024 and a code, or sixteen times one, is a float16 whose low bits are the code.
INLINE u32 affine2(u32 codes, u32 bits, bool small, const Affine& affine) {
    u32 n = add2(codes | 0x64006400u, 0xe400e400u);
    if (!small) return fma2(n, affine.scale, affine.zero);
    n = add2(n, affine.zero);
    // Seven bits of steps and as many of codes as four make eleven.
    if (bits > 4) n = add2(n, affine.rest);
    return mul2(n, affine.scale);
}

// A lane's share of a unit of keys: eight tokens of two channels.
template <int WIDTH>
INLINE void put_key_unit(const Tile<WIDTH>& tile, const Head* head, const KeyRecord& record, const u8* codes, u32 bits, u32 unit, u32 group, u32 lane,
                         u32 dim) {
    u32 x[8], slot = unit * 8 + lane % 4 * 2, two = *(const u32*)(order_of(head) + slot);
    u32 channels[2] = {two & 0xffff, two >> 16};
    unpack_keys(bits, codes, lane, x);
    float odd = bits < 8 ? ODD_FIELDS : 1.0f;
    auto token_of = [&](u32 k) { return k / 2 * 16 + k % 2 * 8 + lane / 4; };
    u32 form = head->form, bytes = form_bytes(form);
    bool small = form == SMALL;
    if (head->mode == CHANNEL) {
        uint2 four = ((const uint2*)record.scales)[unit * 4 + lane % 4];
        float low, high, low_zero, high_zero;
        if (small) {
            // As the upper halves of float32.
            low = head->super_scale * __uint_as_float(four.x << 16);
            high = head->super_scale * __uint_as_float(four.x & 0xffff0000u);
            low_zero = zero_unit(bits) * __uint_as_float(four.y << 16);
            high_zero = zero_unit(bits) * __uint_as_float(four.y & 0xffff0000u);
        } else {
            low = widen((u16)four.x);
            high = widen((u16)(four.x >> 16));
            low_zero = widen((u16)four.y);
            high_zero = widen((u16)(four.y >> 16));
        }
        Affine affine[2] = {affine_of(small, low, high, low_zero, high_zero, 1.0f), affine_of(small, low, high, low_zero, high_zero, odd)};
#pragma unroll
        for (u32 k = 0; k < 8; k++) x[k] = affine2(x[k], bits, small, affine[k % 2]);
    } else {
        const u8 *scales = record.scales + group * BLOCK * 2 * bytes, *zeros = scales + BLOCK * bytes;
#pragma unroll
        for (u32 k = 0; k < 8; k++) {
            float scale = load_scale(scales, token_of(k), form, head->super_scale), zero = kept_zero(zeros, token_of(k), form, zero_unit(bits));
            x[k] = affine2(x[k], bits, small, affine_of(small, scale, scale, zero, zero, k % 2 ? odd : 1.0f));
        }
    }
    bool has_low = channels[0] < dim, has_high = channels[1] < dim;
#pragma unroll
    for (u32 k = 0; k < 8; k++) {
        u16* row = tile.keys + token_of(k) * tile.stride;
        if (has_low) row[channels[0]] = (u16)x[k];
        if (has_high) row[channels[1]] = (u16)(x[k] >> 16);
    }
}

// Keys of a record; each warp has every so many-th unit.
template <int WIDTH>
INLINE void put_keys(const Tile<WIDTH>& tile, const Head* head, const u8* at, u32 dim) {
    u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES;
    KeyRecord record = key_record(head, at);
    const u16* groups = (const u16*)((const u8*)head + head->groups_at);
    const u8* codes = record.codes;
    bool of_channels = head->mode == CHANNEL;
    u32 before = 0, units = head->units, group = 0, behind = of_channels ? units : groups[0];
#pragma unroll 1
    for (u32 band = 0; band < 6 && before < units; band++) {
        u32 bits = head->widths[band] >> 16, count = head->widths[band] & 0xffff;
#pragma unroll 1
        for (u32 i = (warp - before) % TILE_WARPS; i < count; i += TILE_WARPS) {
            u32 unit = before + i;
            while (unit >= behind) behind += groups[++group];
            const u8* own = codes + i * unit_bytes(bits);
            put_key_unit(tile, head, record, own, bits, unit, group, lane, dim);
        }
        codes += count * unit_bytes(bits);
        before += count;
    }
}

// A lane's share of a unit of values: two tokens of eight channels. Of turned codes it is what they stand for before it is turned back, without
// the mean, times `norm`.
template <int WIDTH>
INLINE void put_value_unit(const Tile<WIDTH>& tile, const Head* head, const ValueRecord& record, const u8* codes, u32 bits, u32 of_tile, u32 unit,
                           u32 lane, u32 dim, u32 tokens, float norm) {
    u32 x[8], form = head->form;
    bool is_levels = head->mode == LEVELS;
    if (is_levels) unpack_levels(bits, codes, lane, x);
    else unpack(bits, codes, lane, x);
    u32 first = of_tile * 8 + lane % 4 * 2, places[2] = {first, first + 1};
    if (record.order) {
        places[0] = record.order[first];
        places[1] = record.order[first + 1];
    }
    u32 index = (of_tile * head->units + unit) * 8 * (is_levels ? 1 : 2) + lane % 4 * 2;
    float low = load_scale(record.scales, index, form, head->super_scale), high = load_scale(record.scales, index + 1, form, head->super_scale);
    if (is_levels) {
        // Levels are whole numbers of 2^-24, then of 2^-9.
        float times = norm * (bits == 8 ? 2.0f : 4.0f);
        u32 scales = narrow2(low * times, high * times);
#pragma unroll
        for (u32 k = 0; k < 8; k++) x[k] = mul2(mul2(x[k], 0x78007800u), scales);
    } else {
        bool small = form == SMALL;
        float low_zero = kept_zero(record.scales, index + 8, form, zero_unit(bits)), high_zero = kept_zero(record.scales, index + 9, form, zero_unit(bits));
        Affine affine = affine_of(small, low, high, low_zero, high_zero, 1.0f);
#pragma unroll
        for (u32 k = 0; k < 8; k++) x[k] = affine2(x[k], bits, small, affine);
    }
    u32 slot = unit * 64 + lane / 4;
    bool together = places[0] % 2 == 0 && places[1] == places[0] + 1 && places[1] < tokens;
    if (together && head->units * 64 == dim) {
        // Without padding all channels are in their own order.
        u32* to = tile.values + places[0] / 2 * tile.stride + slot;
#pragma unroll
        for (u32 k = 0; k < 8; k++) to[k / 2 * 16 + k % 2 * 8] = x[k];
        return;
    }
#pragma unroll
    for (u32 k = 0; k < 8; k++) {
        u32 channel = order_of(head)[slot + k / 2 * 16 + k % 2 * 8];
        if (channel >= dim) continue;
        if (places[0] < tokens) ((u16*)(tile.values + places[0] / 2 * tile.stride + channel))[places[0] % 2] = (u16)x[k];
        if (places[1] < tokens) ((u16*)(tile.values + places[1] / 2 * tile.stride + channel))[places[1] % 2] = (u16)(x[k] >> 16);
    }
}

// Values of a record; each warp has every so many-th unit.
template <int WIDTH>
INLINE void put_values(const Tile<WIDTH>& tile, const Head* head, const u8* at, u32 dim, u32 tokens, float norm) {
    u32 warp = threadIdx.x / LANES, lane = threadIdx.x % LANES, units = head->units;
    const ValueStart* start = (const ValueStart*)at;
    ValueRecord record = value_record(head, at);
    const u8* codes = record.codes;
    u32 before = 0;
#pragma unroll 1
    for (u32 i = 0; i < 4; i++) {
        u32 tiles = start->tiles[i], bits = head->widths[i];
#pragma unroll 1
        for (u32 j = (warp - before * units) % TILE_WARPS; j < tiles * units; j += TILE_WARPS) {
            // Units are four at most.
            u32 of_tile = units == 1 ? j : units == 2 ? j / 2 : units == 3 ? j / 3 : j / 4, unit = j - of_tile * units;
            const u8* own = codes + j * unit_bytes(bits);
            put_value_unit(tile, head, record, own, bits, before + of_tile, unit, lane, dim, tokens, norm);
        }
        codes += tiles * units * unit_bytes(bits);
        before += tiles;
    }
}

// Low-rank of a record, to what is there: words are two channels of a token of keys, or two tokens of a channel of values.
template <int WIDTH>
INLINE void put_low_rank(const Tile<WIDTH>& tile, const Head* head, const u8* factors, bool keys, u32 dim) {
    const float* rows = (const float*)((const u8*)head + head->factors_at);
    u32 across = keys ? (dim + 1) / 2 : dim, down = keys ? BLOCK : BLOCK / 2;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < across * down; i += blockDim.x) {
        u32 token = i / across * (keys ? 1 : 2), channel = i % across * (keys ? 2 : 1);
        u32* word = keys ? (u32*)tile.keys + token * (tile.stride / 2) + channel / 2 : tile.values + token / 2 * tile.stride + channel;
        float low = widen((u16)*word), high = widen((u16)(*word >> 16));
#pragma unroll 1
        for (u32 r = 0; r < head->rank; r++) {
            float a = KEPT * load_factor(head, factors, r, token), b = rows[r * dim + channel];
            low = fmaf(a, b, low);
            if (!keys) high = fmaf(KEPT * load_factor(head, factors, r, token + 1), b, high);
            else if (channel + 1 < dim) high = fmaf(a, rows[r * dim + channel + 1], high);
        }
        *word = narrow2(low, high);
    }
}

// Outliers of a record, each list by one thread, to what is there.
template <int WIDTH>
INLINE void put_outliers(const Tile<WIDTH>& tile, const u8* outliers, bool keys, u32 dim) {
    OutlierLists own = outlier_lists(outliers, keys, dim);
#pragma unroll 1
    for (u32 list = threadIdx.x; list < own.count; list += blockDim.x)
#pragma unroll 1
        for (u32 e = own.bounds[list]; e < own.bounds[list + 1]; e++) {
            u32 other = own.entries[e] & 0xffff;
            u16* to = keys ? tile.keys + list * tile.stride + other : (u16*)(tile.values + other / 2 * tile.stride + list) + other % 2;
            *to = narrow(fmaf(KEPT, widen((u16)(own.entries[e] >> 16)), widen(*to)));
        }
}

// Keys and values of tokens in float16, which lie in pairs of channels and in pairs of tokens.
template <int WIDTH>
INLINE void put_raw_keys(const Tile<WIDTH>& tile, const u8* at, u32 dim, u32 tokens) {
    u32 pairs = raw_key_width(dim) / 16, lane = threadIdx.x % LANES;
    u32* keys = (u32*)tile.keys;
#pragma unroll 2
    for (u32 i = threadIdx.x / LANES; i < (tokens + 15) / 16 * pairs; i += blockDim.x / LANES) {
        uint4 words = ((const uint4*)at)[i * LANES + lane];
        u32* to = keys + (i / pairs * 16 + lane / 4) * (tile.stride / 2) + i % pairs * 8 + lane % 4;
        to[0] = words.x;
        to[8 * (tile.stride / 2)] = words.y;
        to[4] = words.z;
        to[8 * (tile.stride / 2) + 4] = words.w;
    }
}
template <int WIDTH>
INLINE void put_raw_values(const Tile<WIDTH>& tile, const u8* at, u32 dim, u32 tokens) {
    u32 pairs = raw_value_width(dim) / 32, lane = threadIdx.x % LANES;
#pragma unroll 2
    for (u32 i = threadIdx.x / LANES; i < (tokens + 7) / 8 * pairs; i += blockDim.x / LANES) {
        uint4 words = ((const uint4*)at)[i * LANES + lane];
        u32 pair = i / pairs * 4 + lane % 4;
        // What lies behind the last token is none of ours.
        u32 mask = pair * 2 + 1 < tokens ? ~0u : pair * 2 < tokens ? 0xffffu : 0;
        u32* to = tile.values + pair * tile.stride + i % pairs * 32 + lane / 4;
        to[0] = words.x & mask;
        to[8] = words.y & mask;
        to[16] = words.z & mask;
        to[24] = words.w & mask;
    }
}

// A block of either kind; its records, where it has any, are in shared memory. All threads; those that read it wait first and after. `norm`: see
// put_value_unit.
template <int WIDTH>
INLINE void put_block(const Tile<WIDTH>& tile, const Attention& a, const Block& block, u32 plane, u32 i, const u8* staged_keys, const u8* staged_values,
                      float norm) {
    const Layer& layer = a.layer;
    u32 dim = layer.dim, tokens = block.tokens;
    const Head *key_head = head_at(layer, block.key_head), *value_head = head_at(layer, block.value_head);
    if (block.key_bytes) put_keys(tile, key_head, staged_keys, dim);
    else put_raw_keys(tile, keys_at(layer, plane, i, block.key), dim, tokens);
    if (block.value_bytes) put_values(tile, value_head, staged_values, dim, tokens, norm);
    else put_raw_values(tile, values_at(layer, plane, i, block.value), dim, tokens);
    // Weights of tokens that are not there are 0, which numbers from before might not make 0.
    u32 written = block.value_bytes ? tokens : (tokens + 7) / 8 * 8;
#pragma unroll 1
    for (u32 j = written / 2 * tile.stride + threadIdx.x; j < BLOCK / 2 * tile.stride; j += blockDim.x) {
        if (j / tile.stride * 2 >= written) tile.values[j] = 0;
        else ((u16*)(tile.values + j))[1] = 0;
    }
    // What codes alone do not say.
    bool key_rank = block.key_bytes && key_head->rank, value_rank = block.value_bytes && value_head->rank;
    if (key_rank || value_rank) __syncthreads();
    if (key_rank) put_low_rank(tile, key_head, key_record(key_head, staged_keys).factors, true, dim);
    if (value_rank) put_low_rank(tile, value_head, value_record(value_head, staged_values).factors, false, dim);
    bool key_outliers = block.key_bytes && key_head->outliers, value_outliers = block.value_bytes && value_head->outliers;
    if (key_outliers || value_outliers) __syncthreads();
    if (key_outliers) put_outliers(tile, key_record(key_head, staged_keys).outliers, true, dim);
    if (value_outliers) put_outliers(tile, outliers_of(a, value_record(value_head, staged_values), staged_values, block.value, block.value_bytes), false, dim);
}
