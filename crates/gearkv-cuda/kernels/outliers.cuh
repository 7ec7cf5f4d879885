// The few largest and smallest values of each line, kept apart: which they are, as the core picks them (crates/gearkv/src/outliers.rs), and
// their lists in records. A line is a channel's keys of the segment, or a token's values in all heads.
#pragma once
#include "lowrank.cuh"

#define LEFT_OUT __int_as_float(0x7fffffff)

INLINE u32 words_of(u32 bits) { return (bits + 31) / 32; }

struct Candidate {
    float value;
    u32 index;
};

// Puts `entry` in the place of `root`: the hole goes down to a leaf along the smaller children, then the entry comes up.
INLINE void sift(Candidate* heap, u32 count, u32 root, Candidate entry) {
    u32 hole = root, right = 2 * hole + 2;
#pragma unroll 1
    while (right < count) {
        u32 child = heap[right].value > heap[right - 1].value ? right - 1 : right;
        heap[hole] = heap[child];
        hole = child;
        right = 2 * hole + 2;
    }
    if (right == count) {
        heap[hole] = heap[right - 1];
        hole = right - 1;
    }
#pragma unroll 1
    while (hole > root && heap[(hole - 1) / 2].value > entry.value) {
        heap[hole] = heap[(hole - 1) / 2];
        hole = (hole - 1) / 2;
    }
    heap[hole] = entry;
}

// Marks the outliers of one line, `side` at either end; all lanes of a warp together. `value_at(i)` gives its values, `place(i)` their bits in
// `marks`, which has `words` words. `heaps`: 2 · side. Smallest values are kept negated. Which of several equal values is taken follows
// from the heap, as in the core: an equal never displaces what is in it.
template <class Value, class Place>
INLINE void mark_line(u32 length, u32 side, Candidate* heaps, u32* marks, u32 words, const Value& value_at, const Place& place) {
    u32 lane = threadIdx.x % LANES;
#pragma unroll 1
    for (u32 i = lane; i < words; i += LANES) marks[i] = 0;
#pragma unroll 1
    for (u32 i = lane; i < side; i += LANES) {
        float x = value_at(i);
        heaps[i] = {x, i};
        heaps[side + i] = {-x, i};
    }
    __syncwarp();
    // Each end has a lane.
    Candidate* own = heaps + (lane ? side : 0);
    if (lane < 2)
#pragma unroll 1
        for (u32 root = side / 2; root > 0; root--) sift(own, side, root - 1, own[root - 1]);
    __syncwarp();
#pragma unroll 1
    for (u32 first = side; first < length; first += LANES) {
        u32 i = first + lane;
        float x = i < length ? value_at(i) : LEFT_OUT;
        u32 passing = __ballot_sync(~0u, x > heaps[0].value || -x > heaps[side].value);
#pragma unroll 1
        while (passing) {
            u32 from = (u32)__ffs((int)passing) - 1;
            passing &= passing - 1;
            float candidate = __shfl_sync(~0u, x, from);
            candidate = lane ? -candidate : candidate;
            if (lane < 2 && candidate > own[0].value) sift(own, side, 0, {candidate, first + from});
        }
        __syncwarp();
    }
    u32 missing = 0;
#pragma unroll 1
    for (u32 first = 0; first < 2 * side; first += LANES) {
        bool twice = false;
        if (first + lane < 2 * side) {
            u32 bit = place(heaps[first + lane].index), mask = 1u << bit % 32;
            twice = atomicOr(marks + bit / 32, mask) & mask;
        }
        missing += (u32)__popc(__ballot_sync(~0u, twice));
    }
    __syncwarp();
    // On a line that is nearly constant both ends can pick the same value; the lowest free ones take its second place.
    if (lane == 0)
#pragma unroll 1
        for (u32 i = 0; missing; i++) {
            u32 bit = place(i), mask = 1u << bit % 32;
            if (marks[bit / 32] & mask) continue;
            marks[bit / 32] |= mask;
            missing--;
        }
}

