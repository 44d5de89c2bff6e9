"""The extremes of stored numbers, read in pieces: memory stays bounded however large a blob is."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np
import torch

from kokoro_coreml.executor.types import ElementType
from kokoro_coreml.executor.values import from_raw, packed_size

PIECE = 2**18
"""Elements looked at together; whole bytes, whatever the bits of an element."""


@dataclass(frozen=True)
class Extremes:
    """Of some numbers; all that are not numbers count as infinite, of both signs.

    Attributes:
        low: the smallest.
        high: the largest.
        least: smallest magnitude but 0; None if all are 0.
    """

    low: float
    high: float
    least: float | None

    @property
    def magnitude(self) -> float:
        """The largest one."""
        return max(abs(self.low), abs(self.high))


def pieces(raw: np.ndarray, element: ElementType, count: int) -> Iterator[torch.Tensor]:
    """Decode the raw bytes of `count` elements, a piece at a time."""
    for start in range(0, count, PIECE):
        stop = min(start + PIECE, count)
        piece = raw[packed_size(element, start) : packed_size(element, stop)]
        yield from_raw(piece, element, (stop - start,))


def extremes(tensors: Iterable[torch.Tensor]) -> Extremes | None:
    """Of all numbers in `tensors`; None if there are none."""
    low, high, least = math.inf, -math.inf, math.inf
    for tensor in tensors:
        if not tensor.numel():
            continue
        values = tensor.to(torch.float32)
        smallest, largest = (float(v) for v in torch.aminmax(values))
        if math.isnan(smallest) or math.isnan(largest):
            smallest, largest = -math.inf, math.inf
        low, high = min(low, smallest), max(high, largest)
        sizes = values.abs()
        least = min(least, float(torch.where(sizes > 0, sizes, math.inf).min()))
    if high < low:
        return None
    return Extremes(low, high, None if math.isinf(least) else least)
