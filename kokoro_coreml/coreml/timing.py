"""How long loading and running take, per compute unit."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kokoro_coreml.tables import encode


class TimedBackend(Protocol):
    """A backend that keeps its own time: `CoreMLProgram` or `CoreMLWorker`."""

    compute_units: str
    compile_seconds: float | None
    load_seconds: float
    run_seconds: list[float]

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Named arrays in, named arrays out; appends to `run_seconds`."""
        ...


@dataclass(frozen=True)
class Timing:
    """Seconds on this machine; only comparable with others of the same machine and system."""

    compute_units: str
    compile_seconds: float | None
    """None if the package was compiled before."""
    load_seconds: float
    first_seconds: float
    """The first run after loading, which may finish what loading put off."""
    run_seconds: tuple[float, ...]
    """Warm runs, in order."""

    @property
    def median_seconds(self) -> float:
        """Of the warm runs."""
        return statistics.median(self.run_seconds)

    @property
    def fastest_seconds(self) -> float:
        """Of the warm runs."""
        return min(self.run_seconds)

    def to_dict(self) -> dict[str, Any]:
        """Plain JSON types, the median and the fastest run included."""
        record: dict[str, Any] = encode(self)
        return record | {
            "median_seconds": self.median_seconds,
            "fastest_seconds": self.fastest_seconds,
        }


def measure(
    program: TimedBackend, inputs: Mapping[str, np.ndarray], *, warm: int = 1, runs: int = 5
) -> Timing:
    """Run a loaded backend several times.

    Args:
        program: loaded; if it ran before, its first run then is the first run reported.
        inputs: of every run.
        warm: runs between the first one and the measured ones.
        runs: measured, at least 1.

    Raises:
        KokoroError: a run fails.
        ValueError: `warm` is negative or `runs` is below 1.
    """
    if warm < 0 or runs < 1:
        raise ValueError(f"warm must be 0 or more and runs 1 or more, found {warm} and {runs}")
    if not program.run_seconds:
        program(inputs)
    for _ in range(warm):
        program(inputs)
    before = len(program.run_seconds)
    for _ in range(runs):
        program(inputs)
    return Timing(
        compute_units=program.compute_units,
        compile_seconds=program.compile_seconds,
        load_seconds=program.load_seconds,
        first_seconds=program.run_seconds[0],
        run_seconds=tuple(program.run_seconds[before:]),
    )
