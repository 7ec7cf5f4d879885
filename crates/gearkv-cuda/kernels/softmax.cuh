// Logits to weights, and all that codes alone do not say: low-rank, outliers and means.
#pragma once
#include "queries.cuh"

// Of a warp: what weights are relative to, and the sum of each query's weights (of this lane's tokens alone), also of those behind the
// present head.
struct Softmax {
    float reference[QUERIES], sum[QUERIES], behind[QUERIES];
};

// Low-rank, outliers and means of a token's logits.
INLINE void add_rest_of_keys(const Head* head, const KeyRecord& record, u32 token, const Warp& own, const QueryTables& q,
                             float (&logits)[QUERIES]) {
#pragma unroll
    for (int j = 0; j < QUERIES; j++) logits[j] += own.constant[j];
#pragma unroll 1
    for (u32 r = 0; r < head->rank; r++) {
        float factor = load_factor(head, record.factors, r, token);
#pragma unroll
        for (int j = 0; j < QUERIES; j++) logits[j] += factor * own.along[r * QUERIES + j];
    }
    if (!head->outliers) return;
    OutlierLists outliers = outlier_lists(record.outliers, true, 0);
#pragma unroll 1
    for (u32 e = outliers.bounds[token]; e < outliers.bounds[token + 1]; e++) {
        u32 channel = outliers.entries[e] & 0xffff;
        float value = widen((u16)(outliers.entries[e] >> 16));
#pragma unroll
        for (int j = 0; j < QUERIES; j++) logits[j] += value * q.plain[channel * QUERIES + j] * q.back[j];
    }
}

// Logits to weights, in place. Weights are relative to a logit that is not the largest, but within 2^8 of it: it changes when it has to, which is
// seldom. `true`, and by how much what was gathered has to shrink, when it did.
template <bool PLAIN>
INLINE bool weigh(const Attention& a, const Block& block, const Head* head, const KeyRecord& record, const Finish& finish,
                  const Lane& lane, const Warp& own, const QueryTables& q, Softmax& state, float (&factor)[QUERIES]) {
    float logits[2][QUERIES];
    bool has_rest = !PLAIN && head && (head->rank || head->outliers || head->means_at);
#pragma unroll
    for (int half = 0; half < 2; half++) {
        u32 token = half * 32 + lane.lane;
        float4 x = ((const float4*)own.logits)[token * 2], y = ((const float4*)own.logits)[token * 2 + 1];
        float halves[QUERIES] = {x.x + y.x, x.y + y.y, x.z + y.z, x.w + y.w};
#pragma unroll
        for (int j = 0; j < QUERIES; j++) logits[half][j] = (halves[j] * finish.times + finish.more[j]) * finish.back[j];
        if (has_rest) add_rest_of_keys(head, record, token, own, q, logits[half]);
        if (!PLAIN && a.softcap > 0.0f)
#pragma unroll
            for (int j = 0; j < QUERIES; j++) logits[half][j] = a.softcap * LOG2_E * tanhf(logits[half][j] / a.softcap);
        bool seen = token < block.tokens && block.first + token >= a.first_seen;
#pragma unroll
        for (int j = 0; j < QUERIES; j++) logits[half][j] = seen ? logits[half][j] : NOTHING;
        if (a.limited)
#pragma unroll
            for (int j = 0; j < QUERIES; j++) {
                u32 position = block.first + token;
                if (position < q.seen[j] || position >= q.seen[QUERIES + j]) logits[half][j] = NOTHING;
            }
    }
    bool exceeds = false;
#pragma unroll
    for (int j = 0; j < QUERIES; j++) exceeds |= fmaxf(logits[0][j], logits[1][j]) > state.reference[j] + MOST_WEIGHT_BITS;
    bool changes = __any_sync(~0u, exceeds);
    if (changes) {
#pragma unroll
        for (int j = 0; j < QUERIES; j++) {
            float most = fmaxf(logits[0][j], logits[1][j]);
            for (int step = 1; step < LANES; step *= 2) most = fmaxf(most, __shfl_xor_sync(~0u, most, step));
            float now = fmaxf(state.reference[j], most);
            factor[j] = now == state.reference[j] ? 1.0f : power_of_two(state.reference[j] - now);
            state.reference[j] = now;
            state.sum[j] *= factor[j];
            if (!PLAIN) state.behind[j] *= factor[j];
        }
    }
    __syncwarp();
#pragma unroll
    for (int half = 0; half < 2; half++) {
        float weights[QUERIES];
#pragma unroll
        for (int j = 0; j < QUERIES; j++) {
            // A reference that is still nothing has met nothing.
            weights[j] = logits[half][j] == NOTHING ? 0.0f : power_of_two(logits[half][j] - state.reference[j]);
            state.sum[j] += weights[j];
            if (!PLAIN) state.behind[j] += weights[j];
        }
        ((float4*)own.weights)[half * 32 + lane.lane] = make_float4(weights[0], weights[1], weights[2], weights[3]);
    }
    if (lane.lane == 0) ((float4*)own.weights)[BLOCK] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    __syncwarp();
    return changes;
}

// Sums of what all lanes have.
INLINE float warp_sum(float x) {
#pragma unroll
    for (int step = 1; step < LANES; step *= 2) x += __shfl_xor_sync(~0u, x, step);
    return x;
}

// Means and low-rank of the values since the head was entered, to the outputs in shared memory.
INLINE void leave_value_head(const Head* from, const Lane& lane, const Warp& own, Softmax& state, u32 dim) {
    float behind[QUERIES];
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
        behind[j] = warp_sum(state.behind[j]);
        state.behind[j] = 0.0f;
    }
    const Head* head = own.value_head;
    if (!from || (!head->means_at && !head->rank)) return;
    u32 rank = head->rank;
    const float* rows = (const float*)((const u8*)from + head->factors_at);
    const float* means = (const float*)((const u8*)from + head->means_at);
