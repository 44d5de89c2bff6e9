"""Times of every function of a bundle while whole utterances are said."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from kokoro_coreml.synthesis import Backend
from kokoro_coreml.synthesis.stages import Load

Clock = Callable[[], float]
"""Seconds from any beginning."""

CLOCK: Clock = time.perf_counter

Place = tuple[str, str]
"""File name of a package and name of a function."""


@dataclass
class Watch:
    """Times what a `Load` loads, and what that runs."""

    load: Load
    clock: Clock = CLOCK
    load_seconds: dict[Place, float] = field(default_factory=dict)
    ran: list[tuple[Place, float]] = field(default_factory=list)
    """Every run since `take`, in order."""

    def __call__(self, package: Path, function: str, compute_units: str) -> Backend:
        """Load; raises as the `Load` does."""
        place = (package.name, function)
        began = self.clock()
        backend = self.load(package, function, compute_units)
        self.load_seconds[place] = self.clock() - began

        def run(inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
            began = self.clock()
            outputs = backend(inputs)
            self.ran.append((place, self.clock() - began))
            return outputs

        return run

    def take(self) -> dict[Place, float]:
        """Seconds by function since the last time; a function that ran twice has the sum."""
        taken: dict[Place, float] = {}
        for place, seconds in self.ran:
            taken[place] = taken.get(place, 0.0) + seconds
        self.ran = []
        return taken
