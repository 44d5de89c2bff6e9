"""Multiply-adds, other operations and bytes of one operation, from declared shapes alone.

A multiply-add is one product and one sum. "Other" counts one per element and step of the operator's
definition: a function of one number (`exp`, `sin`) is 1, whatever a device makes of it. Moving data
is 0. Operators outside the tables are not counted (None), nor is anything with an open shape.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from kokoro_coreml.executor.ops import OPS
from kokoro_coreml.executor.types import BY_NAME
from kokoro_coreml.executor.values import packed_size
from kokoro_coreml.placement.operations import Operation, elements, kernel
from kokoro_coreml.placement.reading import Stored, Tensor


@dataclass(frozen=True)
class Work:
    """What one operation computes; None where it is not counted."""

    multiply_adds: int | None
    other: int | None

    @property
    def operations(self) -> int | None:
        """Floating-point operations: two for each multiply-add."""
        if self.multiply_adds is None or self.other is None:
            return None
        return 2 * self.multiply_adds + self.other


@dataclass(frozen=True)
class Traffic:
    """Bytes of an operation's operands and results as declared; None where a shape is open."""

    weights: tuple[Stored, ...]
    read: int | None
    written: int | None


UNCOUNTED = Work(None, None)

_MOVING = frozenset({"control", "gather", "padding", "scatter", "shaping", "slicing"})
_PER_RESULT = frozenset({"activation", "elementwise", "quantization"})
"""Families of the executor's table: that only move data, and with one step per element."""

_STEPS = {
    "softmax": 5,
    "layer_norm": 7,
    "instance_norm": 7,
    "batch_norm": 2,
    "cumsum": 1,
    "l2_norm": 3,
    "gelu": 5,
    "silu": 2,
    "linear_activation": 2,
}
"""Steps per element where there are several: softmax is maximum, difference, exponential, sum and
quotient; a norm is mean (1), difference, square, variance (1), quotient, scale and shift."""

_FREE = frozenset({"cast", "fill", "fill_like", "identity", "shape"})


def work(operation: Operation) -> Work:
    """Count an operation's arithmetic."""
    kind = operation.node.type
    if kind in _PRODUCTS:
        return _products(operation)
    definition = OPS.get(kind)
    family = definition.family if definition else ""
    if kind in _FREE or family in _MOVING:
        return Work(0, 0)
    count = _others(operation, kind, family)
    return UNCOUNTED if count is None else Work(0, count)


def traffic(operation: Operation) -> Traffic:
    """Bytes an operation reads and writes, each operand once."""
    weights = {s.key: s for t in operation.node.operands if t.folded for s in t.stored}
    return Traffic(
        tuple(weights.values()), _bytes(operation.moving), _bytes(operation.node.results)
    )


def _others(operation: Operation, kind: str, family: str) -> int | None:
    result = operation.result_elements
    if family == "reduction":
        return elements(operation.shape("x"))
    if family == "pooling":
        sizes = kernel(operation)
        return None if result is None or sizes is None else result * math.prod(sizes)
    if kind in _STEPS or family in _PER_RESULT:
        return None if result is None else result * _STEPS.get(kind, 1)
    return None


def _products(operation: Operation) -> Work:
    count = _PRODUCTS[operation.node.type](operation)
    if count is None:
        return UNCOUNTED
    biased = operation.argument("bias") is not None
    bias = (operation.result_elements or 0) if biased else 0
    return Work(count, bias)


def _conv(operation: Operation) -> int | None:
    result = operation.result_elements
    weight = elements(operation.shape("weight")[1:])
    return None if result is None or weight is None else result * weight


def _conv_transpose(operation: Operation) -> int | None:
    given = elements(operation.shape("x"))
    weight = elements(operation.shape("weight")[1:])
    return None if given is None or weight is None else given * weight


def _linear(operation: Operation) -> int | None:
    result, shape = operation.result_elements, operation.shape("x")
    return None if result is None or not shape or shape[-1] is None else result * shape[-1]


def _matmul(operation: Operation) -> int | None:
    result, shape = operation.result_elements, operation.shape("x")
    if result is None or not shape:
        return None
    transposed = bool(operation.number("transpose_x")) and len(shape) > 1
    inner = shape[-2 if transposed else -1]
    return None if inner is None else result * inner


def _einsum(operation: Operation) -> int | None:
    sizes = letters(operation)
    return None if sizes is None else math.prod(sizes.values())


def letters(operation: Operation) -> dict[str, int] | None:
    """Size of every index of an `einsum`; None if one is unknown."""
    equation = operation.constant("equation")
    if not isinstance(equation, str):
        return None
    terms = equation.replace(" ", "").partition("->")[0].split(",")
    sizes: dict[str, int] = {}
    for term, tensor in zip(terms, operation.node.arguments.get("values", ()), strict=False):
        for letter, size in zip(term, tensor.shape or (), strict=False):
            if size is None:
                return None
            sizes[letter] = max(size, sizes.get(letter, 1))
    return sizes


def _attention(operation: Operation) -> int | None:
    query, key, value = (operation.shape(n) for n in ("query", "key", "value"))
    rows, keys = elements(query[:-1]), key[-2:-1]
    widths = (*query[-1:], *value[-1:])
    if rows is None or len(keys) != 1 or len(widths) != 2 or None in (*keys, *widths):
        return None
    return rows * sum(w or 0 for w in widths) * (keys[0] or 0)


def _recurrent(operation: Operation) -> int | None:
    steps = elements(operation.shape("x")[:2])
    shapes = [
        elements(operation.shape(n))
        for n in ("weight_ih", "weight_hh", "weight_ih_back", "weight_hh_back")
        if operation.argument(n) is not None
    ]
    return None if steps is None or None in shapes else steps * sum(s or 0 for s in shapes)


_PRODUCTS: dict[str, Callable[[Operation], int | None]] = {
    "conv": _conv,
    "conv_quantized": _conv,
    "conv_transpose": _conv_transpose,
    "einsum": _einsum,
    "gru": _recurrent,
    "linear": _linear,
    "lstm": _recurrent,
    "matmul": _matmul,
    "rnn": _recurrent,
    "scaled_dot_product_attention": _attention,
}


def _bytes(tensors: Sequence[Tensor]) -> int | None:
    total = 0
    for tensor in {id(t): t for t in tensors}.values():
        count = elements(tensor.shape)
        if count is None or tensor.dtype not in BY_NAME:
            return None
        total += packed_size(BY_NAME[tensor.dtype], count)
    return total
