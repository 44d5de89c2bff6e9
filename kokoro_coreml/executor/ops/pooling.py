"""Pooling. Source: MIL operation documentation, iOS 15, `pool`."""

from __future__ import annotations

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.conv import flat_reversed, pad_pairs
from kokoro_coreml.executor.ops.registry import Ints, op

_MAX: dict[int, Any] = {1: F.max_pool1d, 2: F.max_pool2d, 3: F.max_pool3d}


def _padded(
    x: Tensor,
    kernel: Ints,
    strides: Ints,
    pad_type: str,
    pad: Ints | None,
    ceil_mode: bool,
    value: float,
) -> tuple[Tensor, list[int]]:
    """`x` padded with `value` so that windows tile it, and the number of windows per dimension."""
    sizes = x.shape[2:]
    pairs = pad_pairs(pad_type, pad, sizes, kernel, strides)
    counts, ends = [], []
    for n, k, s, (before, after) in zip(sizes, kernel, strides, pairs, strict=True):
        room = n + before + after - k
        count = (math.ceil(room / s) if ceil_mode else room // s) + 1
        if ceil_mode and (count - 1) * s >= n + before:
            count -= 1  # a window must start inside the input or its left padding
        counts.append(count)
        ends.append((before, (count - 1) * s + k - n - before))
    return F.pad(x, flat_reversed(ends), value=value), counts


def _sums(x: Tensor, kernel: Ints, strides: Ints) -> Tensor:
    for dim, (k, s) in enumerate(zip(kernel, strides, strict=True), start=2):
        x = x.unfold(dim, k, s).sum(-1)
    return x


@op("max_pool")
def max_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Largest element of each window; padding never wins."""
    steps = strides or (1,) * len(kernel_sizes)
    y, _ = _padded(x, kernel_sizes, steps, pad_type, pad, ceil_mode, -math.inf)
    result: Tensor = _MAX[x.ndim - 2](y, kernel_sizes, steps)
    return result


@op("avg_pool")
def avg_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    exclude_padding_from_average: bool = False,
    ceil_mode: bool = False,
) -> Tensor:
    """Mean of each window; padding counts unless excluded, what ceil_mode adds never does."""
    steps = strides or (1,) * len(kernel_sizes)
    y, _ = _padded(x, kernel_sizes, steps, pad_type, pad, ceil_mode, 0.0)
    ones = torch.ones((1, 1, *x.shape[2:]))
    if not exclude_padding_from_average:
        pairs = pad_pairs(pad_type, pad, x.shape[2:], kernel_sizes, steps)
        ones = F.pad(ones, flat_reversed(pairs), value=1.0)
        room = [b - a for a, b in zip(ones.shape[2:], y.shape[2:], strict=True)]
        count = F.pad(ones, flat_reversed([(0, r) for r in room]))
    else:
        count, _ = _padded(ones, kernel_sizes, steps, pad_type, pad, ceil_mode, 0.0)
    return _sums(y, kernel_sizes, steps) / _sums(count, kernel_sizes, steps)


@op("l2_pool")
def l2_pool(
    x: Tensor,
    kernel_sizes: Ints,
    pad_type: str,
    strides: Ints | None = None,
    pad: Ints | None = None,
    ceil_mode: bool = False,
) -> Tensor:
    """Square root of the sum of squares of each window."""
    steps = strides or (1,) * len(kernel_sizes)
    y, _ = _padded(x.square(), kernel_sizes, steps, pad_type, pad, ceil_mode, 0.0)
    return _sums(y, kernel_sizes, steps).sqrt()
