"""Operations that make tensors, scan them or report on them.

Source: MIL operation documentation, iOS 15 and 16, `tensor_operation`.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, op


@op("band_part")
def band_part(x: Tensor, lower: int = -1, upper: int = -1) -> Tensor:
    """Zero outside a band of the last two axes; a negative width keeps that whole triangle.

    Zeros are written, not multiplied in: an infinity outside the band does not become NaN.
    """
    rows = torch.arange(x.shape[-2]).unsqueeze(1)
    columns = torch.arange(x.shape[-1])
    keep = ((lower < 0) | (rows - columns <= lower)) & ((upper < 0) | (columns - rows <= upper))
    return torch.where(keep, x, torch.zeros((), dtype=x.dtype))


@op("cumsum")
def cumsum(x: Tensor, axis: int = 0, exclusive: bool = False, reverse: bool = False) -> Tensor:
    """Running sum; exclusive leaves out the element itself, reverse runs from the end."""
    y = x.flip(axis) if reverse else x
    total = y.cumsum(axis, dtype=x.dtype)
    if exclusive:
        first = torch.zeros_like(total.narrow(axis, 0, 1))
        total = torch.cat((first, total.narrow(axis, 0, total.shape[axis] - 1)), axis)
    return total.flip(axis) if reverse else total


@op("fill")
def fill(shape: Ints, value: Tensor | None = None) -> Tensor:
    """A constant tensor of a given shape; 0.0 by default. A view of one element, so it is free."""
    return (torch.zeros(()) if value is None else value).expand(shape)


@op("fill_like")
def fill_like(ref_tensor: Tensor, value: Tensor | None = None) -> Tensor:
    """A constant tensor of another tensor's shape."""
    return (torch.zeros(()) if value is None else value).expand(ref_tensor.shape)


@op("range_1d")
def range_1d(start: Tensor, end: Tensor, step: Tensor) -> Tensor:
    """start, start + step, ... before `end`; nothing if the step leads away from it."""
    first, last, by = start.item(), end.item(), step.item()
    if by and (last - first) / by <= 0:
        return torch.empty(0, dtype=start.dtype)
    return torch.arange(first, last, by, dtype=start.dtype)


@op("one_hot")
def one_hot(
    indices: Tensor,
    one_hot_vector_size: int,
    axis: int = -1,
    on_value: Tensor | None = None,
    off_value: Tensor | None = None,
) -> Tensor:
    """A new axis along which only the indexed position is `on_value`; int32 ones by default."""
    on = torch.ones((), dtype=torch.int32) if on_value is None else on_value
    off = torch.zeros((), dtype=on.dtype) if off_value is None else off_value
    rank = indices.ndim + 1
    view = [1] * rank
    view[axis] = one_hot_vector_size
    hot = indices.unsqueeze(axis) == torch.arange(one_hot_vector_size).reshape(view)
    return torch.where(hot, on, off)


@op("shape")
def shape(x: Tensor) -> Tensor:
    """The shape, as an int32 vector."""
    return torch.tensor(x.shape, dtype=torch.int32)


@op("non_zero")
def non_zero(x: Tensor) -> Tensor:
    """Coordinates of the elements that are not 0, one row each, in row-major order."""
    return x.nonzero().to(torch.int32)
