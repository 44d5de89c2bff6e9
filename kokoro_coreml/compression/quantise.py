"""Compressing one weight and back, deterministically: numbers are float64 inside.

The forms are those of MIL: `constexpr_blockwise_shift_scale` and `constexpr_lut_to_dense` (iOS 18).
"""

from __future__ import annotations

import hashlib
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from kokoro_coreml.compression.kmeans import kmeans
from kokoro_coreml.compression.scheme import Scheme
from kokoro_coreml.errors import ConversionError

Weight = NDArray[np.floating[Any]]
"""float16 or float32."""

LARGEST = 127
"""Of a symmetric 8-bit integer; -128 stays unused."""

_JUDGED = 256
"""Elements of a channel that its grid is chosen by."""

_CLEARLY = 0.5
"""Of the error must go before a coarser grid is preferred."""

_done: dict[tuple[object, ...], Compressed] = {}


@dataclass(frozen=True, eq=False)
class Linear:
    """`data * scale`.

    Attributes:
        data: int8, of the weight's shape.
        scale: of the weight's rank and type; 1 long but along the axis of the output channels.
    """

    data: NDArray[np.int8]
    scale: Weight


@dataclass(frozen=True, eq=False)
class Palette:
    """`lut[index]`.

    Attributes:
        indices: uint8, of the weight's shape.
        lut: [*groups, 2^bits, 1] in the weight's type; groups divide the dimensions of the weight.
            Ascending; entries that are not needed repeat the last.
    """

    indices: NDArray[np.uint8]
    lut: Weight

    @property
    def bits(self) -> int:
        """Of an index."""
        return int(math.log2(self.lut.shape[-2]))


Compressed = Linear | Palette


def quantise(weight: Weight, scheme: Scheme, *, axis: int = 0) -> Compressed:
    """Compress one weight; a weight of the same contents is compressed once per process.

    Args:
        weight: float16 or float32, of any rank from 1.
        scheme: how.
        axis: of the output channels; negative counts from the last.

    Raises:
        ConversionError: the weight is of another type, is empty, holds NaN or infinity, or cannot
            be grouped like this.
    """
    axis = _checked_axis(weight, scheme, axis)
    key = (*contents(weight), scheme, axis)
    if key not in _done:
        compress = _linear if scheme.kind == "int8" else _palette
        _done[key] = compress(weight, scheme, axis)
    return _done[key]


def contents(weight: Weight) -> tuple[object, ...]:
    """A key that equal weights share."""
    digest = hashlib.sha256(np.ascontiguousarray(weight).tobytes()).digest()
    return digest, weight.dtype.str, weight.shape


def dequantise(compressed: Compressed) -> Weight:
    """The weight that Core ML computes with, in the type and shape of the original."""
    if isinstance(compressed, Linear):
        scaled: Weight = compressed.data.astype(compressed.scale.dtype) * compressed.scale
        return scaled
    groups, size = compressed.lut.shape[:-2], compressed.lut.shape[-2]
    axis = int(np.argmax(groups))
    channels = compressed.indices.shape[axis]
    first = np.arange(channels) // (channels // groups[axis]) * size
    chosen: Weight = compressed.lut.reshape(-1)[
        first.reshape(_along(axis, len(groups))) + compressed.indices
    ]
    return chosen


def relative_error_db(*, reference: np.ndarray, candidate: np.ndarray) -> float:
    """Energy of the difference over that of the reference, in dB; -inf where both are equal.

    Raises:
        ValueError: the shapes differ.
    """
    if reference.shape != candidate.shape:
        raise ValueError(f"shapes {reference.shape} and {candidate.shape} differ")
    true = reference.astype(np.float64)
    error = float(np.sum((candidate.astype(np.float64) - true) ** 2))
    energy = float(np.sum(true**2))
    if error == 0.0:
        return -math.inf
    return 10.0 * math.log10(error / energy) if energy else math.inf


