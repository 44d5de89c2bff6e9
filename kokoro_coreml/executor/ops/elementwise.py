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
    return x.clamp(alpha, beta).to(x.dtype)


@op("threshold")
def threshold(x: Tensor, alpha: float) -> Tensor:
    """max(x, alpha): a lower bound, unlike torch's threshold."""
    return x.clamp(min=alpha).to(x.dtype)


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
    """x / y; of integers, the quotient is truncated back to their type.

    Trap: torch's kernel divides the smallest int32 by -1 with a processor exception, which ends the
    process.
    """
    if x.dtype.is_floating_point:
        return x / y
    negated = y == -1
    quotient = torch.div(x, y.masked_fill(negated, 1), rounding_mode="trunc")
    return torch.where(negated, -quotient, quotient)


@op("floor_div")
def floor_div(x: Tensor, y: Tensor) -> Tensor:
    """The quotient rounded towards minus infinity."""
    return torch.div(x, y, rounding_mode="floor")


def _broadcast_bool(function: Callable[[Tensor, Tensor], Tensor]) -> Callable[..., Tensor]:
    def call(x: Tensor, y: Tensor) -> Tensor:
        if x.dtype != torch.bool or y.dtype != torch.bool:
            raise TypeError(f"booleans are expected, found {x.dtype} and {y.dtype}")
        return function(x, y)

    return call


table(
    "elementwise",
    "x",
    {
        "abs": (torch.abs, "|x|."),
        "acos": (torch.acos, "Arc cosine, 0 to pi."),
        "asin": (torch.asin, "Arc sine, -pi/2 to pi/2."),
        "atan": (torch.atan, "Arc tangent, -pi/2 to pi/2."),
        "atanh": (torch.atanh, "Inverse hyperbolic tangent."),
        "ceil": (torch.ceil, "Smallest whole number not below x."),
        "cos": (torch.cos, "Cosine of radians."),
        "cosh": (torch.cosh, "Hyperbolic cosine."),
        "erf": (torch.erf, "Error function."),
        "exp": (torch.exp, "e^x."),
        "floor": (torch.floor, "Largest whole number not above x."),
        "logical_not": (torch.logical_not, "True where x is false."),
        "round": (torch.round, "Nearest whole number, halves to the even one."),
        "sign": (torch.sign, "-1, 0 or 1."),
        "sin": (torch.sin, "Sine of radians."),
        "sinh": (torch.sinh, "Hyperbolic sine."),
        "sqrt": (torch.sqrt, "Square root; NaN below 0."),
        "square": (torch.square, "x * x."),
        "tan": (torch.tan, "Tangent of radians."),
        "tanh": (torch.tanh, "Hyperbolic tangent."),
    },
)

table(
    "elementwise",
    "x, y",
    {
        "add": (torch.add, "x + y."),
        "sub": (torch.sub, "x - y."),
        "mul": (torch.mul, "x * y."),
        "maximum": (torch.maximum, "The larger of two."),
        "minimum": (torch.minimum, "The smaller of two."),
        "mod": (torch.remainder, "x - floor(x / y) * y: takes the sign of the divisor."),
        "pow": (torch.pow, "x^y."),
        "equal": (torch.eq, "x = y."),
        "not_equal": (torch.ne, "x != y."),
        "greater": (torch.gt, "x > y."),
        "greater_equal": (torch.ge, "x >= y."),
        "less": (torch.lt, "x < y."),
        "less_equal": (torch.le, "x <= y."),
        "logical_and": (_broadcast_bool(torch.logical_and), "Both true."),
        "logical_or": (_broadcast_bool(torch.logical_or), "At least one true."),
        "logical_xor": (_broadcast_bool(torch.logical_xor), "Exactly one true."),
    },
)
