"""Convolution and its transpose. Source: MIL operation documentation, iOS 15 and 17, `conv`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, op

_CONV: dict[int, Any] = {1: F.conv1d, 2: F.conv2d, 3: F.conv3d}
_TRANSPOSED: dict[int, Any] = {1: F.conv_transpose1d, 2: F.conv_transpose2d, 3: F.conv_transpose3d}


def pad_pairs(
    pad_type: str,
    pad: Ints | None,
    sizes: Sequence[int],
    kernel: Sequence[int],
    strides: Sequence[int],
) -> list[tuple[int, int]]:
    """Elements before and after each spatial dimension.

    Trap: MIL's text gives half the kernel on either side for `same`, which agrees with its own
    output size only at stride 1; its type inference, followed here, is TensorFlow's rule.

    Args:
        pad_type: valid, custom, same or same_lower.
        pad: [2n], read only for custom.
        sizes: of the input's spatial dimensions.
        kernel: sizes, dilation included.
        strides: along each dimension.
    """
    if pad_type == "valid":
        return [(0, 0)] * len(kernel)
    if pad_type == "custom":
        given = pad if pad is not None else (0,) * (2 * len(kernel))
        if len(given) != 2 * len(kernel) or min(given) < 0:
            raise ValueError(f"pad {given} does not fit {len(kernel)} spatial dimensions")
        return list(zip(given[::2], given[1::2], strict=True))
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r} is unknown")
    pairs = []
    for size, k, s in zip(sizes, kernel, strides, strict=True):
        total = max(0, (-(-size // s) - 1) * s + k - size)
        half = total // 2
        pairs.append((half, total - half) if pad_type == "same" else (total - half, half))
    return pairs


def flat_reversed(pairs: Sequence[tuple[int, int]]) -> list[int]:
    """`pairs` in the order torch's pad takes them: last dimension first."""
    return [p for pair in reversed(pairs) for p in pair]


@op("conv")
def conv(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x [n, C_in, *D] with weight [C_out, C_in / groups, *K]; `pad` counts only if custom."""
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    pairs = pad_pairs(pad_type, pad, x.shape[2:], kernel, strides)
    if any(before != after for before, after in pairs):
        x, pairs = F.pad(x, flat_reversed(pairs)), [(0, 0)] * rank
    padding = [before for before, _ in pairs]
    result: Tensor = _CONV[rank](x, weight, bias, strides, padding, dilations, groups)
    return result


@op("conv_quantized")
def conv_quantized(
    x: Tensor,
    weight: Tensor,
    quantization_type: str,
    quant_scale: Tensor,
    quant_bias: Tensor,
    bias: Tensor | None = None,
    nbits: int = 8,
    strides: Ints | None = None,
    pad_type: str = "valid",
    pad: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """`conv` with the weight quant_scale * weight + quant_bias, scalars or one per C_out.

    Only the type "linear": no parameter could hold the table of the type "lut".
    """
    if quantization_type != "linear":
        raise ValueError(f"quantization type {quantization_type!r} cannot be run, only 'linear'")
    if not 1 <= nbits <= 8:
        raise ValueError(f"nbits {nbits} is not between 1 and 8")
    scale, offset = (_per_output(p, weight) for p in (quant_scale, quant_bias))
    full = weight.to(torch.float32) * scale + offset
    bias = None if bias is None else bias.to(torch.float32)
    return conv(x, full, bias, strides, pad_type, pad, dilations, groups)


def _per_output(parameter: Tensor, weight: Tensor) -> Tensor:
    if parameter.numel() == 1:
        return parameter.reshape(())
    return parameter.reshape(-1, *[1] * (weight.ndim - 1))


@op("conv_transpose")
def conv_transpose(
    x: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    pad: Ints | None = None,
    output_shape: Ints | None = None,
    pad_type: str = "valid",
    strides: Ints | None = None,
    dilations: Ints | None = None,
    groups: int = 1,
) -> Tensor:
    """x [n, C_in, *D] with weight [C_in, C_out / groups, *K]; `pad` crops the full result.

    `output_shape`, if given, sets the end of each dimension: the full result is cut there, or
    extended by positions no input reaches, which hold the bias.
    """
    rank = x.ndim - 2
    strides, dilations = strides or (1,) * rank, dilations or (1,) * rank
    kernel = [(k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilations, strict=True)]
    full = [(n - 1) * s + k for n, s, k in zip(x.shape[2:], strides, kernel, strict=True)]
    wanted = output_shape[2:] if output_shape is not None else None
    before, sizes = _crop(pad_type, pad, full, wanted, x.shape[2:], strides)
    extra = [n - (f - 2 * b) for n, f, b in zip(sizes, full, before, strict=True)]
    limit = [max(s, d) for s, d in zip(strides, dilations, strict=True)]
    function = _TRANSPOSED[rank]
    if all(0 <= e < m for e, m in zip(extra, limit, strict=True)):
        direct: Tensor = function(x, weight, bias, strides, before, extra, groups, dilations)
        return direct
    y: Tensor = function(x, weight, None, strides, 0, 0, groups, dilations)
    ends = [b + n - f for b, n, f in zip(before, sizes, full, strict=True)]
    y = F.pad(y, flat_reversed([(-b, e) for b, e in zip(before, ends, strict=True)]))
    return y if bias is None else y + bias.reshape(1, -1, *[1] * rank)


def _crop(
    pad_type: str,
    pad: Ints | None,
    full: Sequence[int],
    wanted: Sequence[int] | None,
    sizes: Sequence[int],
    strides: Sequence[int],
) -> tuple[list[int], list[int]]:
    """Elements cut at the start of each dimension, and its size after the cuts."""
    if pad_type in ("valid", "custom"):
        pairs = pad_pairs(pad_type, pad, sizes, full, strides)
        default = [f - b - a for f, (b, a) in zip(full, pairs, strict=True)]
        return [b for b, _ in pairs], list(wanted) if wanted is not None else default
    if pad_type not in ("same", "same_lower"):
        raise ValueError(f"pad_type {pad_type!r} is unknown")
    out = (
        list(wanted) if wanted is not None else [n * s for n, s in zip(sizes, strides, strict=True)]
    )
    total = [max(0, f - n) for f, n in zip(full, out, strict=True)]
    return [t // 2 if pad_type == "same" else t - t // 2 for t in total], out
