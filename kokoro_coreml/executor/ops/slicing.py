"""Slicing. Source: MIL operation documentation, iOS 15 and 17; `slice_update`, iOS 18."""

from __future__ import annotations

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Bools, Ints, op


def _slices(
    sizes: torch.Size,
    begin: Ints,
    end: Ints,
    stride: Ints | None,
    begin_mask: Bools | None,
    end_mask: Bools | None,
    squeeze_mask: Bools | None,
) -> tuple[list[range], list[int]]:
    """Positions read along each dimension, and the dimensions to drop.

    A mask overrides its bound. A masked bound is the end the stride comes from or goes to, as in
    numpy (the documentation says 0 and the size, which is the same for positive strides).
    """
    rank = len(sizes)
    stride = stride or (1,) * rank
    begin_mask, end_mask = begin_mask or (False,) * rank, end_mask or (False,) * rank
    squeeze_mask = squeeze_mask or (False,) * rank
    if not all(len(p) == rank for p in (begin, end, stride, begin_mask, end_mask, squeeze_mask)):
        raise ValueError(f"slice parameters do not fit rank {rank}")
    ranges = []
    for d, size in enumerate(sizes):
        first = None if begin_mask[d] else begin[d]
        if squeeze_mask[d]:
            ranges.append(_one(first or 0, size))
        else:
            last = None if end_mask[d] else end[d]
            ranges.append(range(*slice(first, last, stride[d]).indices(size)))
    return ranges, [d for d in range(rank) if squeeze_mask[d]]


def _one(index: int, size: int) -> range:
    if not -size <= index < size:
        raise IndexError(f"index {index} does not fit an axis of {size}")
    return range(index % size, index % size + 1)


def _take(x: Tensor, dim: int, positions: range) -> Tensor:
    if positions == range(x.shape[dim]):
        return x
    if positions.step > 0:
        index = [slice(None)] * dim + [slice(positions.start, positions.stop, positions.step)]
        return x[tuple(index)]
    return x.index_select(dim, torch.tensor(list(positions), dtype=torch.int64))


@op("slice_by_index")
def slice_by_index(
    x: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """x[begin:end:stride] of every dimension; `squeeze_mask` picks x[begin] and drops the axis."""
    ranges, drop = _slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for dim, positions in enumerate(ranges):
        x = _take(x, dim, positions)
    return x.squeeze(drop) if drop else x


@op("slice_by_size")
def slice_by_size(x: Tensor, begin: Ints, size: Ints) -> Tensor:
    """`size` elements from `begin` along every dimension; -1 is all that remain."""
    for dim, (first, count) in enumerate(zip(begin, size, strict=True)):
        first = first + x.shape[dim] if first < 0 else first
        x = x.narrow(dim, first, x.shape[dim] - first if count == -1 else count)
    return x


@op("slice_update")
def slice_update(
    x: Tensor,
    update: Tensor,
    begin: Ints,
    end: Ints,
    stride: Ints | None = None,
    begin_mask: Bools | None = None,
    end_mask: Bools | None = None,
    squeeze_mask: Bools | None = None,
) -> Tensor:
    """A copy of `x` in which the slice, taken as by `slice_by_index`, is `update`."""
    ranges, drop = _slices(x.shape, begin, end, stride, begin_mask, end_mask, squeeze_mask)
    for dim in drop:
        update = update.unsqueeze(dim)
    y = x.clone()
    positions = [torch.tensor(list(r), dtype=torch.int64) for r in ranges]
    y[torch.meshgrid(positions, indexing="ij")] = update
    return y
