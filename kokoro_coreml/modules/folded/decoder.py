"""`kokoro.istftnet.Decoder` in front of the generator, in the layout (1, channels, 1, frames)."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.modules.decoder import ASR_RESIDUAL, GENERATOR_INPUT, WIDTH
from kokoro_coreml.modules.folded.blocks import AdainResBlk
from kokoro_coreml.modules.folded.norm import Rows, Styles
from kokoro_coreml.modules.folded.upsample import doubled


def _halving() -> nn.Conv2d:
    return nn.Conv2d(1, 1, (1, 3), stride=(1, 2), padding=(0, 1))


class DecoderRows(nn.Module):
    """Aligned text features, F0 and energy in; generator features out."""

    def __init__(self, config: ModelConfig) -> None:
        super().__init__()
        dim_in = config.hidden_dim
        inner = WIDTH + 2 + ASR_RESIDUAL
        self.encode = AdainResBlk(dim_in + 2, WIDTH)
        self.decode = nn.ModuleList(AdainResBlk(inner, WIDTH) for _ in range(3))
        self.decode.append(AdainResBlk(inner, GENERATOR_INPUT, upsample=True))
        self.F0_conv = _halving()
        self.N_conv = _halving()
        self.asr_res = nn.Sequential(nn.Conv2d(dim_in, ASR_RESIDUAL, 1))

    def forward(self, asr: Tensor, curves: Tensor, mask: Tensor, styles: Styles) -> Tensor:
        """Everything in front of the generator.

        Args:
            asr: [1, hidden_dim, 1, F], text features aligned to frames, 0 where padded.
            curves: [1, 2, 1, 2 F]: F0 in Hz and energy, 0 where padded.
            mask: [1, 1, 1, F], 1 where valid.
            styles: of all AdaINs.

        Returns:
            [1, 512, 1, 2 F], 0 where padded.
        """
        share = 1.0 / mask.mean(dim=3, keepdim=True)
        frames = Rows(mask, mask, share)
        twice = doubled(mask)
        positions = Rows(twice, twice, share)
        f0 = self.F0_conv(curves[:, :1]) * mask
        energy = self.N_conv(curves[:, 1:]) * mask
        asr_res = self.asr_res(asr) * mask
        x: Tensor = self.encode(torch.cat([asr, f0, energy], dim=1), styles, frames, frames)
        for block in self.decode:
            x = torch.cat([x, asr_res, f0, energy], dim=1)
            x = block(x, styles, frames, positions if block.doubles else frames)
        return x
