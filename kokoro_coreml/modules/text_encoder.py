"""Rewrite of `kokoro.modules.TextEncoder`."""

from __future__ import annotations

from torch import Tensor, nn

from kokoro_coreml.modules.lstm import MaskedLSTM
from kokoro_coreml.modules.norm import LayerNorm

LEAKY_SLOPE = 0.2


class TextEncoderFixed(nn.Module):
    """Phoneme embedding, convolutions and one LSTM, of fixed length with a mask."""

    def __init__(self, channels: int, kernel_size: int, depth: int, n_symbols: int) -> None:
        super().__init__()
        self.embedding = nn.Embedding(n_symbols, channels)
        self.cnn = nn.ModuleList(
            nn.Sequential(
                nn.Conv1d(channels, channels, kernel_size, padding=(kernel_size - 1) // 2),
                LayerNorm(channels),
                nn.LeakyReLU(LEAKY_SLOPE),
            )
            for _ in range(depth)
        )
        self.lstm = MaskedLSTM(channels, channels // 2)

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Encode phonemes for the decoder.

        Args:
            input_ids: int32 or int64 [1, T].
            mask: float32 [1, T], 1 where valid.

        Returns:
            [1, channels, T], 0 where padded.
        """
        mask_time = mask.unsqueeze(1)
        x = self.embedding(input_ids).transpose(1, 2) * mask_time
        for block in self.cnn:
            x = block(x) * mask_time
        result: Tensor = self.lstm(x.transpose(1, 2), mask.unsqueeze(-1)).transpose(1, 2)
        return result
