"""What PyTorch's attention takes for the same decode step as crates/gearkv-cuda/examples/attention.rs, in float16.

python3 scripts/cuda/sdpa.py [--tokens 32768] [--batches 1,8,32] [--positions 64]

With --positions, also of a chunk of so many query positions, which see all tokens here.
"""

import argparse
import statistics

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

HEADS, QUERY_HEADS, DIM = 8, 32, 128
ROTATED_BYTES = 400 << 20
BACKENDS = {"flash": SDPBackend.FLASH_ATTENTION, "efficient": SDPBackend.EFFICIENT_ATTENTION, "cudnn": SDPBackend.CUDNN_ATTENTION}


def microseconds(call, rounds=5):
    def measure(calls):
        start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
        start.record()
        for i in range(calls):
            call(i)
        end.record()
        torch.cuda.synchronize()
        return start.elapsed_time(end)

    measure(10)
    calls = max(10, min(5000, int(20 / (measure(10) / 10))))
    return statistics.median(measure(calls) for _ in range(rounds)) / calls * 1000


def main():
    options = argparse.ArgumentParser()
    options.add_argument("--tokens", type=int, default=32768)
    options.add_argument("--batches", default="1,8,32")
    options.add_argument("--positions", type=int, default=1)
    given = options.parse_args()
    print(f"PyTorch {torch.__version__} on {torch.cuda.get_device_name()}, float16, {given.tokens} tokens")
    print("kernel       batch  positions  attend us   GB/s")
    steps = sorted({1, given.positions})
    for batch, positions in ((batch, positions) for batch in map(int, given.batches.split(",")) for positions in steps):
        size = 2 * 2 * batch * HEADS * given.tokens * DIM
        sets = max(1, -(-ROTATED_BYTES // size))
        shape = (batch, HEADS, given.tokens, DIM)
        pairs = [[torch.randn(shape, device="cuda", dtype=torch.float16) for _ in range(2)] for _ in range(sets)]
        q = torch.randn(batch, QUERY_HEADS, positions, DIM, device="cuda", dtype=torch.float16)
        # A step's query heads of one KV head side by side, as queries: the same sums with one pass over the keys.
        folded = q.view(batch, HEADS, QUERY_HEADS // HEADS * positions, DIM)
        for name, backend in BACKENDS.items():
            for how, query, grouped in (("gqa", q, True), ("folded", folded, False)):
                def call(i):
                    k, v = pairs[i % sets]
                    torch.nn.functional.scaled_dot_product_attention(query, k, v, enable_gqa=grouped)

                try:
                    with sdpa_kernel(backend):
                        took = microseconds(call)
                except RuntimeError as error:
                    print(f"{name} {how}: does not run: {str(error).splitlines()[0]}")
                    continue
                print(f"{name:9} {how:6} {batch:2} {positions:10} {took:10.1f} {size / took / 1000:6.0f}")
        del pairs


if __name__ == "__main__":
    main()
