"""Time folded into rows: every row is a stretch of time with some of its neighbours at both ends.

Convolutions see no further than the halo (`folded.halos` says how wide that is), so what stands in
the core of a row is as if time had not been folded. A long axis becomes many short ones, of which
each fits the Neural Engine.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

CORE = 256
"""Positions (two per frame) in the core of a row."""


@dataclass(frozen=True)
class Folding:
    """How time stands in rows."""

    rows: int
    halo: int
    """Positions at each end of a row that are its neighbours'."""
    core: int = CORE

    def __post_init__(self) -> None:
        """Check.

        Raises:
            ValueError: several rows have halos that are more than their neighbours' halves.
        """
        if self.rows > 1 and 2 * self.halo > self.core:
            raise ValueError(
                f"halos of {self.halo} positions are too wide for rows of {self.core}; "
                f"at most {self.core // 2} fit"
            )

    def width(self, rate: int) -> int:
        """Length of a row after upsampling by `rate`."""
        return (self.core + 2 * self.halo) * rate

    def fold(self, x: Tensor, rate: int, *, extra: int = 0) -> Tensor:
        """[1, C, 1, rows * core * rate + extra] -> [1, C, rows, width(rate)].

        Args:
            x: one row of time.
            rate: positions per position of the stage's input.
            extra: how many positions stand in front of the first one; they go into its halo.
        """
        core, halo = self.core * rate, self.halo * rate
        padded = F.pad(x, (halo - extra, halo))
        if self.rows == 1:
            return padded
        body = padded[..., : self.rows * core].reshape(1, -1, self.rows, core)
        following = F.pad(padded[..., core:], (0, core - 2 * halo))
        ends = following.reshape(1, -1, self.rows, core)[..., : 2 * halo]
        return torch.cat([body, ends], dim=3)

    def unfold(self, x: Tensor, rate: int, *, extra: int = 0) -> Tensor:
        """[1, C, rows, width(rate)] -> [1, C, rows * core * rate + extra]."""
        core, halo = self.core * rate, self.halo * rate
        body = x[..., halo : halo + core].reshape(1, -1, self.rows * core)
        return torch.cat([x[:, :, 0, halo - extra : halo], body], dim=2) if extra else body

    def narrowed(self, x: Tensor, rate: int, to: Folding) -> Tensor:
        """The same rows with the narrower halo of `to`: [1, C, rows, width(rate)] -> to its.

        Raises:
            ValueError: the halo of `to` is wider.
        """
        off = (self.halo - to.halo) * rate
        if off < 0:
            raise ValueError(f"a halo of {to.halo} positions is wider than one of {self.halo}")
        return x[..., off : self.width(rate) - off] if off else x

    def exchanged(self, x: Tensor, rate: int, to: Folding) -> Tensor:
        """The same rows with the halo of `to`, taken anew from the cores of their neighbours.

        [1, C, rows, width(rate)] -> [1, C, rows, to.width(rate)]; 0 where there is no neighbour.
        """
        core, halo, ends = self.core * rate, self.halo * rate, to.halo * rate
        body = x[..., halo : halo + core]
        if self.rows == 1:
            return F.pad(body, (ends, ends))
        before = F.pad(body[:, :, :-1, core - ends :], (0, 0, 1, 0))
        behind = F.pad(body[:, :, 1:, :ends], (0, 0, 0, 1))
        return torch.cat([before, body, behind], dim=3)

    def valid(self, count: Tensor, rate: int, *, extra: int = 0) -> Tensor:
        """1 where a position, halo included, is of the utterance: [1, 1, rows, width(rate)].

        Args:
            count: valid positions of the stage's input, float32 [1, 1, 1, 1].
            rate: as in `fold`.
            extra: positions in front of the first one that are valid as well.
        """
        core, halo, width = self.core * rate, self.halo * rate, self.width(rate)
        place = torch.arange(width, dtype=torch.float32).view(1, 1, 1, width) - halo
        start = torch.arange(self.rows, dtype=torch.float32).view(1, 1, self.rows, 1) * core
        inside = (place < count * rate - start).to(torch.float32)
        first = inside[:, :, :1] * (place >= -extra).to(torch.float32)
        return torch.cat([first, inside[:, :, 1:]], dim=2) if self.rows > 1 else first

    def own(self, valid: Tensor, rate: int, *, extra: int = 0) -> Tensor:
        """`valid` without what belongs to the neighbours, so that each position counts once."""
        core, halo, width = self.core * rate, self.halo * rate, self.width(rate)
        place = torch.arange(width).view(1, 1, 1, width)
        inside = (place >= halo) & (place < halo + core)
        first = (place >= halo - extra) & (place < halo + core)
        rest = valid[:, :, 1:] * inside.to(torch.float32)
        head = valid[:, :, :1] * first.to(torch.float32)
        return torch.cat([head, rest], dim=2) if self.rows > 1 else head
