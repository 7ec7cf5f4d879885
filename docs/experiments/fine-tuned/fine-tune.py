"""Trains the upper layers of a Llama in GGUF on worked examples, and writes it as GGUF again.

    pip install jax optax gguf tokenizers
    python fine-tune.py base.F16.gguf train.jsonl tuned.F16.gguf [--steps 200]

Each line of the examples is {"question": ..., "answer": ...} as in GSM8k. They are shown as
`gear-kv experiment` shows them, one behind the other, and only answers are learned.
"""

import argparse
import json
import re
import sys
import time

import jax
import jax.numpy as jnp
import numpy as np
import optax
from gguf import GGUFReader, GGUFWriter, GGUFValueType
from tokenizers import Tokenizer, models, pre_tokenizers

parser = argparse.ArgumentParser()
parser.add_argument("base")
parser.add_argument("examples")
parser.add_argument("tuned")
parser.add_argument("--steps", type=int, default=200)
parser.add_argument("--layers", type=int, default=12, help="how many of the upper layers are trained")
parser.add_argument("--tokens", type=int, default=512, help="tokens of a sequence")
parser.add_argument("--batch", type=int, default=4)
parser.add_argument("--rate", type=float, default=1e-4)
parser.add_argument("--seed", type=int, default=0)
given = parser.parse_args()

reader = GGUFReader(given.base)


def field(name):
    return reader.fields[name].contents()


assert field("general.architecture") == "llama" and field("tokenizer.ggml.pre") == "smollm"
LAYERS, HEADS = field("llama.block_count"), field("llama.attention.head_count")
GROUPS = field("llama.attention.head_count_kv")
WIDTH = field("llama.embedding_length")
CHANNELS = WIDTH // HEADS
EPSILON, THETA = field("llama.attention.layer_norm_rms_epsilon"), field("llama.rope.freq_base")
tensors = {t.name: t for t in reader.tensors}
weights = {n: jnp.asarray(t.data.astype(np.float32)) for n, t in tensors.items()}
PARTS = sorted({n.split(".", 2)[2] for n in weights if n.startswith("blk.0.")})


def stack(first, last):
    return {p: jnp.stack([weights[f"blk.{i}.{p}"] for i in range(first, last)]) for p in PARTS}


SPLIT = LAYERS - given.layers
kept = {"embedding": weights["token_embd.weight"], "layers": stack(0, SPLIT)}
trained = {"layers": stack(SPLIT, LAYERS), "norm": weights["output_norm.weight"]}

angles = np.arange(given.tokens)[:, None] * THETA ** (-np.arange(0, CHANNELS, 2) / CHANNELS)
COS, SIN = jnp.asarray(np.cos(angles), jnp.float32), jnp.asarray(np.sin(angles), jnp.float32)
MASK = jnp.tril(jnp.ones((given.tokens, given.tokens), bool))


def norm(x, weight):
    return x * jax.lax.rsqrt(jnp.mean(x * x, -1, keepdims=True) + EPSILON) * weight


def turned(x):  # llama.cpp's order: pairs of neighbors are turned; [batch, token, head, channel]
    even, odd = x[..., 0::2], x[..., 1::2]
    cos, sin = COS[:, None], SIN[:, None]
    return jnp.stack([even * cos - odd * sin, even * sin + odd * cos], -1).reshape(x.shape)


