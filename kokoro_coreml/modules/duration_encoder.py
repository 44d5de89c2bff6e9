"""Rewrite of `kokoro.modules.DurationEncoder`, the predictor's text encoder."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from kokoro_coreml.modules.lstm import MaskedLSTM
from kokoro_coreml.modules.norm import AdaLayerNorm


class TextEncoderPredictorFixed(nn.Module):
    """LSTMs and adaptive layer norms in turn, of fixed length with a mask."""

    def __init__(self, style_dim: int, d_model: int, n_layers: int) -> None:
        super().__init__()
        self.lstms = nn.ModuleList()
        for _ in range(n_layers):
            self.lstms.append(MaskedLSTM(d_model + style_dim, d_model // 2))
            self.lstms.append(AdaLayerNorm(style_dim, d_model))

    def forward(self, x: Tensor, style: Tensor, mask: Tensor) -> Tensor:
        """Encode for durations and prosody.

        Args:
            x: [1, T, d_model], ALBERT's output after `bert_encoder`.
            style: [1, style_dim], the prosody half of a voice row.
            mask: [1, T], 1 where valid.

        Returns:
            [1, T, d_model + style_dim], 0 where padded.
        """
        mask_time = mask.unsqueeze(-1)
        styles = style.unsqueeze(1) * mask_time
        x = torch.cat([x * mask_time, styles], dim=-1)
        for block in self.lstms:
            if isinstance(block, AdaLayerNorm):
                x = torch.cat([block(x, style) * mask_time, styles], dim=-1)
            else:
                x = block(x, mask_time)
        return x
