// Attention of one or more query positions a sequence, over codes, low-rank, outliers and the buffer, in one pass.
//
// A thread block has a KV head of one batch item, up to four of its query heads, and a share of the context (a split). Each of its
// warps walks blocks of its own with an online softmax, while the record that it needs next is on its way to shared memory. Warps are
// joined at the end, splits by a second kernel.
//
// Kernels that are `PLAIN` do only what gear-4, gear-3 and gear-2 need: keys with scales of channels and values with levels, all scales in
// 8 bits, no low-rank, no outliers, no softcap. What is left out would stand in the way of the rest.
#pragma once
#include "softmax.cuh"

INLINE void clear_outputs(float* outputs, u32 dim, const Lane& lane) {
#pragma unroll 1
    for (u32 i = lane.lane; i < dim; i += LANES) ((float4*)outputs)[i] = make_float4(0.0f, 0.0f, 0.0f, 0.0f);
    __syncwarp();
}

template <int UNITS, bool PLAIN>
INLINE void attend(const Attention& a) {
    SHARED(shared);
    const Layer& layer = a.layer;
    u32 dim = layer.dim, plane = blockIdx.y, set = blockIdx.z, split = blockIdx.x;
    u32 warps = blockDim.x / LANES, warp = threadIdx.x / LANES;
    Lane lane = this_lane();
    Warp own = share_of(a, shared, warp);

    // This warp's blocks: first those whose values are codes, then those in float16.
    u32 raw = raw_blocks(layer);
    u32 runs = a.splits * warps, run = split * warps + warp;
    u32 next = share_start(layer.coded, run, runs), coded_end = share_start(layer.coded, run + 1, runs);
    u32 raw_first = layer.coded + share_start(raw, run, runs), end = layer.coded + share_start(raw, run + 1, runs);
    bool there = next != coded_end || raw_first != end;
    if (next == coded_end) next = raw_first;
    if (raw_first == end) end = coded_end;

    Block block = {};
    if (there) {
        block = block_at(layer, plane, next);
        call_block(layer, plane, next + 1, own.coming, lane.lane);
        start_copy(own.keys, layer, block.key, block.key_bytes, lane.lane);
    }
    QueryTables q = load_queries(a, shared, plane, set);
    // Plain kernels have no use for it before the last codes of keys; then they have none for what is in its place.
    bool has_plain = !PLAIN;
    if (has_plain) clear_outputs(own.plain, dim, lane);
    if (PLAIN && lane.lane < QUERIES) own.constant[lane.lane] = 0.0f;
#pragma unroll 1
    for (u32 i = lane.lane; i < a.rank * QUERIES; i += LANES) own.gathered[i] = 0.0f;
    __syncwarp();

    Softmax state;
    Gathered<UNITS> sums;
    clear(sums);
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
        state.reference[j] = NOTHING;
        state.sum[j] = state.behind[j] = 0.0f;
    }
    u32 key_head = 0, value_head = 0;
    auto leave_head = [&] {
        const Head* from = value_head ? head_at(layer, value_head) : 0;
        if (PLAIN) leave_plain_head(a, from, lane, own, q, state, sums);
        else leave_value_head(from, lane, own, state, dim);
    };
    // Outputs of turned rows are held apart: they are turned back once, at the very end.
    float* turned = (float*)own.values; // where no record of codes comes any more
    bool apart = false, coded = false;
