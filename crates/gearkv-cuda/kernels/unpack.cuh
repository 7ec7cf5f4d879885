// Codes to float16 without a conversion: as a subnormal, a whole number n below 1024 stands for n · 2^-24, and the tensor core
// multiplies subnormals exactly. Whoever reads the sums multiplies them by 2^24.
#pragma once
#include "layout.cuh"

#define SUBNORMAL_ONE 16777216.0f // 2^24

// Half-words of 8 bits side by side, to two words.
INLINE u32 spread(u16 bits) { return (bits & 0xffu) | (bits & 0xff00u) << 8; }

// The eight pairs of a lane's share of a unit: 2, 3, 4 or 8 bits.
template <int BITS>
INLINE void unpack(const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (BITS == 8) {
        uint4 words = ((const uint4*)unit)[lane];
        u32 w[4] = {words.x, words.y, words.z, words.w};
#pragma unroll
        for (int k = 0; k < 8; k++) pairs[k] = (w[k / 2] >> (k % 2 * 8)) & 0x00ff00ffu;
    } else if (BITS == 4) {
        uint2 words = ((const uint2*)unit)[lane];
        u32 w[2] = {words.x, words.y};
#pragma unroll
        for (int k = 0; k < 8; k++) pairs[k] = (w[k / 4] >> (k % 4 * 4)) & 0x000f000fu;
    } else {
        u32 word = ((const u32*)unit)[lane];
#pragma unroll
        for (int k = 0; k < 8; k++) pairs[k] = (word >> (k * 2)) & 0x00030003u;
        if (BITS == 3) {
            u32 high = spread(((const u16*)(unit + 128))[lane]);
#pragma unroll
            for (int k = 0; k < 8; k++) pairs[k] |= ((high >> k) & 0x00010001u) << 2;
        }
    }
}

// The same of keys, whose fields are laid out so that fewer shifts are needed: those of odd numbers, which are rows 8 to 15 of A, come times
// `ODD_FIELDS`, but with 8 bits.
#define ODD_FIELDS 16.0f
template <int BITS>
INLINE void unpack_keys(const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (BITS == 8) {
        unpack<8>(unit, lane, pairs);
    } else if (BITS == 4 || BITS == 6) {
        uint2 words = ((const uint2*)unit)[lane];
        u32 w[2] = {words.x, words.y};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            u32 word = w[i / 2] >> (i % 2 * 8);
            pairs[2 * i] = word & 0x000f000fu;
            pairs[2 * i + 1] = word & 0x00f000f0u;
        }
        if (BITS == 6) {
            u32 high = ((const u32*)(unit + 256))[lane];
            u32 h[4] = {high << 4, high << 2, high >> 4, high >> 6};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                pairs[2 * i] |= h[i] & 0x00300030u;
                pairs[2 * i + 1] |= h[i] & 0x03000300u;
            }
        }
    } else if (BITS == 2 || BITS == 3) {
        u32 word = ((const u32*)unit)[lane];
        u32 w[4] = {word, word >> 2, word >> 8, word >> 10};
#pragma unroll
        for (int i = 0; i < 4; i++) {
            pairs[2 * i] = w[i] & 0x00030003u;
            pairs[2 * i + 1] = w[i] & 0x00300030u;
        }
        if (BITS == 3) {
            u32 high = spread(((const u16*)(unit + 128))[lane]);
            u32 h[4] = {high << 2, high << 1, high, high >> 1};
#pragma unroll
            for (int i = 0; i < 4; i++) {
                pairs[2 * i] |= h[i] & 0x00040004u;
                pairs[2 * i + 1] |= h[i] & 0x00400040u;
            }
        }
    } else {
        u32 word = spread(((const u16*)unit)[lane]);
#pragma unroll
        for (int i = 0; i < 4; i++) {
            pairs[2 * i] = (word >> i) & 0x00010001u;
            pairs[2 * i + 1] = (word >> i) & 0x00100010u;
        }
    }
}

// Four bytes in the lower halves of two pairs.
INLINE void bytes_to_pairs(u32 bytes, u32& even, u32& odd) {
    even = bytes & 0x00ff00ffu;
    odd = pick_bytes(bytes, 0, 0x4341);
}

