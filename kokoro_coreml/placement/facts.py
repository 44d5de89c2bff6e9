"""The numbers that rules speak of: axes, kernels, what is summed, epsilons, constants.

Each fact is a function of an `Operation`; it gives None where the number is not there or not known
before the package runs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import torch

from kokoro_coreml.executor.extremes import Extremes
from kokoro_coreml.executor.ops import OPS
from kokoro_coreml.executor.package import Package
from kokoro_coreml.placement import magnitudes
from kokoro_coreml.placement.arithmetic import work
from kokoro_coreml.placement.constants import reach
from kokoro_coreml.placement.operations import (
    CONVOLUTIONS,
    FACTS,
    POOLS,
    Operation,
    elements,
    fact,
    kernel,
)
from kokoro_coreml.placement.reading import Node, Tensor

__all__ = ["FACTS"]

SLICES = frozenset({"slice_by_index", "slice_by_size"})
SUMMING = CONVOLUTIONS | {"einsum", "linear", "matmul"}
CHANNEL_RANK = 4
"""From this rank on, axis 1 is the Neural Engine's channel axis."""


def _shapes(operation: Operation) -> list[tuple[int | None, ...]]:
    tensors = (*operation.moving, *operation.node.results)
    return [t.shape for t in tensors if t.shape is not None]


def _is_channel(shape: tuple[int | None, ...], axis: int) -> bool:
    return axis == 1 and len(shape) >= CHANNEL_RANK


@fact
def rank(operation: Operation) -> float | None:
    """Most dimensions of an operand or result."""
    return max((len(s) for s in _shapes(operation)), default=None)


@fact
def longest_axis(operation: Operation) -> float | None:
    """Longest axis of an operand or result, the channel axis (axis 1 from rank 4 on) left out."""
    sizes = [
        d
        for s in _shapes(operation)
        for axis, d in enumerate(s)
        if d is not None and not _is_channel(s, axis)
    ]
    return max(sizes, default=None)


@fact
def channel_axis(operation: Operation) -> float | None:
    """Longest channel axis: axis 1 of an operand or result of rank 4 or more."""
    sizes = [s[1] for s in _shapes(operation) if len(s) >= CHANNEL_RANK]
    return max((d for d in sizes if d is not None), default=None)


@fact
def last_axis(operation: Operation) -> float | None:
    """Size of the last axis of the first result."""
    shape = operation.node.results[0].shape if operation.node.results else None
    return shape[-1] if shape else None


@fact
def result_elements(operation: Operation) -> float | None:
    """Elements of the first result."""
    return operation.result_elements


@fact
def open_axes(operation: Operation) -> float | None:
    """Axes of operands and results whose size is not known before the package runs."""
    return sum(d is None for s in _shapes(operation) for d in s)


@fact
def batch(operation: Operation) -> float | None:
    """Size of the input's first axis."""
    shape = operation.shape("x")
    return shape[0] if shape else None


@fact
def kernel_width(operation: Operation) -> float | None:
    """Size of a kernel along the last axis."""
    sizes = kernel(operation)
    return sizes[-1] if sizes else None


@fact
def kernel_height(operation: Operation) -> float | None:
    """Size of a kernel along the axis before the last; 1 for one dimension."""
    sizes = kernel(operation)
    return None if not sizes else sizes[-2] if len(sizes) > 1 else 1


@fact
def stride(operation: Operation) -> float | None:
    """Largest stride of a convolution or pooling; 1 by default."""
    if operation.node.type not in CONVOLUTIONS | POOLS:
        return None
    return max(operation.numbers("strides") or (1,))


@fact
def dilation(operation: Operation) -> float | None:
    """Largest dilation of a convolution; 1 by default."""
    if operation.node.type not in CONVOLUTIONS:
        return None
    return max(operation.numbers("dilations") or (1,))


@fact
def groups(operation: Operation) -> float | None:
    """Groups of a convolution; 1 by default."""
    return operation.number("groups") if operation.node.type in CONVOLUTIONS else None


@fact
def epsilon(operation: Operation) -> float | None:
    """The epsilon an operator adds, its default where the package binds none."""
    return operation.number("epsilon")


@fact
def divisor(operation: Operation) -> float | None:
    """The constant that is divided by."""
    return operation.number("y") if operation.node.type in ("floor_div", "mod") else None


@fact
def pad_value(operation: Operation) -> float | None:
    """The constant a `pad` fills with."""
    if operation.node.type != "pad" or operation.constant("mode") != "constant":
        return None
    return operation.number("constant_val")


def _reaches(operation: Operation, dtype: str) -> Iterator[Extremes]:
    for tensor in operation.node.operands:
        found = reach(tensor, operation.package) if tensor.dtype == dtype else None
        if found is not None:
            yield found


@fact
def half_constant(operation: Operation) -> float | None:
    """Largest magnitude in its fp16 constants, palettes and products of scales.

    Of products it is a bound: the largest scale times the number farthest from its offset. What is
    no number counts as infinite.
    """
    return max((found.magnitude for found in _reaches(operation, "fp16")), default=None)


@fact
def half_constant_least(operation: Operation) -> float | None:
    """Smallest magnitude but 0 in its fp16 constants and palettes."""
    least = [found.least for found in _reaches(operation, "fp16")]
    return min((size for size in least if size is not None), default=None)


@fact
def width_begin(operation: Operation) -> float | None:
    """Where a slice begins on the last axis, counted from its start."""
    return _width_begin(operation.node, operation.package)


