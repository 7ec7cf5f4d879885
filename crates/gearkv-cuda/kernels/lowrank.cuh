// The low-rank part of what codes leave, as the core finds it, to the last bit: power iteration on rows in shared memory
// (crates/gearkv/src/lowrank.rs and factors.rs; crates/gearkv-simd/src/linear.rs). All threads of a thread block together.
#pragma once
#include "compress.cuh"

// A sum in sixteen lanes, which are added up by a fixed tree.
INLINE float dot_in_lanes(const float* x, const float* y, u32 count) {
    float lanes[16];
#pragma unroll
    for (u32 lane = 0; lane < 16; lane++) {
        lanes[lane] = 0.0f;
#pragma unroll 1
        for (u32 i = lane; i < count; i += 16) lanes[lane] = plus(lanes[lane], times(x[i], y[i]));
    }
#pragma unroll
    for (u32 half = 8; half >= 4; half /= 2) {
#pragma unroll
        for (u32 i = 0; i < half; i++) lanes[i] = plus(lanes[i], lanes[i + half]);
    }
    return plus(plus(lanes[0], lanes[2]), plus(lanes[1], lanes[3]));
}

// The same, a lane a thread. `room`: 16.
INLINE float dot_of_block(const float* x, const float* y, u32 count, float* room) {
    __syncthreads();
    if (threadIdx.x < 16) {
        float sum = 0.0f;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < count; i += 16) sum = plus(sum, times(x[i], y[i]));
        room[threadIdx.x] = sum;
    }
    __syncthreads();
    float four[4];
#pragma unroll
    for (u32 i = 0; i < 4; i++) four[i] = plus(plus(room[i], room[i + 8]), plus(room[i + 4], room[i + 12]));
    return plus(plus(four[0], four[2]), plus(four[1], four[3]));
}

// Each vector to a largest magnitude of 1.
INLINE void normalize_largest(float* vectors, u32 count, u32 length, u32* words) {
#pragma unroll 1
    for (u32 v = 0; v < count; v++) {
        float* vector = vectors + v * length;
        float most = 0.0f;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < length; i += blockDim.x) most = larger(absolute(vector[i]), most);
        float largest = largest_of_block(most, words);
        if (!(largest > 0.0f)) continue;
        float inverse = over(1.0f, largest);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < length; i += blockDim.x) vector[i] = inverse < INFINITE ? times(vector[i], inverse) : 0.0f;
    }
    __syncthreads();
}

// Gram-Schmidt, each projection done twice. A vector that depends on those before it becomes zero.
INLINE void orthonormalize(float* vectors, u32 count, u32 length, u32* words) {
    float* room = (float*)words + 1;
    normalize_largest(vectors, count, length, words);
#pragma unroll 1
    for (u32 j = 0; j < count; j++) {
        float* vector = vectors + j * length;
        float before = __fsqrt_rn(dot_of_block(vector, vector, length, room));
#pragma unroll 1
        for (u32 i = 0; i < 2 * j; i++) {
            const float* other = vectors + i % j * length;
            float along = -dot_of_block(vector, other, length, room);
#pragma unroll 1
            for (u32 at = threadIdx.x; at < length; at += blockDim.x) vector[at] = plus(vector[at], times(along, other[at]));
        }
        float norm = __fsqrt_rn(dot_of_block(vector, vector, length, room));
        bool depends = !(norm > times(1e-5f, before));
#pragma unroll 1
        for (u32 at = threadIdx.x; at < length; at += blockDim.x) vector[at] = depends ? 0.0f : over(vector[at], norm);
    }
    __syncthreads();
}

// Both factors of rows: `a` is [rank, tokens], `b` [rank, dim].
INLINE void power_iteration(const Compression& of, const Recipe& recipe, const Bench& bench, const float* start) {
    u32 rank = recipe.rank, tokens = of.tokens, dim = of.layer.dim, stride = row_stride(dim);
    float *a = bench.a, *b = bench.b;
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i < rank * dim; i += blockDim.x) b[i] = start[i];
    __syncthreads();
#pragma unroll 1
    for (u32 pass = 1; pass <= recipe.passes; pass++) {
        orthonormalize(b, rank, dim, bench.words);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < rank * tokens; i += blockDim.x) a[i] = dot_in_lanes(bench.rows + i % tokens * stride, b + i / tokens * dim, dim);
        __syncthreads();
        if (pass == recipe.passes) orthonormalize(a, rank, tokens, bench.words);
        else normalize_largest(a, rank, tokens, bench.words);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < rank * dim; i += blockDim.x) {
            float sum = 0.0f;
#pragma unroll 1
            for (u32 t = 0; t < tokens; t++) sum = plus(sum, times(a[i / dim * tokens + t], bench.rows[t * stride + i % dim]));
            b[i] = sum;
        }
        __syncthreads();
    }
    // The norm of each pair is shared evenly.