def _checked_axis(weight: Weight, scheme: Scheme, axis: int) -> int:
    what = f"a weight of shape {list(weight.shape)}"
    if weight.dtype not in (np.float16, np.float32):
        raise ConversionError(f"{what} is {weight.dtype}; only float16 and float32 are compressed")
    if weight.size == 0 or not -weight.ndim <= axis < weight.ndim:
        raise ConversionError(f"{what} has no elements along axis {axis}; nothing to compress")
    if not np.all(np.isfinite(weight)):
        raise ConversionError(f"{what} holds NaN or infinity and cannot be compressed")
    axis %= weight.ndim
    if obstacle := scheme.obstacle(weight.shape, axis=axis):
        raise ConversionError(f"{what} cannot be stored as {scheme}: {obstacle}")
    return axis


def _along(axis: int, rank: int) -> tuple[int, ...]:
    """Shape of a vector that runs along one axis."""
    return tuple(-1 if dim == axis else 1 for dim in range(rank))


def _linear(weight: Weight, scheme: Scheme, axis: int) -> Linear:
    """Each channel on the grid whose largest magnitude is `LARGEST`, or fewer, steps.

    Fewer where that is nearer: a channel that was once of 7 bits falls on its own grid again.
    The scale is never subnormal: half precision has few digits there, and some processors none.
    """
    exact = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    scale = (np.abs(exact).max(axis=1) / _steps(exact)).astype(weight.dtype)
    scale = np.maximum(scale, np.finfo(weight.dtype).tiny).reshape(_along(axis, weight.ndim))
    data = np.rint(weight.astype(np.float64) / scale.astype(np.float64)).clip(-LARGEST, LARGEST)
    return Linear(data.astype(np.int8), scale)


def _steps(channels: NDArray[np.float64]) -> NDArray[np.int64]:
    """Of each row's grid from 0 to its largest magnitude, judged by some of its elements."""
    some = channels[:, :: -(-channels.shape[1] // _JUDGED)]
    largest = np.maximum(np.abs(channels).max(axis=1, keepdims=True), np.finfo(np.float64).tiny)
    best = np.full(len(channels), LARGEST)
    least = np.full(len(channels), np.inf)
    for steps in range(LARGEST, 0, -1):
        on_grid = some / largest * steps
        error = np.sum((on_grid - np.rint(on_grid)) ** 2, axis=1) / steps**2
        nearer = error < least * (1 - _CLEARLY)
        best, least = np.where(nearer, steps, best), np.where(nearer, error, least)
    return best


def _palette(weight: Weight, scheme: Scheme, axis: int) -> Palette:
    groups = weight.shape[axis] // scheme.group if scheme.group else 1
    pieces = [
        _one_palette(piece, scheme.bits) for piece in np.array_split(weight, groups, axis=axis)
    ]
    shape = [groups if dim == axis else 1 for dim in range(weight.ndim)]
    lut = np.concatenate([lut for lut, _ in pieces]).reshape(*shape, 1 << scheme.bits, 1)
    return Palette(np.concatenate([indices for _, indices in pieces], axis=axis), lut)


def _one_palette(weight: Weight, bits: int) -> tuple[Weight, NDArray[np.uint8]]:
    """The palette in the weight's type, and for each element the index of the nearest entry."""
    # numpy 2.3 sorts half precision wrongly on processors with AVX-512, where values repeat
    centres = kmeans(np.sort(weight.astype(np.float64), axis=None), 1 << bits)
    exact = np.unique(centres.astype(weight.dtype).astype(np.float64))
    entries = exact.astype(weight.dtype)
    between = (exact[1:] + exact[:-1]) / 2
    indices = np.searchsorted(between, weight.reshape(-1)).astype(np.uint8)
    lut = np.pad(entries, (0, (1 << bits) - len(entries)), mode="edge")
    return lut, indices.reshape(weight.shape)
