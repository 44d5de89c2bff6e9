"""The style projections of a stage: what every AdaIN's `fc` makes of a voice row, at once.

They depend on the voice alone, so they are computed once per utterance, in float32, and not by the
stages that use them.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from kokoro_coreml.errors import CheckpointError
from kokoro_coreml.modules.folded.norm import AdaIN, Styles


def number(module: nn.Module) -> list[tuple[str, AdaIN]]:
    """Give every AdaIN its place in `Styles`; returns them by path, in that order."""
    found = [(name, m) for name, m in module.named_modules() if isinstance(m, AdaIN)]
    offset = 0
    for _, norm in found:
        norm.offset = offset
        offset += norm.channels
    return found


class StyleProjection(nn.Module):
    """Every `fc` of a stage's AdaINs."""

    def __init__(self, stage: nn.Module, style_dim: int) -> None:
        """`stage` holds the AdaINs, which are numbered."""
        super().__init__()
        self.norms = {name: norm.channels for name, norm in number(stage)}
        self.channels = sum(self.norms.values())
        self.scale = nn.Linear(style_dim, self.channels)
        self.shift = nn.Linear(style_dim, self.channels)

    def forward(self, style: Tensor) -> Styles:
        """Style [1, style_dim] -> scale 1 + gamma and shift beta, each [1, N, 1, 1]."""
        shape = (1, self.channels, 1, 1)
        return Styles((1.0 + self.scale(style)).view(shape), self.shift(style).view(shape))

    def own_state(self, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """The state dict for the `NAME.fc.weight` and `NAME.fc.bias` of all AdaINs.

        Raises:
            CheckpointError: a key is missing or unexpected.
        """
        keys = {f"{name}.fc.{kind}" for name in self.norms for kind in ("weight", "bias")}
        if wrong := sorted(keys ^ state.keys()):
            raise CheckpointError(f"styles: missing or unexpected {', '.join(wrong)}")
        found: dict[str, Tensor] = {}
        for kind in ("weight", "bias"):
            halves = [state[f"{name}.fc.{kind}"].chunk(2) for name in self.norms]
            found[f"scale.{kind}"] = torch.cat([gamma for gamma, _ in halves])
            found[f"shift.{kind}"] = torch.cat([beta for _, beta in halves])
        return found