// A warp a line: those of keys, then those of values. Grid: [lines / warps].
INLINE void mark_outliers(const Compression& a) {
    SHARED(shared);
    u32 dim = a.layer.dim, warp = threadIdx.x / LANES, line = blockIdx.x * (blockDim.x / LANES) + warp;
    u32 of_keys = a.key_side ? a.layer.planes * dim : 0, of_values = a.value_side ? a.layer.planes / a.heads * a.tokens : 0;
    Candidate* heaps = (Candidate*)shared + warp * 2 * max_u32(a.key_side, a.value_side);
    if (line < of_keys) {
        u32 words = words_of(a.tokens);
        mark_line(
            a.tokens, a.key_side, heaps, a.key_marks + (u64)line * words, words, [&](u32 i) { return buffered(a, line / dim, true, i, line % dim); },
            [](u32 i) { return i; });
    } else if (line < of_keys + of_values) {
        line -= of_keys;
        u32 words = words_of(dim), token = line % a.tokens, first_plane = line / a.tokens * a.heads;
        mark_line(
            a.heads * dim, a.value_side, heaps, a.value_marks + (u64)line * a.heads * words, a.heads * words,
            [&](u32 i) { return buffered(a, first_plane + i / dim, false, token, i % dim); },
            [&](u32 i) { return i / dim * words * 32 + i % dim; });
    }
}

INLINE bool is_marked(const Compression& a, u32 plane, bool keys, u32 token, u32 channel) {
    u32 dim = a.layer.dim;
    if (keys) return a.key_marks[((u64)plane * dim + channel) * words_of(a.tokens) + token / 32] >> token % 32 & 1;
    u64 row = ((u64)(plane / a.heads) * a.tokens + token) * a.heads + plane % a.heads;
    return a.value_marks[row * words_of(dim) + channel / 32] >> channel % 32 & 1;
}

// All outliers of one side of a plane: `f` gets their token and channel. All threads together.
template <class F>
INLINE void each_outlier(const Compression& a, u32 plane, bool keys, const F& f) {
    u32 dim = a.layer.dim;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * dim; i += blockDim.x)
        if (is_marked(a, plane, keys, i / dim, i % dim)) f(i / dim, i % dim);
}

// How many there are in each block of one side of a plane, to `bench.found`; of values also those in the heads of the item that come before. `f`
// gets all of the plane.
template <class F>
INLINE void count_outliers(const Compression& a, const Bench& bench, u32 plane, bool keys, const F& f) {
    if (!side_of(a, keys)) return;
    u32* found = found_of(bench, keys);
    __syncthreads();
#pragma unroll 1
    for (u32 i = threadIdx.x; i <= MOST_CUTS; i += blockDim.x) found[i] = 0;
    __syncthreads();
    each_outlier(a, plane, keys, [&](u32 token, u32 channel) {
        u32 block = 0;
        while (a.cuts[block + 1] <= token) block++;
        atomicAdd(found + block, 1);
        f(token, channel);
    });
    u32 words = words_of(a.layer.dim), before = keys ? 0 : plane % a.heads * words, row = a.heads * words;
    const u32* marks = a.value_marks + (u64)(plane / a.heads) * a.tokens * row;
#pragma unroll 1
    for (u32 i = threadIdx.x; i < a.tokens * before; i += blockDim.x) {
        u32 count = (u32)__popc(marks[i / before * row + i % before]);
        if (count) atomicAdd(found + MOST_CUTS, count);
    }
    __syncthreads();
}

// Takes outliers out of the rows, and counts them.
INLINE void leave_out(const Compression& a, const Bench& bench, u32 plane, bool keys) {
    count_outliers(a, bench, plane, keys, [&](u32 token, u32 channel) { bench.rows[token * row_stride(a.layer.dim) + channel] = LEFT_OUT; });
}

// Puts back what `leave_out` took.
INLINE void restore(const Compression& a, const Bench& bench, u32 plane, bool keys) {
    if (!side_of(a, keys)) return;
    __syncthreads();
    each_outlier(a, plane, keys, [&](u32 token, u32 channel) {
        bench.rows[token * row_stride(a.layer.dim) + channel] = buffered(a, plane, keys, token, channel);
    });
    __syncthreads();
}

// Bytes of lists with so many entries.
INLINE u32 list_bytes(u32 lists, u32 entries) { return bound_bytes(lists) + aligned(entries * 4); }