#pragma unroll 1
    for (u32 channel = lane.lane; channel < dim; channel += LANES) {
#pragma unroll
        for (int j = 0; j < QUERIES; j++) {
            float sum = head->means_at ? means[channel] * behind[j] : 0.0f;
            for (u32 r = 0; r < rank; r++) sum += own.gathered[r * QUERIES + j] * rows[r * dim + channel];
            own.plain[channel * QUERIES + j] += sum;
        }
    }
    __syncwarp();
#pragma unroll 1
    for (u32 i = lane.lane; i < rank * QUERIES; i += LANES) own.gathered[i] = 0.0f;
    __syncwarp();
}

// The same in plain kernels, which have means alone: turned, to what was gathered of codes. Registers are few there: the weights
// before this head are in shared memory.
template <int UNITS>
INLINE void leave_plain_head(const Attention& a, const Head* from, const Lane& lane, const Warp& own, const QueryTables& q,
                             const Softmax& state, Gathered<UNITS>& sums) {
    float behind[QUERIES];
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
        float all = warp_sum(state.sum[j]);
        behind[j] = all - own.constant[j];
        __syncwarp();
        if (lane.lane == 0) own.constant[j] = all;
    }
    __syncwarp();
    if (!from) return;
    // Columns of what rounding left have no share in it.
    float share = lane.column < 2 ? 1.0f / q.norms[1] : 0.0f;
    float low = share * (lane.column % 2 ? behind[2] : behind[0]), high = share * (lane.column % 2 ? behind[3] : behind[1]);
    const float* means = (const float*)((const u8*)from + own.value_head->turned_means_at);
#pragma unroll
    for (int i = 0; i < 4 * UNITS; i++) {
#pragma unroll
        for (int half = 0; half < 2; half++) {
            u32 channel = a.layer.value_order[i * 16 + half * 8 + lane.row];
            float mean = channel < a.layer.dim ? means[channel] : 0.0f;
            sums.codes[i][2 * half] = fmaf(mean, low, sums.codes[i][2 * half]);
            sums.codes[i][2 * half + 1] = fmaf(mean, high, sums.codes[i][2 * half + 1]);
        }
    }
}

// Low-rank and outliers of a record of values.
INLINE void add_rest_of_values(const Head* head, const ValueRecord& record, const Lane& lane, const Warp& own, u32 dim) {
#pragma unroll 1
    for (u32 r = 0; r < head->rank; r++) {
        float low = load_factor(head, record.factors, r, lane.lane), high = load_factor(head, record.factors, r, lane.lane + 32);
#pragma unroll
        for (int j = 0; j < QUERIES; j++) {
            float sum = own.weights[lane.lane * QUERIES + j] * low + own.weights[(lane.lane + 32) * QUERIES + j] * high;
            for (int step = 1; step < LANES; step *= 2) sum += __shfl_xor_sync(~0u, sum, step);
            if (lane.lane == 0) own.gathered[r * QUERIES + j] += sum;
        }
    }
    if (head->outliers) {
        OutlierLists outliers = outlier_lists(record.outliers, false, dim);
#pragma unroll 1
        for (u32 channel = lane.lane; channel < dim; channel += LANES) {
#pragma unroll 1
            for (u32 e = outliers.bounds[channel]; e < outliers.bounds[channel + 1]; e++) {
                const float* weights = own.weights + (outliers.entries[e] & 0xffff) * QUERIES;
                float value = widen((u16)(outliers.entries[e] >> 16));
#pragma unroll
                for (int j = 0; j < QUERIES; j++) own.plain[channel * QUERIES + j] += value * weights[j];
            }
        }
    }
    __syncwarp();
}

// Sums of the fragments to [dim, QUERIES] at `to`; `adds` to what is there.
template <int UNITS, bool PLAIN>
INLINE void store_gathered(const Attention& a, const Gathered<UNITS>& sums, const Lane& lane, const QueryTables& q, bool coded, bool adds, float* to) {
    float times = coded ? q.norms[1] : 1.0f / WEIGHT_RANGE;
    u32 pair = lane.column % 2 * 2;
    float zeros[UNITS][QUERIES];
#pragma unroll
    for (int i = 0; i < UNITS * QUERIES; i++) {
        float& zero = zeros[i / QUERIES][i % QUERIES];
        zero = PLAIN ? 0.0f : sums.zeros[i / QUERIES][i % QUERIES];
        for (int step = 1; !PLAIN && step < LANES; step *= 2) zero += __shfl_xor_sync(~0u, zero, step);
    }
#pragma unroll
    for (int i = 0; i < 4 * UNITS; i++) {
        float low = pair ? zeros[i / 4][2] : zeros[i / 4][0], high = pair ? zeros[i / 4][3] : zeros[i / 4][1];
#pragma unroll
        for (int half = 0; half < 2; half++) {
            float x = sums.codes[i][2 * half], y = sums.codes[i][2 * half + 1];
            x += __shfl_xor_sync(~0u, x, 2);
            y += __shfl_xor_sync(~0u, y, 2);
            u32 slot = i * 16 + half * 8 + lane.row;
            u32 channel = coded ? a.layer.value_order[slot] : slot;
            if (lane.column < 2 && channel < a.layer.dim) {
                float* at = to + channel * QUERIES + pair;
                at[0] = (adds ? at[0] : 0.0f) + (x * times + low);
                at[1] = (adds ? at[1] : 0.0f) + (y * times + high);
            }
        }
    }
    __syncwarp();
}
