"""Sounds that both sides make of a few numbers instead of reading them from a file.

Sums, products and integers alone, in float64, rounded once: the same bits on every machine.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np

from kokoro_coreml.config import SAMPLE_RATE


@dataclass(frozen=True)
class Sound:
    """A triangle wave with noise; `docs/goldens.md` has the formula."""

    count: int
    """Samples."""
    hertz: float = 0.0
    """Pitch at the beginning."""
    glide: float = 0.0
    """Hz per sample that the pitch rises."""
    gain: float = 1.0
    """Peak of the wave."""
    noise: float = 0.0
    """Width of the noise; its peak is half of it."""
    seed: int = 0
    """Of the noise."""
    rate: int = SAMPLE_RATE
    """Hz."""
    changes: dict[str, str] = field(default_factory=dict)
    """Values put in place of the sound's own, by index: numbers, `nan` or `inf`."""

    def samples(self) -> np.ndarray:
        """float32 [count]."""
        place = np.arange(self.count, dtype=np.float64)
        turns = (self.hertz * place + self.glide * place * place / 2.0) / self.rate
        wave = 4.0 * np.abs(turns - np.floor(turns) - 0.5) - 1.0
        made = np.asarray(self.gain * wave + self.noise * self._hashed(), dtype=np.float32)
        for index, value in self.changes.items():
            made[int(index)] = np.float32(value)
        return made

    def _hashed(self) -> np.ndarray:
        """Numbers from -0.5 to 0.5."""
        word = np.arange(self.count, dtype=np.uint64) + np.uint64(self.seed)
        low = np.uint64(0xFFFF_FFFF)
        word = word * np.uint64(2_654_435_761) & low
        word = (word ^ (word >> np.uint64(16))) * np.uint64(2_246_822_519) & low
        word ^= word >> np.uint64(13)
        return np.asarray(word.astype(np.float64) / 2.0**32 - 0.5)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types."""
        return asdict(self)
