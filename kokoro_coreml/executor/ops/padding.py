"""Padding and cropping. Source: MIL operation documentation, iOS 15, `pad` and `crop`."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.conv import flat_reversed
from kokoro_coreml.executor.ops.registry import Ints, op


@op("pad")
def pad(x: Tensor, pad: Ints, mode: str = "constant", constant_val: float = 0.0) -> Tensor:
    """Pad the last N dimensions; `pad` holds N pairs (before, after), first dimension first.

    Trap: torch orders its pairs from the last dimension backwards.
    """
    if len(pad) % 2 or len(pad) > 2 * x.ndim or min(pad, default=0) < 0:
        raise ValueError(f"pad {pad} does not fit rank {x.ndim}")
    pairs = list(zip(pad[::2], pad[1::2], strict=True))
    if mode == "constant":
        return F.pad(x, flat_reversed(pairs), value=constant_val)
    for dim, (before, after) in enumerate(pairs, start=x.ndim - len(pairs)):
        if before or after:
            x = x.index_select(dim, _sources(x.shape[dim], before, after, mode))
    return x


def _sources(size: int, before: int, after: int, mode: str) -> Tensor:
    """Index each padded position reads."""
    positions = torch.arange(-before, size + after)
    if mode == "replicate":
        return positions.clamp(0, size - 1)
    if mode != "reflect":
        raise ValueError(f"pad mode {mode!r} is unknown")
    if max(before, after) > size - 1:
        raise ValueError(f"a reflection of {before} and {after} does not fit an axis of {size}")
    return (size - 1) - ((size - 1) - positions.abs()).abs()


@op("crop")
def crop(x: Tensor, crop_height: Ints, crop_width: Ints) -> Tensor:
    """Cut the last two dimensions on both sides."""
    (top, bottom), (left, right) = crop_height, crop_width
    h, w = x.shape[-2:]
    return x[..., top : h - bottom, left : w - right]
