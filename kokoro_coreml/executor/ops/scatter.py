"""Scattering. Source: MIL operation documentation, iOS 15 and 17, `scatter_gather`.

Traps: the documentation says `scatter` defaults to mode "update", its code says "add", and packages
always state the mode; indices follow the rules of `gather`.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.gather import checked, nd_coordinates
from kokoro_coreml.executor.ops.registry import Opset, op

_REDUCE = {"mul": "prod", "max": "amax", "min": "amin"}


def _scatter(data: Tensor, axis: int, indices: Tensor, updates: Tensor, mode: str) -> Tensor:
    """Combine `updates` into `data`; `indices` has the shape of `updates`."""
    if mode == "update":
        return data.scatter(axis, indices, updates)
    if mode in ("add", "sub"):
        return data.scatter_add(axis, indices, updates if mode == "add" else -updates)
    if mode in _REDUCE:
        return data.scatter_reduce(axis, indices, updates, _REDUCE[mode])
    if mode == "div":
        divisor = torch.ones_like(data).scatter_reduce(axis, indices, updates, "prod")
        quotient = data / divisor
        return quotient if data.dtype.is_floating_point else quotient.trunc().to(data.dtype)
    raise ValueError(f"scatter mode {mode!r} is unknown")


@op("scatter")
def scatter(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    opset: Opset,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Slices of `updates` go to the positions `indices` of `axis`."""
    axis %= data.ndim
    flat = checked(indices.reshape(-1), data.shape[axis], opset)
    shape = (*data.shape[:axis], flat.numel(), *data.shape[axis + 1 :])
    view = [1] * data.ndim
    view[axis] = flat.numel()
    return _scatter(data, axis, flat.reshape(view).expand(shape), updates.reshape(shape), mode)


@op("scatter_along_axis")
def scatter_along_axis(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    opset: Opset,
    axis: int = 0,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Each element of `updates` goes to its own index along `axis`."""
    return _scatter(data, axis, checked(indices, data.shape[axis], opset), updates, mode)


@op("scatter_nd")
def scatter_nd(
    data: Tensor,
    indices: Tensor,
    updates: Tensor,
    opset: Opset,
    mode: str = "add",
    validate_indices: bool = False,
) -> Tensor:
    """Slices of `updates` go to the coordinates held in the last axis of `indices`."""
    coordinates = nd_coordinates(indices, data.shape, opset)
    rest = data.shape[len(coordinates) :]
    linear = torch.zeros(indices.shape[:-1], dtype=torch.int64)
    for coordinate, size in zip(coordinates, data.shape, strict=False):
        linear = linear * size + coordinate
    width = math.prod(rest)
    picked = linear.reshape(-1, 1).expand(-1, width)
    flat = data.reshape(-1, width)
    return _scatter(flat, 0, picked, updates.reshape(-1, width), mode).reshape(data.shape)
