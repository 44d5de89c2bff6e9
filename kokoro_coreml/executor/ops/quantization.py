"""Quantisation at run time. Source: MIL operation documentation, iOS 17, `quantization_ops`."""

from __future__ import annotations

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import op
from kokoro_coreml.executor.types import BY_NAME


def along(parameter: Tensor, x: Tensor, axis: int | None) -> Tensor:
    """Shape a scalar or vector so that it runs along `axis` of `x`."""
    if parameter.ndim == 0:
        return parameter
    if axis is None:
        raise ValueError("a vector of scales needs an axis")
    view = [1] * x.ndim
    view[axis] = parameter.numel()
    return parameter.reshape(view)


@op("quantize")
def quantize(
    input: Tensor,
    scale: Tensor,
    output_dtype: str,
    zero_point: Tensor | None = None,
    axis: int | None = None,
) -> Tensor:
    """clip(round(input / scale) + zero_point) to int8 or uint8; rounds half to even."""
    target = BY_NAME[output_dtype].carrier
    limits = torch.iinfo(target)
    y = torch.round(input / along(scale, input, axis))
    if zero_point is not None:
        y = y + along(zero_point, input, axis).to(torch.float32)
    return y.clamp(limits.min, limits.max).to(target)


@op("dequantize")
def dequantize(
    input: Tensor, scale: Tensor, zero_point: Tensor | None = None, axis: int | None = None
) -> Tensor:
    """scale * (input - zero_point)."""
    x = input.to(torch.float32)
    if zero_point is not None:
        x = x - along(zero_point, input, axis).to(torch.float32)
    return x * along(scale, input, axis)