def layer(x, w):
    batch, tokens, _ = x.shape
    y = norm(x, w["attn_norm.weight"])
    q = turned((y @ w["attn_q.weight"].T).reshape(batch, tokens, HEADS, CHANNELS))
    k = turned((y @ w["attn_k.weight"].T).reshape(batch, tokens, GROUPS, CHANNELS))
    v = (y @ w["attn_v.weight"].T).reshape(batch, tokens, GROUPS, CHANNELS)
    q = q.reshape(batch, tokens, GROUPS, HEADS // GROUPS, CHANNELS)
    scores = jnp.einsum("btghc,bsgc->bghts", q, k) / np.sqrt(CHANNELS)
    chances = jax.nn.softmax(jnp.where(MASK, scores, -1e30), -1)
    seen = jnp.einsum("bghts,bsgc->btghc", chances, v).reshape(batch, tokens, WIDTH)
    x = x + seen @ w["attn_output.weight"].T
    y = norm(x, w["ffn_norm.weight"])
    gate = jax.nn.silu(y @ w["ffn_gate.weight"].T) * (y @ w["ffn_up.weight"].T)
    return x + gate @ w["ffn_down.weight"].T, None


def loss(trained, kept, ids, learned):
    x = kept["embedding"][ids]
    x, _ = jax.lax.scan(layer, x, kept["layers"])
    x = jax.lax.stop_gradient(x)
    x, _ = jax.lax.scan(jax.checkpoint(layer), x, trained["layers"])
    logits = norm(x, trained["norm"])[:, :-1] @ kept["embedding"].T
    nats = optax.softmax_cross_entropy_with_integer_labels(logits, ids[:, 1:])
    return jnp.sum(nats * learned[:, 1:]) / jnp.sum(learned[:, 1:])


def sequences():
    """Examples one behind the other, cut into sequences; 1 where a token is learned."""
    vocabulary = {token: index for index, token in enumerate(field("tokenizer.ggml.tokens"))}
    merges = [tuple(merge.split(" ")) for merge in field("tokenizer.ggml.merges")]
    tokenizer = Tokenizer(models.BPE(vocabulary, merges))
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(add_prefix_space=False)]
    )
    lines = [json.loads(line) for line in open(given.examples)]
    order = np.random.default_rng(given.seed)
    while True:
        ids, learned = [], []
        for index in order.permutation(len(lines)):
            steps, answer = re.sub(r"<<.*?>>", "", lines[index]["answer"]).split("####")
            question = tokenizer.encode(f"Q: {lines[index]['question']}\nA:").ids
            steps = " ".join(steps.split())
            told = tokenizer.encode(f" {steps} The answer is {answer.strip()}.\n\n").ids
            ids += question + told
            learned += [0] * len(question) + [1] * len(told)
            while len(ids) >= given.tokens:
                yield ids[: given.tokens], learned[: given.tokens]
                ids, learned = [], []  # the next sequence starts with a whole example


optimizer = optax.chain(
    optax.clip_by_global_norm(1.0),
    optax.adamw(optax.warmup_cosine_decay_schedule(0, given.rate, 20, given.steps), weight_decay=0.0),
)


@jax.jit
def step(trained, state, ids, learned):
    value, change = jax.value_and_grad(loss)(trained, kept, ids, learned)
    change, state = optimizer.update(change, state, trained)
    return optax.apply_updates(trained, change), state, value


def write(trained):
    writer = GGUFWriter(given.tuned, "llama")
    for name, f in reader.fields.items():
        if name.startswith("GGUF.") or name == "general.architecture":
            continue
        if name == "general.name":
            writer.add_name(field(name) + " tuned on " + given.examples.split("/")[-1])
        elif f.types[0] == GGUFValueType.ARRAY:
            writer.add_key_value(name, f.contents(), f.types[0], f.types[-1])
        else:
            writer.add_key_value(name, f.contents(), f.types[0])
    for name, tensor in tensors.items():
        data = np.asarray(weights[name])
        if name == "output_norm.weight":
            data = np.asarray(trained["norm"])
        elif name.startswith("blk.") and int(name.split(".")[1]) >= SPLIT:
            _, index, part = name.split(".", 2)
            data = np.asarray(trained["layers"][part][int(index) - SPLIT])
        writer.add_tensor(name, data.astype(tensor.data.dtype))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


state = optimizer.init(trained)
source = sequences()
began, smooth = time.time(), None
for number in range(1, given.steps + 1):
    pairs = [next(source) for _ in range(given.batch)]
    ids, learned = (jnp.asarray([p[i] for p in pairs]) for i in (0, 1))
    trained, state, value = step(trained, state, ids, learned)
    value = float(value)
    smooth = value if smooth is None else 0.9 * smooth + 0.1 * value
    left = (time.time() - began) / number * (given.steps - number)
    print(f"step {number} of {given.steps}: {value:.3f} nats a token (smoothed {smooth:.3f}), {left / 60:.0f} min left", file=sys.stderr, flush=True)
    if number % 25 == 0 or number == given.steps:
        write(trained)
