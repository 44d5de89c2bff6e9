"""What a stage is: a module, a static shape, and ports with names and types."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from kokoro_coreml.recipe import Bucket

DType = Literal["float32", "float16", "int32"]


@dataclass(frozen=True)
class Port:
    """One input or output."""

    name: str
    dtype: DType
    """Half precision is what the package declares; a stage's module computes in float32."""
    shape: tuple[int, ...]
    description: str

    def example(self) -> Tensor:
        """A tensor to trace with: ones, which are valid ids, masks and speeds alike."""
        return torch.ones(self.shape, dtype=torch.int32 if self.dtype == "int32" else torch.float32)


@dataclass(frozen=True)
class Stage:
    """One traceable piece of the network at one static shape."""

    name: str
    module: nn.Module
    tokens: int | None
    """Length of the token axis; None where there is none."""
    frames: int | None
    inputs: tuple[Port, ...]
    outputs: tuple[Port, ...]

    @property
    def bucket(self) -> Bucket:
        """Tokens and frames, of a stage that has both."""
        if self.tokens is None or self.frames is None:
            raise ValueError(f"{self} has one axis")
        return Bucket(self.tokens, self.frames)

    @property
    def function(self) -> str:
        """Its name in a package of several functions: `tokens_64` or `frames_256`."""
        if self.tokens is not None and self.frames is not None:
            return "main"
        return f"tokens_{self.tokens}" if self.frames is None else f"frames_{self.frames}"

    def __str__(self) -> str:
        """`KokoroComplete_128x400` or `Decoder_256`, also the name of its package."""
        size = "x".join(str(n) for n in (self.tokens, self.frames) if n is not None)
        return f"{self.name}_{size}"
