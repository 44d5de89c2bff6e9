"""`kokoro.istftnet.Decoder` in front of the generator, in the layout (1, channels, 1, frames)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.modules.decoder import ASR_RESIDUAL, GENERATOR_INPUT, WIDTH
from kokoro_coreml.modules.folded.blocks import AdainResBlk
from kokoro_coreml.modules.folded.curves import Curves
from kokoro_coreml.modules.folded.norm import Rows, Styles
from kokoro_coreml.modules.folded.upsample import doubled

TEXT_GAIN = 64.0
"""Of text features: an LSTM's, in (-1, 1), so that squares stay below 2^14; they hardly vary over a
short text."""
RESIDUAL_GAIN = 8.0
"""Of their projection, whose deviations fall to 0.01 there."""


class DecoderRows(nn.Module):
    """Aligned text features, F0 and energy in; generator features out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim_in = config.hidden_dim
        self.outer = dim_in + 2
        self.inner = inner = WIDTH + 2 + ASR_RESIDUAL
        gain = [TEXT_GAIN] * dim_in + [1.0] * 2
        self.encode = AdainResBlk(self.outer, WIDTH, gain=gain)
        gain = [1.0] * WIDTH + [RESIDUAL_GAIN] * ASR_RESIDUAL + [1.0] * 2
        self.decode = nn.ModuleList(AdainResBlk(inner, WIDTH, gain=gain) for _ in range(3))
        self.decode.append(AdainResBlk(inner, GENERATOR_INPUT, upsample=True, gain=gain))
        self.asr_res = nn.Sequential(nn.Conv2d(dim_in, ASR_RESIDUAL, 1))

    def forward(self, asr: Tensor, curves: Curves, mask: Tensor, styles: Styles) -> Tensor:
        """Everything in front of the generator.

        Args:
            asr: [1, hidden_dim, 1, F], text features aligned to frames, 0 where padded.
            curves: F0 and energy.
            mask: [1, 1, 1, F], 1 where valid.
            styles: of all AdaINs.

        Returns:
            [1, 512, 1, 2 F], 0 where padded.
        """
        share = 1.0 / mask.mean(dim=3, keepdim=True)
        frames = Rows(mask, mask, share)
        twice = doubled(mask)
        positions = Rows(twice, twice, share)
        asr_res = self.asr_res(asr)
        deviations, levels = curves
        both = torch.cat([asr, deviations], dim=1)
        missing = _last_of(self.outer, levels)
        x: Tensor = self.encode(both, styles, frames, frames, missing)
        missing = _last_of(self.inner, levels)
        for block in self.decode:
            x = torch.cat([x, asr_res, deviations], dim=1)
            x = block(x, styles, frames, positions if block.doubles else frames, missing)
        return x


def _last_of(channels: int, levels: Tensor) -> Tensor:
    """`levels` [1, n, 1, 1] as the last of so many channels, and 0 in front of them."""
    return torch.cat([torch.zeros(1, channels - levels.shape[1], 1, 1), levels], dim=1)
