"""Writes the models beside this file that benches/js/onnx.ts runs: one attention operator each.

pip install onnx==1.23.2 && python benches/js/onnx/models.py
"""

from pathlib import Path

from onnx import TensorProto, helper

HERE = Path(__file__).parent
# Query heads and KV heads; they are attributes of GroupQueryAttention.
HEADS = [(8, 8), (32, 8), (3, 3), (9, 3)]


def floats(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)


def integers(name, shape):
    return helper.make_tensor_value_info(name, TensorProto.INT32, shape)


def write(name, node, inputs, outputs, opsets):
    graph = helper.make_graph([node], name, inputs, outputs)
    imports = [helper.make_opsetid(*opset) for opset in opsets]
    model = helper.make_model(graph, opset_imports=imports, ir_version=10)
    (HERE / f"{name}.onnx").write_bytes(model.SerializeToString())


# ONNX's own operator: queries over keys and values that lie there.
write(
    "attention",
    helper.make_node("Attention", ["query", "key", "value"], ["out"]),
    [
        floats("query", [1, "query_heads", "queries", "dim"]),
        floats("key", [1, "kv_heads", "tokens", "dim"]),
        floats("value", [1, "kv_heads", "tokens", "dim"]),
    ],
    [floats("out", [1, "query_heads", "queries", "dim"])],
    [("", 23)],
)

# ONNX Runtime's: takes one token in and attends, as a decoding step does.
for query_heads, kv_heads in HEADS:
    write(
        f"group-query-attention-{query_heads}-{kv_heads}",
        helper.make_node(
            "GroupQueryAttention",
            ["query", "key", "value", "past_key", "past_value", "last", "total"],
            ["out", "present_key", "present_value"],
            domain="com.microsoft",
            num_heads=query_heads,
            kv_num_heads=kv_heads,
        ),
        [
            floats("query", [1, 1, "query_channels"]),
            floats("key", [1, 1, "kv_channels"]),
            floats("value", [1, 1, "kv_channels"]),
            floats("past_key", [1, kv_heads, "past", "dim"]),
            floats("past_value", [1, kv_heads, "past", "dim"]),
            integers("last", [1]),
            integers("total", []),
        ],
        [
            floats("out", [1, 1, "query_channels"]),
            floats("present_key", [1, kv_heads, "tokens", "dim"]),
            floats("present_value", [1, kv_heads, "tokens", "dim"]),
        ],
        [("", 21), ("com.microsoft", 1)],
    )
