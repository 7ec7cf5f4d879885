// Scales, zeros and codes as the core has them, to the last bit: the same operations in the same order, none contracted
// (crates/gearkv-simd/src/fit.rs, scales.rs and codes.rs; crates/gearkv/src/backbone/scales.rs).
#pragma once
#include "layout.cuh"

#define INFINITE __int_as_float(0x7f800000)

// Scales of 8 bits under a super-scale, or float16; of least squared error, or covering the range. Ranks of the low-rank part, passes of power
// iteration and bits of its factors.
struct Recipe {
    u32 small, least_squares, rank, passes, factor_bits;
};

INLINE float absolute(float x) { return __uint_as_float(__float_as_uint(x) & 0x7fffffffu); }
INLINE float larger(float x, float y) { return x > y ? x : y; }
INLINE float times(float x, float y) { return __fmul_rn(x, y); }
INLINE float plus(float x, float y) { return __fadd_rn(x, y); }
INLINE float minus(float x, float y) { return __fsub_rn(x, y); }
INLINE float over(float x, float y) { return __fdiv_rn(x, y); }
// 0 for what is left out.
INLINE float known(float x) { return x == x ? x : 0.0f; }

// The nearest float16, as a float32; not cut off at the largest.
INLINE float near_half(float x) {
    u32 bits = __float_as_uint(x);
    float magnitude = absolute(x);
    float rounded = __uint_as_float((bits + 0xfffu + ((bits >> 13) & 1)) & ~0x1fffu);
    float small = __uint_as_float(__float_as_uint(minus(plus(magnitude, 0.5f), 0.5f)) | (bits & 0x80000000u));
    return magnitude < 1.0f / 16384.0f ? small : rounded;
}

// The least float16 that is not smaller than x, which is not negative.
INLINE float half_above(float x) {
    u16 nearest = narrow(x);
    return widen((u16)(widen(nearest) < x ? nearest + 1 : nearest));
}

// The largest scale in units of the super-scale.
#define LARGEST_SCALE (31.0f / 32.0f)
#define LARGEST_ZERO 127.0f

INLINE float super_scale_for(float most) {
    float up = half_above(over(most, LARGEST_SCALE));
    // Nothing but zeros: any positive scale will do.
    return up > 0.0f ? up : 1.0f;
}

INLINE float levels_of(u32 bits) { return (float)((1u << bits) - 1); }

// The scale that covers a range, before it is rounded to 8 bits.
INLINE float range_scale(float spread, float levels) { return times(over(spread, levels), 32.0f / 31.0f); }

// The scale that a group with this range asks for, where scales have 8 bits.
INLINE float asked_for(float low, float high, float levels, float unit) {
    return larger(range_scale(minus(high, low), levels), over(absolute(low), times(LARGEST_ZERO, unit)));
}

// The 8 bits that stand for a scale of so many super-scales; `rounding`: what is added before the bits behind them are cut off.
#define TO_NEAREST (1u << 18)
#define UPWARDS ((1u << 19) - 1)
INLINE int scale_code(float ratio, u32 rounding) { return (int)((__float_as_uint(ratio) + rounding) >> 19) - 1776; }
INLINE u32 nearest_scale_code(float ratio) {
    int code = scale_code(ratio, TO_NEAREST);
    return (u32)(code < 0 ? 0 : code > 255 ? 255 : code);
}
INLINE float scale_of(u32 code, float super_scale) { return times(super_scale, small_scale(code)); }

struct Pair {
    float scale, zero;
};

// The scale and zero of 8 bits that are kept for what is wanted; with `cover`, none that is smaller (larger, for the zero).
INLINE Pair rounded_pair(Pair wanted, float super_scale, float unit, bool cover) {
    const float rounding = 12582912.0f; // 1.5 · 2^23
    int reaching = scale_code(over(over(absolute(wanted.zero), times(LARGEST_ZERO, unit)), super_scale), UPWARDS);
    int code = scale_code(over(wanted.scale, super_scale), cover ? UPWARDS : TO_NEAREST);
    code = code > reaching ? code : reaching;
    code = code > 0 ? code : 0;
    code = code < 255 ? code : 255;
    float scale = scale_of((u32)code, super_scale);
    float steps = over(wanted.zero, times(scale, unit));
    steps = steps > -LARGEST_ZERO ? steps : -LARGEST_ZERO;
    steps = steps < LARGEST_ZERO ? steps : LARGEST_ZERO;
    float whole = minus(plus(steps, rounding), rounding);
    whole = cover && whole > steps ? minus(whole, 1.0f) : whole;
    whole = whole > -LARGEST_ZERO ? whole : -LARGEST_ZERO;
    return {scale, times(times(whole, unit), scale)};
}

// The scale and zero that cover a range, rounded. `super_scale` 0: to float16.
INLINE Pair covering(float low, float high, float levels, float unit, float super_scale) {
    if (!(high >= low)) low = high = 0.0f;
    if (super_scale > 0.0f) return rounded_pair({range_scale(minus(high, low), levels), low}, super_scale, unit, true);
    float scale = near_half(over(minus(high, low), levels));
    return {scale <= 0.0f ? 1.0f : scale, near_half(low)};
}

