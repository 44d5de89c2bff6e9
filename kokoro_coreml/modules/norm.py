"""Normalisations: over channels (LayerNorm, AdaLayerNorm) and over valid time (AdaIN)."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from kokoro_coreml.modules.masks import Valid

EPSILON = 1e-5
"""Of upstream's LayerNorm, AdaLayerNorm and InstanceNorm1d alike."""


class LayerNorm(nn.Module):
    """`kokoro.modules.LayerNorm`: over the channels of [1, C, T]."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(channels))
        self.beta = nn.Parameter(torch.zeros(channels))

    def forward(self, x: Tensor) -> Tensor:
        """[1, C, T] -> [1, C, T]."""
        x = F.layer_norm(x.transpose(1, 2), self.gamma.shape, self.gamma, self.beta, EPSILON)
        return x.transpose(1, 2)


class AdaLayerNorm(nn.Module):
    """`kokoro.modules.AdaLayerNorm`: over the channels of [1, T, C], affine from the style."""

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.fc = nn.Linear(style_dim, channels * 2)

    def forward(self, x: Tensor, style: Tensor) -> Tensor:
        """x [1, T, C], style [1, S] -> [1, T, C]."""
        gamma, beta = torch.chunk(self.fc(style).unsqueeze(1), 2, dim=-1)
        return (1 + gamma) * F.layer_norm(x, (self.channels,), eps=EPSILON) + beta


class AdaIN1d(nn.Module):
    """`kokoro.istftnet.AdaIN1d` with mean and variance over the valid positions alone.

    Corrected two-pass statistics (Chan, Golub and LeVeque 1983): without the correction, rounding
    of long sums leans to one side, F0 with it, and the source's phase drifts.
    """

    def __init__(self, style_dim: int, channels: int) -> None:
        super().__init__()
        self.fc = nn.Linear(style_dim, channels * 2)

    def forward(self, x: Tensor, style: Tensor, valid: Valid) -> Tensor:
        """x [1, C, L], style [1, S] -> [1, C, L]; what stands in the padding has no meaning."""
        gamma, beta = torch.chunk(self.fc(style).unsqueeze(-1), 2, dim=1)
        centred = x - valid.mean(x)
        residual = valid.mean(centred)
        variance = valid.mean(centred * centred) - residual * residual
        scale = (1 + gamma) / torch.sqrt(variance + EPSILON)
        return centred * scale + (beta - residual * scale)
