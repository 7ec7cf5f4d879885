// The kernels' world on a CPU, for tests: every CUDA thread is a fiber, which gives way at barriers and wherever a warp acts together.
// Whoever runs next is taken in one of three orders, so that a missing barrier shows. Blocks run one after the other.
#pragma once
#include <setjmp.h>
#include <ucontext.h>

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <functional>
#include <random>
#include <vector>

#define INLINE static inline
#define SHARED(name) u8* name = cpu::shared()

struct dim3 {
    unsigned x = 1, y = 1, z = 1;
};
struct uint2 {
    u32 x, y;
};
struct alignas(16) uint4 {
    u32 x, y, z, w;
};
struct alignas(8) float2 {
    float x, y;
};
struct alignas(16) float4 {
    float x, y, z, w;
};
INLINE float2 make_float2(float x, float y) { return {x, y}; }
INLINE float4 make_float4(float x, float y, float z, float w) { return {x, y, z, w}; }
INLINE uint4 make_uint4(u32 x, u32 y, u32 z, u32 w) { return {x, y, z, w}; }

namespace cpu {

enum State { READY, AT_BARRIER, WITH_WARP, DONE };

struct Fiber {
    ucontext_t context;
    jmp_buf place; // where it gave way
    bool started = false;
    dim3 thread;
    State state = READY;
    u32 posted[3];        // what it shows the others of its warp
    unsigned meetings = 0; // how often it met them
    std::vector<std::pair<void*, const void*>> copies;
};

struct ThreadBlock {
    std::vector<Fiber> fibers;
    std::vector<u8> shared;
    ucontext_t scheduler;
    jmp_buf place;
    Fiber* running = nullptr;
    dim3 index, size, grid;
    const std::function<void()>* body = nullptr;
};

inline thread_local ThreadBlock* block = nullptr;

[[noreturn]] inline void fail(const char* what) {
    std::fprintf(stderr, "kernel on the CPU: %s\n", what);
    std::abort();
}

inline u8* shared() { return block->shared.data(); }
inline unsigned number() { return (unsigned)(block->running - block->fibers.data()); }

inline void give_way(State state) {
    Fiber* self = block->running;
    self->state = state;
    // swapcontext asks the kernel for its signals each time. AddressSanitizer knows of stacks that are changed by it alone.
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&self->context, &block->scheduler);
#else
    if (_setjmp(self->place) == 0) _longjmp(block->place, 1);
#endif
}

__attribute__((noinline)) inline void resume(ThreadBlock& b, Fiber& fiber) {
    b.running = &fiber;
#ifdef __SANITIZE_ADDRESS__
    swapcontext(&b.scheduler, &fiber.context);
#else
    if (_setjmp(b.place) != 0) return;
    if (fiber.started) _longjmp(fiber.place, 1);
    fiber.started = true;
    setcontext(&fiber.context);
#endif
}

inline void entry() {
    (*block->body)();
    give_way(DONE);
}

// All lanes of the warp show `words`; gives back those of a lane. Twice, because none may show the next before all have read.
struct Shown {
    u32 words[32][3];
};
inline void show(const u32 (&words)[3], Shown& seen) {
    Fiber* self = block->running;
    std::copy(words, words + 3, self->posted);
    give_way(WITH_WARP);
    unsigned first = number() / 32 * 32;
    for (unsigned i = 0; i < 32; i++) std::copy(block->fibers[first + i].posted, block->fibers[first + i].posted + 3, seen.words[i]);
    give_way(WITH_WARP);
}

enum Order { FORWARD, BACKWARD, SHUFFLED };

