"""What `CoreMLWorker` holds in its child process: one function of one package."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.coreml.mac import require_bridge, require_mac, require_units
from kokoro_coreml.coreml.plan import ComputePlan
from kokoro_coreml.coreml.planner import read_plan
from kokoro_coreml.coreml.program import CoreMLProgram
from kokoro_coreml.executor.package import Package


class Session:
    """Loads, predicts and plans when told to."""

    def __init__(self, path: str, function: str, compute_units: str, folder: str) -> None:
        """Read the package; see `CoreMLWorker` for the arguments."""
        self._function, self._folder = function, Path(folder)
        self._compute_units = require_units(compute_units)
        self._package = Package.load(path)
        self._program: CoreMLProgram | None = None

    def load(self) -> tuple[float | None, float]:
        """Compile and load; seconds each took, None where the package was compiled before."""
        self._program = CoreMLProgram(
            self._package, self._function, self._compute_units, self._folder
        )
        return self._program.compile_seconds, self._program.load_seconds

    def predict(self, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], float]:
        """Outputs, and the seconds the prediction took."""
        if self._program is None:
            raise CoreMLError("nothing is loaded yet")
        outputs = self._program(inputs)
        return outputs, self._program.run_seconds[-1]

    def plan(self) -> ComputePlan:
        """The compute plan; nothing needs to be loaded for it."""
        return read_plan(self._package, self._function, self._compute_units, self._folder)


def open_session(path: str, function: str, compute_units: str, folder: str) -> Session:
    """A session on this Mac; raises `CoreMLUnavailableError` where there is no Core ML."""
    require_mac()
    require_bridge()
    return Session(path, function, compute_units, folder)
