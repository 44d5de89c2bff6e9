"""Core ML behind a process boundary: a backend for `synthesis.speak`, and device plans.

A package that Core ML cannot run on one processor may abort the process instead of failing
(`FluidAudio` issues #843, #889, #902; coremltools #2757). Here that is a `CoreMLCrashError` that
names the signal, and the other compute units can still be tried.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

import numpy as np

from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.coreml.mac import require_mac, require_units
from kokoro_coreml.coreml.plan import ComputePlan
from kokoro_coreml.coreml.process import ChildProcess

TIMEOUT_SECONDS = 900.0
"""For one answer. Loading for the Neural Engine takes minutes for large packages."""

SESSION_FACTORY = "kokoro_coreml.coreml.session:open_session"


class CoreMLWorker:
    """One function of a package, run by Core ML in a process of its own.

    Use it as a context; inside, it is a `synthesis.Backend`:

        with CoreMLWorker(path, "main", "CPU_AND_NE") as backend:
            spoken = speak(backend, utterance, tokens)
    """

    def __init__(
        self,
        path: str | Path,
        function: str = "main",
        compute_units: str = "ALL",
        *,
        folder: Path | None = None,
        timeout: float = TIMEOUT_SECONDS,
    ) -> None:
        """Say what to load; nothing is started yet.

        Args:
            path: the `.mlpackage`.
            function: one of its functions.
            compute_units: one of `mac.COMPUTE_UNITS`.
            folder: where compiled models are kept and found, so that several workers compile a
                package once; without it, one that goes with the worker.
            timeout: seconds until a load, a prediction or a plan counts as hanging.

        Raises:
            CoreMLError: the compute units are unknown.
        """
        self.path, self.function = Path(path), function
        self.compute_units = require_units(compute_units)
        self.compile_seconds: float | None = None
        """None if the package was compiled before."""
        self.load_seconds = 0.0
        self.run_seconds: list[float] = []
        """Time of each prediction in the child, without the way there and back."""
        self._folder, self._timeout = folder, timeout
        self._own: tempfile.TemporaryDirectory[str] | None = None
        self._child: ChildProcess | None = None
        self._what = f"{self.path.name}:{function} on {compute_units}"

    def start(self) -> CoreMLWorker:
        """Start the process without loading, which is enough for `plan`.

        Raises:
            CoreMLUnavailableError: this is no Mac, or it is too old, or coremltools is incomplete.
            PackageError: the package is missing or corrupt.
        """
        require_mac()
        if self._folder is None:
            self._own = tempfile.TemporaryDirectory(prefix="kokoro-coreml-")
        arguments = {
            "path": str(self.path),
            "function": self.function,
            "compute_units": self.compute_units,
            "folder": self._own.name if self._own else str(self._folder),
        }
        try:
            self._child = ChildProcess(SESSION_FACTORY, arguments, timeout=self._timeout)
        except BaseException:
            self.close()
            raise
        return self

    def load(self) -> None:
        """Compile and load the package; raises as `__call__` does."""
        answer = self._running().call("load", doing=f"loading {self._what}")
        self.compile_seconds, self.load_seconds = answer

    def __call__(self, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Predict; arguments and result are those of `CoreMLProgram.__call__`.

        Raises:
            CoreMLCrashError: Core ML ended its process; the signal is named.
            CoreMLTimeoutError: no answer in time; the process was killed.
            CoreMLError: Core ML failed, the inputs or outputs are not as described, or the worker
                is not running.
        """
        child = self._running()
        outputs: dict[str, np.ndarray]
        outputs, seconds = child.call("predict", dict(inputs), doing=f"running {self._what}")
        self.run_seconds.append(seconds)
        return outputs

    def plan(self) -> ComputePlan:
        """Where Core ML means to run each operation; raises as `__call__` does."""
        plan: ComputePlan = self._running().call("plan", doing=f"planning {self._what}")
        return plan

    def close(self) -> None:
        """End the process, and delete what was compiled for this worker alone."""
        if self._child is not None:
            self._child.close()
            self._child = None
        if self._own is not None:
            self._own.cleanup()
            self._own = None

    def __enter__(self) -> CoreMLWorker:
        self.start()
        try:
            self.load()
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _running(self) -> ChildProcess:
        if self._child is None:
            raise CoreMLError(f"{self._what} is not running; use the worker as a context")
        return self._child


def device_plan(
    path: str | Path,
    function: str = "main",
    compute_units: str = "ALL",
    *,
    folder: Path | None = None,
    timeout: float = TIMEOUT_SECONDS,
) -> ComputePlan:
    """Where Core ML on this Mac means to run each operation of a function (macOS 14.4).

    Arguments and errors are those of `CoreMLWorker` and its methods; nothing is loaded or run.
    """
    worker = CoreMLWorker(path, function, compute_units, folder=folder, timeout=timeout)
    try:
        return worker.start().plan()
    finally:
        worker.close()