inline void run_block(ThreadBlock& b, size_t shared_bytes, Order order, unsigned seed) {
    constexpr size_t STACK = 96 << 10;
    static thread_local std::vector<char> stacks;
    size_t count = (size_t)b.size.x * b.size.y * b.size.z;
    if (count % 32 != 0) fail("a thread block that is not whole warps");
    if (stacks.size() < count * STACK) stacks.resize(count * STACK);
    // Shared memory starts as nothing that a kernel may rely on.
    b.shared.assign(shared_bytes + 16, 0xff);
    b.fibers = std::vector<Fiber>(count);
    block = &b;
    std::vector<unsigned> turns(count);
    for (unsigned i = 0; i < count; i++) {
        turns[i] = i;
        Fiber& fiber = b.fibers[i];
        fiber.thread = {i % b.size.x, i / b.size.x % b.size.y, i / (b.size.x * b.size.y)};
        getcontext(&fiber.context);
        fiber.context.uc_stack.ss_sp = &stacks[i * STACK];
        fiber.context.uc_stack.ss_size = STACK;
        fiber.context.uc_link = nullptr;
        makecontext(&fiber.context, entry, 0);
    }
    if (order == BACKWARD) std::reverse(turns.begin(), turns.end());
    std::mt19937 random(seed);
    for (;;) {
        if (order == SHUFFLED) std::shuffle(turns.begin(), turns.end(), random);
        bool ran = false;
        for (unsigned i : turns) {
            if (b.fibers[i].state != READY) continue;
            ran = true;
            resume(b, b.fibers[i]);
        }
        bool released = false;
        for (size_t first = 0; first < count; first += 32) {
            bool all = true;
            for (size_t i = first; i < first + 32; i++) all &= b.fibers[i].state == WITH_WARP;
            for (size_t i = first; all && i < first + 32; i++) b.fibers[i].state = READY;
            released |= all;
        }
        if (released) continue;
        size_t waiting = 0, done = 0;
        for (Fiber& fiber : b.fibers) {
            waiting += fiber.state == AT_BARRIER;
            done += fiber.state == DONE;
        }
        if (done == count) break;
        if (waiting == count) {
            for (Fiber& fiber : b.fibers) fiber.state = READY;
        } else if (!ran) {
            fail("threads wait for others that never come");
        }
    }
    block = nullptr;
}

template <class Body>
void launch(dim3 grid, dim3 size, size_t shared_bytes, Order order, Body&& kernel) {
    std::function<void()> body = kernel;
    for (unsigned z = 0; z < grid.z; z++)
        for (unsigned y = 0; y < grid.y; y++)
            for (unsigned x = 0; x < grid.x; x++) {
                ThreadBlock b;
                b.index = {x, y, z};
                b.size = size;
                b.grid = grid;
                b.body = &body;
                run_block(b, shared_bytes, order, x + 31 * y + 977 * z);
            }
}

} // namespace cpu

#define threadIdx (cpu::block->running->thread)
#define blockIdx (cpu::block->index)
#define blockDim (cpu::block->size)
#define gridDim (cpu::block->grid)

inline void __syncthreads() { cpu::give_way(cpu::AT_BARRIER); }
inline void __syncwarp() {
    cpu::give_way(cpu::WITH_WARP);
}

INLINE float __uint_as_float(u32 bits) {
    float x;
    std::memcpy(&x, &bits, 4);
    return x;
}
INLINE float __int_as_float(int bits) { return __uint_as_float((u32)bits); }
INLINE u32 __float_as_uint(float x) {
    u32 bits;
    std::memcpy(&bits, &x, 4);
    return bits;
}
INLINE float __fmul_rn(float a, float b) { return a * b; }
INLINE float __fadd_rn(float a, float b) { return a + b; }
INLINE float __fsub_rn(float a, float b) { return a - b; }
INLINE float __fdiv_rn(float a, float b) { return a / b; }
INLINE float __fsqrt_rn(float x) { return std::sqrt(x); }
INLINE double __dadd_rn(double a, double b) { return a + b; }
INLINE double __dmul_rn(double a, double b) { return a * b; }
INLINE double __ddiv_rn(double a, double b) { return a / b; }
INLINE float nearest_whole(float x) { return std::nearbyint(x); }
// Blocks and threads run one after the other.
INLINE u32 atomicMax(u32* at, u32 x) {
    u32 before = *at;
    if (x > before) *at = x;
    return before;
}
INLINE u32 atomicAdd(u32* at, u32 x) {
    u32 before = *at;
    *at += x;
    return before;
}
INLINE u32 atomicOr(u32* at, u32 x) {
    u32 before = *at;
    *at |= x;
    return before;
}
INLINE int __popc(u32 x) { return __builtin_popcount(x); }
INLINE int __ffs(int x) { return __builtin_ffs(x); }
INLINE float rsqrtf(float x) { return 1.0f / std::sqrt(x); }
using std::fabs;

inline float __shfl_sync(unsigned, float x, u32 lane) {
    cpu::Shown seen;
    u32 words[3] = {__float_as_uint(x), 0, 0};
    cpu::show(words, seen);
    return __uint_as_float(seen.words[lane % 32][0]);
}
inline float __shfl_xor_sync(unsigned, float x, u32 other) {
    cpu::Shown seen;
    u32 words[3] = {__float_as_uint(x), 0, 0}, lane = cpu::number() % 32;
    cpu::show(words, seen);
    return __uint_as_float(seen.words[lane ^ other][0]);
}

inline u32 exchange(u32 x, u32 other) {
    cpu::Shown seen;
    u32 words[3] = {x, 0, 0}, lane = cpu::number() % 32;
    cpu::show(words, seen);
    return seen.words[lane ^ other][0];
}

