"""Elementwise unary and binary operations, and `select`.

Source: MIL operation documentation, iOS 15 and 17, `elementwise_unary` and `elementwise_binary`.
Integer tensors keep their type.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import op, table
from kokoro_coreml.executor.types import BY_NAME


@op("clip")
def clip(x: Tensor, alpha: float, beta: float) -> Tensor:
    """Limit to [alpha, beta]."""
    return x.clamp(alpha, beta)


@op("threshold")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha): a lower bound, unlike torch's threshold."""
    return x.clamp(min=alpha)


@op("inverse")
def inverse(x: Tensor, epsilon: float = 1e-4) -> Tensor:
    """1 / (x + epsilon). Trap: epsilon is added, and is 1e-4 unless the package says otherwise."""
    return torch.reciprocal(x + epsilon)


@op("log")
def log(x: Tensor, epsilon: float = 1e-45) -> Tensor:
    """log(x + epsilon); the default, the smallest float32, makes log(0) -103.28, not -inf."""
    return torch.log(x + epsilon)


@op("rsqrt")
def rsqrt(x: Tensor, epsilon: float = 1e-12) -> Tensor:
    """1 / sqrt(x + epsilon)."""
    return torch.rsqrt(x + epsilon)


@op("cast")
def cast(x: Tensor, dtype: str) -> Tensor:
    """Change the type; floats are truncated towards zero, and to bool whatever is not 0 is true.

    Values outside the target type are undefined on a device too.
    """
    if dtype not in BY_NAME:
        raise ValueError(f"cast to {dtype!r} is unknown")
    return x.to(BY_NAME[dtype].carrier)


@op("select")
def select(cond: Tensor, a: Tensor, b: Tensor) -> Tensor:
    """a where cond, else b; all three broadcast."""
    return torch.where(cond, a, b)


@op("exp2")
def exp2(x: Tensor) -> Tensor:
    """2^x."""
    return torch.exp2(x).to(x.dtype)


@op("real_div")
def real_div(x: Tensor, y: Tensor) -> Tensor:
    """x / y; of integers, the quotient is truncated back to their type."""
    if x.dtype.is_floating_point:
        return x / y
    return torch.div(x, y, rounding_mode="trunc")


@op("floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """The quotient rounded towards minus infinity."""
    return torch.div(x, y, rounding_mode="floor")


def _broadcast_bool(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != torch.bool or y.dtype != torch.bool:
            raise TypeError(f"booleans are expected, found {x.dtype} and {y.dtype}")
        return function(x, y)

    call.__doc__ = function.__doc__
    return call


table(
    "elementwise",
    "x",
    {
        "abs": torch.abs,
        "acos": torch.acos,
        "asin": torch.asin,
        "atan": torch.atan,
        "atanh": torch.atanh,
        "ceil": torch.ceil,
        "cos": torch.cos,
        "cosh": torch.cosh,
        "erf": torch.erf,
        "exp": torch.exp,
        "floor": torch.floor,
        "logical_not": torch.logical_not,
        "round": torch.round,  # half to even, as MIL does
        "sign": torch.sign,
        "sin": torch.sin,
        "sinh": torch.sinh,
        "sqrt": torch.sqrt,
        "square": torch.square,
        "tan": torch.tan,
        "tanh": torch.tanh,
    },
)

table(
    "elementwise",
    "x, y",
    {
        "add": torch.add,
        "sub": torch.sub,
        "mul": torch.mul,
        "maximum": torch.maximum,
        "minimum": torch.minimum,
        "mod": torch.remainder,  # takes the divisor's sign
        "pow": torch.pow,
        "equal": torch.eq,
        "not_equal": torch.ne,
        "greater": torch.gt,
        "greater_equal": torch.ge,
        "less": torch.lt,
        "less_equal": torch.le,
        "logical_and": _broadcast_bool(torch.logical_and),
        "logical_or": _broadcast_bool(torch.logical_or),
        "logical_xor": _broadcast_bool(torch.logical_xor),
    },
)
