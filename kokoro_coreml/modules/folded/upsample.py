"""Transposed convolutions in exact polyphase form.

Output t of a transposed convolution of stride s reads x[i] by tap t + p - s i. For t = s q + phase
that is an ordinary convolution over i - q for each phase (Vaidyanathan 1990, "Multirate digital
filters"): nothing is multiplied by inserted zeros, and no kernel is wider than kernel / stride + 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import groupby

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class Phases:
    """Neighbouring phases that read the same inputs."""

    first: int
    count: int
    left: int
    """Inputs read before the one in place."""
    right: int
    """Inputs read behind it."""

    @property
    def taps(self) -> int:
        """Width of the convolution."""
        return self.left + 1 + self.right


def phases(kernel: int, stride: int) -> list[Phases]:
    """Groups of phases for upstream's padding, (kernel - stride) / 2."""
    padding = (kernel - stride) // 2
    reach = [
        (-(-(phase + padding - kernel + 1) // stride), (phase + padding) // stride)
        for phase in range(stride)
    ]
    groups = []
    for (low, high), members in groupby(range(stride), key=lambda phase: reach[phase]):
        found = list(members)
        groups.append(Phases(found[0], len(found), -low, high))
    return groups


def polyphase(weight: Tensor, stride: int, group: Phases) -> Tensor:
    """Weight of one group of phases.

    Args:
        weight: of the transposed convolution, [in, out, kernel].
        stride: of the transposed convolution.
        group: one of `phases`.

    Returns:
        [count * out, in, 1, taps], phase by phase.
    """
    kernel = weight.shape[2]
    padding = (kernel - stride) // 2
    found = weight.new_zeros(group.count, weight.shape[1], weight.shape[0], group.taps)
    for place in range(group.count):
        for tap in range(group.taps):
            index = group.first + place + padding - stride * (tap - group.left)
            if 0 <= index < kernel:
                found[place, :, :, tap] = weight[:, :, index].t()
    return found.reshape(-1, weight.shape[0], 1, group.taps)


def interleave(parts: Tensor, times: int) -> Tensor:
    """Depth to width: [1, times * C, rows, width] -> [1, C, rows, width * times].

    Channel `k * C + c` at w becomes channel c at `w * times + k`. Nothing is gathered, and no
    tensor has more than four axes.
    """
    _, depth, rows, width = parts.shape
    channels = depth // times
    split = parts.reshape(times, channels, rows, width).permute(1, 2, 3, 0)
    return split.reshape(1, channels, rows, width * times)


class PolyphaseUpsample(nn.Module):
    """`nn.ConvTranspose1d` with padding (kernel - stride) / 2, over rows."""

    def __init__(self, channels_in: int, channels_out: int, kernel: int, stride: int) -> None:
        super().__init__()
        self.stride = stride
        self.groups = phases(kernel, stride)
        self.convs = nn.ModuleList(
            nn.Conv2d(channels_in, group.count * channels_out, (1, group.taps))
            for group in self.groups
        )

    def forward(self, x: Tensor) -> Tensor:
        """[1, in, rows, width] -> [1, out, rows, width * stride]."""
        parts = [
            conv(F.pad(x, (group.left, group.right)))
            for conv, group in zip(self.convs, self.groups, strict=True)
        ]
        return interleave(torch.cat(parts, dim=1), self.stride)

    def own_state(self, weight: Tensor, bias: Tensor) -> dict[str, Tensor]:
        """The state dict for a transposed convolution's weight [in, out, kernel] and bias [out]."""
        state = {}
        for place, group in enumerate(self.groups):
            state[f"convs.{place}.weight"] = polyphase(weight, self.stride, group)
            state[f"convs.{place}.bias"] = bias.repeat(group.count)
        return state


class DoublingPool(nn.Module):
    """Upstream's `pool`: a depthwise transposed convolution of kernel 3 and stride 2.

    Even positions read one input, odd ones two.
    """

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(channels, 1, 3))
        self.bias = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, rows, width] -> [1, C, rows, 2 * width]."""
        before, here, behind = (self.weight[:, 0, i].view(1, -1, 1, 1) for i in range(3))
        bias = self.bias.view(1, -1, 1, 1)
        following = F.pad(x[..., 1:], (0, 1))
        even = x * here + bias
        odd = x * behind + following * before + bias
        return interleave(torch.cat([even, odd], dim=1), 2)


def doubled(x: Tensor) -> Tensor:
    """Nearest-neighbour upsampling: [1, C, rows, width] -> [1, C, rows, 2 * width]."""
    return interleave(torch.cat([x, x], dim=1), 2)


def same_padding(kernel: int, dilation: int = 1) -> tuple[int, int]:
    """Padding of an odd kernel over rows that keeps their width."""
    return (0, (kernel - 1) * dilation // 2)


def wide(channels_in: int, channels_out: int, kernel: int, dilation: int = 1) -> nn.Conv2d:
    """A convolution along the width that keeps it."""
    return nn.Conv2d(
        channels_in,
        channels_out,
        (1, kernel),
        dilation=(1, dilation),
        padding=same_padding(kernel, dilation),
    )


def widths(rates: Sequence[int]) -> list[int]:
    """Positions per input position behind each upsampler."""
    found, rate = [], 1
    for factor in rates:
        rate *= factor
        found.append(rate)
    return found
