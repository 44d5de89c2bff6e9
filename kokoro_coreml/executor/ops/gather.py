"""Gathering. Source: MIL operation documentation, iOS 15 to 17, `scatter_gather`.

Trap: up to iOS 16 a negative index counts from the end; from iOS 17 it is out of bounds, and what a
device does then is undefined. Here any index out of bounds is an error.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Opset, op

IOS17 = 17


def checked(indices: Tensor, size: int, opset: int) -> Tensor:
    """`indices` as int64 in [0, size); IndexError for any outside what the opset allows."""
    lowest = -size if opset < IOS17 else 0
    indices = indices.long()
    if indices.numel():
        low, high = (int(v) for v in indices.aminmax())
        if low < lowest or high >= size:
            raise IndexError(f"indices from {low} to {high} do not fit an axis of {size}")
    return torch.where(indices < 0, indices + size, indices)


@op("gather")
def gather(
    x: Tensor,
    indices: Tensor,
    opset: Opset,
    axis: int = 0,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    """Slices of `x` along `axis`: shape x[:axis] + indices[batch_dims:] + x[axis+1:]."""
    axis %= x.ndim
    indices = checked(indices, x.shape[axis], opset)
    shape = (*x.shape[:axis], *indices.shape[batch_dims:], *x.shape[axis + 1 :])
    if batch_dims == 0:
        return x.index_select(axis, indices.reshape(-1)).reshape(shape)
    batch = math.prod(x.shape[:batch_dims])
    before = math.prod(x.shape[batch_dims:axis])
    after = math.prod(x.shape[axis + 1 :])
    flat = indices.reshape(batch, 1, -1, 1)
    picked = flat.expand(batch, before, flat.shape[2], after)
    return x.reshape(batch, before, x.shape[axis], after).gather(2, picked).reshape(shape)


@op("gather_along_axis")
def gather_along_axis(
    x: Tensor, indices: Tensor, opset: Opset, axis: int = 0, validate_indices: bool = False
) -> Tensor:
    """One element of `x` along `axis` for each index; shape of `indices`."""
    return torch.gather(x, axis, checked(indices, x.shape[axis], opset))


@op("gather_nd")
def gather_nd(
    x: Tensor,
    indices: Tensor,
    opset: Opset,
    batch_dims: int = 0,
    validate_indices: bool = False,
) -> Tensor:
    """Slices at coordinates held in the last axis of `indices`."""
    coordinates = nd_coordinates(indices, x.shape[batch_dims:], opset)
    batches = []
    for dim in range(batch_dims):
        view = [1] * (indices.ndim - 1)
        view[dim] = x.shape[dim]
        batches.append(torch.arange(x.shape[dim]).reshape(view))
    return x[(*batches, *coordinates)]


def nd_coordinates(indices: Tensor, sizes: Sequence[int], opset: int) -> list[Tensor]:
    """The last axis of `indices`, split and checked: one int64 tensor per addressed dimension."""
    parts = indices.unbind(-1)
    if len(parts) > len(sizes):
        raise IndexError(f"{len(parts)} coordinates address {len(sizes)} dimensions")
    return [checked(p, n, opset) for p, n in zip(parts, sizes, strict=False)]
