"""A bundle of the tiny network, lines to say, and a clock that tells what it is told."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from kokoro_coreml.bench.lines import Line
from tests.coreml.conftest import behave, fake_mac, mac_children  # noqa: F401


@dataclass(frozen=True)
class Small:
    folder: Path

    @property
    def bundle(self):
        return self.folder / "bundle"

    @property
    def suite(self):
        return str(self.folder / "suite.toml")

    @property
    def checkpoint(self):
        return str(self.folder / "weights")


@pytest.fixture(scope="session")
def small(tiny_bundle):
    """The cut `complete` of the tiny network with a suite of two cases."""
    return Small(tiny_bundle)


def line(case, tokens=6):
    ids = (0, *range(50, 48 + tokens), 0)
    return Line(case, ids, np.full((1, 256), 0.1, dtype=np.float32), 1.0)


class Clock:
    """Every reading is the next of the times given."""

    def __init__(self, *times):
        self.times = list(times)

    def __call__(self):
        return self.times.pop(0)
