"""Residual blocks in the layout (1, channels, rows, width)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.modules.blocks import HALF_POWER, LEAKY_SLOPE
from kokoro_coreml.modules.folded.norm import AdaIN, Rows, Styles
from kokoro_coreml.modules.folded.upsample import DoublingPool, doubled, wide


class AdainResBlk(nn.Module):
    """`kokoro.istftnet.AdainResBlk1d`, as `modules.blocks.AdainResBlk1d` computes it.

    Args:
        dim_in: channels of the input.
        dim_out: channels of the output.
        upsample: whether the output has twice the frames.
        gain: of the first `AdaIN`.
    """

    def __init__(
        self, dim_in: int, dim_out: int, upsample: bool = False, gain: float | Sequence[float] = 1.0
    ) -> None:
        super().__init__()
        self.doubles = upsample
        self.conv1 = wide(dim_in, dim_out, 3)
        self.conv2 = wide(dim_out, dim_out, 3)
        self.norm1 = AdaIN(dim_in, gain)
        self.norm2 = AdaIN(dim_out)
        self.conv1x1 = nn.Conv2d(dim_in, dim_out, 1, bias=False)
        self.pool = DoublingPool(dim_in) if upsample else None

    def forward(self, x: Tensor, styles: Styles, at: Rows, at_out: Rows, missing: Tensor) -> Tensor:
        """x [1, dim_in, rows, width] -> [1, dim_out, rows, width or 2 width], 0 where padded.

        Args:
            x: of any value where padded.
            styles: of the stage.
            at: the input's positions.
            at_out: the output's, the same without upsampling.
            missing: what x lacks at every position, [1, dim_in, 1, 1]. AdaIN would subtract it, so
                only the shortcut reads it.
        """
        y = F.leaky_relu(self.norm1(x, styles, at), LEAKY_SLOPE) * at.valid
        if self.pool is not None:
            y = self.pool(y) * at_out.valid
        y = F.leaky_relu(self.norm2(self.conv1(y), styles, at_out), LEAKY_SLOPE) * at_out.valid
        # added in front of the convolution, where no sum of 1,024 channels is rounded once more
        shortcut = self.conv1x1(x + missing)
        shortcut = doubled(shortcut) if self.doubles else shortcut
        total: Tensor = self.conv2(y) + shortcut
        return total * HALF_POWER * at_out.valid


class AdaINResBlock(nn.Module):
    """`kokoro.istftnet.AdaINResBlock1`: dilated convolutions with Snake activations.

    Args:
        channels: of the input and output.
        kernel_size: of all convolutions.
        dilation: of each pair's first convolution.
        gain: of the `AdaIN` in front of each pair.
    """

    def __init__(
        self,
        channels: int,
        kernel_size: int,
        dilation: Sequence[int],
        gain: float | Sequence[float] = 1.0,
    ) -> None:
        super().__init__()
        count = len(dilation)
        self.convs1 = nn.ModuleList(wide(channels, channels, kernel_size, d) for d in dilation)
        self.convs2 = nn.ModuleList(wide(channels, channels, kernel_size) for _ in dilation)
        self.adain1 = nn.ModuleList(AdaIN(channels, gain) for _ in dilation)
        self.adain2 = nn.ModuleList(AdaIN(channels) for _ in dilation)
        self.alpha1 = _per_channel(channels, count)
        self.alpha2 = _per_channel(channels, count)
        self.inverse_alpha1 = _per_channel(channels, count)
        self.inverse_alpha2 = _per_channel(channels, count)

    def forward(self, x: Tensor, styles: Styles, at: Rows) -> Tensor:
        """[1, C, rows, width] -> the same; neither needs to be 0 where padded."""
        for i in range(len(self.convs1)):
            y = self.adain1[i](x, styles, at)
            y = _snake(y, self.alpha1[i], self.inverse_alpha1[i]) * at.valid
            y = self.adain2[i](self.convs1[i](y), styles, at)
            y = _snake(y, self.alpha2[i], self.inverse_alpha2[i]) * at.valid
            x = self.convs2[i](y) + x
        return x


def _snake(x: Tensor, alpha: Tensor, inverse_alpha: Tensor) -> Tensor:
    """x + sin(alpha x)^2 / alpha (Ziyin et al. 2020, arXiv 2006.08195)."""
    sine = torch.sin(alpha * x)
    return x + inverse_alpha * (sine * sine)


def _per_channel(channels: int, count: int) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.ones(1, channels, 1, 1)) for _ in range(count))