#pragma unroll 1
    while (there) {
        bool seen = in_sight(q.range, block);
        // Values are on their way while keys are worked on, the next keys while values are.
        start_copy(own.values, layer, block.value, !seen ? 0 : PLAIN ? block.value_bytes : staged_bytes(a, block.value_bytes), lane.lane);
        await_groups<1>();
        __syncwarp();
        const Head* head = block.key_bytes ? own.key_head : 0;
        KeyRecord record = {};
        Finish finish = {};
        if (seen && head) {
            const Head* from = head_at(layer, block.key_head);
            if (block.key_head != key_head) enter_key_head<PLAIN>(from, own, lane, q, dim);
            key_head = block.key_head;
            record = key_record(head, own.keys);
            const u16* units = (const u16*)((const u8*)from + head->groups_at);
            finish = coded_logits<PLAIN>(head, units, own.constant + QUERIES, record, lane, own.ordered, own.zero_units, own.sums, own.words, own.logits);
        } else if (seen) {
            finish = raw_logits((const u16*)keys_at(layer, plane, next, block.key), dim, block.tokens, lane, q.plain, q.back, own.logits);
        }
        __syncwarp();
        if (seen) {
            if (block.value_head != value_head) {
                leave_head();
                value_head = block.value_head;
                if (value_head) copy_head(own.value_head, head_at(layer, value_head), lane.lane);
            }
            float factor[QUERIES];
            if (weigh<PLAIN>(a, block, head, record, finish, lane, own, q, state, factor)) {
                shrink(sums, lane, factor);
                // A lane meets one query only.
                float of_lane = lane.column == 0 ? factor[0] : lane.column == 1 ? factor[1] : lane.column == 2 ? factor[2] : factor[3];
#pragma unroll 1
                for (u32 i = lane.lane; has_plain && i < dim * QUERIES; i += LANES) {
                    own.plain[i] *= of_lane;
                    if (apart) turned[i] *= of_lane;
                }
#pragma unroll 1
                for (u32 i = lane.lane; i < a.rank * QUERIES; i += LANES) own.gathered[i] *= of_lane;
                if (PLAIN && lane.lane < QUERIES) own.constant[lane.lane] *= of_lane;
                __syncwarp();
            }
        }
        bool has_codes = block.value_bytes != 0;
        u32 tokens = block.tokens, present = next, present_values = block.value, present_bytes = block.value_bytes;
        next++;
        bool changes = next == coded_end && end != coded_end;
        if (changes) next = raw_first;
        there = next != end;
        if (there) {
            // Where blocks follow each other, the descriptor is there already.
            block = next < layer.fixed && !changes ? *own.coming : block_at(layer, plane, next);
            __syncwarp();
            call_block(layer, plane, next + 1, own.coming, lane.lane);
            start_copy(own.keys, layer, block.key, in_sight(q.range, block) ? block.key_bytes : 0, lane.lane);
        } else {
            close_group();
        }
        await_groups<1>();
        __syncwarp();
        if (seen && has_codes) {
            ValueRecord record = value_record(own.value_head, own.values);
            if (!PLAIN) record.outliers = outliers_of(a, record, own.values, present_values, present_bytes);
            if (!PLAIN) add_rest_of_values(own.value_head, record, lane, own, dim);
            add_codes<UNITS, PLAIN>(own.value_head, own.values, record, lane, own.weights, q.norms[0], own.words, sums);
            coded = true;
        } else if (seen) {
            add_raw<UNITS>((const u16*)values_at(layer, plane, present, present_values), dim, tokens, lane, own.weights, sums);
        }
        __syncwarp();
        if (changes) {
            // From here on values are in float16, and in their own order.
            leave_head();
            value_head = 0;
            apart = layer.rotated && coded;
            if (!has_plain) clear_outputs(own.plain, dim, lane);
            has_plain = true;
            store_gathered<UNITS, PLAIN>(a, sums, lane, q, true, !apart, apart ? turned : own.plain);
            clear(sums);
            coded = false;
        }
    }
    await_groups<0>();
    if (!has_plain) clear_outputs(own.plain, dim, lane);
    leave_head();
    if (coded && layer.rotated) {
        store_gathered<UNITS, PLAIN>(a, sums, lane, q, true, false, turned);
        apart = true;
    } else {
        store_gathered<UNITS, PLAIN>(a, sums, lane, q, coded, true, own.plain);
    }
#pragma unroll
    for (int j = 0; j < QUERIES; j++) {
        for (int step = 1; step < LANES; step *= 2) state.sum[j] += __shfl_xor_sync(~0u, state.sum[j], step);
        if (lane.lane == 0) {
            own.weights[j] = state.reference[j];
            own.weights[QUERIES + j] = state.sum[j];
            own.weights[2 * QUERIES + j] = apart ? 1.0f : 0.0f;
        }
    }
    __syncthreads();

    // All warps together.
    u32 domains = layer.rotated ? 2 : 1;
    u64 slot = ((u64)(plane * gridDim.z + set) * a.splits + split) * QUERIES;
    u32 share = warp_bytes(a);
    const u8* first = shared + query_bytes(a);
    u32 room_at = aligned(stage_bytes(a)), plain_at = room_at + room_bytes(a);
#pragma unroll 1
    for (u32 i = threadIdx.x; i < dim * QUERIES; i += blockDim.x) {
        u32 j = i / dim, channel = i % dim;
        float most = NOTHING, sum = 0.0f, plain = 0.0f, around = 0.0f;
#pragma unroll 1
        for (u32 w = 0; w < warps; w++) most = fmaxf(most, ((const float*)(first + w * share + room_at + weights_at(a)))[j]);
#pragma unroll 1
        for (u32 w = 0; w < warps; w++) {
            const float* weights = (const float*)(first + w * share + room_at + weights_at(a));
            float factor = weights[j] == NOTHING ? 0.0f : power_of_two(weights[j] - most);
            sum += factor * weights[QUERIES + j];
            plain += factor * ((const float*)(first + w * share + plain_at))[channel * QUERIES + j];
            if (weights[2 * QUERIES + j] > 0.0f) around += factor * ((const float*)(first + w * share + a.key_stage))[channel * QUERIES + j];
        }
        float* to = a.partial + (slot + j) * domains * dim + channel;
        to[0] = plain;
        if (domains == 2) to[dim] = around;
        if (channel == 0) {
            a.softmax[(slot + j) * 2] = most;
            a.softmax[(slot + j) * 2 + 1] = sum;
        }
    }
}
