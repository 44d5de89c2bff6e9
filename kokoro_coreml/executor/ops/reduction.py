"""Reductions. Source: MIL operation documentation, iOS 15 and 17, `reduction`.

`axes` left out means all of them; integers keep their type.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, op
from kokoro_coreml.executor.types import BY_NAME

Reducer = Callable[[Tensor, tuple[int, ...], bool], Tensor]


def _prod(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    for axis in sorted(axes, reverse=True):
        x = x.prod(axis, keepdim=keep)
    return x


def _mean(x: Tensor, axes: tuple[int, ...], keep: bool) -> Tensor:
    if x.dtype.is_floating_point:
        return x.mean(axes, keepdim=keep)
    return x.to(torch.float64).mean(axes, keepdim=keep)


_REDUCERS: dict[str, Reducer] = {
    "reduce_sum": lambda x, a, k: x.sum(a, keepdim=k),
    "reduce_mean": _mean,
    "reduce_max": lambda x, a, k: x.amax(a, keepdim=k),
    "reduce_min": lambda x, a, k: x.amin(a, keepdim=k),
    "reduce_prod": _prod,
    "reduce_l1_norm": lambda x, a, k: x.abs().sum(a, keepdim=k),
    "reduce_l2_norm": lambda x, a, k: x.square().sum(a, keepdim=k).sqrt(),
    "reduce_log_sum": lambda x, a, k: x.sum(a, keepdim=k).log(),
    "reduce_log_sum_exp": lambda x, a, k: x.logsumexp(a, keepdim=k),
    "reduce_sum_square": lambda x, a, k: x.square().sum(a, keepdim=k),
}


def _register(name: str, reducer: Reducer) -> None:
    def reduce(x: Tensor, axes: Ints | None = None, keep_dims: bool = False) -> Tensor:
        dims = tuple(range(x.ndim)) if axes is None else tuple(a % x.ndim for a in axes)
        return reducer(x, dims, keep_dims).to(x.dtype)

    reduce.__doc__ = f"{name.removeprefix('reduce_').replace('_', ' ')} over `axes`."
    op(name)(reduce)


for _name, _reducer in _REDUCERS.items():
    _register(_name, _reducer)


@op("reduce_argmax")
def reduce_argmax(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """Index of the largest element; which one of several equal ones is not defined by MIL."""
    return x.argmax(axis, keepdim=keep_dims).to(BY_NAME[output_dtype].carrier)


@op("reduce_argmin")
def reduce_argmin(
    x: Tensor, axis: int = -1, keep_dims: bool = False, output_dtype: str = "int32"
) -> Tensor:
    """Index of the smallest element; which one of several equal ones is not defined by MIL."""
    return x.argmin(axis, keepdim=keep_dims).to(BY_NAME[output_dtype].carrier)
