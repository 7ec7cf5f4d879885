"""Writes tiny.onnx and tiny-half.onnx beside this file: a Llama of two layers, whose weights the graph makes itself (sines), so that they take no space.

pip install numpy==2.4.6 onnx==1.23.2 && python npm/gear-kv/test/peers/tiny-model.py
"""

from pathlib import Path

import numpy
from onnx import TensorProto, helper, numpy_helper

HERE = Path(__file__).parent
LAYERS, VOCABULARY, WIDTH, HEADS, KV_HEADS, DIM, INNER, POSITIONS = 2, 64, 64, 4, 2, 16, 96, 256


def build(name, kind, numpy_kind):
    nodes, constants = [], []
    made = 0

    def constant(name, array):
        constants.append(numpy_helper.from_array(numpy.asarray(array), name))
        return name

    def node(operator, inputs, outputs, domain="", **attributes):
        nodes.append(helper.make_node(operator, inputs, outputs, domain=domain, name=outputs[0], **attributes))
        return outputs[0]

    def weights(name, rows, columns, size=None):
        """sin(k² · step): looks random, and ONNX Runtime computes it once, as it loads the model."""
        nonlocal made
        made += 1
        numbers = node("Range", ["zero", constant(f"{name}_n", numpy.float32(rows * columns)), "unit"], [f"{name}_range"])
        step = constant(f"{name}_step", numpy.float32(0.37 + 0.0171 * made))
        wave = node("Sin", [node("Mul", [node("Mul", [numbers, numbers], [f"{name}_sq"]), step], [f"{name}_x"])], [f"{name}_sin"])
        scale = constant(f"{name}_scale", numpy.float32(size or 1.6 / numpy.sqrt(rows)))
        scaled = node("Mul", [wave, scale], [f"{name}_scaled"])
        shaped = node("Reshape", [scaled, constant(f"{name}_shape", numpy.array([rows, columns], numpy.int64))], [f"{name}_2d"])
        return node("Cast", [shaped], [name], to=kind)

    constant("zero", numpy.float32(0))
    constant("unit", numpy.float32(1))
    constant("one", numpy.array([1], numpy.int64))
    constant("index", numpy.array(1, numpy.int64))
    angles = numpy.outer(numpy.arange(POSITIONS), 1 / 10000 ** (numpy.arange(0, DIM, 2) / DIM))
    constant("cos", numpy.cos(angles).astype(numpy_kind))
    constant("sin", numpy.sin(angles).astype(numpy_kind))
    constant("norm", numpy.ones(WIDTH, numpy_kind))

    node("ReduceSum", ["attention_mask", "one"], ["seen"], keepdims=0)
    node("Sub", ["seen", "index"], ["last"])
    node("Cast", ["last"], ["last32"], to=TensorProto.INT32)
    node("Shape", ["attention_mask"], ["mask_shape"])
    node("Gather", ["mask_shape", "index"], ["length"], axis=0)
    node("Cast", ["length"], ["length32"], to=TensorProto.INT32)

    hidden = node("Gather", [weights("embedding", VOCABULARY, WIDTH, 1.0), "input_ids"], ["h"])
    inputs = [
        helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["batch_size", "sequence_length"]),
        helper.make_tensor_value_info("attention_mask", TensorProto.INT64, ["batch_size", "total_sequence_length"]),
    ]
    outputs = [helper.make_tensor_value_info("logits", kind, ["batch_size", "sequence_length", VOCABULARY])]
    norm = lambda x, out: node("SimplifiedLayerNormalization", [x, "norm"], [out], axis=-1, epsilon=1e-5, stash_type=1)
    for layer in range(LAYERS):
        product = lambda x, weight, rows, columns: node("MatMul", [x, weights(f"{weight}_{layer}", rows, columns)], [f"{weight}_out_{layer}"])
        normed = norm(hidden, f"attention_norm_{layer}")
        q = product(normed, "q", WIDTH, HEADS * DIM)
        k = product(normed, "k", WIDTH, KV_HEADS * DIM)
        v = product(normed, "v", WIDTH, KV_HEADS * DIM)
        past = [f"past_key_values.{layer}.{half}" for half in ("key", "value")]
        present = [f"present.{layer}.{half}" for half in ("key", "value")]
        attended = node(
            "GroupQueryAttention",
            [q, k, v, *past, "last32", "length32", "cos", "sin"],
            [f"attended_{layer}", *present],
            domain="com.microsoft",
            num_heads=HEADS,
            kv_num_heads=KV_HEADS,
            do_rotary=1,
            rotary_interleaved=0,
            scale=float(DIM**-0.5),
        )
        hidden = node("Add", [hidden, product(attended, "o", HEADS * DIM, WIDTH)], [f"after_attention_{layer}"])
        inner = product(norm(hidden, f"mlp_norm_{layer}"), "up", WIDTH, INNER)
        active = node("Mul", [inner, node("Sigmoid", [inner], [f"gate_{layer}"])], [f"active_{layer}"])
        hidden = node("Add", [hidden, product(active, "down", INNER, WIDTH)], [f"after_mlp_{layer}"])
        for was, now in zip(past, present):
            inputs.append(helper.make_tensor_value_info(was, kind, ["batch_size", KV_HEADS, "past_sequence_length", DIM]))
            outputs.append(helper.make_tensor_value_info(now, kind, ["batch_size", KV_HEADS, "total_sequence_length", DIM]))
    nodes.append(helper.make_node("MatMul", [norm(hidden, "final"), weights("head", WIDTH, VOCABULARY)], ["logits"], name="logits"))
    graph = helper.make_graph(nodes, name, inputs, outputs, constants)
    opsets = [helper.make_opsetid("", 18), helper.make_opsetid("com.microsoft", 1)]
    (HERE / f"{name}.onnx").write_bytes(helper.make_model(graph, opset_imports=opsets, ir_version=9).SerializeToString())


build("tiny", TensorProto.FLOAT, numpy.float32)
build("tiny-half", TensorProto.FLOAT16, numpy.float16)
