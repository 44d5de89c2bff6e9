"""Loading a function of a package once, and running it many times."""

from __future__ import annotations

import math
import time
from collections.abc import Collection, Iterator, Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import Function, Operation, read_function
from kokoro_coreml.executor.interface import DescribedArray, check_interface
from kokoro_coreml.executor.limits import max_elements
from kokoro_coreml.executor.ops.control import StateBuffer
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.precision import Finding, Numerics
from kokoro_coreml.executor.steps import OnOperation, Preparer, Run
from kokoro_coreml.executor.types import StateSpec, TensorSpec, ValueSpec
from kokoro_coreml.executor.values import Value


class State:
    """What a function with states keeps from one call to the next; begins with zeros."""

    def __init__(self, specs: Mapping[str, StateSpec]) -> None:
        """`specs`: declared type of each state, by name."""
        self._specs = dict(specs)
        total = sum(math.prod(size or 0 for size in s.tensor.shape) for s in specs.values())
        if total > max_elements():
            raise PackageError(f"the states hold {total} elements, more than this machine can")
        self.buffers = {name: StateBuffer(_zeros(spec.tensor)) for name, spec in specs.items()}

    def read(self, name: str) -> np.ndarray:
        """A copy of one state; PackageError if there is no such state."""
        return _to_numpy(self._buffer(name).value)

    def write(self, name: str, array: np.ndarray) -> None:
        """Replace one state; PackageError if it does not exist or the array does not fit it."""
        buffer = self._buffer(name)
        buffer.value = _from_numpy(f"state '{name}'", self._specs[name].tensor, array)

    def _buffer(self, name: str) -> StateBuffer:
        if name not in self.buffers:
            known = ", ".join(self.buffers) or "none"
            raise PackageError(f"there is no state '{name}'; there are: {known}")
        return self.buffers[name]


