// Joins what the splits of attention left.
#pragma once
#include "attention.cuh"

// Joins the splits of one query: grid [batch · query heads · positions]; `blockDim.y` threads share the splits of a channel.
INLINE void combine(const Attention& a) {
    SHARED(shared);
    const Layer& layer = a.layer;
    u32 dim = layer.dim, domains = layer.rotated ? 2 : 1, head = blockIdx.x / a.positions % a.query_heads,
        item = blockIdx.x / a.positions / a.query_heads;
    u32 plane = item * layer.heads + head / a.per_head, query = blockIdx.x % a.positions * a.per_head + head % a.per_head;
    u32 sets = (a.per_head * a.positions + QUERIES - 1) / QUERIES;
    u64 slot = (u64)(plane * sets + query / QUERIES) * a.splits;
    u32 j = query % QUERIES;
    u32 thread = threadIdx.y * blockDim.x + threadIdx.x, threads = blockDim.x * blockDim.y;
    float* sums = (float*)shared;                    // [2, blockDim.y, dim]
    float* factors = sums + 2 * blockDim.y * dim;    // [splits], and of warps behind them
    float* of_warps = factors + a.splits;
    // What each split counts.
    float most = NOTHING, sum = 0.0f;
#pragma unroll 1
    for (u32 s = thread; s < a.splits; s += threads) {
        factors[s] = a.softmax[((slot + s) * QUERIES + j) * 2];
        most = fmaxf(most, factors[s]);
    }
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
    of_warps[thread / LANES] = most;
    __syncthreads();
#pragma unroll 1
    for (u32 w = 0; w < threads / LANES; w++) most = fmaxf(most, of_warps[w]);
    __syncthreads();
#pragma unroll 1
    for (u32 s = thread; s < a.splits; s += threads) {
        factors[s] = factors[s] == NOTHING ? 0.0f : power_of_two(factors[s] - most);
        sum += factors[s] * a.softmax[((slot + s) * QUERIES + j) * 2 + 1];
    }
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
    of_warps[thread / LANES] = sum;
    __syncthreads();
    sum = 0.0f;
#pragma unroll 1
    for (u32 w = 0; w < threads / LANES; w++) sum += of_warps[w];
#pragma unroll 1
    for (u32 channel = threadIdx.x; channel < dim; channel += blockDim.x) {
        float plain = 0.0f, turned = 0.0f;
#pragma unroll 4
        for (u32 s = threadIdx.y; s < a.splits; s += blockDim.y) {
            const float* from = a.partial + ((slot + s) * QUERIES + j) * domains * dim + channel;
            plain += factors[s] * from[0];
            if (domains == 2) turned += factors[s] * from[dim];
        }
        sums[threadIdx.y * dim + channel] = plain;
        sums[(blockDim.y + threadIdx.y) * dim + channel] = turned;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 i = thread; i < 2 * dim; i += threads) {
        u32 domain = i / dim, channel = i % dim;
        float* at = sums + domain * blockDim.y * dim + channel;
#pragma unroll 1
        for (u32 y = 1; y < blockDim.y; y++) at[0] += at[y * dim];
    }
    __syncthreads();
    float* turned = sums + blockDim.y * dim;
    if (domains == 2) {
#pragma unroll 1
        for (u32 from = 0; from < dim;) {
            u32 length = 1;
            while (length * 2 <= dim - from) length *= 2;
            for (u32 step = 1; step < length; step *= 2) {
#pragma unroll 1
                for (u32 i = thread; i < length / 2; i += threads) {
                    float *low = turned + from + i / step * 2 * step + i % step, *high = low + step, x = *low, y = *high;
                    *low = x + y;
                    *high = x - y;
                }
                __syncthreads();
            }
#pragma unroll 1
            for (u32 i = thread; i < length; i += threads) sums[from + i] += turned[from + i] * rsqrtf((float)length);
            __syncthreads();
            from += length;
        }
    }
#pragma unroll 1
    for (u32 channel = thread; channel < dim; channel += threads) {
        // Who sees nothing gets nothing.
        float x = sum > 0.0f ? sums[channel] / sum : 0.0f;
        store_as(a.out, (u64)blockIdx.x * dim + channel, x, a.kind);
    }
}
