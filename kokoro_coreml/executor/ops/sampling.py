"""Sampling of images at given positions: `resample`, `affine`, `crop_resize`.

Source: MIL operation documentation, iOS 15 to 17, `image_resizing`; where it is silent, the values
that coremltools' runtime tests (`test_image_resizing.py`) expect of a Mac.
"""

from __future__ import annotations

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.gather import IOS17
from kokoro_coreml.executor.ops.registry import Opset, op

_BOX_GRIDS = ("OFFSET_CORNERS", "DEFAULT", "UNALIGN_CORNERS")


@op("resample")
def resample(
    x: Tensor,
    coordinates: Tensor,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """x [B, C, H, W] at `coordinates` [B, H2, W2, 2] in the order (x, y): [B, C, H2, W2].

    The nearest pixel is chosen after padding, half to even. "reflection" mirrors at the centre of
    the border pixels, "symmetric" at their outer edge, whatever `align_corners` is.
    """
    places = [
        _padded(
            _pixels(c, size, coordinates_mode.lower(), align_corners), size, padding_mode.lower()
        )
        for c, size in zip(coordinates.to(torch.float32).unbind(-1), x.shape[:1:-1], strict=True)
    ]
    horizontal, vertical = places
    if sampling_mode.lower() == "nearest":
        return _pick(x, vertical.round(), horizontal.round(), padding_value)
    if sampling_mode.lower() != "bilinear":
        raise ValueError(f"sampling mode {sampling_mode!r} is unknown")
    return _bilinear(x, vertical, horizontal, padding_value)


def _pixels(coordinates: Tensor, size: int, mode: str, align_corners: bool) -> Tensor:
    """Positions along one dimension, counted in pixels from the centre of the first."""
    if mode == "unnormalized":
        return coordinates
    if mode == "normalized_minus_one_to_one":
        coordinates = (coordinates + 1) / 2
    elif mode != "normalized_zero_to_one":
        raise ValueError(f"coordinates mode {mode!r} is unknown")
    return coordinates * (size - 1) if align_corners else coordinates * size - 0.5


def _padded(positions: Tensor, size: int, mode: str) -> Tensor:
    """Positions moved into the image; in the mode "constant" they stay."""
    if mode == "constant":
        return positions
    if mode == "border":
        return positions.clamp(0, size - 1)
    if mode == "reflection":
        return _mirrored(positions, float(size - 1))
    if mode == "symmetric":
        return (_mirrored(positions + 0.5, float(size)) - 0.5).clamp(0, size - 1)
    raise ValueError(f"padding mode {mode!r} is unknown")


def _mirrored(positions: Tensor, end: float) -> Tensor:
    """Reflect at 0 and at `end`, as often as it takes."""
    if end == 0:
        return torch.zeros_like(positions)
    folded = positions.abs().remainder(2 * end)
    return torch.minimum(folded, 2 * end - folded)


def _pick(x: Tensor, vertical: Tensor, horizontal: Tensor, outside: float) -> Tensor:
    """Pixels of x [B, C, H, W] at whole positions [B, H2, W2]; `outside` where there is none."""
    height, width = x.shape[2:]
    inside = (vertical >= 0) & (vertical < height) & (horizontal >= 0) & (horizontal < width)
    rows = torch.where(inside, vertical, 0).long()
    columns = torch.where(inside, horizontal, 0).long()
    index = (rows * width + columns).flatten(1).unsqueeze(1).expand(-1, x.shape[1], -1)
    picked = x.flatten(2).gather(2, index).reshape(*x.shape[:2], *vertical.shape[1:])
    return torch.where(inside.unsqueeze(1), picked, torch.tensor(outside, dtype=x.dtype))


def _bilinear(x: Tensor, vertical: Tensor, horizontal: Tensor, outside: float) -> Tensor:
    """Weighted mean of the four pixels around each position."""
    top, left = vertical.floor(), horizontal.floor()
    down, right = (vertical - top).unsqueeze(1), (horizontal - left).unsqueeze(1)
    above, below = (
        torch.lerp(_pick(x, row, left, outside), _pick(x, row, left + 1, outside), right)
        for row in (top, top + 1)
    )
    return torch.lerp(above, below, down)


@op("affine")
def affine(
    x: Tensor,
    transform_matrix: Tensor,
    output_height: int,
    output_width: int,
    sampling_mode: str,
    padding_mode: str,
    padding_value: float,
    coordinates_mode: str,
    align_corners: bool,
) -> Tensor:
    """x [B, C, H, W] moved by [B or 1, 6] (a0, a1, a2, b0, b1, b2): x' = a0 x + a1 y + a2.

    Coordinates run from -1 to 1 from the first to the last pixel, in the result and in the input;
    MIL allows no other mode.
    """
    modes = (sampling_mode.lower(), padding_mode.lower(), coordinates_mode.lower())
    if modes != ("bilinear", "constant", "normalized_minus_one_to_one"):
        raise ValueError(f"affine has no modes {modes}")
    if not align_corners or padding_value != 0:
        raise ValueError("affine needs align_corners and a padding value of 0")
    columns, rows = _from_minus_one(output_width), _from_minus_one(output_height)
    y, across = torch.meshgrid(rows, columns, indexing="ij")
    points = torch.stack((across, y, torch.ones_like(y)), -1)
    moved = torch.einsum("hwk,bck->bhwc", points, transform_matrix.reshape(-1, 2, 3))
    moved = moved.expand(x.shape[0], -1, -1, -1)
    return resample(x, moved, *modes[:2], 0.0, modes[2], True)


def _from_minus_one(count: int) -> Tensor:
    """`count` points from -1 to 1; a single one is in the middle."""
    return torch.linspace(-1, 1, count) if count > 1 else torch.zeros(count)


@op("crop_resize")
def crop_resize(
    x: Tensor,
    opset: Opset,
    roi: Tensor | None = None,
    boxes: Tensor | None = None,
    box_indices: Tensor | None = None,
    target_height: int = 1,
    target_width: int = 1,
    normalized_coordinates: bool = False,
    spatial_scale: float = 1.0,
    box_coordinate_mode: str = "CORNERS_HEIGHT_FIRST",
    sampling_mode: str = "DEFAULT",
    pad_value: float = 0.0,
) -> Tensor:
    """Boxes of x [B, C, H, W], each resampled to one size; a sample outside x is `pad_value`.

    From iOS 17 `boxes` [N, 4] and `box_indices` [N] (item n by default) give [N, C, h, w]. Before,
    `roi` [N, 1, 4, 1, 1] is applied to all items, and [N, 1, 5, 1, 1] begins with the item:
    [N, B or 1, C, h, w]. A box given by its centre reaches half its size to either side.
    """
    if opset < IOS17 and roi is not None and boxes is None and box_indices is None:
        corners, items = _regions(roi, x.shape[0])
    elif opset < IOS17 or roi is not None or boxes is None:
        raise ValueError("crop_resize takes 'roi' up to iOS 16, and 'boxes' from iOS 17")
    else:
        corners = boxes
        items = torch.arange(corners.shape[0]) if box_indices is None else box_indices.long()
    if items.numel() and not 0 <= int(items.min()) <= int(items.max()) < x.shape[0]:
        raise IndexError(f"boxes of items {items.tolist()} do not fit {x.shape[0]} items")
    scales = [float(n - 1) for n in x.shape[2:]] if normalized_coordinates else [1.0, 1.0]
    sides = [
        (start * scale * spatial_scale, end * scale * spatial_scale)
        for (start, end), scale in zip(_sides(corners, box_coordinate_mode), scales, strict=True)
    ]
    down = _box_grid(*sides[0], target_height, sampling_mode)
    across = _box_grid(*sides[1], target_width, sampling_mode)
    shape = (items.numel(), target_height, target_width)
    vertical, horizontal = down.unsqueeze(2).expand(shape), across.unsqueeze(1).expand(shape)
    inside = (vertical >= 0) & (vertical <= x.shape[2] - 1)
    inside = inside & (horizontal >= 0) & (horizontal <= x.shape[3] - 1)
    y = _bilinear(x.index_select(0, items), vertical, horizontal, 0.0)
    y = torch.where(inside.unsqueeze(1), y, torch.tensor(pad_value, dtype=y.dtype))
    return y if roi is None else y.reshape(roi.shape[0], -1, *y.shape[1:])


def _regions(roi: Tensor, batch: int) -> tuple[Tensor, Tensor]:
    """Coordinates [n, 4] and item [n] of every crop that `roi` asks for."""
    flat = roi.flatten(1)
    if flat.shape[1] == 5:
        return flat[:, 1:], flat[:, 0].long()
    return flat.repeat_interleave(batch, 0), torch.arange(batch).repeat(flat.shape[0])


def _sides(corners: Tensor, mode: str) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
    """First and last position of each box along the height and along the width."""
    a, b, c, d = corners.to(torch.float32).unbind(-1)
    if mode.endswith("_WIDTH_FIRST"):
        a, b, c, d = b, a, d, c
    if mode.startswith("CORNERS_"):
        return (a, c), (b, d)
    if not mode.startswith("CENTER_SIZE_"):
        raise ValueError(f"box coordinate mode {mode!r} is unknown")
    return (a - c / 2, a + c / 2), (b - d / 2, b + d / 2)


def _box_grid(start: Tensor, end: Tensor, target: int, mode: str) -> Tensor:
    """Positions [N, target] read along one dimension of boxes from `start` to `end`, both in it.

    The grids of `resize_bilinear`, for an axis of end - start + 1 pixels that begins at `start`.
    """
    length = (end - start).unsqueeze(1)
    i = torch.arange(target, dtype=torch.float32)
    if mode == "ALIGN_CORNERS" and target == 1:
        return start.unsqueeze(1) + length / 2
    if mode in ("ALIGN_CORNERS", "STRICT_ALIGN_CORNERS"):
        return start.unsqueeze(1) + length * (i / max(1, target - 1))
    if mode not in _BOX_GRIDS:
        raise ValueError(f"sampling mode {mode!r} is unknown")
    if bool((length < 0).any()):
        raise ValueError(f"a box that ends before it starts has no grid {mode!r}")
    if mode == "OFFSET_CORNERS":
        offsets = (i + 0.5) * (length.clamp(min=1) / target)
    elif mode == "DEFAULT":
        offsets = i * ((length + 1) / target)
    else:
        offsets = (i + 0.5) * ((length + 1) / target) - 0.5
    return start.unsqueeze(1) + offsets.clamp(min=0).minimum(length)
