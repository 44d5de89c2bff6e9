"""What a stage is: a module, a bucket, and ports with names, types and static shapes."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kokoro_coreml.recipe import Bucket

DType = Literal["float32", "int32"]


@dataclass(frozen=True)
class Port:
    """One input or output."""

    name: str
    dtype: DType
    shape: tuple[int, ...]
    description: str

    def example(self) -> Tensor:
        """A tensor to trace with: ones, which are valid ids, masks and speeds alike."""
        return torch.ones(self.shape, dtype=torch.int32 if self.dtype == "int32" else torch.float32)


@dataclass(frozen=True)
class Stage:
    """One traceable piece of the network, bound to a bucket."""

    name: str
    module: nn.Module
    bucket: Bucket
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    def __str__(self) -> str:
        """`KokoroComplete_128x400`, also the name of its package."""
        return f"{self.name}_{self.bucket.tokens}x{self.bucket.frames}"
