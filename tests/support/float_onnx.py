"""Rewrite the dynamic int8 export into the float export it was made from.

Written without a look at `onnx_export`: it takes scales by onnxruntime's naming (`X_quantized`,
`X_scale`), where the reader follows the graph, so that agreement of the two means something.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

Array = NDArray[Any]


class _Rewriter:
    def __init__(self, model: Any) -> None:
        self.model = model
        self.values = {t.name: t for t in model.graph.initializer}
        self.producer = {o: n for n in model.graph.node for o in n.output}
        self.consumers: dict[str, list[Any]] = {}
        for node in model.graph.node:
            for name in node.input:
                self.consumers.setdefault(name, []).append(node)
        self.added: dict[str, Array] = {}

    def array(self, name: str) -> Array:
        return numpy_helper.to_array(self.values[name])

    def weight(self, name: str, zero_point: str) -> Array:
        stem = name.removesuffix("_quantized")
        scale = self.array(f"{stem}_scale").astype(np.float32)
        shifted = self.array(name).astype(np.float32) - self.array(zero_point).astype(np.float32)
        return (shifted * scale).astype(np.float32)

    def product(self, node: Any) -> Any:
        """`DynamicQuantizeLinear -> XInteger -> (Add bias) -> Cast -> Mul` becomes `X`."""
        source = self.producer[node.input[0]].input[0]
        stem = node.input[1].removesuffix("_quantized")
        self.added[stem] = self.weight(node.input[1], node.input[3])
        inputs = [source, stem]
        end = self.consumers[node.output[0]][0]
        if end.op_type == "Add":
            bias = next(i for i in end.input if i != node.output[0])
            rounded = self.producer[self.producer[bias].input[0]]
            divided = self.producer[self.producer[rounded.input[0]].input[0]]
            inputs.append(divided.input[0])
            end = self.consumers[end.output[0]][0]
        assert end.op_type == "Cast"
        end = self.consumers[end.output[0]][0]
        assert end.op_type == "Mul"
        return helper.make_node(
            node.op_type.removesuffix("Integer"),
            inputs,
            [end.output[0]],
            name=node.name.removesuffix("_quant"),
            **{a.name: helper.get_attribute_value(a) for a in node.attribute},
        )

    def lstm(self, node: Any) -> Any:
        stems = [node.input[i].removesuffix("_quantized") for i in (1, 2)]
        for stem in stems:
            scale = self.array(f"{stem}_scale")[:, None, None]
            self.added[stem] = (self.array(f"{stem}_quantized") * scale).transpose(0, 2, 1)
        assert not self.array(node.input[9]).any()
        assert not self.array(node.input[11]).any()
        return helper.make_node(
            "LSTM",
            [node.input[0], *stems, *list(node.input[3:8])],
            list(node.output),
            name=node.name.removesuffix("_quant"),
            **{a.name: helper.get_attribute_value(a) for a in node.attribute},
        )

    def embedding(self, node: Any) -> Any:
        after = self.consumers[node.output[0]][0]
        stem = node.input[0].removesuffix("_quantized")
        self.added[stem] = self.weight(node.input[0], after.input[2])
        return helper.make_node(
            "Gather",
            [stem, node.input[1]],
            [after.output[0]],
            name=node.name.removesuffix("_quant"),
        )


def float_model(int8_bytes: bytes, *, dtype: type[np.floating[Any]] = np.float32) -> Any:
    """Return the float `ModelProto`; with float16 only weights are narrowed (not runnable)."""
    model = onnx.load_model_from_string(int8_bytes)
    rewriter = _Rewriter(model)
    rewrite = {
        "MatMulInteger": rewriter.product,
        "ConvInteger": rewriter.product,
        "DynamicQuantizeLSTM": rewriter.lstm,
    }
    replaced = []
    for node in model.graph.node:
        if node.op_type == "Gather" and node.input[0].endswith("_quantized"):
            replaced.append(rewriter.embedding(node))
        else:
            replaced.append(rewrite.get(node.op_type, lambda n: n)(node))
    written: dict[str, Any] = {}
    for node in replaced:
        for name in node.output:
            if written.get(name) is None or node.op_type not in {"Mul", "DequantizeLinear"}:
                written[name] = node
    kept = [n for n in replaced if all(written[o] is n for o in n.output if o)]
    used = _reachable(kept, [o.name for o in model.graph.output])
    del model.graph.node[:]
    model.graph.node.extend(n for n in kept if any(o in used for o in n.output))
    constants = {t.name: numpy_helper.to_array(t) for t in model.graph.initializer}
    del model.graph.initializer[:]
    for name, value in (constants | rewriter.added).items():
        if name in used:
            narrow = value.dtype == np.float32
            with np.errstate(over="ignore"):  # masks of -3.4e38 become -inf, as in real exports
                array = np.array(value, dtype=dtype if narrow else value.dtype, order="C")
            model.graph.initializer.append(numpy_helper.from_array(array, name))
    return model


def _reachable(nodes: list[Any], outputs: list[str]) -> set[str]:
    producer = {o: n for n in nodes for o in n.output}
    used: set[str] = set()
    stack = list(outputs)
    while stack:
        name = stack.pop()
        if name in used:
            continue
        used.add(name)
        if name in producer:
            stack.extend(i for i in producer[name].input if i)
    return used