// The outliers of one list, in their order: `f` gets their token in the segment and their channel. Lists of keys are by token, those of values by
// channel.
template <class F>
INLINE void each_of_list(const Compression& a, u32 plane, bool keys, u32 first, u32 tokens, u32 list, const F& f) {
    u32 length = keys ? (list < tokens ? a.layer.dim : 0) : tokens;
#pragma unroll 1
    for (u32 i = 0; i < length; i++) {
        u32 token = first + (keys ? list : i), channel = keys ? i : list;
        if (is_marked(a, plane, keys, token, channel)) f(token, channel);
    }
}

// Lists of a block, behind its record, rows being what codes leave. For now an entry is such a number, and 0 takes its place.
INLINE void list_outliers(const Compression& a, const Bench& bench, u32 plane, bool keys, u32 first, u32 tokens, u8* at) {
    u32 dim = a.layer.dim, lists = keys ? BLOCK : dim;
    u16* bounds = (u16*)at;
    u32* entries = (u32*)(at + bound_bytes(lists));
    __syncthreads();
#pragma unroll 1
    for (u32 list = threadIdx.x; list < lists; list += blockDim.x) {
        u32 count = 0;
        each_of_list(a, plane, keys, first, tokens, list, [&](u32, u32) { count++; });
        bench.lists[list] = count;
    }
    __syncthreads();
#pragma unroll 1
    for (u32 list = threadIdx.x; list < lists; list += blockDim.x) {
        u32 start = 0;
#pragma unroll 4
        for (u32 before = 0; before < list; before++) start += bench.lists[before];
        bounds[list] = (u16)start;
        each_of_list(a, plane, keys, first, tokens, list, [&](u32 token, u32 channel) {
            float* x = bench.rows + token * row_stride(dim) + channel;
            entries[start++] = __float_as_uint(*x);
            *x = 0.0f;
        });
        if (list + 1 == lists) bounds[lists] = (u16)start;
    }
}

// Entries become what codes and low-rank leave, in float16, and where it is.
INLINE void finish_outliers(const Compression& a, const Recipe& recipe, const Bench& bench, u32 plane, bool keys, u32 first, u32 tokens, u8* at) {
    u32 dim = a.layer.dim, lists = keys ? BLOCK : dim;
    const u16* bounds = (const u16*)at;
    u32* entries = (u32*)(at + bound_bytes(lists));
    __syncthreads();
#pragma unroll 1
    for (u32 list = threadIdx.x; list < lists; list += blockDim.x) {
        u32 entry = bounds[list];
        each_of_list(a, plane, keys, first, tokens, list, [&](u32 token, u32 channel) {
            float left = __uint_as_float(entries[entry]);
#pragma unroll 1
            for (u32 r = 0; r < recipe.rank; r++) left = minus(left, times(kept_a(a, recipe, bench, r, token), kept_b(recipe, bench, r, channel, dim)));
            entries[entry++] = (u32)narrow(left) << 16 | (keys ? channel : token - first);
        });
    }
}

// What codes leave of a segment's rows: outliers and low-rank, behind each record at `rest_of(i)`.
template <class Rest>
INLINE void store_what_is_left(const Compression& a, const Recipe& recipe, const Bench& bench, u32 plane, bool keys, const float* starts, Head* head, const Rest& rest_of) {
    __syncthreads();
    // Of values a plane may have none.
    bool has_outliers = head->outliers != 0;
    u32 factors = factor_bytes(head);
#pragma unroll 1
    for (u32 i = 0; has_outliers && i < a.blocks_made; i++)
        list_outliers(a, bench, plane, keys, a.cuts[i], a.cuts[i + 1] - a.cuts[i], rest_of(i) + factors);
    if (recipe.rank) {
        approximate(a, recipe, bench, starts, head);
#pragma unroll 1
        for (u32 i = 0; i < a.blocks_made; i++) store_factor(a, recipe, bench, a.cuts[i], a.cuts[i + 1] - a.cuts[i], rest_of(i));
    }
#pragma unroll 1
    for (u32 i = 0; has_outliers && i < a.blocks_made; i++)
        finish_outliers(a, recipe, bench, plane, keys, a.cuts[i], a.cuts[i + 1] - a.cuts[i], rest_of(i) + factors);
}
