"""Residual blocks: `kokoro.istftnet.AdainResBlk1d` and `AdaINResBlock1`, masked."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.modules.masks import Valid, repeat_each
from kokoro_coreml.modules.norm import AdaIN1d

LEAKY_SLOPE = 0.2
HALF_POWER = float(torch.rsqrt(torch.tensor(2.0)))
"""1 / sqrt(2) as upstream rounds it."""


class AdainResBlk1d(nn.Module):
    """Residual block of the predictor and the decoder; may double the rate."""

    def __init__(self, dim_in: int, dim_out: int, style_dim: int, upsample: bool = False) -> None:
        super().__init__()
        self.doubles = upsample
        self.conv1 = nn.Conv1d(dim_in, dim_out, 3, padding=1)
        self.conv2 = nn.Conv1d(dim_out, dim_out, 3, padding=1)
        self.norm1 = AdaIN1d(style_dim, dim_in)
        self.norm2 = AdaIN1d(style_dim, dim_out)
        self.conv1x1 = nn.Conv1d(dim_in, dim_out, 1, bias=False) if dim_in != dim_out else None
        self.pool = (
            nn.ConvTranspose1d(
                dim_in, dim_in, 3, stride=2, groups=dim_in, padding=1, output_padding=1
            )
            if upsample
            else None
        )

    def _residual(self, x: Tensor, style: Tensor, valid: Valid, valid_out: Valid) -> Tensor:
        x = F.leaky_relu(self.norm1(x, style, valid), LEAKY_SLOPE) * valid.mask
        if self.pool is not None:
            x = self.pool(x) * valid_out.mask
        x = self.conv1(x)
        x = F.leaky_relu(self.norm2(x, style, valid_out), LEAKY_SLOPE) * valid_out.mask
        result: Tensor = self.conv2(x)
        return result

    def forward(self, x: Tensor, style: Tensor, valid: Valid, valid_out: Valid) -> Tensor:
        """x [1, dim_in, L] -> [1, dim_out, L or 2 L].

        `valid` is over the input's positions, `valid_out` over the output's; without upsampling
        they are the same. The result is 0 where padded.
        """
        # a convolution of width 1 and the repetition commute: half the work, the same numbers
        shortcut = x if self.conv1x1 is None else self.conv1x1(x)
        shortcut = repeat_each(shortcut, 2) if self.doubles else shortcut
        total = self._residual(x, style, valid, valid_out) + shortcut
        return total * HALF_POWER * valid_out.mask


class _Snake(nn.Module):
    """x + sin(alpha x)^2 / alpha (Ziyin et al. 2020, arXiv 2006.08195)."""

    def forward(self, x: Tensor, alpha: Tensor, inverse_alpha: Tensor) -> Tensor:
        sine = torch.sin(alpha * x)
        return x + inverse_alpha * (sine * sine)


class AdaINResBlock1(nn.Module):
    """Residual block of the generator: dilated convolutions with Snake activations."""

    def __init__(
        self, channels: int, kernel_size: int, dilation: Sequence[int], style_dim: int
    ) -> None:
        super().__init__()
        count = len(dilation)
        self.convs1 = nn.ModuleList(
            nn.Conv1d(
                channels, channels, kernel_size, dilation=d, padding=(kernel_size - 1) * d // 2
            )
            for d in dilation
        )
        self.convs2 = nn.ModuleList(
            nn.Conv1d(channels, channels, kernel_size, padding=(kernel_size - 1) // 2)
            for _ in dilation
        )
        self.adain1 = nn.ModuleList(AdaIN1d(style_dim, channels) for _ in dilation)
        self.adain2 = nn.ModuleList(AdaIN1d(style_dim, channels) for _ in dilation)
        self.alpha1 = _per_channel(channels, count)
        self.alpha2 = _per_channel(channels, count)
        self.inverse_alpha1 = _per_channel(channels, count)
        self.inverse_alpha2 = _per_channel(channels, count)
        self.snake = _Snake()

    def forward(self, x: Tensor, style: Tensor, valid: Valid) -> Tensor:
        """x [1, C, L] -> [1, C, L]; x is 0 where padded, the result is not."""
        for i in range(len(self.convs1)):
            xt = self.adain1[i](x, style, valid)
            xt = self.snake(xt, self.alpha1[i], self.inverse_alpha1[i]) * valid.mask
            xt = self.adain2[i](self.convs1[i](xt), style, valid)
            xt = self.snake(xt, self.alpha2[i], self.inverse_alpha2[i]) * valid.mask
            x = self.convs2[i](xt) + x
        return x


def _per_channel(channels: int, count: int) -> nn.ParameterList:
    return nn.ParameterList(nn.Parameter(torch.ones(1, channels, 1)) for _ in range(count))
