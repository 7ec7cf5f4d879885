// All keys or all values of a layer, in float32: [planes, tokens, dim]. Grid: [blocks, planes].
//
// Sums and products are in the order in which the core has them (crates/gearkv/src/segment/decode.rs), without fused multiply-adds.
#pragma once
#include "attention.cuh"
#include "turn.cuh"

#define TOGETHER 16 // tokens that are worked on at a time

struct Decompression {
    Layer layer;
    float* out;
    u32 of_keys, tokens;
};

// What a code of keys stands for: before it is turned back, if it is turned.
INLINE float key_at(const Head* head, const KeyRecord& record, u32 token, u32 slot) {
    const u8* unit = record.codes;
    u32 index = slot / 8, bits = 0, before = 0;
#pragma unroll 1
    for (u32 i = 0; i < 6; i++) {
        u32 count = head->widths[i] & 0xffff;
        bits = head->widths[i] >> 16;
        if (index < before + count) break;
        unit += count * unit_bytes(bits);
        before += count;
    }
    unit += (index - before) * unit_bytes(bits);
    u32 lane = (token & 7) * 4 + ((slot & 7) >> 1), field = token / 16 * 2 + (token / 8 & 1);
    bool levels = head->mode == LEVELS && bits < 8;
    float code = (float)(levels ? level_of(unit, bits, lane, field, slot & 1) : key_code_of(unit, bits, lane, field, slot & 1));
    u32 form = head->form, bytes = form_bytes(form);
    if (head->mode == CHANNEL) {
        const u16* four = (const u16*)record.scales + (slot / 8 * 4 + ((slot & 7) >> 1)) * 4;
        u16 scale_half = four[slot & 1], zero_half = four[2 + (slot & 1)];
        if (form != SMALL) return __fadd_rn(__fmul_rn(code, widen(scale_half)), widen(zero_half));
        float scale = __fmul_rn(head->super_scale, __uint_as_float((u32)scale_half << 16));
        float steps = __uint_as_float((u32)zero_half << 16);
        return __fadd_rn(__fmul_rn(code, scale), __fmul_rn(__fmul_rn(steps, zero_unit(bits)), scale));
    }
    const u16* units = (const u16*)((const u8*)head + head->groups_at);
    u32 group = 0;
#pragma unroll 1
    for (u32 behind = units[0]; index >= behind; behind += units[group]) group++;
    const u8* scales = record.scales + group * BLOCK * (head->mode == TOKEN ? 2 : 1) * bytes;
    float scale = load_scale(scales, token, form, head->super_scale);
    if (head->mode == TOKEN)
        return __fadd_rn(__fmul_rn(code, scale), load_zero(scales + BLOCK * bytes, token, form, zero_unit(bits), scale));
    return __fmul_rn(bits == 8 ? __fmul_rn(2.0f * code - 255.0f, 1.0f / 256.0f) : code * (1.0f / 128.0f), scale);
}

// The same of values; `place`: where the token is among those of the record.
INLINE float value_at(const Head* head, const u8* at, const ValueRecord& record, u32 place, u32 slot) {
    const u8* codes = record.codes;
    u32 tile = place / 8, bits = 0, before = 0;
#pragma unroll 1
    for (u32 i = 0; i < 4; i++) {
        bits = head->widths[i];
        if (tile < before + at[i]) break;
        codes += at[i] * head->units * unit_bytes(bits);
        before += at[i];
    }
    u32 unit = slot / 64, of_unit = (slot & 63) / 16;
    codes += ((tile - before) * head->units + unit) * unit_bytes(bits);
    u32 lane = (slot & 7) * 4 + ((place & 7) >> 1), field = of_unit * 2 + (slot / 8 & 1);
    bool has_zeros = head->mode == TOKEN;
    float code = (float)(has_zeros ? value_code_of(codes, bits, lane, field, place & 1) : level_of(codes, bits, lane, field, place & 1));
    u32 form = head->form, index = (tile * head->units + unit) * 8 * (has_zeros ? 2 : 1) + (place & 7);
    float scale = load_scale(record.scales, index, form, head->super_scale);
    if (has_zeros)
        return __fadd_rn(__fmul_rn(code, scale), load_zero(record.scales, index + 8, form, zero_unit(bits), scale));
    return __fmul_rn(code * (bits == 8 ? 1.0f / 256.0f : 1.0f / 128.0f), scale);
}