// As `unpack`, of codes that stand for the levels of a Lloyd-Max quantizer (crates/gearkv-simd/src/codebook.rs), in 128ths. Levels are the
// same on both sides of zero: a code is a sign and the number of a magnitude. With 8 bits they are in 256ths.
template <int BITS>
INLINE void unpack_levels(const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (BITS == 8) {
        // Evenly spaced, in 256ths: odd numbers.
        unpack<8>(unit, lane, pairs);
#pragma unroll
        for (int k = 0; k < 8; k++)
            pairs[k] = ((pairs[k] & 0x007f007fu) * 2u + 0x00010001u) | (pairs[k] & 0x00800080u) << 8;
    } else if (BITS == 4) {
        uint2 words = ((const uint2*)unit)[lane];
        u32 w[2] = {words.x, words.y};
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 numbers = w[i] & 0x77777777u;
            u32* pair = pairs + 4 * i;
            bytes_to_pairs(pick_bytes(0x2c1f1206u, 0x7f604b3au, numbers), pair[0], pair[1]);
            bytes_to_pairs(pick_bytes(0x2c1f1206u, 0x7f604b3au, numbers >> 16), pair[2], pair[3]);
#pragma unroll
            for (int k = 0; k < 4; k++) pair[k] |= (w[i] << (12 - 4 * k)) & 0x80008000u;
        }
    } else if (BITS == 3) {
        u32 word = ((const u32*)unit)[lane];
        u32 signs = spread(((const u16*)(unit + 128))[lane]);
#pragma unroll
        for (int i = 0; i < 2; i++) {
            u32 numbers = (word >> (2 * i)) & 0x33333333u;
            u32* pair = pairs + 4 * i;
            bytes_to_pairs(pick_bytes(0x7f4f2d0eu, 0, numbers), pair[0], pair[1]);
            bytes_to_pairs(pick_bytes(0x7f4f2d0eu, 0, numbers >> 16), pair[2], pair[3]);
        }
#pragma unroll
        for (int k = 0; k < 8; k++) pairs[k] |= (signs << (15 - k)) & 0x80008000u;
    } else if (BITS == 2) {
        u32 word = ((const u32*)unit)[lane];
#pragma unroll
        for (int k = 0; k < 8; k++)
            pairs[k] = (((word >> k) & 0x00010001u) * 89u + 0x00260026u) | ((word << (7 - k)) & 0x80008000u);
    } else {
        u32 signs = spread(((const u16*)unit)[lane]);
#pragma unroll
        for (int k = 0; k < 8; k++) pairs[k] = 0x007f007fu | ((signs << (15 - k)) & 0x80008000u);
    }
}

// The same where the width is known only then; the usual one comes first.
INLINE void unpack(u32 bits, const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (bits == 4) unpack<4>(unit, lane, pairs);
    else if (bits == 3) unpack<3>(unit, lane, pairs);
    else if (bits == 2) unpack<2>(unit, lane, pairs);
    else unpack<8>(unit, lane, pairs);
}
INLINE void unpack_keys(u32 bits, const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (bits == 4) unpack_keys<4>(unit, lane, pairs);
    else if (bits == 3) unpack_keys<3>(unit, lane, pairs);
    else if (bits == 6) unpack_keys<6>(unit, lane, pairs);
    else if (bits == 2) unpack_keys<2>(unit, lane, pairs);
    else if (bits == 8) unpack_keys<8>(unit, lane, pairs);
    else unpack_keys<1>(unit, lane, pairs);
}
INLINE void unpack_levels(u32 bits, const u8* unit, u32 lane, u32 (&pairs)[8]) {
    if (bits == 4) unpack_levels<4>(unit, lane, pairs);
    else if (bits == 3) unpack_levels<3>(unit, lane, pairs);
    else if (bits == 2) unpack_levels<2>(unit, lane, pairs);
    else if (bits == 1) unpack_levels<1>(unit, lane, pairs);
    else unpack_levels<8>(unit, lane, pairs);
}

INLINE int field_value(const u32 (&pairs)[8], u32 k, u32 half) {
    u32 pair = 0;
#pragma unroll
    for (int i = 0; i < 8; i++)
        if (i == (int)k) pair = pairs[i];
    u32 value = (pair >> (16 * half)) & 0xffffu;
    return value & 0x8000u ? -(int)(value & 0x7fffu) : (int)value;
}

// Field (k, half) of a lane's share as a whole number: what `unpack`, `unpack_keys` and `unpack_levels` give, for one code.
INLINE int level_of(const u8* unit, u32 bits, u32 lane, u32 k, u32 half) {
    u32 pairs[8];
    unpack_levels(bits, unit, lane, pairs);
    return field_value(pairs, k, half);
}
INLINE int value_code_of(const u8* unit, u32 bits, u32 lane, u32 k, u32 half) {
    u32 pairs[8];
    unpack(bits, unit, lane, pairs);
    return field_value(pairs, k, half);
}
INLINE int key_code_of(const u8* unit, u32 bits, u32 lane, u32 k, u32 half) {
    u32 pairs[8];
    unpack_keys(bits, unit, lane, pairs);
    int value = field_value(pairs, k, half);
    return k % 2 && bits < 8 ? value / (int)ODD_FIELDS : value;
}
