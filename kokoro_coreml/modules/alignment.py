"""The alignment of tokens to frames, by broadcasting alone."""

from __future__ import annotations

import torch
from torch import Tensor


def create_alignment_matrix(durations: Tensor, frames: int) -> Tensor:
    """One row per token, 1 in the frames the token lasts.

    Rewrite of the `repeat_interleave` and index assignment in `kokoro.model.KModel`.

    Args:
        durations: float32 [1, T], whole frames, 0 for padding.
        frames: length of the frame axis; frames past it are not represented.

    Returns:
        float32 [1, T, frames].
    """
    end = torch.cumsum(durations, dim=1).unsqueeze(-1)
    start = end - durations.unsqueeze(-1)
    frame = torch.arange(frames, dtype=torch.float32, device=end.device).view(1, 1, frames)
    return (frame >= start).to(torch.float32) * (frame < end).to(torch.float32)
