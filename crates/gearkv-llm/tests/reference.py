"""Makes the greedy continuations of reference.json: the model by its formulas, in float32, on dequantized weights.

    pip install numpy gguf
    python reference.py MODEL.gguf PROMPT.json 128      # PROMPT.json is a list of token ids
"""

import json
import sys

import numpy as np
from gguf import GGUFReader
from gguf.quants import dequantize

LAYERS, HEADS, KV_HEADS, DIM, BASE, EPSILON = 30, 9, 3, 64, 100000.0, 1e-5

weights = {t.name: dequantize(t.data, t.tensor_type).astype(np.float32) for t in GGUFReader(sys.argv[1]).tensors}
frequencies = 1.0 / BASE ** (np.arange(0, DIM, 2) / DIM)
keys = [np.zeros((0, KV_HEADS, DIM), np.float32)] * LAYERS
values = list(keys)


def normalize(x, weight):
    return x / np.sqrt((x * x).mean(-1, keepdims=True) + EPSILON) * weight


def rotate(x, positions):
    angles = np.outer(positions, frequencies)
    cos, sin = np.cos(angles)[:, None].astype(np.float32), np.sin(angles)[:, None].astype(np.float32)
    out = np.empty_like(x)
    out[..., 0::2] = x[..., 0::2] * cos - x[..., 1::2] * sin
    out[..., 1::2] = x[..., 0::2] * sin + x[..., 1::2] * cos
    return out


def half(x):
    return x.astype(np.float16).astype(np.float32)


def forward(ids, first):
    n = len(ids)
    positions = np.arange(first, first + n)
    x = weights["token_embd.weight"][ids]
    for layer in range(LAYERS):
        w = lambda name: weights[f"blk.{layer}.{name}.weight"]
        h = normalize(x, w("attn_norm"))
        q = rotate((h @ w("attn_q").T).reshape(n, HEADS, DIM), positions)
        k = rotate((h @ w("attn_k").T).reshape(n, KV_HEADS, DIM), positions)
        v = (h @ w("attn_v").T).reshape(n, KV_HEADS, DIM)
        keys[layer] = np.concatenate([keys[layer], half(k)])
        values[layer] = np.concatenate([values[layer], half(v)])
        hidden = np.arange(len(keys[layer]))[None] > positions[:, None]
        attended = np.empty((n, HEADS, DIM), np.float32)
        for head in range(HEADS):
            kv = head // (HEADS // KV_HEADS)
            scores = q[:, head] @ keys[layer][:, kv].T / 8
            scores[hidden] = -1e30
            scores = np.exp(scores - scores.max(-1, keepdims=True))
            attended[:, head] = scores / scores.sum(-1, keepdims=True) @ values[layer][:, kv]
        x = x + attended.reshape(n, -1) @ w("attn_output").T
        h = normalize(x, w("ffn_norm"))
        gate = h @ w("ffn_gate").T
        x = x + (gate / (1 + np.exp(-gate)) * (h @ w("ffn_up").T)) @ w("ffn_down").T
    return (normalize(x[-1:], weights["output_norm.weight"]) @ weights["token_embd.weight"].T)[0]


prompt = json.load(open(sys.argv[2]))
logits = forward(prompt, 0)
top = [[int(i), float(logits[i])] for i in np.argsort(-logits)[:8]]
tokens = []
for step in range(int(sys.argv[3])):
    tokens.append(int(logits.argmax()))
    logits = forward(tokens[-1:], len(prompt) + step)
print(json.dumps({"prompt": prompt, "tokens": tokens, "firstTop": top}))
