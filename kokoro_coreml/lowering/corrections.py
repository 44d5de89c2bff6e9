"""Corrections of PyTorch operators that coremltools lowers wrongly, and the scope they hold in.

Each correction is entered in the ledger (`patches/*.toml`) under the same name. Nothing is replaced
outside `corrected()`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.frontend.torch.ops import _get_inputs
from coremltools.converters.mil.frontend.torch.ops import remainder as _stock_remainder
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from coremltools.converters.mil.mil import types

Lowering = Callable[[Any, Any], None]

CORRECTIONS: dict[str, tuple[tuple[str, ...], Lowering]] = {}
"""Ledger name to the torch operators it replaces and the replacement."""


def correction(name: str, *operators: str) -> Callable[[Lowering], Lowering]:
    """Register a replacement; names and operators may be taken once."""

    def register(function: Lowering) -> Lowering:
        taken = {op for ops, _ in CORRECTIONS.values() for op in ops}
        if name in CORRECTIONS or taken & set(operators):
            raise ValueError(f"correction {name} for {operators} is registered already")
        CORRECTIONS[name] = (operators, function)
        return function

    return register


@contextmanager
def corrected() -> Iterator[None]:
    """Lower with the corrections in place; the stock lowering returns afterwards."""
    registry = _TORCH_OPS_REGISTRY.name_to_func_mapping
    before = dict(registry)
    try:
        for operators, function in CORRECTIONS.values():
            registry.update(dict.fromkeys(operators, function))
        yield
    finally:
        registry.clear()
        registry.update(before)


@correction("atan2-branch-cut", "atan2")
def _atan2(context: Any, node: Any) -> None:
    """atan(min / max) folded out to four quadrants, +pi for y = 0 and x < 0, 0 at the origin.

    Zeros are taken as unsigned: PyTorch's -pi for y = -0 and x < 0 is +pi here.
    """
    y, x = (_as_float(value) for value in _get_inputs(context, node, expected=2))
    abs_x, abs_y = mb.abs(x=x), mb.abs(x=y)
    larger = mb.maximum(x=abs_x, y=abs_y)
    at_origin = mb.equal(x=larger, y=np.float32(0))
    ratio = mb.real_div(
        x=mb.minimum(x=abs_x, y=abs_y),
        y=mb.select(cond=at_origin, a=np.float32(1), b=larger),
    )
    angle = mb.atan(x=ratio)
    steep = mb.greater(x=abs_y, y=abs_x)
    angle = mb.select(cond=steep, a=mb.sub(x=np.float32(np.pi / 2), y=angle), b=angle)
    left = mb.less(x=x, y=np.float32(0))
    angle = mb.select(cond=left, a=mb.sub(x=np.float32(np.pi), y=angle), b=angle)
    below = mb.less(x=y, y=np.float32(0))
    negative = mb.mul(x=angle, y=np.float32(-1))
    context.add(mb.select(cond=below, a=negative, b=angle, name=node.name))


@correction("remainder-by-one", "remainder")
def _remainder(context: Any, node: Any) -> None:
    """x - floor(x) for the divisor 1; the stock lowering for every other, which it gets right."""
    x, y = _get_inputs(context, node, min_expected=2)[:2]
    by_one = y.val is not None and np.all(y.val == 1)
    if by_one and types.is_float(x.dtype):
        zero = np.zeros(y.shape, dtype=np.float32)
        x = mb.add(x=x, y=zero) if y.rank else x  # the divisor may broadcast
        context.add(mb.sub(x=x, y=mb.floor(x=x), name=node.name))
    else:
        _stock_remainder(context, node)


@correction("reciprocal-epsilon", "reciprocal")
def _reciprocal(context: Any, node: Any) -> None:
    """1 / x by a division; MIL's `inverse` adds 1e-4 to x. Division of a number by x ends here."""
    (x,) = _get_inputs(context, node, expected=1)
    context.add(mb.real_div(x=np.float32(1), y=_as_float(x), name=node.name))


def _as_float(value: Any) -> Any:
    return value if types.is_float(value.dtype) else mb.cast(x=value, dtype="fp32")
