"""How one weight is stored: 8-bit integers with a scale per channel, or indices into a palette."""

from __future__ import annotations

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import DTypeLike

from kokoro_coreml.errors import RecipeError

Opset = Literal["iOS17", "iOS18"]
"""Form of the compressed operations: attributes, flat and packed, until iOS 17; inputs since 18."""

PALETTE_BITS = (1, 2, 3, 4, 6, 8)
"""Widths of an index, MIL `constexpr_lut_to_dense`; 3 only from iOS 18 on."""

BLOB_ALIGNMENT = 64
"""Bytes; metadata and data of every blob in `weight.bin` are padded to a multiple of it."""

LEAST_BLOB = 10
"""Elements; coremltools 9.0 writes smaller constants into the protobuf instead."""

_TEXT = re.compile(r"(?P<kind>int8)|(?P<palette>palette)(?P<bits>\d+)(/(?P<group>\d+))?")


@dataclass(frozen=True)
class Scheme:
    """How one weight is stored.

    Attributes:
        kind: "int8" is linear, symmetric, one scale per output channel; "palette" is a table of
            2^bits values and an index per element.
        bits: of an element.
        group: output channels that share one palette; None is one palette for the whole weight.
    """

    kind: Literal["int8", "palette"]
    bits: int = 8
    group: int | None = None

    def __post_init__(self) -> None:
        known = (8,) if self.kind == "int8" else PALETTE_BITS
        if self.bits not in known:
            widths = ", ".join(map(str, known))
            raise RecipeError(f"{self.kind} of {self.bits} bits is unknown; use one of {widths}")
        if self.group is not None and (self.kind == "int8" or self.group < 1):
            raise RecipeError(
                f"{self.kind} in groups of {self.group} channels is unknown; only a palette has "
                "groups, of at least 1 channel"
            )

    @classmethod
    def parse(cls, text: str) -> Scheme:
        """Read what `str` writes: `int8`, `palette6`, or `palette4/16` for groups of 16 channels.

        Raises:
            RecipeError: the text is none of these.
        """
        match = _TEXT.fullmatch(text)
        if match is None:
            raise RecipeError(
                f"unknown compression '{text}'; known: int8, palette8, palette6, palette4, "
                "palette3, palette2, palette1, and a palette per group of channels as in "
                "palette4/16"
            )
        if match["kind"]:
            return cls("int8")
        return cls("palette", int(match["bits"]), int(match["group"]) if match["group"] else None)

    def __str__(self) -> str:
        if self.kind == "int8":
            return self.kind
        return f"palette{self.bits}" + (f"/{self.group}" if self.group else "")

    def obstacle(self, shape: Sequence[int], *, axis: int, opset: Opset = "iOS18") -> str | None:
        """Why a weight cannot be stored like this, or None if it can.

        Args:
            shape: of the weight.
            axis: of its output channels.
            opset: of the program it is in.
        """
        if self.group is not None and shape[axis] % self.group:
            return f"its {shape[axis]} output channels are no multiple of {self.group}"
        return self.too_new if opset == "iOS17" else None

    @property
    def too_new(self) -> str | None:
        """What iOS 17 lacks for it, or None."""
        if self.group is not None:
            return "palettes per group need iOS 18"
        if self.kind == "palette" and self.bits == 3:
            return "palettes of 3 bits need iOS 18"
        return None


def bytes_of(
    scheme: Scheme | None,
    shape: Sequence[int],
    dtype: DTypeLike,
    *,
    axis: int = 0,
    opset: Opset = "iOS18",
) -> int:
    """Exact size of a weight in `weight.bin`, in bytes, with metadata and padding of its blobs.

    iOS 17's zero points are counted for every weight, though coremltools stores those of 100 and
    more channels once for all weights with as many.

    Args:
        scheme: None is the uncompressed weight.
        shape: of the weight.
        dtype: float16 or float32, which scales and palettes are stored in as well.
        axis: of the output channels.
        opset: of the program.
    """
    count, itemsize = math.prod(shape), np.dtype(dtype).itemsize
    if scheme is None:
        return _blob(count, 8 * itemsize)
    channels = shape[axis]
    if scheme.kind == "int8":
        zero_points = _blob(channels, 8) if opset == "iOS17" else 0
        return _blob(count, 8) + _blob(channels, 8 * itemsize) + zero_points
    palettes = channels // scheme.group if scheme.group else 1
    return _blob(count, scheme.bits) + _blob(palettes << scheme.bits, 8 * itemsize)


def _blob(count: int, bits: int) -> int:
    if count < LEAST_BLOB:
        return 0
    data = (count * bits + 7) // 8
    return BLOB_ALIGNMENT + -(-data // BLOB_ALIGNMENT) * BLOB_ALIGNMENT
