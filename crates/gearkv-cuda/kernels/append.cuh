// New tokens to the buffer: keys and values in one launch. Input is [planes, tokens, dim].
#pragma once
#include "layout.cuh"

struct Appending {
    const void *keys, *values;
    u16 *key_buffer, *value_buffer;
    u32 planes, dim, tokens;
    u32 buffered, capacity;
    u32 kind; // of the input
};

INLINE u16 in_half(const void* from, u64 at, u32 kind) { return kind == FLOAT16 ? ((const u16*)from)[at] : narrow(load_as(from, at, kind)); }

INLINE void append(const Appending& a) {
    u64 i = (u64)blockIdx.x * blockDim.x + threadIdx.x;
    if (i >= (u64)a.planes * a.tokens * a.dim) return;
    u32 channel = (u32)(i % a.dim), token = a.buffered + (u32)(i / a.dim % a.tokens), plane = (u32)(i / a.dim / a.tokens);
    u64 keys = (u64)plane * a.capacity * raw_key_width(a.dim), values = (u64)plane * a.capacity * raw_value_width(a.dim);
    a.key_buffer[keys + raw_key_index(token, channel, a.dim)] = in_half(a.keys, i, a.kind);
    a.value_buffer[values + raw_value_index(token, channel, a.dim)] = in_half(a.values, i, a.kind);
}
