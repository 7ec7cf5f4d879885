// What differs between a GPU and the CPU on which tests run the same kernels: shared memory, conversions, the tensor core.
#pragma once

typedef unsigned char u8;
typedef unsigned short u16;
typedef unsigned int u32;
typedef unsigned long long u64;

#ifdef __CUDA_ARCH__

#define SHARED(name) extern __shared__ __align__(16) u8 name[]
#define INLINE __device__ __forceinline__

INLINE float widen(u16 half) {
    float wide;
    asm("{ cvt.f32.f16 %0, %1; }" : "=f"(wide) : "h"(half));
    return wide;
}

INLINE u16 narrow(float wide) {
    u16 half;
    asm("{ cvt.rn.f16.f32 %0, %1; }" : "=h"(half) : "f"(wide));
    return half;
}

// Two floats in float16, the first in the low half.
INLINE u32 narrow2(float low, float high) {
#if __CUDA_ARCH__ >= 800
    u32 pair;
    asm("{ cvt.rn.f16x2.f32 %0, %1, %2; }" : "=r"(pair) : "f"(high), "f"(low));
    return pair;
#else
    return (u32)narrow(low) | (u32)narrow(high) << 16;
#endif
}

// Two numbers in float16 each, rounded once.
INLINE u32 fma2(u32 x, u32 y, u32 z) {
    u32 r;
    asm("{ fma.rn.f16x2 %0, %1, %2, %3; }" : "=r"(r) : "r"(x), "r"(y), "r"(z));
    return r;
}
INLINE u32 add2(u32 x, u32 y) {
    u32 r;
    asm("{ add.rn.f16x2 %0, %1, %2; }" : "=r"(r) : "r"(x), "r"(y));
    return r;
}
INLINE u32 mul2(u32 x, u32 y) {
    u32 r;
    asm("{ mul.rn.f16x2 %0, %1, %2; }" : "=r"(r) : "r"(x), "r"(y));
    return r;
}

// 2^x, in about 22 bits.
INLINE float power_of_two(float x) {
    float y;
    asm("{ ex2.approx.ftz.f32 %0, %1; }" : "=f"(y) : "f"(x));
    return y;
}

// The nearest whole number, halves to even.
INLINE float nearest_whole(float x) { return rintf(x); }

// What lane ^ `other` has.
INLINE u32 exchange(u32 x, u32 other) { return __shfl_xor_sync(~0u, x, other); }

// Bytes of (low, high) that the four lowest nibbles of `selector` name.
INLINE u32 pick_bytes(u32 low, u32 high, u32 selector) { return __byte_perm(low, high, selector); }

// C += A · B, C being [16, 8] in float32, A [16, 8] and B [8, 8] in float16, spread over the warp as PTX has it
// ("Matrix fragments for mma.m16n8k8").
INLINE void multiply_add(float (&c)[4], u32 a0, u32 a1, u32 b) {
    asm("mma.sync.aligned.m16n8k8.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5}, {%6}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(b));
}

// The same of A [16, 16] and B [16, 8], as two of the above one behind the other.
INLINE void multiply_add(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
#if __CUDA_ARCH__ >= 800
    asm("mma.sync.aligned.m16n8k16.row.col.f32.f16.f16.f32 {%0,%1,%2,%3}, {%4,%5,%6,%7}, {%8,%9}, {%0,%1,%2,%3};"
        : "+f"(c[0]), "+f"(c[1]), "+f"(c[2]), "+f"(c[3])
        : "r"(a0), "r"(a1), "r"(a2), "r"(a3), "r"(b0), "r"(b1));
#else
    multiply_add(c, a0, a1, b0);
    multiply_add(c, a2, a3, b1);
#endif
}

// Starts copying `bytes` bytes, whole sixteens, to shared memory: 32 lanes together.
INLINE void copy_run(u8* shared, const u8* global, u32 bytes, u32 lane) {
    int left = (int)bytes - (int)lane * 16;
    global += lane * 16;
#if __CUDA_ARCH__ >= 800
    u32 to = (u32)__cvta_generic_to_shared(shared) + lane * 16;
#define COPY(i) asm volatile("cp.async.cg.shared.global [%0], [%1], 16;" ::"r"(to + i * 512), "l"(global + i * 512) : "memory")
#pragma unroll 1
    for (; left > 3 * 512; left -= 4 * 512, to += 4 * 512, global += 4 * 512) {
        COPY(0);
        COPY(1);
        COPY(2);
        COPY(3);
    }
    if (left > 0) COPY(0);
    if (left > 512) COPY(1);
    if (left > 1024) COPY(2);
#undef COPY
#else
    u8* to = shared + lane * 16;
#pragma unroll 4
    for (; left > 0; left -= 512, to += 512, global += 512) *(uint4*)to = *(const uint4*)global;
#endif
}

// Ends a group of copies.
INLINE void close_group() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.commit_group;" ::: "memory");
#endif
}

// Waits until no more than `LEFT` groups of this thread's copies are on their way.
template <int LEFT>
INLINE void await_groups() {
#if __CUDA_ARCH__ >= 800
    asm volatile("cp.async.wait_group %0;" ::"n"(LEFT) : "memory");
#endif
}

#else

#include "on_cpu.hpp"

#endif
