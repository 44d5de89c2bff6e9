"""Masks over the five axes of time, so that padding never changes what is valid.

A mask is float32, 1 where valid and 0 where padded; `Valid` carries it with the number of valid
positions, which every masked mean divides by.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

_BLOCK = 2_048
"""Positions."""


class Valid(NamedTuple):
    """Which positions of one axis are valid."""

    mask: Tensor
    """[1, 1, length], 1 or 0."""
    total: Tensor
    """[1, 1, 1], the number of valid positions."""

    def mean(self, x: Tensor) -> Tensor:
        """Mean over the valid positions: [1, C, length] -> [1, C, 1].

        A product with the mask adds in an order that does not depend on the length of the axis; a
        plain sum does, and its last bit can move a source phase across the branch cut: 45 dB
        between two buckets instead of 130.
        """
        return torch.matmul(x, self.mask.transpose(1, 2)) / self.total


def valid_prefix(count: Tensor, length: int) -> Valid:
    """The first `count` of `length` positions.

    Args:
        count: float32 [1, 1, 1], positions; may exceed `length`, which then bounds it.
        length: length of the axis.
    """
    return Valid(_below(count, length).to(torch.float32), torch.clamp(count, max=float(length)))


def _below(count: Tensor, length: int) -> Tensor:
    """Which of `length` positions are smaller than `count`, bool [1, 1, length].

    Block by block, since a package holds every position that is counted out: 1 MB for 10 s of
    speech at the rate of the spectra.
    """
    within = torch.arange(min(length, _BLOCK), dtype=torch.float32, device=count.device)
    if length <= _BLOCK:
        return within.view(1, 1, length) < count
    starts = torch.arange(0, length, _BLOCK, dtype=torch.float32, device=count.device)
    below = within.view(1, 1, 1, _BLOCK) < count.unsqueeze(-1) - starts.view(1, 1, -1, 1)
    return below.reshape(1, 1, -1)[..., :length]


def repeat_each(x: Tensor, times: int) -> Tensor:
    """Nearest-neighbour upsampling of the last axis: [1, C, L] -> [1, C, L * times]."""
    batch, channels, length = x.shape
    return torch.stack([x] * times, dim=-1).reshape(batch, channels, length * times)