def _width_begin(node: Node, package: Package) -> float | None:
    if node.type not in SLICES:
        return None
    operation = Operation(node, package)
    begin, shape = operation.numbers("begin"), operation.shape("x")
    if not begin or not shape or shape[-1] is None:
        return None
    masks: Any = operation.constant("begin_mask")
    if masks is not None and bool(torch.as_tensor(masks).reshape(-1)[-1]):
        return 0
    return begin[-1] + shape[-1] if begin[-1] < 0 else begin[-1]


@fact
def width_slices(operation: Operation) -> float | None:
    """Operands of a `concat` that are slices which begin inside the last axis."""
    if operation.node.type != "concat":
        return None
    producers = [t.producer for t in operation.node.arguments.get("values", ())]
    return sum(bool(p and _width_begin(p, operation.package)) for p in producers)


@fact
def same_operands(operation: Operation) -> float | None:
    """1 if both operands are the same value, else 0."""
    x, y = operation.argument("x"), operation.argument("y")
    return float(x is not None and y is not None and bool(x.name) and x.name == y.name)


@fact
def of_quotient(operation: Operation) -> float | None:
    """1 if the operand is a quotient, else 0; that of two magnitudes has no quadrant to lose."""
    division = _made_by(operation.argument("x"), "real_div")
    above = division.arguments.get("x", ()) if division else ()
    return float(bool(above) and not _is_magnitude(above[0]))


@fact
def strict_half_turn(operation: Operation) -> float | None:
    """1 if it adds pi to the atan of a quotient only where a comparison is strict, else 0."""
    angle = _made_by(operation.argument("x"), "atan")
    turn = _made_by(operation.argument("y"), "mul")
    if operation.node.type != "add" or angle is None or turn is None:
        return 0
    if not of_quotient(Operation(angle, operation.package)):
        return 0
    factor = Operation(turn, operation.package)
    both = _made_by(factor.argument("x"), "logical_and")
    half = factor.number("y")
    tests = [_made_by(t, "greater") for t in both.operands] if both else []
    return float(any(tests) and half is not None and abs(half - math.pi) < PI_IN_HALF)


PI_IN_HALF = 0.01
"""How far from pi it may stand as a constant."""


def _made_by(tensor: Tensor | None, kind: str) -> Node | None:
    """The operation of a kind that gives a value, casts aside."""
    producer = tensor.producer if tensor is not None else None
    while producer is not None and producer.type == "cast" and kind != "cast":
        producer = producer.arguments["x"][0].producer
    return producer if producer is not None and producer.type == kind else None


def _is_magnitude(tensor: Tensor) -> bool:
    if _made_by(tensor, "abs"):
        return True
    least = _made_by(tensor, "minimum") or _made_by(tensor, "maximum")
    return least is not None and all(_is_magnitude(t) for t in least.operands)


@fact
def may_wrap(operation: Operation) -> float | None:
    """1 if a result of whole numbers can leave its type, by the constants behind it; else 0."""
    return float(magnitudes.may_wrap(operation.node, operation.package))


@fact
def program_sines(operation: Operation) -> float | None:
    """Sines of the function."""
    return operation.given.get("program_sines")


@fact
def program_norms(operation: Operation) -> float | None:
    """Norms of the function, and means, which a norm that is written out has."""
    return operation.given.get("program_norms")


@fact
def unplaced_halves(operation: Operation) -> float | None:
    """Operations of the function, but casts, that give fp16 on an unknown device."""
    return operation.given.get("unplaced_halves")


@fact
def program_operations(operation: Operation) -> float | None:
    """Operations of the function that are no constants."""
    return operation.given.get("program_operations")


@fact
def switches(operation: Operation) -> float | None:
    """Times, at least, that operations in a row are predicted for different devices."""
    return operation.given.get("switches")


@fact
def ranged_axes(operation: Operation) -> float | None:
    """Axes of an input that may have any size in a range."""
    return operation.given.get("ranged_axes")


@fact
def enumerated_shapes(operation: Operation) -> float | None:
    """Shapes an input may have, where they are listed."""
    return operation.given.get("enumerated_shapes")


@fact
def contraction(operation: Operation) -> float | None:
    """Products that are summed into one result of a matrix product."""
    matrix = operation.node.type in ("linear", "matmul", "einsum")
    return _products_per_result(operation) if matrix else None


@fact
def summed(operation: Operation) -> float | None:
    """Numbers that are summed into one result: of a product, a reduction, a norm or a softmax."""
    kind = operation.node.type
    if kind in SUMMING:
        return _products_per_result(operation)
    if kind in OPS and OPS[kind].family == "reduction":
        given, result = elements(operation.shape("x")), operation.result_elements
        return given // result if given and result else None
    return _normalized(operation)


def _products_per_result(operation: Operation) -> int | None:
    count, result = work(operation).multiply_adds, operation.result_elements
    return count // result if count is not None and result else None


def _normalized(operation: Operation) -> int | None:
    shape, kind = operation.shape("x"), operation.node.type
    if kind == "softmax":
        axis = operation.number("axis")
        return None if axis is None or not shape else shape[int(axis)]
    if kind == "instance_norm":
        return elements(shape[2:])
    if kind != "layer_norm" or None in shape:
        return None
    axes = operation.numbers("axes")
    chosen = range(len(shape)) if axes is None else axes
    return math.prod(shape[a] or 0 for a in chosen)