// Where each token of a record of values is: [64], in shared memory.
INLINE void find_places(const u8* at, const ValueRecord& record, u32 tokens, u32* places) {
    u32 slots = tiles_of((const ValueStart*)at) * 8;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < BLOCK; i += blockDim.x) places[i] = i;
    __syncthreads();
    if (record.order && threadIdx.x == 0)
#pragma unroll 1
        for (u32 i = 0; i < slots; i++)
            if (record.order[i] < tokens) places[record.order[i]] = i;
    __syncthreads();
}

INLINE void decompress(const Decompression& a) {
    SHARED(shared);
    u32 dim = a.layer.dim, plane = blockIdx.y;
    float* rows = (float*)shared;               // [TOGETHER, dim]
    u32* places = (u32*)(rows + TOGETHER * dim); // [BLOCK]
    Block block = block_at(a.layer, plane, blockIdx.x);
    const u8* at = a.of_keys ? keys_at(a.layer, plane, blockIdx.x, block.key) : values_at(a.layer, plane, blockIdx.x, block.value);
    bool coded = (a.of_keys ? block.key_bytes : block.value_bytes) != 0;
    const Head* head = (const Head*)(a.layer.data + (u64)(a.of_keys ? block.key_head : block.value_head) * 16);
    const u16* order = order_of(head);
    KeyRecord of_key = {};
    ValueRecord of_value = {};
    if (coded && a.of_keys) of_key = key_record(head, at);
    if (coded && !a.of_keys) {
        of_value = value_record(head, at);
        find_places(at, of_value, block.tokens, places);
    }
#pragma unroll 1
    for (u32 first = 0; first < block.tokens; first += TOGETHER) {
        u32 tokens = block.tokens - first < TOGETHER ? block.tokens - first : TOGETHER;
        u32 slots = !coded ? dim : a.of_keys ? head->units * 8 : head->units * 64;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < TOGETHER * dim; i += blockDim.x) rows[i] = 0.0f;
        __syncthreads();
#pragma unroll 1
        for (u32 i = threadIdx.x; i < tokens * slots; i += blockDim.x) {
            u32 token = first + i / slots, slot = i % slots;
            u32 channel = coded ? order[slot] : slot;
            if (channel == NO_CHANNEL) continue;
            float* to = rows + i / slots * dim + channel;
            if (!coded) *to = widen(((const u16*)at)[a.of_keys ? raw_key_index(token, slot, dim) : raw_value_index(token, slot, dim)]);
            else *to = a.of_keys ? key_at(head, of_key, token, slot) : value_at(head, at, of_value, places[token], slot);
        }
        __syncthreads();
        if (coded) {
            if (head->turned) turn_in_place(rows, TOGETHER, dim, dim, false);
            const float* means = (const float*)((const u8*)head + head->means_at);
            const float* b = (const float*)((const u8*)head + head->factors_at);
            const u8* factors = a.of_keys ? of_key.factors : of_value.factors;
#pragma unroll 1
            for (u32 i = threadIdx.x; i < tokens * dim; i += blockDim.x) {
                u32 channel = i % dim;
                float x = rows[i];
                if (head->means_at) x = __fadd_rn(x, means[channel]);
#pragma unroll 1
                for (u32 r = 0; r < head->rank; r++)
                    x = __fadd_rn(x, __fmul_rn(load_factor(head, factors, r, first + i / dim), b[r * dim + channel]));
                rows[i] = x;
            }
            __syncthreads();
            if (head->outliers) {
                // Each list has one thread.
                OutlierLists outliers = outlier_lists(a.of_keys ? of_key.outliers : of_value.outliers, a.of_keys, dim);
#pragma unroll 1
                for (u32 list = threadIdx.x; list < outliers.count; list += blockDim.x) {
#pragma unroll 1
                    for (u32 e = outliers.bounds[list]; e < outliers.bounds[list + 1]; e++) {
                        u32 other = outliers.entries[e] & 0xffff, token = a.of_keys ? list : other, channel = a.of_keys ? other : list;
                        if (token < first || token >= first + tokens) continue;
                        float* to = rows + (token - first) * dim + channel;
                        *to = __fadd_rn(*to, widen((u16)(outliers.entries[e] >> 16)));
                    }
                }
                __syncthreads();
            }
        }
        float* out = a.out + ((u64)plane * a.tokens + block.first + first) * dim;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < tokens * dim; i += blockDim.x) out[i] = rows[i];
        __syncthreads();
    }
}
