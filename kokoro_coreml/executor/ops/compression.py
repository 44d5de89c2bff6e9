"""Compressed constants, decompressed once when a program is loaded.

Source: MIL operation documentation, iOS 16 `constexpr_ops` (data in attributes, flat and packed)
and iOS 18 `compression` (data in inputs, shaped, sub-byte types). Bits are packed from the least
significant up.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.quantization import along
from kokoro_coreml.executor.ops.registry import Ints, op
from kokoro_coreml.executor.types import BY_NAME
from kokoro_coreml.executor.values import from_raw


def _bits(packed: Tensor, count: int, width: int) -> Tensor:
    """`count` unsigned numbers of 1, 2, 4, 6 or 8 bits from packed bytes."""
    needed = (count * width + 7) // 8
    if packed.numel() != needed:
        raise ValueError(f"{needed} packed bytes are needed, {packed.numel()} are given")
    return from_raw(packed.contiguous().numpy(), BY_NAME[f"uint{width}"], (count,)).long()


@op("constexpr_affine_dequantize")
def constexpr_affine_dequantize(
    quantized_data: Tensor, zero_point: Tensor, scale: Tensor, axis: int
) -> Tensor:
    """scale * (quantized_data - zero_point), both along `axis` unless scalar."""
    zero = along(zero_point, quantized_data, axis).to(torch.float32)
    return (quantized_data.to(torch.float32) - zero) * along(scale, quantized_data, axis)


@op("constexpr_cast")
def constexpr_cast(source_val: Tensor, output_dtype: str) -> Tensor:
    """A change of type."""
    return source_val.to(BY_NAME[output_dtype].carrier)


@op("constexpr_lut_to_dense")
def constexpr_lut_to_dense(
    indices: Tensor, lut: Tensor, shape: Ints | None = None, vector_axis: int | None = None
) -> Tensor:
    """Palette entries by index; with `shape` the iOS 16 form, without it the iOS 18 one."""
    if shape is None:
        return _grouped_lut(indices, lut, vector_axis)
    width = int(math.log2(lut.numel())) if lut.numel() else 0
    if lut.ndim != 1 or 2**width != lut.numel() or width not in (1, 2, 4, 6, 8):
        raise ValueError(f"a palette of shape {list(lut.shape)} is not 2, 4, 16, 64 or 256 entries")
    return lut[_bits(indices, math.prod(shape), width)].reshape(shape)


def _grouped_lut(indices: Tensor, lut: Tensor, vector_axis: int | None) -> Tensor:
    """`lut` is [*groups, palettes, vector]; groups divide the dimensions of `indices`."""
    groups, vector = lut.shape[:-2], lut.shape[-1]
    if len(groups) != indices.ndim:
        raise ValueError(f"a palette of shape {list(lut.shape)} does not fit {list(indices.shape)}")
    palette = torch.zeros((), dtype=torch.int64)
    for dim, (count, size) in enumerate(zip(groups, indices.shape, strict=True)):
        view = [size if d == dim else 1 for d in range(indices.ndim)]
        palette = palette * count + _group_of(count, size).reshape(view)
    entries = lut.reshape(-1, *lut.shape[-2:])[palette, indices.long()]
    if vector == 1:
        return entries.squeeze(-1)
    if vector_axis is None:
        raise ValueError("a vector palette needs vector_axis")
    axis = vector_axis % indices.ndim
    return entries.movedim(-1, axis + 1).flatten(axis, axis + 1)


def _blocks(values: Tensor, groups: torch.Size, sizes: torch.Size) -> Tensor:
    """Repeat `values` along each dimension until its groups cover `sizes`."""
    for dim, (group, size) in enumerate(zip(groups, sizes, strict=True)):
        index = _group_of(group, size)
        values = values if group == size else values.index_select(dim, index)
    return values


def _group_of(count: int, size: int) -> Tensor:
    """The group each position of a dimension belongs to."""
    if count == 0 or size % count:
        raise ValueError(f"{count} groups do not divide a dimension of {size}")
    return torch.arange(size) // max(1, size // count)


@op("constexpr_sparse_to_dense")
def constexpr_sparse_to_dense(
    nonzero_data: Tensor, mask: Tensor, shape: Ints | None = None
) -> Tensor:
    """Zero where the mask's bit is 0; with `shape` the iOS 16 form (packed mask)."""
    bits = mask.bool() if shape is None else _bits(mask, math.prod(shape), 1).bool().reshape(shape)
    if int(bits.sum()) != nonzero_data.numel():
        raise ValueError(f"{int(bits.sum())} bits are set for {nonzero_data.numel()} values")
    dense = torch.zeros(bits.shape, dtype=nonzero_data.dtype)
    dense[bits] = nonzero_data.reshape(-1)
    return dense


@op("constexpr_blockwise_shift_scale")
def constexpr_blockwise_shift_scale(
    data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> Tensor:
    """scale * (data - offset), one of each per block; blocks divide every dimension."""
    return _shift_scale(data.to(torch.float32), data.shape, scale, offset)


def _shift_scale(data: Tensor, shape: torch.Size, scale: Tensor, offset: Tensor | None) -> Tensor:
    if offset is not None:
        data = data - _blocks(offset, offset.shape, shape).to(torch.float32)
    return data * _blocks(scale, scale.shape, shape)


@op("constexpr_sparse_blockwise_shift_scale")
def constexpr_sparse_blockwise_shift_scale(
    data_mask: Tensor, nonzero_data: Tensor, scale: Tensor, offset: Tensor | None = None
) -> tuple[Tensor, Tensor]:
    """The mask, and the values under it scaled by the block each stands in."""
    dense = constexpr_sparse_to_dense(nonzero_data.to(torch.float32), data_mask)
    return data_mask, _shift_scale(dense, dense.shape, scale, offset)[data_mask.bool()]


@op("constexpr_lut_to_sparse")
def constexpr_lut_to_sparse(
    indices_mask: Tensor,
    indices_nonzero_data: Tensor,
    lut: Tensor,
    vector_axis: int | None = None,
) -> tuple[Tensor, Tensor]:
    """The mask (widened along `vector_axis`), and the palette entries under it."""
    indices = constexpr_sparse_to_dense(indices_nonzero_data, indices_mask)
    dense, mask = _grouped_lut(indices, lut, vector_axis), indices_mask
    if vector_axis is not None and lut.shape[-1] > 1:
        mask = mask.repeat_interleave(lut.shape[-1], vector_axis)
    return mask, dense[mask.bool()]
