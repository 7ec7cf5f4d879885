// Rows turned by the Hadamard matrix, as the core turns them (crates/gearkv-simd/src/rotate.rs).
#pragma once
#include "quantize.cuh"

// Turns rows of [rows, dim] by the Hadamard matrix in place, the additions being the core's. With `divides`, by the root instead of times its
// inverse, as the host turns means.
INLINE void turn_in_place(float* rows, u32 count, u32 stride, u32 dim, bool divides) {
#pragma unroll 1
    for (u32 from = 0; from < dim;) {
        u32 length = 1;
        while (length * 2 <= dim - from) length *= 2;
        for (u32 step = 1; step < length; step *= 2) {
#pragma unroll 1
            for (u32 i = threadIdx.x; i < count * length / 2; i += blockDim.x) {
                u32 pair = i % (length / 2);
                float* low = rows + i / (length / 2) * stride + from + pair / step * 2 * step + pair % step;
                float x = low[0], y = low[step];
                low[0] = plus(x, y);
                low[step] = minus(x, y);
            }
            __syncthreads();
        }
        float root = __fsqrt_rn((float)length), norm = over(1.0f, root);
#pragma unroll 1
        for (u32 i = threadIdx.x; i < count * length; i += blockDim.x) {
            float* at = rows + i / length * stride + from + i % length;
            *at = divides ? over(*at, root) : times(*at, norm);
        }
        __syncthreads();
        from += length;
    }
}
