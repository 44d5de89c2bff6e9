"""How large whole numbers can become, from the constants and types behind them."""

from __future__ import annotations

import math

from kokoro_coreml.executor.package import Package
from kokoro_coreml.placement.constants import reach
from kokoro_coreml.placement.operations import Operation
from kokoro_coreml.placement.reading import Node, Tensor

LIMITS = {
    "bool": 1,
    "int8": 2**7,
    "uint8": 2**8 - 1,
    "int16": 2**15 - 1,
    "uint16": 2**16 - 1,
    "int32": 2**31 - 1,
}
"""Largest magnitude by element type; those of 32 bits bound nothing that is computed of them."""

MAX_DEPTH = 8
"""Operations looked back through; what lies behind is unbounded."""

_KEEPING = frozenset(
    {"abs", "cast", "concat", "expand_dims", "gather", "identity", "maximum", "minimum"}
    | {"reshape", "reverse", "select", "slice_by_index", "slice_by_size", "split", "squeeze"}
    | {"stack", "tile", "transpose"}
)
_NUMBERS = ("x", "y", "a", "b", "values")
"""Parameters whose numbers those of the result are made of."""


def may_wrap(node: Node, package: Package) -> bool:
    """Whether a result of whole numbers can leave its type."""
    if not node.results or node.results[0].dtype not in ("int16", "int32"):
        return False
    return computed(node, package, 0) > LIMITS[node.results[0].dtype]


def magnitude(tensor: Tensor, package: Package, depth: int = 0) -> float:
    """Largest magnitude of a tensor's numbers; infinite where nothing bounds it."""
    if tensor.folded:
        found = reach(tensor, package)
        return math.inf if found is None else found.magnitude
    narrow = tensor.dtype != "int32"
    limit = LIMITS.get(tensor.dtype, math.inf) if narrow else math.inf
    if tensor.producer is None or depth >= MAX_DEPTH:
        return limit
    return min(limit, computed(tensor.producer, package, depth + 1))


def computed(node: Node, package: Package, depth: int) -> float:
    """As `magnitude`, of what an operation computes before it is cut to its type."""
    operands = [
        magnitude(tensor, package, depth)
        for name in _NUMBERS
        for tensor in node.arguments.get(name, ())
    ]
    largest = max(operands, default=math.inf)
    if node.type in _KEEPING:
        return largest
    if node.type in ("add", "sub"):
        return sum(operands)
    if node.type in ("mul", "square"):
        return math.prod(operands) if len(operands) > 1 else largest**2
    return _summed(node, package, depth)


def _summed(node: Node, package: Package, depth: int) -> float:
    """Of a running or whole sum: as many times the largest as there are numbers."""
    operation = Operation(node, package)
    given = operation.argument("x")
    if node.type not in ("cumsum", "reduce_sum") or given is None or None in operation.shape("x"):
        return math.inf
    count = math.prod(d for d in operation.shape("x") if d is not None)
    return magnitude(given, package, depth) * count
