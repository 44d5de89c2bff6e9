"""Rewrite of `kokoro.istftnet.Decoder`, without the generator's inputs of its own."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kokoro_coreml.config import ModelConfig
from kokoro_coreml.modules.blocks import AdainResBlk1d
from kokoro_coreml.modules.generator import GeneratorDeterministic
from kokoro_coreml.modules.masks import Valid

WIDTH = 1024
"""Channels of the decoder's blocks; fixed in upstream's `Decoder`."""
ASR_RESIDUAL = 64
GENERATOR_INPUT = 512


class DecoderFixed(nn.Module):
    """Aligned text features, F0 and energy in; generator features out."""

    def __init__(self, config: ModelConfig, frames: int) -> None:
        super().__init__()
        dim_in, style = config.hidden_dim, config.style_dim
        inner = WIDTH + 2 + ASR_RESIDUAL
        self.encode = AdainResBlk1d(dim_in + 2, WIDTH, style)
        self.decode = nn.ModuleList(AdainResBlk1d(inner, WIDTH, style) for _ in range(3))
        self.decode.append(AdainResBlk1d(inner, GENERATOR_INPUT, style, upsample=True))
        self.F0_conv = nn.Conv1d(1, 1, 3, stride=2, padding=1)
        self.N_conv = nn.Conv1d(1, 1, 3, stride=2, padding=1)
        self.asr_res = nn.Sequential(nn.Conv1d(dim_in, ASR_RESIDUAL, 1))
        self.generator = GeneratorDeterministic(config.istftnet, style, frames)

    def features(
        self,
        asr: Tensor,
        f0: Tensor,
        energy: Tensor,
        style: Tensor,
        frames: Valid,
        positions: Valid,
    ) -> Tensor:
        """Everything in front of the generator.

        Args:
            asr: [1, hidden_dim, F], text features aligned to frames.
            f0: Hz, [1, 2 F], 0 where padded.
            energy: [1, 2 F], 0 where padded.
            style: [1, style_dim], the timbre half of a voice row.
            frames: over the F frames.
            positions: over the 2 F positions.

        Returns:
            [1, 512, 2 F], 0 where padded.
        """
        f0_down = self.F0_conv(f0.unsqueeze(1)) * frames.mask
        n_down = self.N_conv(energy.unsqueeze(1)) * frames.mask
        asr_res = self.asr_res(asr) * frames.mask
        x: Tensor = self.encode(torch.cat([asr, f0_down, n_down], dim=1), style, frames, frames)
        for block in self.decode:
            x = torch.cat([x, asr_res, f0_down, n_down], dim=1)
            x = block(x, style, frames, positions if block.doubles else frames)
        return x
