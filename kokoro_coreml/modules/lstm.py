"""A bidirectional LSTM whose padded steps leave no trace, without packing."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class MaskedLSTM(nn.LSTM):
    """`torch.nn.LSTM` with one more input feature, `is_pad`.

    The feature closes the input gate (`weights.PAD_GATE`), so a padded step keeps h = c = 0. In the
    backward direction that is what `pack_padded_sequence` does; in the forward direction padding
    comes last and is masked away.
    """

    def __init__(self, input_size: int, hidden_size: int) -> None:
        super().__init__(input_size + 1, hidden_size, batch_first=True, bidirectional=True)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:  # type: ignore[override]
        """Run both directions.

        Args:
            x: [1, T, input_size].
            mask: [1, T, 1], 1 where valid.

        Returns:
            [1, T, 2 * hidden_size], 0 where padded.
        """
        output, _ = super().forward(torch.cat([x, 1.0 - mask], dim=-1))
        return output * mask
