"""Rebuild upstream's state dicts from an ONNX export of the network.

An exporter keeps the module path in each node's name and in the names of biases, norms and
embeddings, but calls most matrices `onnx::MatMul_6547` or `/encoder/F0.0/Mul_output_0`. So small
tensors are found by their own name, matrices by the node that multiplies with them, and an int8
graph differs from a float one only in how the matrix is read. Tested on the dynamic int8 export of
Kokoro-82M v1.0 (onnxruntime's quantizer) and on float32 and float16 graphs of the same names.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.checkpoint.onnx_graph import Array, Graph, attributes, dequantize
from kokoro_coreml.checkpoint.schema import AFFINE, expected_shapes
from kokoro_coreml.checkpoint.types import PARTS
from kokoro_coreml.config import ModelConfig
from kokoro_coreml.errors import CheckpointError

LSTM_LEAVES = ("weight_ih_l0", "weight_hh_l0", "bias_ih_l0", "bias_hh_l0")
DIRECTIONS = ("", "_reverse")
ONNX_GATES_IN_TORCH_ORDER = (0, 2, 3, 1)
"""ONNX stacks the gates i, o, f, c; torch stacks i, f, g (= c), o."""

MATRIX_OPS = {"MatMul", "FusedMatMul", "Gemm", "MatMulInteger"}
CONVOLUTIONS = {"Conv", "ConvTranspose", "ConvInteger"}
RECURRENT = {"LSTM", "DynamicQuantizeLSTM"}


def read_onnx(
    data: bytes, config: ModelConfig, *, source: str
) -> tuple[dict[str, dict[str, Tensor]], tuple[str, ...]]:
    """Rebuild the five state dicts, in upstream's keys with weight norm folded into `weight`.

    Args:
        data: the bytes of the `.onnx` file.
        config: says which keys to look for; the graph does not carry it.
        source: name of the file, for messages.

    Returns:
        State dicts for `schema.canonical` to check and complete, and notes on what was done.

    Raises:
        CheckpointError: not an ONNX model, or none of the network's weights are in it.
    """
    reader = _Reader(Graph.parse(data, source=source), config, source)
    reader.read()
    if not any(reader.state.values()):
        raise CheckpointError(
            f"{source}: this ONNX graph is not an export of the Kokoro network; none of its "
            f"{len(reader.graph.constants)} constants belongs to a module of it"
        )
    notes = ["rebuilt from an ONNX graph, weight norm folded"]
    if reader.dequantized:
        notes.append(f"{len(reader.dequantized)} tensors dequantized from 8 bits")
    return reader.state, tuple(notes)


class _Names:
    """Finds a key of the network by the longest suffix of a dotted path that only it ends with."""

    def __init__(self, full_names: set[str]) -> None:
        self._by_suffix: dict[str, set[str]] = defaultdict(set)
        for full in full_names:
            parts = full.split(".")
            for start in range(len(parts)):
                self._by_suffix[".".join(parts[start:])].add(full)

    def find(self, path: str) -> str | None:
        """Return the full name, or None; `_N`, put behind repeated calls, is ignored."""
        for spelling in (path, re.sub(r"_\d+(?=\.|$)", "", path)):
            parts = spelling.split(".")
            for start in range(len(parts)):
                found = self._by_suffix.get(".".join(parts[start:]), set())
                if len(found) == 1:
                    return next(iter(found))
                if found:
                    break
        return None


class _Reader:
    def __init__(self, graph: Graph, config: ModelConfig, source: str) -> None:
        self.graph = graph
        self.source = source
        self.state: dict[str, dict[str, Tensor]] = {part: {} for part in PARTS}
        self.dequantized: set[str] = set()
        self._origin: dict[str, str] = {}
        shapes = {
            f"{part}.{key}": shape
            for part, keys in expected_shapes(config).items()
            for key, shape in keys.items()
        }
        # `text_encoder` is a part and also a child of `predictor`: full names keep them apart.
        matrices = {k for k, s in shapes.items() if k.endswith(".weight") and len(s) > 1}
        normed = {k.removesuffix("_v") for k in shapes if k.endswith(".weight_v")}
        recurrent = {k.rpartition(".")[0] for k in shapes if k.endswith(LSTM_LEAVES[0])}
        adain = {k.removesuffix(".fc.weight") for k in shapes if k.endswith(".fc.weight")}
        self._modules = _Names({k.rpartition(".")[0] for k in matrices | normed} | recurrent)
        self._keys = _Names((set(shapes) - matrices) | {n + leaf for n in adain for leaf in AFFINE})

    def read(self) -> None:
        for name in self.graph.constants:
            self._read_named(name)
        for node in self.graph.nodes:
            if node.op_type in MATRIX_OPS:
                self._read_matrix(node)
            elif node.op_type in CONVOLUTIONS:
                self._read_convolution(node)
            elif node.op_type in RECURRENT:
                self._read_lstm(node)
            elif node.op_type == "Gather":
                self._read_embedding(node)

    def _put(self, full: str, value: Array, origin: str) -> None:
        part, _, key = full.partition(".")
        tensor = torch.from_numpy(np.array(value, dtype=np.float32, order="C"))
        known = self.state[part].setdefault(key, tensor)
        if self._origin.setdefault(full, origin) != origin and not torch.equal(known, tensor):
            raise CheckpointError(
                f"{self.source}: {full} stands twice in the graph with different values "
                f"({self._origin[full]} and {origin}); expected one set of shared weights"
            )

    def _read_named(self, name: str) -> None:
        full = self._keys.find(name)
        value = self.graph.value(name) if full else None
        if full and value is not None:
            self._put(full, value, name)

    def _module(self, node: Any, weight: str) -> str | None:
        """Name the module of a node: by its weight's name, its own, or the bias added behind it."""
        stem = re.sub(r"\.weight(_quantized|_\d+)*$", "", weight)
        if stem != weight and (named := self._modules.find(stem)):
            return named
        path = node.name.strip("/").split("/")[:-1]
        if path and (named := self._modules.find(".".join(path))):
            return named
        for step in self.graph.downstream(node):
            for name in step.input:
                if name.endswith(".bias") and name in self.graph.constants:
                    return self._modules.find(name.removesuffix(".bias"))
        return None

    def _weight(self, node: Any, *, axis: int) -> Array | None:
        """Return the second operand of a product as float32, or None where it is computed."""
        if node.op_type not in {"MatMulInteger", "ConvInteger"}:
            return self.graph.value(node.input[1])
        quantized, scale = self.graph.raw(node.input[1]), self.graph.product_scale(node)
        if quantized is None or scale is None:
            return None
        self.dequantized.add(node.input[1])
        return dequantize(quantized, scale, self.graph.optional(node, 3), axis=axis)

    def _seen(self, full: str, origin: str) -> bool:
        return self._origin.get(full) == origin

    def _read_matrix(self, node: Any) -> None:
        module = self._module(node, node.input[1])
        if module is None or self._seen(f"{module}.weight", node.input[1]):
            return
        weight = self._weight(node, axis=1)
        if weight is None or weight.ndim != 2:
            return
        settings = attributes(node)
        if settings.get("alpha", 1.0) != 1.0 or settings.get("beta", 1.0) != 1.0:
            raise CheckpointError(
                f"{self.source}: {node.op_type} {node.name!r} scales its operands; expected 1.0"
            )
        if not settings.get("transB", 0):
            weight = weight.T
        self._put(f"{module}.weight", weight, node.input[1])
        if node.op_type == "Gemm":
            self._read_bias(module, node, 2)

    def _read_convolution(self, node: Any) -> None:
        module = self._module(node, node.input[1])
        if module is None or self._seen(f"{module}.weight", node.input[1]):
            return
        weight = self._weight(node, axis=0)
        if weight is not None:
            self._put(f"{module}.weight", weight, node.input[1])
            if node.op_type != "ConvInteger":
                self._read_bias(module, node, 2)

    def _read_bias(self, module: str, node: Any, index: int) -> None:
        if len(node.input) > index and node.input[index]:
            value = self.graph.value(node.input[index])
            if value is not None:
                self._put(f"{module}.bias", value, node.input[index])

    def _read_embedding(self, node: Any) -> None:
        module = self._module(node, node.input[0])
        stored = self.graph.raw(node.input[0])
        if module is None or stored is None or stored.ndim != 2:
            return
        value = self.graph.value(node.input[0])
        if value is None:
            after = next(
                (
                    c
                    for c in self.graph.consumers[node.output[0]]
                    if c.op_type == "DequantizeLinear"
                ),
                None,
            )
            scale = self.graph.raw(after.input[1]) if after is not None else None
            if after is None or scale is None or scale.size != 1:
                return
            value = dequantize(stored, scale, self.graph.optional(after, 2), axis=1)
            self.dequantized.add(node.input[0])
        self._put(f"{module}.weight", value, node.input[0])

    def _read_lstm(self, node: Any) -> None:
        module = self._module(node, "")
        tensors = self._lstm_tensors(node)
        if module is None or tensors is None:
            return
        for leaf, value in tensors.items():
            self._put(f"{module}.{leaf}", value, f"{node.input[1]} {leaf}")

    def _lstm_tensors(self, node: Any) -> Mapping[str, Array] | None:
        """Return torch's tensors of a bidirectional LSTM.

        ONNX: W [2, 4H, I], R [2, 4H, H], B [2, 8H] with the input and the recurrent bias one after
        the other. `DynamicQuantizeLSTM` stores W and R transposed, with a scale per direction.
        """
        if node.op_type == "DynamicQuantizeLSTM":
            w, r = self._lstm_quantized(node, 1, 8), self._lstm_quantized(node, 2, 10)
        else:
            w, r = self.graph.value(node.input[1]), self.graph.value(node.input[2])
        b = self.graph.value(node.input[3]) if len(node.input) > 3 else None
        if w is None or r is None or b is None:
            return None
        if attributes(node).get("direction") != b"bidirectional" or w.ndim != 3 or len(w) != 2:
            raise CheckpointError(f"{self.source}: LSTM {node.name!r} is not bidirectional")
        result: dict[str, Array] = {}
        for index, suffix in enumerate(DIRECTIONS):
            biases = np.split(b[index], 2)
            stacked = (w[index], r[index], *biases)
            for leaf, value in zip(LSTM_LEAVES, stacked, strict=True):
                gates = np.split(value, 4)
                result[leaf + suffix] = np.concatenate(
                    [gates[g] for g in ONNX_GATES_IN_TORCH_ORDER]
                )
        return result

    def _lstm_quantized(self, node: Any, index: int, scale_index: int) -> Array | None:
        quantized = self.graph.raw(node.input[index])
        scale = self.graph.optional(node, scale_index)
        if quantized is None or scale is None:
            return None
        zero = self.graph.optional(node, scale_index + 1)
        self.dequantized.add(node.input[index])
        directions = [
            dequantize(q, scale[d], None if zero is None else zero[d], axis=1)
            for d, q in enumerate(quantized)
        ]
        return np.stack(directions).transpose(0, 2, 1)
