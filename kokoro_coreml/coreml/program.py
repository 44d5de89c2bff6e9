"""Running one function of a package by Core ML, in this process."""

from __future__ import annotations

import tempfile
import time
import weakref
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np

from kokoro_coreml.coreml.compiled import Interface, compile_package, read_interface, refusals
from kokoro_coreml.coreml.errors import CoreMLError
from kokoro_coreml.coreml.mac import compute_unit, require_bridge, require_mac
from kokoro_coreml.executor.interface import DescribedArray
from kokoro_coreml.executor.package import Package


class CoreMLProgram:
    """One function of a saved package, loaded by Core ML for one choice of compute units.

    It is called as `executor.Program` is. Core ML can end the whole process; `CoreMLWorker` keeps
    that apart. Delete it with `close`, or use it as a context.
    """

    def __init__(
        self, package: Package, function: str, compute_units: str, folder: Path | None
    ) -> None:
        """Compile and load; see `load`."""
        self.compute_units, self.function = compute_units, function
        self.run_seconds: list[float] = []
        """Time of each prediction, coremltools' conversion of the arrays included."""
        unit = compute_unit(compute_units)
        self._interface: Interface = read_interface(package, function)
        if folder is None:
            own = tempfile.TemporaryDirectory(prefix="kokoro-coreml-")
            self._finalizer = weakref.finalize(self, own.cleanup)
            folder = Path(own.name)
        else:
            self._finalizer = weakref.finalize(self, lambda: None)
        self._what = f"{package.path.name}:{function} on {compute_units}"
        compiled = compile_package(package, folder)
        self.compile_seconds = compiled.seconds
        """None if the package was compiled before."""
        started = time.perf_counter()
        self._model: Any = _load(compiled.path, unit, self._function_name(), self._what)
        self.load_seconds = time.perf_counter() - started
        """Core ML specialises the model for its devices here; it may keep the result, so that a
        second load is quicker."""

    @classmethod
    def load(
        cls,
        path: str | Path,
        function: str = "main",
        *,
        compute_units: str = "ALL",
        folder: Path | None = None,
    ) -> CoreMLProgram:
        """Compile a `.mlpackage` and load one of its functions.

        Args:
            path: the package.
            function: its name; anything but the default one needs macOS 15.
            compute_units: one of `mac.COMPUTE_UNITS`.
            folder: where compiled models are kept and found; without it, one of its own.

        Raises:
            CoreMLUnavailableError: this is no Mac, macOS is too old, or coremltools is incomplete.
            CoreMLError: Core ML refuses the package.
            PackageError: the package is missing or corrupt.
        """
        require_mac()
        require_bridge()
        return cls(Package.load(path), function, compute_units, folder)

    @property
    def inputs(self) -> dict[str, DescribedArray]:
        """Described inputs, by name."""
        return dict(self._interface.inputs)

    @property
    def outputs(self) -> dict[str, DescribedArray]:
        """Described outputs, by name."""
        return dict(self._interface.outputs)

    def make_state(self) -> Any:
        """Fresh states (`coremltools.models.model.MLState`), or None if the function has none."""
        if not self._interface.stateful:
            return None
        with refusals(f"making the states of {self._what}"):
            return self._model.make_state()

    def __call__(
        self, inputs: Mapping[str, np.ndarray], *, state: Any = None
    ) -> dict[str, np.ndarray]:
        """Predict.

        Args:
            inputs: one array per input, of a numpy type and shape the description admits.
            state: from `make_state`; without it the states begin with zeros and are lost.

        Returns:
            The outputs, by name, with the described types; float16 ones are float32 arrays.

        Raises:
            CoreMLError: an input is missing, unknown or of another type or shape; Core ML fails; an
                output is missing, unknown or not as described.
        """
        if self._model is None:
            raise CoreMLError(f"{self._what} is closed")
        # A new dict of new arrays: coremltools changes the dict, its binding the arrays' memory.
        given = _bind(self._interface.inputs, inputs)
        state = self.make_state() if state is None else state
        started = time.perf_counter()
        with refusals(f"running {self._what}"):
            found = self._model.predict(given, state)
        self.run_seconds.append(time.perf_counter() - started)
        return _check_outputs(self._interface.outputs, found, self._what)

    def close(self) -> None:
        """Unload the model and delete what was compiled for it alone."""
        self._model = None
        self._finalizer()

    def __enter__(self) -> CoreMLProgram:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _function_name(self) -> str | None:
        """macOS 14 refuses any name, so a package of one function is loaded without."""
        return self.function if self._interface.multifunction else None


def _load(path: Path, unit: Any, function_name: str | None, what: str) -> Any:
    from coremltools.models import CompiledMLModel

    with refusals(f"loading {what}"):
        return CompiledMLModel(str(path), compute_units=unit, function_name=function_name)


def _bind(
    described: Mapping[str, DescribedArray], inputs: Mapping[str, np.ndarray]
) -> dict[str, np.ndarray]:
    required = {name for name, array in described.items() if not array.optional}
    missing, unknown = sorted(required - set(inputs)), sorted(set(inputs) - set(described))
    if missing or unknown:
        expected = ", ".join(f"{name}: {array}" for name, array in described.items())
        raise CoreMLError(
            f"inputs do not match: missing {missing}, unknown {unknown}; expected {expected}"
        )
    return {name: _bind_one(described[name], array) for name, array in inputs.items()}


def _bind_one(described: DescribedArray, array: np.ndarray) -> np.ndarray:
    where = f"input '{described.name}'"
    if not isinstance(array, np.ndarray):
        raise CoreMLError(f"{where}: expected a numpy array, found {type(array).__name__}")
    wanted = _exchanged(described)
    if array.dtype not in (wanted, described.numpy_dtype):
        raise CoreMLError(
            f"{where}: expected an array of {wanted}, found {array.dtype}; convert it with "
            f".astype(numpy.{wanted})"
        )
    described.require(array.shape)
    # The binding asks for writable memory and cannot read float16.
    return np.array(array, dtype=wanted, order="C", ndmin=1)


def _check_outputs(
    described: Mapping[str, DescribedArray], found: Mapping[str, Any], what: str
) -> dict[str, np.ndarray]:
    if set(found) != set(described):
        raise CoreMLError(
            f"{what} gave the outputs {sorted(found)}; described are {sorted(described)}"
        )
    outputs = {}
    for name, expected in described.items():
        array, wanted = found[name], _exchanged(expected)
        if not isinstance(array, np.ndarray) or array.dtype != wanted:
            kind = array.dtype if isinstance(array, np.ndarray) else type(array).__name__
            raise CoreMLError(f"{what} gave '{name}' as {kind}; described is {expected}")
        expected.require(array.shape)
        outputs[name] = array
    return outputs


def _exchanged(described: DescribedArray) -> np.dtype[Any]:
    """numpy type coremltools takes and gives: its binding turns float16 into float32."""
    dtype = described.numpy_dtype
    return np.dtype(np.float32) if dtype == np.float16 else dtype
