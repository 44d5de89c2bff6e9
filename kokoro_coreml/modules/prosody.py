"""Rewrite of `kokoro.modules.ProsodyPredictor`: durations, F0 and energy."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kokoro_coreml.modules.blocks import AdainResBlk1d
from kokoro_coreml.modules.duration_encoder import TextEncoderPredictorFixed
from kokoro_coreml.modules.lstm import MaskedLSTM
from kokoro_coreml.modules.masks import Valid


class _LinearNorm(nn.Module):
    def __init__(self, in_dim: int, out_dim: int) -> None:
        super().__init__()
        self.linear_layer = nn.Linear(in_dim, out_dim)

    def forward(self, x: Tensor) -> Tensor:
        result: Tensor = self.linear_layer(x)
        return result


class ProsodyPredictorFixed(nn.Module):
    """Predicts how long each token lasts, and F0 and energy at two positions a frame."""

    def __init__(self, style_dim: int, d_hid: int, n_layers: int, max_dur: int) -> None:
        super().__init__()
        self.text_encoder = TextEncoderPredictorFixed(style_dim, d_hid, n_layers)
        self.lstm = MaskedLSTM(d_hid + style_dim, d_hid // 2)
        self.duration_proj = _LinearNorm(d_hid, max_dur)
        self.shared = MaskedLSTM(d_hid + style_dim, d_hid // 2)
        self.F0 = _curve_blocks(d_hid, style_dim)
        self.N = _curve_blocks(d_hid, style_dim)
        self.F0_proj = nn.Conv1d(d_hid // 2, 1, 1)
        self.N_proj = nn.Conv1d(d_hid // 2, 1, 1)

    def durations(self, d: Tensor, speed: Tensor, mask: Tensor) -> Tensor:
        """Whole frames per token.

        Args:
            d: [1, T, d_hid + style_dim], from `text_encoder`.
            speed: [1], 1 is the voice's own pace, 2 twice as fast.
            mask: [1, T], 1 where valid.

        Returns:
            float32 [1, T]: at least 1 where valid, 0 where padded; rounded half to even.
        """
        logits = self.duration_proj(self.lstm(d, mask.unsqueeze(-1)))
        duration = torch.sigmoid(logits).sum(dim=-1) / speed
        return torch.clamp(torch.round(duration), min=1.0) * mask

    def curves(
        self, en: Tensor, style: Tensor, frames: Valid, positions: Valid
    ) -> tuple[Tensor, Tensor]:
        """F0 and energy; upstream's `F0Ntrain`.

        Args:
            en: [1, d_hid + style_dim, F], `d` aligned to frames.
            style: [1, style_dim].
            frames: over the F frames.
            positions: over the 2 F positions.

        Returns:
            F0 in Hz and energy, both [1, 2 F], 0 where padded.
        """
        shared = self.shared(en.transpose(1, 2), frames.mask.transpose(1, 2)).transpose(1, 2)
        f0, energy = shared, shared
        stages = [(frames, frames), (frames, positions), (positions, positions)]
        for block_f0, block_n, (valid, valid_out) in zip(self.F0, self.N, stages, strict=True):
            f0 = block_f0(f0, style, valid, valid_out)
            energy = block_n(energy, style, valid, valid_out)
        f0 = _project(self.F0_proj, f0) * positions.mask
        energy = _project(self.N_proj, energy) * positions.mask
        return f0.squeeze(1), energy.squeeze(1)


def _project(conv: nn.Conv1d, x: Tensor) -> Tensor:
    """A convolution of width 1 as a product, whose rounding does not depend on the length of x.

    F0 is accumulated into a phase of 1e5 rad, so its last bit is heard by the source.
    """
    assert conv.bias is not None
    return torch.matmul(conv.weight.squeeze(-1), x) + conv.bias.view(1, -1, 1)


def _curve_blocks(d_hid: int, style_dim: int) -> nn.ModuleList:
    return nn.ModuleList(
        [
            AdainResBlk1d(d_hid, d_hid, style_dim),
            AdainResBlk1d(d_hid, d_hid // 2, style_dim, upsample=True),
            AdainResBlk1d(d_hid // 2, d_hid // 2, style_dim),
        ]
    )