inline u32 __ballot_sync(unsigned, bool x) {
    cpu::Shown seen;
    u32 words[3] = {x, 0, 0}, ballot = 0;
    cpu::show(words, seen);
    for (u32 lane = 0; lane < 32; lane++) ballot |= seen.words[lane][0] << lane;
    return ballot;
}

inline bool __any_sync(unsigned, bool x) {
    cpu::Shown seen;
    u32 words[3] = {x, 0, 0}, any = 0;
    cpu::show(words, seen);
    for (auto& lane : seen.words) any |= lane[0];
    return any != 0;
}

// float16 to float32, and back with halves to even.
inline float widen(u16 half) {
    u32 sign = (u32)(half & 0x8000) << 16, exponent = half >> 10 & 31, mantissa = half & 0x3ff;
    if (exponent == 31) return __uint_as_float(sign | 0x7f800000u | mantissa << 13);
    if (exponent == 0) {
        float x = (float)mantissa * 0x1p-24f;
        return sign ? -x : x;
    }
    return __uint_as_float(sign | (exponent + 112) << 23 | mantissa << 13);
}
inline u16 narrow(float wide) {
    u32 bits = __float_as_uint(wide), sign = bits >> 16 & 0x8000;
    float x = std::fabs(wide);
    if (!(x == x)) return (u16)(sign | 0x7e00);
    if (x >= 65520.0f) return (u16)(sign | 0x7c00);
    int exponent = x >= 0x1p-14f ? (int)(bits >> 23 & 255) - 127 : -14;
    float step = std::ldexp(1.0f, exponent - 10);
    u32 steps = (u32)std::nearbyint(x / step);
    // With an exponent above the least, the leading one is the exponent's own.
    return (u16)(sign | (exponent == -14 ? steps : steps - 1024 + ((u32)(exponent + 15) << 10)));
}
inline u32 narrow2(float low, float high) { return (u32)narrow(low) | (u32)narrow(high) << 16; }
// Sums and products of two float16 are exact in float64, which is then rounded to float32 and to float16.
inline u32 fma2(u32 x, u32 y, u32 z) {
    auto of = [&](int half) {
        auto at = [&](u32 w) { return (double)widen((u16)(w >> (16 * half))); };
        return (float)(at(x) * at(y) + at(z));
    };
    return narrow2(of(0), of(1));
}
inline u32 add2(u32 x, u32 y) { return fma2(x, 0x3c003c00u, y); }
inline u32 mul2(u32 x, u32 y) { return fma2(x, y, 0x80008000u); }
inline float power_of_two(float x) { return std::exp2(x); }

inline u32 pick_bytes(u32 low, u32 high, u32 selector) {
    u64 bytes = (u64)high << 32 | low;
    u32 picked = 0;
    for (int i = 0; i < 4; i++) picked |= (u32)(bytes >> ((selector >> (4 * i) & 7) * 8) & 255) << (8 * i);
    return picked;
}

inline void multiply_add(float (&c)[4], u32 a0, u32 a1, u32 b) {
    cpu::Shown seen;
    u32 words[3] = {a0, a1, b}, lane = cpu::number() % 32, row = lane / 4, column = lane % 4 * 2;
    cpu::show(words, seen);
    for (u32 i = 0; i < 4; i++) {
        double sum = c[i];
        u32 n = column + i % 2;
        for (u32 k = 0; k < 8; k++) {
            u32 a = seen.words[row * 4 + k / 2][i / 2], w = seen.words[n * 4 + k / 2][2];
            sum += (double)widen((u16)(a >> (k % 2 * 16))) * (double)widen((u16)(w >> (k % 2 * 16)));
        }
        c[i] = (float)sum;
    }
}

inline void multiply_add(float (&c)[4], u32 a0, u32 a1, u32 a2, u32 a3, u32 b0, u32 b1) {
    multiply_add(c, a0, a1, b0);
    multiply_add(c, a2, a3, b1);
}

// Copies arrive when they are waited for, and not before.
inline void copy_run(u8* shared, const u8* global, u32 bytes, u32 lane) {
    for (u32 i = lane * 16; i < bytes; i += 512) cpu::block->running->copies.push_back({shared + i, global + i});
}
inline void close_group() { cpu::block->running->copies.push_back({nullptr, nullptr}); }
template <int LEFT>
inline void await_groups() {
    auto& copies = cpu::block->running->copies;
    size_t groups = 0, done = 0;
    for (auto& copy : copies) groups += copy.first == nullptr;
    while (groups > LEFT) {
        if (copies[done].first == nullptr) groups--;
        else std::memcpy(copies[done].first, copies[done].second, 16);
        done++;
    }
    copies.erase(copies.begin(), copies.begin() + done);
}
