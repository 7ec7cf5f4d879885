"""A Llama in a GGUF file as an ONNX graph in float32, for transformers.js: no torch, and the operators that its own exports use.

python build-onnx.py MODEL.gguf FOLDER
"""

import json
import sys
from pathlib import Path

import numpy
import onnx
from gguf import GGUFReader, dequantize
from onnx import TensorProto, helper, numpy_helper

POSITIONS = 4096

source, folder = sys.argv[1], Path(sys.argv[2])
reader = GGUFReader(source)
tensors = {tensor.name: tensor for tensor in reader.tensors}


def field(name):
    return reader.fields[f"llama.{name}"].contents()


layers, width, heads, kv_heads = (
    field(name) for name in ("block_count", "embedding_length", "attention.head_count", "attention.head_count_kv")
)
epsilon, base, head_dim = field("attention.layer_norm_rms_epsilon"), field("rope.freq_base"), width // heads

nodes, constants = [], []


def weight(name):
    return dequantize(tensors[name].data, tensors[name].tensor_type).astype(numpy.float32)


def halves(matrix, count):
    """llama.cpp keeps the two channels of a rotation side by side; ONNX Runtime wants them half a head apart."""
    return matrix.reshape(count, matrix.shape[0] // count // 2, 2, matrix.shape[1]).swapaxes(1, 2).reshape(matrix.shape)


def constant(name, array):
    constants.append(numpy_helper.from_array(numpy.asarray(array, order="C"), name))
    return name


def node(operator, inputs, output, others=(), domain="", **attributes):
    nodes.append(helper.make_node(operator, inputs, [output, *others], domain=domain, name=output, **attributes))
    return output


def product(x, output, matrix):
    return node("MatMul", [x, constant(f"{output}.weight", matrix.T)], output)


def norm(x, output, name):
    weights = constant(f"{output}.weight", weight(name))
    return node("SimplifiedLayerNormalization", [x, weights], output, axis=-1, epsilon=float(epsilon), stash_type=1)


embedding = weight("token_embd.weight")
angles = numpy.outer(numpy.arange(POSITIONS), 1 / base ** (numpy.arange(0, head_dim, 2) / head_dim))
constant("embedding", embedding)
constant("cos", numpy.cos(angles).astype(numpy.float32))
constant("sin", numpy.sin(angles).astype(numpy.float32))
constant("one", numpy.array([1], numpy.int64))
constant("index", numpy.array(1, numpy.int64))
constant("far", numpy.array([2**31], numpy.int64))

node("ReduceSum", ["attention_mask", "one"], "seen", keepdims=0)
node("Cast", [node("Sub", ["seen", "index"], "last")], "last32", to=TensorProto.INT32)
node("Gather", [node("Shape", ["attention_mask"], "mask_shape"), "index"], "length", axis=0)
node("Cast", ["length"], "length32", to=TensorProto.INT32)

value = helper.make_tensor_value_info
inputs = [
    value("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
    value("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
    value("num_logits_to_keep", TensorProto.INT64, []),
]
outputs = [value("logits", TensorProto.FLOAT, ["batch_size", "num_logits", embedding.shape[0]])]
hidden = node("Gather", ["embedding", "input_ids"], "hidden")
for layer in range(layers):
    block = f"blk.{layer}"
    normed = norm(hidden, f"{block}.normed", f"{block}.attn_norm.weight")
    q = product(normed, f"{block}.q", halves(weight(f"{block}.attn_q.weight"), heads))
    k = product(normed, f"{block}.k", halves(weight(f"{block}.attn_k.weight"), kv_heads))
    v = product(normed, f"{block}.v", weight(f"{block}.attn_v.weight"))
    past = [f"past_key_values.{layer}.{half}" for half in ("key", "value")]
    present = [f"present.{layer}.{half}" for half in ("key", "value")]
    attended = node(
        "GroupQueryAttention",
        [q, k, v, *past, "last32", "length32", "cos", "sin"],
        f"{block}.attended",
        present,
        domain="com.microsoft",
        num_heads=heads,
        kv_num_heads=kv_heads,
        do_rotary=1,
        rotary_interleaved=0,
        scale=float(head_dim**-0.5),
    )
    mixed = product(attended, f"{block}.mixed", weight(f"{block}.attn_output.weight"))
    hidden = node("Add", [hidden, mixed], f"{block}.after_attention")
    normed = norm(hidden, f"{block}.normed_again", f"{block}.ffn_norm.weight")
    gate = product(normed, f"{block}.gate", weight(f"{block}.ffn_gate.weight"))
    swish = node("Mul", [gate, node("Sigmoid", [gate], f"{block}.sigmoid")], f"{block}.swish")
    inner = node("Mul", [swish, product(normed, f"{block}.up", weight(f"{block}.ffn_up.weight"))], f"{block}.inner")
    fed = product(inner, f"{block}.down", weight(f"{block}.ffn_down.weight"))
    hidden = node("Add", [hidden, fed], f"{block}.after_feed_forward")
    for was, now in zip(past, present):
        inputs.append(value(was, TensorProto.FLOAT, ["batch_size", kv_heads, "past_sequence_length", head_dim]))
        outputs.append(value(now, TensorProto.FLOAT, ["batch_size", kv_heads, "total_sequence_length", head_dim]))

# Logits of as many tokens at the end as are asked for; 0: of all, since a slice from -0 begins at 0.
hidden = norm(hidden, "normed", "output_norm.weight")
start = node("Neg", [node("Reshape", ["num_logits_to_keep", "one"], "kept")], "start")
tail = node("Slice", [hidden, start, "far", "one"], "tail")
if "output.weight" in tensors:
    nodes.append(helper.make_node("MatMul", [tail, constant("head", weight("output.weight").T)], ["logits"], name="logits"))
else:
    turned = node("Transpose", ["embedding"], "embedding_turned", perm=[1, 0])
    nodes.append(helper.make_node("MatMul", [tail, turned], ["logits"], name="logits"))

graph = helper.make_graph(nodes, "llama", inputs, outputs, constants)
opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
(folder / "onnx").mkdir(parents=True, exist_ok=True)
onnx.save(helper.make_model(graph, opset_imports=opsets, ir_version=9), folder / "onnx/model.onnx")
config = {
    "model_type": "llama",
    "architectures": ["LlamaForCausalLM"],
    "hidden_size": width,
    "num_hidden_layers": layers,
    "num_attention_heads": heads,
    "num_key_value_heads": kv_heads,
    "vocab_size": embedding.shape[0],
    "max_position_embeddings": POSITIONS,
}
(folder / "generation_config.json").write_text("{}")
# Last: whoever finds it finds the rest.
(folder / "config.json").write_text(json.dumps(config))