#pragma unroll 1
    for (u32 r = 0; r < rank; r++) {
        float root = __fsqrt_rn(__fsqrt_rn(dot_of_block(b + r * dim, b + r * dim, dim, (float*)bench.words + 1)));
        bool usable = root > 0.0f && root < INFINITE;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < tokens; i += blockDim.x) a[r * tokens + i] = usable ? times(a[r * tokens + i], root) : 0.0f;
#pragma unroll 1
        for (u32 i = threadIdx.x; i < dim; i += blockDim.x) b[r * dim + i] = usable ? over(b[r * dim + i], root) : 0.0f;
    }
    __syncthreads();
}

// Codes of values that share a scale, which they become in the place of the values; gives the scale.
INLINE float factor_codes(float* values, u32 count, float most_code) {
    float largest = 0.0f;
#pragma unroll 1
    for (u32 i = 0; i < count; i++) largest = larger(absolute(values[i]), largest);
    float step = widen(narrow(over(largest, most_code)));
#pragma unroll 1
    for (u32 i = 0; i < count; i++) {
        float code = step > 0.0f ? nearest_whole(over(values[i], step)) : 0.0f;
        code = code < -most_code ? -most_code : code > most_code ? most_code : code;
        // Whole numbers have no sign at zero.
        values[i] = (float)(int)code;
    }
    return step;
}

// Tokens of A that share a scale.
INLINE u32 factor_group(const Compression& a, const Recipe& recipe) { return recipe.factor_bits == 4 ? 32 : a.tokens; }

// Low-rank of the rows: B to the head, and A as records hold it; scales of A are in `bench.factor_scales`, [rank, groups].
INLINE void approximate(const Compression& a, const Recipe& recipe, const Bench& bench, const float* starts, Head* head) {
    u32 rank = recipe.rank, tokens = a.tokens, dim = a.layer.dim, group = factor_group(a, recipe), groups = (tokens + group - 1) / group;
    power_iteration(a, recipe, bench, starts);
    if (recipe.factor_bits != 16) {
#pragma unroll 1
        for (u32 i = threadIdx.x; i < rank * groups + rank; i += blockDim.x) {
            if (i < rank * groups) {
                u32 first = i % groups * group;
                bench.factor_scales[i] = factor_codes(bench.a + i / groups * tokens + first, tokens - first < group ? tokens - first : group,
                                                      recipe.factor_bits == 4 ? 7.0f : 127.0f);
            } else {
                float* row = bench.b + (i - rank * groups) * dim;
                float step = factor_codes(row, dim, 127.0f);
#pragma unroll 1
                for (u32 d = 0; d < dim; d++) row[d] = times(row[d], step);
            }
        }
        __syncthreads();
    }
    float* to = (float*)((u8*)head + head->factors_at);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < rank * dim; i += blockDim.x) to[i] = recipe.factor_bits == 16 ? widen(narrow(near_half(bench.b[i]))) : bench.b[i];
    __syncthreads();
}

// Factors as they are kept.
INLINE float kept_a(const Compression& a, const Recipe& recipe, const Bench& bench, u32 r, u32 token) {
    u32 group = factor_group(a, recipe), groups = (a.tokens + group - 1) / group;
    float x = bench.a[r * a.tokens + token];
    return recipe.factor_bits == 16 ? near_half(x) : times(x, bench.factor_scales[r * groups + token / group]);
}
INLINE float kept_b(const Recipe& recipe, const Bench& bench, u32 r, u32 channel, u32 dim) {
    float x = bench.b[r * dim + channel];
    return recipe.factor_bits == 16 ? near_half(x) : x;
}

// A of a block's tokens, behind the rest of a record.
INLINE void store_factor(const Compression& a, const Recipe& recipe, const Bench& bench, u32 first, u32 tokens, u8* at) {
    u32 rank = recipe.rank, group = factor_group(a, recipe), groups = (a.tokens + group - 1) / group;
    bool small = recipe.factor_bits != 16;
    u32 behind = first % BLOCK, aligned_first = first - behind;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < rank * BLOCK; i += blockDim.x) {
        u32 r = i / BLOCK, t = i % BLOCK;
        float x = t < tokens ? bench.a[r * a.tokens + first + t] : 0.0f;
        if (small) at[16 + i] = (u8)(int)x;
        else ((u16*)at)[i] = narrow(near_half(x));
    }
    if (!small || !rank) return;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < rank * 2 + 4; i += blockDim.x) {
        if (i < 4) {
            ((u32*)at)[i] = i == 0 ? behind : 0;
            continue;
        }
        u32 r = (i - 4) / 2, t = aligned_first + i % 2 * 32, last = a.tokens - 1;
        u32 of = (t < last ? t : last) / group;
        ((float*)(at + 16 + rank * BLOCK))[i - 4] = bench.factor_scales[r * groups + (of < groups - 1 ? of : groups - 1)];
    }
}
