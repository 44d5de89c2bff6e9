"""Reading constants out of an ONNX graph: the little that rebuilding weights from one needs."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from google.protobuf.message import DecodeError
from numpy.typing import NDArray
from onnx import numpy_helper

from kokoro_coreml.errors import CheckpointError

Array = NDArray[Any]

SCALE_SEARCH_DEPTH = 5
"""Nodes between an integer product and the multiplication by its scales: reshape, add, cast."""


@dataclass
class Graph:
    """An ONNX graph with its constants, producers and consumers by tensor name."""

    nodes: list[Any]
    constants: dict[str, Any]
    producer: dict[str, Any] = field(default_factory=dict)
    consumers: dict[str, list[Any]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def parse(cls, data: bytes, *, source: str) -> Graph:
        """Parse the bytes of an `.onnx` file.

        Raises:
            CheckpointError: not an ONNX model, truncated, empty, or with weights outside the file.
        """
        try:
            model = onnx.load_model_from_string(data)
        except DecodeError as error:
            raise CheckpointError(
                f"{source}: not an ONNX model, or truncated ({len(data)} bytes read); "
                "fetch the file again"
            ) from error
        outside = [t.name for t in model.graph.initializer if t.data_location == 1]
        if outside:
            raise CheckpointError(
                f"{source}: {len(outside)} weights lie outside the file ({outside[0]}, …); "
                "save the model as one file (onnx.save_model without external data)"
            )
        graph = cls(list(model.graph.node), {t.name: t for t in model.graph.initializer})
        if not graph.nodes:
            raise CheckpointError(f"{source}: the ONNX model holds no graph ({len(data)} bytes)")
        for node in graph.nodes:
            for name in node.output:
                graph.producer[name] = node
            for name in node.input:
                graph.consumers[name].append(node)
        return graph

    def raw(self, name: str) -> Array | None:
        """Return an initializer or `Constant` as stored, or None if `name` is computed."""
        tensor = self.constants.get(name)
        if tensor is None:
            node = self.producer.get(name)
            tensor = attributes(node).get("value") if node and node.op_type == "Constant" else None
        if tensor is None:
            return None
        array: Array = numpy_helper.to_array(tensor)
        return array

    def value(self, name: str) -> Array | None:
        """Return a floating-point constant as float32, through casts and dequantization of it."""
        stored = self.raw(name)
        if stored is not None:
            return stored.astype(np.float32) if is_float(stored) else None
        node = self.producer.get(name)
        if node is None:
            return None
        if node.op_type in {"Cast", "Identity"}:
            return self.value(node.input[0])
        if node.op_type == "Transpose":
            inner = self.value(node.input[0])
            return None if inner is None else np.transpose(inner, attributes(node).get("perm"))
        if node.op_type == "DequantizeLinear":
            quantized, scale = self.raw(node.input[0]), self.raw(node.input[1])
            if quantized is None or scale is None:
                return None
            axis = int(attributes(node).get("axis", 1))
            return dequantize(quantized, scale, self.optional(node, 2), axis=axis)
        return None

    def optional(self, node: Any, index: int) -> Array | None:
        """Return the constant at an input that may be left out."""
        if len(node.input) <= index or not node.input[index]:
            return None
        return self.raw(node.input[index])

    def downstream(self, node: Any, depth: int = SCALE_SEARCH_DEPTH) -> Iterator[Any]:
        """Yield the nodes that `node`'s first output reaches through elementwise steps."""
        frontier = [node]
        for _ in range(depth):
            frontier = [c for n in frontier for c in self.consumers[n.output[0]]]
            yield from frontier
            frontier = [n for n in frontier if n.op_type in {"Cast", "Add", "Reshape", "Mul"}]

    def product_scale(self, node: Any) -> Array | None:
        """Return the weight scale of a `MatMulInteger` or `ConvInteger`.

        onnxruntime's dynamic quantizer multiplies the integer product by `Mul(x_scale, w_scale)`,
        where only `w_scale` is a constant.
        """
        for step in self.downstream(node):
            if step.op_type != "Mul":
                continue
            for name in step.input:
                scales = self.producer.get(name)
                if scales is None or scales.op_type != "Mul":
                    continue
                found = [v for v in map(self.raw, scales.input) if v is not None]
                if len(found) == 1:
                    return found[0]
        return None


def attributes(node: Any) -> dict[str, Any]:
    """Return a node's attributes as Python values, tensors as `TensorProto`."""
    return {a.name: onnx.helper.get_attribute_value(a) for a in node.attribute}


def is_float(array: Array) -> bool:
    """Tell floating point, bfloat16 included (which numpy does not count as such)."""
    return array.dtype.kind == "f" or array.dtype.name == "bfloat16"


def dequantize(quantized: Array, scale: Array, zero_point: Array | None, *, axis: int) -> Array:
    """Return `(quantized - zero_point) * scale` in float32; per-axis where they are vectors."""

    def along(vector: Array) -> Array:
        if vector.size == 1:
            return vector.reshape(())
        shape = [1] * quantized.ndim
        shape[axis] = -1
        return vector.reshape(shape)

    shifted = quantized.astype(np.float32)
    if zero_point is not None:
        shifted -= along(zero_point).astype(np.float32)
    shifted *= along(scale.astype(np.float32))
    return shifted
