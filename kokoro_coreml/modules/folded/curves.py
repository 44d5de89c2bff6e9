"""F0 and energy as the decoder reads them: at one value per frame, and split for half precision."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn

from kokoro_coreml.modules.masks import Valid


class Curves(NamedTuple):
    """F0 and energy behind the decoder's `F0_conv` and `N_conv`.

    Half precision has 11 bits for a pitch of which only the deviation from its mean is heard: the
    decoder's first operation on it is AdaIN, which subtracts the mean. Given whole, the two curves
    cost a slow sentence more than all other operations of the decoder together.
    """

    deviations: Tensor
    """[1, 2, 1, F], 0 where padded."""
    levels: Tensor
    """Means over the valid frames, [1, 2, 1, 1]."""


class CurvesPerFrame(nn.Module):
    """`kokoro.istftnet.Decoder`'s `F0_conv` and `N_conv`."""

    def __init__(self) -> None:
        super().__init__()
        self.F0_conv = nn.Conv1d(1, 1, 3, stride=2, padding=1)
        self.N_conv = nn.Conv1d(1, 1, 3, stride=2, padding=1)

    def forward(self, f0: Tensor, energy: Tensor, frames: Valid) -> Curves:
        """Halve the rate, and split off the means.

        Args:
            f0: Hz, [1, 2 F], 0 where padded.
            energy: [1, 2 F], likewise.
            frames: over the F frames.
        """
        x = torch.cat([self.F0_conv(f0.unsqueeze(1)), self.N_conv(energy.unsqueeze(1))], dim=1)
        levels = frames.mean(x)
        return Curves(((x - levels) * frames.mask).unsqueeze(2), levels.unsqueeze(2))
