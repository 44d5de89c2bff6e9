"""Resizing of the last dimensions. Source: MIL operation documentation, iOS 15 to 17,
`image_resizing`.

Every mode is a grid of source positions along one dimension. Where torch has the same grid its own
kernel is used, so that positions carry the same float32 rounding as in eager PyTorch: on a phase
interpolated to 240,000 samples that rounding is audible in a comparison.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Ints, op

_TORCH_GRIDS = {"UNALIGN_CORNERS": False, "STRICT_ALIGN_CORNERS": True}
_MODES = ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS", "DEFAULT", "OFFSET_CORNERS", "UNALIGN_CORNERS")


def grid(size: int, target: int, mode: str) -> Tensor:
    """Source position of each of `target` results, float64 in [0, size - 1]."""
    i = torch.arange(target, dtype=torch.float64)
    if mode == "ALIGN_CORNERS" and target == 1:
        return torch.tensor([(size - 1) / 2], dtype=torch.float64)
    if mode in ("STRICT_ALIGN_CORNERS", "ALIGN_CORNERS"):
        positions = i * ((size - 1) / max(1, target - 1))
    elif mode == "DEFAULT":
        positions = i * (size / target)
    elif mode == "OFFSET_CORNERS":
        delta = max(1, size - 1) / target
        positions = 0.5 * delta + i * delta
    elif mode == "UNALIGN_CORNERS":
        positions = (i + 0.5) * (size / target) - 0.5
    else:
        raise ValueError(f"sampling mode {mode!r} is unknown; known: {', '.join(_MODES)}")
    return positions.clamp(0, size - 1)


def _linear(x: Tensor, dim: int, target: int, mode: str) -> Tensor:
    """Linear interpolation along one dimension."""
    size = x.shape[dim]
    positions = grid(size, target, mode)
    low = positions.floor().long()
    high = (low + 1).clamp(max=size - 1)
    view = [1] * x.ndim
    view[dim] = target
    weight = (positions - low).to(x.dtype).reshape(view)
    return torch.lerp(x.index_select(dim, low), x.index_select(dim, high), weight)


def _resize_linear(x: Tensor, targets: tuple[int, int], mode: str) -> Tensor:
    if mode in _TORCH_GRIDS:
        flat = x.reshape(1, -1, *x.shape[-2:])
        y = F.interpolate(flat, targets, mode="bilinear", align_corners=_TORCH_GRIDS[mode])
        return y.reshape(*x.shape[:-2], *targets)
    for dim, target in zip((x.ndim - 2, x.ndim - 1), targets, strict=True):
        x = x if target == x.shape[dim] == 1 else _linear(x, dim, target, mode)
    return x


def _repeated(x: Tensor, dim: int, target: int) -> Tensor:
    """Result i is element floor(i * size / target), in whole numbers."""
    size = x.shape[dim]
    if target % size == 0:
        return x if size == target else x.repeat_interleave(target // size, dim)
    return x.index_select(dim, torch.arange(target) * size // target)


def _nearest(x: Tensor, dim: int, target: int, mode: str = "DEFAULT") -> Tensor:
    """The element nearest to each position; of two, the later one.

    Trap: the positions of "DEFAULT" are those of half-pixel centres, (i + 0.5) * size / target, as
    in "UNALIGN_CORNERS", unlike those of its linear interpolation: coremltools lowers TensorFlow's
    `half_pixel_centers` to it, and its runtime test has 2 elements become 3 as 0, 1, 1. The other
    modes are read off their grids; nothing says how a device rounds them.
    """
    size = x.shape[dim]
    if mode in ("DEFAULT", "UNALIGN_CORNERS"):
        sources = (2 * torch.arange(target) + 1) * size // (2 * target)
    else:
        sources = (grid(size, target, mode) + 0.5).floor().long()
    return x.index_select(dim, sources)


@op("upsample_nearest_neighbor")
def upsample_nearest_neighbor(
    x: Tensor, scale_factor_height: float = 1.0, scale_factor_width: float = 1.0
) -> Tensor:
    """Repeat along the last two dimensions; sizes become floor(size * scale)."""
    x = _repeated(x, x.ndim - 2, math.floor(x.shape[-2] * scale_factor_height))
    return _repeated(x, x.ndim - 1, math.floor(x.shape[-1] * scale_factor_width))


@op("resize_nearest_neighbor")
def resize_nearest_neighbor(x: Tensor, target_size_height: int, target_size_width: int) -> Tensor:
    """Nearest neighbour to a given size: element floor((i + 0.5) * size / target)."""
    return _nearest(_nearest(x, x.ndim - 2, target_size_height), x.ndim - 1, target_size_width)


@op("upsample_bilinear")
def upsample_bilinear(
    x: Tensor,
    scale_factor_height: float = 1.0,
    scale_factor_width: float = 1.0,
    align_corners: bool = True,
    half_pixel_centers: bool | None = None,
) -> Tensor:
    """Bilinear; sizes become floor(size * scale), and the scale is recomputed from them.

    Traps: corners are aligned by default, unlike torch; `half_pixel_centers` (iOS 16) is the
    opposite of `align_corners` unless given.
    """
    centers = not align_corners if half_pixel_centers is None else half_pixel_centers
    if align_corners and centers:
        raise ValueError("align_corners and half_pixel_centers exclude one another")
    mode = "STRICT_ALIGN_CORNERS" if align_corners else "UNALIGN_CORNERS" if centers else "DEFAULT"
    height = math.floor(x.shape[-2] * scale_factor_height)
    return _resize_linear(x, (height, math.floor(x.shape[-1] * scale_factor_width)), mode)


@op("resize_bilinear")
def resize_bilinear(
    x: Tensor,
    target_size_height: int = 1,
    target_size_width: int = 1,
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Bilinear to a given size."""
    return _resize_linear(x, (target_size_height, target_size_width), sampling_mode)


@op("resize")
def resize(
    x: Tensor,
    shape: Ints,
    resized_dims: int,
    interpolation_mode: str = "LINEAR",
    sampling_mode: str = "DEFAULT",
) -> Tensor:
    """Resize the last `resized_dims` dimensions to the last sizes in `shape`; 0 keeps one."""
    for back in range(min(resized_dims, len(shape)), 0, -1):
        dim = x.ndim - back
        target = shape[-back] or x.shape[dim]
        if interpolation_mode == "NEAREST_NEIGHBOR":
            x = _nearest(x, dim, target, sampling_mode)
        elif interpolation_mode != "LINEAR":
            raise ValueError(f"interpolation mode {interpolation_mode!r} is unknown")
        elif not x.dtype.is_floating_point:
            raise ValueError("how whole numbers are rounded between positions is not defined")
        else:
            x = _linear(x, dim, target, sampling_mode)
    return x
