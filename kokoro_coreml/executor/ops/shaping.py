"""Operations that move elements without changing them.

Source: MIL operation documentation, iOS 15 to 17, `tensor_transformation` and `tensor_operation`.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, Tensors, op


@op("identity")
def identity(x: Tensor) -> Tensor:
    """The input."""
    return x


@op("transpose")
def transpose(x: Tensor, perm: Ints) -> Tensor:
    """Permute the dimensions."""
    return x.permute(perm)


@op("reshape")
def reshape(x: Tensor, shape: Ints) -> Tensor:
    """New shape, row-major; -1 is inferred.

    A 0 copies the dimension of `x` counted from the right, or is 1 where `x` has none (iOS 17; up
    to iOS 16 a 0 is allowed only at equal rank, where both readings agree).
    """
    resolved = list(shape)
    for back in range(1, len(shape) + 1):
        if shape[-back] == 0:
            resolved[-back] = x.shape[-back] if back <= x.ndim else 1
    return x.reshape(resolved)


@op("reshape_like")
def reshape_like(
    x: Tensor, ref_tensors: Tensors, begins: Tensors, ends: Tensors, end_masks: Tensors
) -> Tensor:
    """New shape, made of slices of other tensors' shapes."""
    shape: list[int] = []
    for ref, begin, end, mask in zip(ref_tensors, begins, ends, end_masks, strict=True):
        shape += ref.shape[int(begin) : None if bool(mask) else int(end)]
    return x.reshape(shape)


@op("expand_dims")
def expand_dims(x: Tensor, axes: Ints) -> Tensor:
    """Insert dimensions of size 1; `axes` count in the result."""
    rank = x.ndim + len(axes)
    for axis in sorted(a % rank for a in axes):
        x = x.unsqueeze(axis)
    return x


@op("squeeze")
def squeeze(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Drop dimensions of size 1, all by default; others named in `axes` are left, as in torch."""
    return x.squeeze() if axes is None else x.squeeze(axes)


@op("flatten2d")
def flatten2d(x: Tensor, axis: int = 1) -> Tensor:
    """Two dimensions: what is before `axis`, and the rest."""
    axis = axis + x.ndim if axis < 0 else axis
    return x.reshape(math.prod(x.shape[:axis]), math.prod(x.shape[axis:]))


@op("concat")
def concat(values: Tensors, axis: int, interleave: bool = False) -> Tensor:
    """Join along `axis`; interleaved, one element of each input in turn; scalars make a vector."""
    if values[0].ndim == 0:
        return torch.stack(values)
    if not interleave:
        return torch.cat(values, axis)
    axis %= values[0].ndim
    return torch.stack(values, axis + 1).flatten(axis, axis + 1)


@op("stack")
def stack(values: Tensors, axis: int) -> Tensor:
    """Join along a new axis."""
    return torch.stack(values, axis)


@op("split")
def split(
    x: Tensor, axis: int, num_splits: int | None = None, split_sizes: Ints | None = None
) -> tuple[Tensor, ...]:
    """Cut into equal parts, or into the sizes given."""
    size = x.shape[axis]
    if split_sizes is None:
        if not num_splits or size % num_splits:
            raise ValueError(f"an axis of {size} cannot be split into {num_splits} equal parts")
        split_sizes = (size // num_splits,) * num_splits
    return tuple(torch.split(x, list(split_sizes), axis))


@op("tile")
def tile(x: Tensor, reps: Ints) -> Tensor:
    """Repeat along each dimension."""
    if len(reps) != x.ndim:
        raise ValueError(f"reps {reps} does not fit rank {x.ndim}")
    return x.repeat(reps)


@op("reverse")
def reverse(x: Tensor, axes: Ints | None = None) -> Tensor:
    """Reverse the order along `axes`, all by default."""
    return x.flip(tuple(range(x.ndim)) if axes is None else axes)


@op("reverse_sequence")
def reverse_sequence(x: Tensor, lengths: Tensor, seq_axis: int = 0, batch_axis: int = 0) -> Tensor:
    """Reverse the first `lengths[b]` elements along `seq_axis` of every batch item."""
    moved = x.movedim((batch_axis, seq_axis), (0, 1))
    steps = torch.arange(moved.shape[1])
    ends = lengths.long().unsqueeze(1)
    order = torch.where(steps < ends, ends - 1 - steps, steps)
    rows = torch.arange(moved.shape[0]).unsqueeze(1)
    return moved[rows, order].movedim((0, 1), (batch_axis, seq_axis))


@op("sliding_windows")
def sliding_windows(x: Tensor, axis: int, size: int, stride: int = 1) -> Tensor:
    """All windows along `axis`; the window's own dimension follows it."""
    axis %= x.ndim
    return x.unfold(axis, size, stride).movedim(-1, axis + 1)


@op("pixel_shuffle")
def pixel_shuffle(x: Tensor, upscale_factor: int) -> Tensor:
    """Channels to space, as torch: channel = c * f^2 + row * f + column."""
    return F.pixel_shuffle(x, upscale_factor)


@op("pixel_unshuffle")
def pixel_unshuffle(x: Tensor, downscale_factor: int) -> Tensor:
    """Space to channels, as torch; the inverse of `pixel_shuffle`."""
    return F.pixel_unshuffle(x, downscale_factor)


@op("depth_to_space")
def depth_to_space(x: Tensor, block_size: int) -> Tensor:
    """Channels to space, as TensorFlow: channel = (row * b + column) * C + c."""
    n, depth, h, w = x.shape
    y = x.reshape(n, block_size, block_size, depth // block_size**2, h, w)
    return y.permute(0, 3, 4, 1, 5, 2).reshape(n, -1, h * block_size, w * block_size)


@op("space_to_depth")
def space_to_depth(x: Tensor, block_size: int) -> Tensor:
    """Space to channels; the inverse of `depth_to_space`."""
    n, c, h, w = x.shape
    y = x.reshape(n, c, h // block_size, block_size, w // block_size, block_size)
    return y.permute(0, 3, 5, 1, 2, 4).reshape(n, -1, h // block_size, w // block_size)


@op("space_to_batch")
def space_to_batch(x: Tensor, block_shape: Ints, paddings: Tensor) -> Tensor:
    """Space to batch, as TensorFlow: item = (row * bw + column) * n + i."""
    (top, bottom), (left, right) = paddings.tolist()
    x = F.pad(x, (left, right, top, bottom))
    n, c, h, w = x.shape
    bh, bw = block_shape
    y = x.reshape(n, c, h // bh, bh, w // bw, bw)
    return y.permute(3, 5, 0, 1, 2, 4).reshape(-1, c, h // bh, w // bw)


@op("batch_to_space")
def batch_to_space(x: Tensor, block_shape: Ints, crops: Tensor) -> Tensor:
    """Batch to space, then crop; the inverse of `space_to_batch`."""
    (top, bottom), (left, right) = crops.tolist()
    n, c, h, w = x.shape
    bh, bw = block_shape
    y = x.reshape(bh, bw, n // (bh * bw), c, h, w).permute(2, 3, 4, 0, 5, 1)
    y = y.reshape(-1, c, h * bh, w * bw)
    return y[:, :, top : h * bh - bottom, left : w * bw - right]
