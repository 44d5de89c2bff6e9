"""Normalisations in the layout (1, channels, rows, width)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from kokoro_coreml.modules.folded.geometry import Folding
from kokoro_coreml.modules.norm import EPSILON


class Rows(NamedTuple):
    """Which positions of an axis are valid, and which of them count in its statistics."""

    valid: Tensor
    """[1, 1, rows, width], 1 or 0; the halo's positions are valid where their owner's are."""
    own: Tensor
    """[1, 1, rows, width], 1 where valid and not of a neighbour."""
    share: Tensor
    """[1, 1, 1, 1], width over the number of positions that count."""

    def mean(self, owned: Tensor) -> Tensor:
        """Mean over what counts, of x * own: [1, C, rows, width] -> [1, C, 1, 1].

        First the mean of each row, then their weighted sum: no half-precision sum grows with the
        length of the utterance.
        """
        return (owned.mean(dim=3, keepdim=True) * self.share).sum(dim=2, keepdim=True)


def rows_behind(foldings: Sequence[Folding], positions: Tensor, rates: Sequence[int]) -> list[Rows]:
    """Of the axis behind each upsampler; the last one has a position more in front.

    Args:
        foldings: behind each upsampler.
        positions: valid ones of the stage's input, float32 [1, 1, 1, 1].
        rates: positions per input position behind each upsampler, as `upsample.widths` has them.
    """
    found = []
    for i, (folding, rate) in enumerate(zip(foldings, rates, strict=True), start=1):
        extra = int(i == len(rates))
        valid = folding.valid(positions, rate, extra=extra)
        own = folding.own(valid, rate, extra=extra)
        share = float(folding.width(rate)) / (positions * rate + extra)
        found.append(Rows(valid, own, share))
    return found


class Styles(NamedTuple):
    """Affine parameters of every AdaIN of a stage, one behind the other."""

    scale: Tensor
    """1 + gamma, [1, N, 1, 1]."""
    shift: Tensor
    """beta, [1, N, 1, 1]."""


LEAST_SCALE = 4.0
"""Standard deviations are multiplied by this at least, so that half precision holds EPSILON.

EPSILON itself is subnormal there; where those are flushed to 0, a channel that does not vary would
be divided by 0. 16 EPSILON is not.
"""


class AdaIN(nn.Module):
    """`kokoro.istftnet.AdaIN1d` with statistics over all rows; it has no parameters of its own.

    Args:
        channels: of the input.
        gain: what the input is multiplied by before it is squared: a power of two for all channels,
            or one for each. In half precision a square is flushed to 0 where |x| is
            below 0.008 / gain and overflows above 256 / gain. Most places reach 130 and need 1.
    """

    gain: Tensor | None
    scale: Tensor
    """Of the standard deviation under the root."""
    rescale: Tensor | None
    """From the squares of x * gain to those of x * scale."""

    def __init__(self, channels: int, gain: float | Sequence[float] = 1.0) -> None:
        super().__init__()
        self.channels = channels
        gains = [gain] if isinstance(gain, float) else list(gain)
        scales = [max(g, LEAST_SCALE) for g in gains]
        rescales = [(s / g) ** 2 for s, g in zip(scales, gains, strict=True)]
        self.register_buffer("gain", _factor(gains), persistent=False)
        self.register_buffer("scale", _per_channel(scales), persistent=False)
        self.register_buffer("rescale", _factor(rescales), persistent=False)
        self.offset = 0
        """Where its channels begin in `Styles`; set by `styles.number`."""

    def forward(self, x: Tensor, styles: Styles, at: Rows) -> Tensor:
        """[1, C, rows, width] -> the same; what stands in the padding has no meaning."""
        mine = slice(self.offset, self.offset + self.channels)
        centred = x - at.mean(x * at.own)
        owned = centred * (at.own if self.gain is None else at.own * self.gain)
        residual = at.mean(owned)
        # a flushed mean of squares can be below the square of the residual mean
        variance = torch.relu(at.mean(owned * owned) - residual * residual)
        if self.rescale is not None:
            variance = variance * self.rescale
        deviation = torch.sqrt(variance + EPSILON * self.scale**2) * (1.0 / self.scale)
        scale = styles.scale[:, mine] / deviation
        if self.gain is not None:
            residual = residual * (1.0 / self.gain)
        return centred * scale + (styles.shift[:, mine] - residual * scale)


def _factor(values: Sequence[float]) -> Tensor | None:
    """None for a factor of 1."""
    return None if set(values) == {1.0} else _per_channel(values)


def _per_channel(values: Sequence[float]) -> Tensor:
    return torch.tensor(values).view(1, -1, 1, 1)


class ChannelNorm(nn.Module):
    """Layer normalisation over the channels of (1, C, rows, width)."""

    def __init__(self, channels: int, eps: float) -> None:
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(1, channels, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, channels, 1, 1))

    def forward(self, x: Tensor) -> Tensor:
        """The same shape."""
        centred = x - x.mean(dim=1, keepdim=True)
        variance = (centred * centred).mean(dim=1, keepdim=True)
        return centred / torch.sqrt(variance + self.eps) * self.weight + self.bias