class Program:
    """One function of a saved package, ready to run.

    Declared shapes and the kind of each type are asserted after every operation. Floats are carried
    in float32; what is rounded on the way is decided by the numeric mode (`precision`).
    """

    def __init__(
        self, package: Package, function: str = "main", *, precision: str = "float32"
    ) -> None:
        """Prepare `function`; see `load`."""
        began = time.perf_counter()
        self._numerics = Numerics(precision)
        self._function: Function = read_function(package.program, function)
        self._outputs = self._output_specs()
        self._described: dict[str, DescribedArray] = check_interface(
            package.model.description,
            function,
            self._function.inputs,
            self._outputs,
            {name: spec.tensor for name, spec in self._function.states.items()},
        )
        with torch.inference_mode():
            preparer = Preparer(package, self._function.ios, self._numerics)
            self._body = preparer.block(self._function.body, {})
        self._folding_findings = tuple(preparer.folding.findings)
        self._findings: tuple[Finding, ...] = self._folding_findings
        self.load_seconds = time.perf_counter() - began
        """What it took to parse the function and decode its constants."""
        self.run_seconds: float | None = None
        """What the last call took, inputs and outputs included; None before the first."""

    @classmethod
    def load(
        cls, path: str | Path, function: str = "main", *, precision: str = "float32"
    ) -> Program:
        """Read a `.mlpackage`; decodes its constants, maps its float32 weights.

        Args:
            path: of the folder.
            function: of a multifunction package.
            precision: numeric mode, one of `PRECISIONS`.

        Raises:
            PackageError: the package is missing, corrupt or inconsistent, has no such function, or
                holds operations that cannot be run (all are named); or there is no such mode.
        """
        began = time.perf_counter()
        program = cls(Package.load(path), function, precision=precision)
        program.load_seconds = time.perf_counter() - began
        return program

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Declared type of each input, by name; states are not among them."""
        return dict(self._function.inputs)

    @property
    def states(self) -> dict[str, StateSpec]:
        """Declared type of each state, by name."""
        return dict(self._function.states)

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Declared type of each output, by name."""
        return dict(self._outputs)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations in order, constants and nested ones included."""
        return self._function.operations

    def expanded_weights(self) -> dict[str, np.ndarray]:
        """Weights that are stored compressed, by name, as the function computes with them."""
        return {
            name: _to_numpy(self._body.constants[name])
            for operation in self._function.body.operations
            if operation.type.startswith("constexpr_")
            for name, _ in operation.outputs
            if name in self._body.constants
        }

    @property
    def opset(self) -> int:
        """The iOS version whose operation set the function declares."""
        return self._function.ios

    @property
    def precision(self) -> str:
        """The numeric mode."""
        return self._numerics.precision

    @property
    def findings(self) -> tuple[Finding, ...]:
        """What the mode `stress` reported at load and in the last call, in program order."""
        return self._findings

    def make_state(self) -> State:
        """Fresh states, all zeros."""
        return State(self._function.states)

    def __call__(
        self,
        inputs: Mapping[str, np.ndarray],
        *,
        capture: Collection[str] = (),
        on_operation: OnOperation | None = None,
        state: State | None = None,
    ) -> dict[str, np.ndarray]:
        """Run the function.

        Args:
            inputs: one array per declared input, of a numpy type and shape its declaration and
                the model description admit; an optional one that has a default may be left out.
            capture: names of intermediate values to return as well; inside a loop the last one.
            on_operation: called after each operation; may replace its results.
            state: from `make_state`, changed by the call; without it the states begin with zeros
                and are forgotten.

        Returns:
            The outputs and the captured values. fp16-declared ones are float32 arrays, uint16 and
            uint32 ones are of the next wider signed type.

        Raises:
            PackageError: an input is missing, unknown or of another type or shape; a captured name
                does not exist; an operation fails, or its result is not what it declares.
        """
        began = time.perf_counter()
        self._check_capture(capture)
        run = Run(self._numerics, on_operation, frozenset(capture))
        with torch.inference_mode():
            values: dict[str, Value] = dict(self._bind_inputs(inputs, run))
            run.kept.update({name: values[name] for name in capture if name in values})
            run.kept.update(
                {n: self._body.constants[n] for n in capture if n in self._body.constants}
            )
            results = self._body.run(run, {}, self._arguments(values, state))
        found = {**run.kept, **dict(zip(self._outputs, results, strict=True))}
        self._findings = (*self._folding_findings, *run.findings)
        self._check_reached(capture, found)
        arrays = {name: _to_numpy(found[name]) for name in sorted(found)}
        self.run_seconds = time.perf_counter() - began
        return arrays

    def iterate(
        self, inputs: Mapping[str, np.ndarray]
    ) -> Iterator[tuple[Operation, tuple[Tensor, ...]]]:
        """Run the function step by step: yields each operation with its results once it has run.

        Constants and operations of nested blocks are not among them. A result is freed after its
        last use, unless the caller keeps it.

        Raises:
            PackageError: as `__call__` does.
        """
        run = Run(self._numerics)
        with torch.inference_mode():
            arguments = self._arguments(dict(self._bind_inputs(inputs, run)), None)
        steps = self._body.iterate(run, {}, arguments)
        while True:
            with torch.inference_mode():
                try:
                    step = next(steps)
                except StopIteration:
                    return
            yield step

    def _arguments(self, values: dict[str, Value], state: State | None) -> tuple[Value, ...]:
        values = {**values, **(state or self.make_state()).buffers}
        return tuple(values[name] for name, _ in self._function.body.inputs)

    def _output_specs(self) -> dict[str, TensorSpec]:
        body = self._function.body
        specs: dict[str, ValueSpec] = dict(body.inputs)
        for operation in body.operations:
            specs.update(operation.outputs)
        outputs: dict[str, TensorSpec] = {}
        for name in body.outputs:
            spec = specs[name]
            if not isinstance(spec, TensorSpec):
                raise PackageError(f"output '{name}' is a {spec}; only tensors can be returned")
            if name in outputs:
                raise PackageError(f"the output '{name}' is returned twice")
            outputs[name] = spec
        return outputs

    def _bind_inputs(self, inputs: Mapping[str, np.ndarray], run: Run) -> dict[str, Tensor]:
        specs = self._function.inputs
        given = {**self._defaults(), **inputs}
        missing, unknown = sorted(set(specs) - set(given)), sorted(set(given) - set(specs))
        if missing or unknown:
            raise PackageError(
                f"inputs do not match: missing {missing}, unknown {unknown}; "
                f"expected {', '.join(f'{n}: {s}' for n, s in specs.items())}"
            )
        return {n: self._bind_input(n, spec, given[n], run) for n, spec in specs.items()}

    def _bind_input(self, name: str, spec: TensorSpec, array: np.ndarray, run: Run) -> Tensor:
        value = _from_numpy(f"input '{name}'", spec, array)
        if name in self._described:
            self._described[name].require(array.shape)
        return self._numerics.input(name, spec, value, run.findings.append)

    def _defaults(self) -> dict[str, np.ndarray]:
        found = {name: described.default_array() for name, described in self._described.items()}
        return {name: array for name, array in found.items() if array is not None}

    def _check_capture(self, capture: Collection[str]) -> None:
        if isinstance(capture, str):
            raise TypeError("capture takes a collection of names, not one name")
        specs: dict[str, ValueSpec] = dict(self._function.inputs)
        specs.update(pair for operation in self.operations for pair in operation.outputs)
        unknown = sorted(set(capture) - set(specs))
        if unknown:
            raise PackageError(f"cannot capture {', '.join(unknown)}: no such value in the program")
        other = sorted(n for n in capture if not isinstance(specs[n], TensorSpec))
        if other:
            raise PackageError(f"cannot capture {', '.join(other)}: not a tensor")

    def _check_reached(self, capture: Collection[str], found: Mapping[str, Value]) -> None:
        lost = sorted(set(capture) - set(found))
        if lost:
            raise PackageError(
                f"cannot capture {', '.join(lost)}: the block that computes it was not run"
            )


def _zeros(spec: TensorSpec) -> Tensor:
    return torch.zeros([size or 0 for size in spec.shape], dtype=spec.carrier)


def _from_numpy(where: str, spec: TensorSpec, array: np.ndarray) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise PackageError(f"{where}: expected a numpy array, found {type(array).__name__}")
    if array.dtype not in spec.numpy_dtypes:
        expected = " or ".join(str(d) for d in spec.numpy_dtypes)
        raise PackageError(
            f"{where}: expected an array of {expected}, found {array.dtype}; convert "
            f"it with .astype(numpy.{spec.numpy_dtypes[-1]})"
        )
    if not spec.admits_shape(array.shape):
        raise PackageError(f"{where}: expected {spec}, found shape {list(array.shape)}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C")).to(spec.carrier)


def _to_numpy(value: Value) -> np.ndarray:
    if not isinstance(value, Tensor):
        return np.asarray(value)
    return value.contiguous().numpy().copy()
