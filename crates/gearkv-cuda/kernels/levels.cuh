// Levels of turned values as the core fits and finds them, to the last bit (crates/gearkv-simd/src/codebook.rs).
#pragma once
#include "quantize.cuh"

// Magnitudes in 128ths of the scale, by width.
INLINE float magnitude_of(u32 bits, u32 number) {
    u64 low = bits == 4 ? 0x7f604b3a2c1f1206ull : bits == 3 ? 0x7f4f2d0eull : bits == 2 ? 0x7f26ull : 0x7full;
    return (float)((u32)(low >> (8 * number)) & 127u);
}
// So many magnitudes.
INLINE u32 magnitudes(u32 bits) { return 1u << (bits - 1); }

struct Level {
    u32 number; // of the magnitude
    bool lower;
};

// Which level is nearest: how many thresholds, halfway between neighbours, z exceeds. In the lower half a threshold itself is exceeded.
INLINE Level level_near(float z, u32 bits) {
    bool lower = z <= 0.0f;
    int magnitude = (int)(__float_as_uint(z) & 0x7fffffffu) + (lower ? 1 : 0);
    u32 number = 0;
#pragma unroll
    for (u32 step = 0; step < 7; step++) {
        if (step + 1 >= magnitudes(bits)) break;
        float threshold = (magnitude_of(bits, step) + magnitude_of(bits, step + 1)) * (0.5f / 128.0f);
        number += magnitude > (int)__float_as_uint(threshold) ? 1 : 0;
    }
    return {number, lower};
}

INLINE float inverse_or_nothing(float scale) {
    float inverse = over(1.0f, scale);
    return inverse < INFINITE ? inverse : 0.0f;
}

// The scale of least squared error of a group; 0 for a group of zeros.
template <u32 BITS>
INLINE float fitted_levels(const Group& x) {
    float widest = BITS == 1 ? 0.7979f : BITS == 2 ? 1.5104f : BITS == 3 ? 2.1520f : 2.7326f;
    float square = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < x.count; i++) square = plus(square, times(x.at[i * x.step], x.at[i * x.step]));
    float scale = times(__fsqrt_rn(over(square, (float)x.count)), over(widest, 127.0f / 128.0f));
#pragma unroll 1
    for (int pass = 0; pass < 3; pass++) {
        float inverse = inverse_or_nothing(scale), along = 0.0f, length = 0.0f;
#pragma unroll 1
        for (u32 i = 0; i < x.count; i++) {
            float value = x.at[i * x.step];
            Level level = level_near(times(value, inverse), BITS);
            float c = magnitude_of(BITS, level.number) * (1.0f / 128.0f);
            c = level.lower ? -c : c;
            along = plus(along, times(c, value));
            length = plus(length, times(c, c));
        }
        scale = over(along, length);
    }
    return scale;
}

// With 8 bits levels are evenly spaced, and nothing is gained by clipping.
INLINE float covering_levels(const Group& x) {
    float scale = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < x.count; i++) scale = larger(times(absolute(x.at[i * x.step]), over(1.0f, 255.0f / 256.0f)), scale);
    return scale;
}

INLINE float level_scale(const Group& x, u32 bits) {
    if (bits == 4) return fitted_levels<4>(x);
    if (bits == 3) return fitted_levels<3>(x);
    if (bits == 2) return fitted_levels<2>(x);
    if (bits == 1) return fitted_levels<1>(x);
    return covering_levels(x);
}

// A code as it lies in a record: a sign, and the number of a magnitude. 8 bits: the sign is the highest.
INLINE void level_code(float x, float scale, u32 bits, u32& sign, u32& number) {
    float z = times(x, inverse_or_nothing(scale));
    if (bits == 8) {
        float v = times(plus(times(z, 256.0f), 255.0f), 0.5f);
        v = v > 0.0f ? v : 0.0f;
        v = v < 255.0f ? v : 255.0f;
        u32 code = __float_as_uint(plus(v, 8388608.0f)) & 255u;
        sign = code < 128 ? 1 : 0;
        number = code < 128 ? 127 - code : code - 128;
    } else {
        Level level = level_near(z, bits);
        sign = level.lower ? 1 : 0;
        number = level.number;
    }
}

// What a value's code stands for.
INLINE float level_value(float x, float scale, u32 bits) {
    u32 sign, number;
    level_code(x, scale, bits, sign, number);
    if (bits == 8) {
        float code = (float)(sign ? 127 - number : 128 + number);
        return times(times(minus(times(2.0f, code), 255.0f), 1.0f / 256.0f), scale);
    }
    float level = magnitude_of(bits, number) * (1.0f / 128.0f);
    return times(sign ? -level : level, scale);
}
