"""Time folded into rows: every row is a stretch of time with some of its neighbours at both ends.

Convolutions see no further than the halo, so what stands in the core of a row is as if time had not
been folded. A long axis becomes many short ones, of which each fits the Neural Engine (FACTS.md
section 6, measured there; `tests/modules/test_folded_generator.py` measures it again).
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from kokoro_coreml.config import F0_PER_FRAME

CORE = 256
"""Positions (two per frame) in the core of a row."""
HALO = 8
"""Positions at each end of a row that are its neighbours'."""


@dataclass(frozen=True)
class Folding:
    """Rows that hold a number of frames."""

    rows: int
    core: int = CORE
    halo: int = HALO

    @classmethod
    def of(cls, frames: int) -> Folding:
        """Rows for a frame bucket.

        Raises:
            ValueError: the frames do not fill whole rows.
        """
        rows, rest = divmod(frames * F0_PER_FRAME, CORE)
        if rest or rows < 1:
            raise ValueError(
                f"{frames} frames do not fill rows of {CORE} positions; expected a multiple of "
                f"{CORE // F0_PER_FRAME}"
            )
        return cls(rows)

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