// A group: `count` values, the first at `at`, each `step` behind the one before; no number where a value is left out.
struct Group {
    const float* at;
    u32 count, step;
};

// A code while scales are looked for.
INLINE float trial_code(float distance, float inverse, float levels) {
    float v = times(distance, inverse);
    v = v > 0.0f ? v : 0.0f;
    v = v < levels ? v : levels;
    return minus(plus(v, 8388608.0f), 8388608.0f);
}

INLINE float squared_error(const Group& x, float levels, Pair pair) {
    float inverse = over(1.0f, pair.scale), sum = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < x.count; i++) {
        float value = x.at[i * x.step];
        float code = trial_code(minus(value, pair.zero), inverse, levels);
        float off = known(minus(value, plus(times(code, pair.scale), pair.zero)));
        sum = plus(sum, times(off, off));
    }
    return sum;
}

// Least squares of scale and zero for the codes that they give.
INLINE Pair improved(const Group& x, float levels, Pair pair) {
    float inverse = over(1.0f, pair.scale), count = 0.0f, c1 = 0.0f, c2 = 0.0f, y1 = 0.0f, cy = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < x.count; i++) {
        float off = minus(x.at[i * x.step], pair.zero), y = known(off), c = trial_code(y, inverse, levels);
        count = plus(count, off == off ? 1.0f : 0.0f);
        c1 = plus(c1, c);
        c2 = plus(c2, times(c, c));
        y1 = plus(y1, y);
        cy = plus(cy, times(c, y));
    }
    float share = over(1.0f, count);
    float variance = minus(c2, times(times(c1, c1), share));
    float slope = over(minus(cy, times(times(c1, y1), share)), variance);
    float moved = plus(pair.zero, times(minus(y1, times(slope, c1)), share));
    bool usable = variance > 0.0f && slope > 0.0f && slope < INFINITE && absolute(moved) < INFINITE;
    return usable ? Pair{slope, moved} : pair;
}

// The scale and zero of a group whose range is known: those that cover it, or others whose error is smaller.
INLINE Pair fitted(const Group& x, float low, float high, u32 bits, bool least_squares, float super_scale) {
    float levels = levels_of(bits), unit = zero_unit(bits);
    Pair best = covering(low, high, levels, unit, super_scale);
    if (!least_squares) return best;
    const Pair cover = best;
    float least = squared_error(x, levels, best);
    u32 starts = bits <= 3 ? 3 : bits == 4 ? 2 : 1;
#pragma unroll 1
    for (u32 start = 0; start < starts; start++) {
        float share = start == 0 ? 1.0f : bits == 4 ? 0.88f : start == 1 ? 0.85f : 0.7f;
        Pair pair = cover;
        float range = minus(high, low), spread = times(range, share);
        if (spread > 0.0f) pair = {over(spread, levels), plus(low, times(minus(range, spread), 0.5f))};
        pair = improved(x, levels, pair);
        pair = improved(x, levels, pair);
        if (super_scale > 0.0f) {
            pair = rounded_pair(pair, super_scale, unit, false);
        } else {
            float scale = near_half(pair.scale);
            pair = {scale > 0.0f ? scale : 1.0f, near_half(pair.zero)};
        }
        float found = squared_error(x, levels, pair);
        if (found < least) {
            least = found;
            best = pair;
        }
    }
    return best;
}

// Smallest and largest value, from the first to the last.
INLINE void range_of(const Group& x, float& low, float& high) {
    low = INFINITE;
    high = -INFINITE;
#pragma unroll 1
    for (u32 i = 0; i < x.count; i++) {
        float value = x.at[i * x.step];
        low = value < low ? value : low;
        high = value > high ? value : high;
    }
}

// The same in the order of sixteen lanes, which tells zeros of different signs apart.
INLINE void range_by_lanes(const Group& x, float& low, float& high) {
    low = INFINITE;
    high = -INFINITE;
#pragma unroll 1
    for (u32 lane = 0; lane < 16; lane++) {
#pragma unroll 1
        for (u32 i = lane; i < x.count; i += 16) {
            float value = x.at[i * x.step];
            low = value < low ? value : low;
            high = value > high ? value : high;
        }
    }
}

INLINE u32 code_of(float x, Pair pair, float levels) {
    float v = over(minus(x, pair.zero), pair.scale);
    v = v > 0.0f ? v : 0.0f;
    v = v < levels ? v : levels;
    return __float_as_uint(plus(v, 8388608.0f)) & 255u;
}

// What a code leaves of a value.
INLINE float what_is_left(float x, Pair pair, float levels) {
    return minus(x, plus(times((float)code_of(x, pair, levels), pair.scale), pair.zero));
}

// What is kept of a zero of 8 bits: so many units.
INLINE int zero_steps(Pair pair, float unit) { return (int)nearest_whole(over(pair.zero, times(pair.scale, unit))); }

INLINE int exponent_above(float x) {
    int exponent = (int)(__float_as_uint(x) >> 23) - 126;
    return exponent < -80 ? -80 : exponent > 80 ? 80 : exponent;
}
INLINE float exact_power_of_two(int exponent) { return __uint_as_float((u32)(127 + exponent) << 23); }
