"""Loading a function of a package once, and running it many times."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import Function, Operation, names_read, read_function
from kokoro_coreml.executor.ops import OPS, OpDefinition, Parameter
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.types import TensorSpec, ValueSpec
from kokoro_coreml.executor.values import Value, decode_value

PRECISIONS = ("float32",)
"""Numeric modes that exist."""

OnOperation = Callable[[Operation, tuple[Tensor, ...]], None]
"""Called after each operation with its results; they must not be changed."""

_DESCRIBED_TYPES = {"fp16": 0x10010, "fp32": 0x10020, "fp64": 0x10040, "int32": 0x20020}
"""`ArrayFeatureType.ArrayDataType` of the model specification, by MIL type."""

_FOLDED = "constexpr_"
"""Operations whose names start so are evaluated once, at load, and their result is kept."""

_EVALUATION_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
)
"""What torch and the operator functions raise for arguments that do not fit an operation."""


@dataclass(frozen=True)
class _Step:
    """One operation made ready: constants converted, the rest looked up at each call."""

    operation: Operation
    definition: OpDefinition
    fixed: Mapping[str, Any]
    dynamic: tuple[tuple[Parameter, tuple[str, ...]], ...]
    dead: tuple[str, ...]
    """Values no later operation reads."""

    def run(self, values: Mapping[str, Value]) -> tuple[Tensor, ...]:
        try:
            arguments = dict(self.fixed)
            for parameter, names in self.dynamic:
                bound = tuple(values[n] for n in names)
                arguments[parameter.name] = parameter.convert(
                    bound if parameter.variadic else bound[0]
                )
            result = self.definition.function(**arguments)
        except _EVALUATION_ERRORS as error:
            raise PackageError(f"{self.operation} failed: {error}") from error
        results = result if isinstance(result, tuple) else (result,)
        _check_results(self.operation, results)
        return results


class Program:
    """One function of a saved package, ready to run.

    Numbers: every floating-point tensor, fp16-declared ones included, is computed and kept in
    float32; declared shapes and the kind of each type are asserted after every operation.
    """

    def __init__(self, package: Package, function: str = "main") -> None:
        """Prepare `function`; see `load`."""
        self._function: Function = read_function(package.program, function)
        self._constants: dict[str, Value] = {}
        self._steps: list[_Step] = []
        with torch.inference_mode():
            self._prepare(package)
        self._outputs = {n: self._output_spec(n) for n in self._function.output_names}
        _check_interface(package.model.description, self._function, self._outputs)

    @classmethod
    def load(cls, path: str | Path, function: str = "main") -> Program:
        """Read a `.mlpackage`; decodes its constants, maps its float32 weights.

        Raises:
            PackageError: the package is missing, corrupt or inconsistent, has no such function, or
                holds operations that cannot be run (all are named).
        """
        return cls(Package.load(path), function)

    @property
    def inputs(self) -> dict[str, TensorSpec]:
        """Declared type of each input, by name."""
        return dict(self._function.inputs)

    @property
    def outputs(self) -> dict[str, TensorSpec]:
        """Declared type of each output, by name."""
        return dict(self._outputs)

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations in order, constants included."""
        return self._function.operations

    @property
    def opset(self) -> int:
        """The iOS version whose operation set the function declares."""
        return self._function.ios

    def __call__(
        self,
        inputs: Mapping[str, np.ndarray],
        *,
        capture: Collection[str] = (),
        on_operation: OnOperation | None = None,
    ) -> dict[str, np.ndarray]:
        """Run the function.

        Args:
            inputs: one array per declared input, of a numpy type and shape its declaration admits.
            capture: names of intermediate values to return as well.
            on_operation: called after each operation.

        Returns:
            The outputs and the captured values. fp16-declared ones are float32 arrays, uint16 and
            uint32 ones are of the next wider signed type.

        Raises:
            PackageError: an input is missing, unknown or of another type or shape; a captured name
                does not exist; an operation fails, or its result is not what it declares.
        """
        kept = {*self._function.output_names, *capture}
        self._check_capture(capture)
        with torch.inference_mode():
            values: dict[str, Value] = dict(self._constants)
            values.update(_bind_inputs(self._function.inputs, inputs))
            for step in self._steps:
                results = step.run(values)
                for (name, _), result in zip(step.operation.outputs, results, strict=True):
                    values[name] = result
                if on_operation is not None:
                    on_operation(step.operation, results)
                for name in step.dead:
                    if name not in kept:
                        del values[name]
        return {name: _to_numpy(values[name]) for name in sorted(kept)}

    def _prepare(self, package: Package) -> None:
        last_read = self._last_reads()
        for operation, proto in zip(self._function.operations, self._function.protos, strict=True):
            if operation.type == "const":
                self._add_constant(operation, proto, package)
                continue
            step = self._bind(operation, proto, package, last_read)
            if operation.type.startswith(_FOLDED) and not step.dynamic:
                names = (name for name, _ in operation.outputs)
                self._constants.update(zip(names, step.run({}), strict=True))
            else:
                self._steps.append(step)

    def _add_constant(self, operation: Operation, proto: Any, package: Package) -> None:
        if "val" not in proto.attributes or len(operation.outputs) != 1:
            raise PackageError(f"{operation}: a constant needs one output and the attribute 'val'")
        value = decode_value(proto.attributes["val"], package.read_blob, str(operation))
        name, spec = operation.outputs[0]
        _check_value(operation, name, spec, value)
        self._constants[name] = value

    def _bind(
        self, operation: Operation, proto: Any, package: Package, last_read: Mapping[str, int]
    ) -> _Step:
        definition = OPS[operation.type]
        fixed: dict[str, Any] = {}
        dynamic: list[tuple[Parameter, tuple[str, ...]]] = []
        bound = self._bindings(operation, proto, package)
        for key, names in bound.items():
            parameter = _parameter(operation, definition, key)
            if not parameter.variadic and len(names) != 1:
                raise PackageError(f"{operation}: '{key}' takes one value, {len(names)} are bound")
            if all(n in self._constants for n in names):
                values = tuple(self._constants[n] for n in names)
                fixed[key] = _convert(operation, parameter, values)
            else:
                dynamic.append((parameter, names))
        for parameter in definition.parameters.values():
            if parameter.required and parameter.name not in bound:
                raise PackageError(f"{operation}: the required '{parameter.name}' is not bound")
        if definition.opset_parameter is not None:
            fixed[definition.opset_parameter] = self.opset
        dead = _dead(operation, last_read)
        return _Step(operation, definition, fixed, tuple(dynamic), dead)

    def _bindings(
        self, operation: Operation, proto: Any, package: Package
    ) -> dict[str, tuple[str, ...]]:
        """Names of the values bound to each parameter; immediates become unnamed constants."""
        bound: dict[str, tuple[str, ...]] = {}
        for key, argument in proto.inputs.items():
            names = list(operation.inputs[key])
            for i, binding in enumerate(argument.arguments):
                if not names[i]:
                    names[i] = f"{operation.position}:{key}:{i}"
                    where = f"{operation}, '{key}'"
                    self._constants[names[i]] = decode_value(
                        binding.value, package.read_blob, where
                    )
            bound[key] = tuple(names)
        for key, value in proto.attributes.items():
            if key == "name":
                continue
            if key in bound:
                raise PackageError(f"{operation}: '{key}' is both an input and an attribute")
            name = f"{operation.position}:{key}"
            where = f"{operation}, attribute '{key}'"
            self._constants[name] = decode_value(value, package.read_blob, where)
            bound[key] = (name,)
        return bound

    def _last_reads(self) -> dict[str, int]:
        last: dict[str, int] = {}
        for operation in self._function.operations:
            for name in names_read(operation):
                last[name] = operation.position
        return last

    def _output_spec(self, name: str) -> TensorSpec:
        specs: dict[str, ValueSpec] = dict(self._function.inputs)
        for operation in self._function.operations:
            specs.update(operation.outputs)
        spec = specs[name]
        if not isinstance(spec, TensorSpec):
            raise PackageError(f"output '{name}' is a {spec}; only tensors are supported yet")
        return spec

    def _check_capture(self, capture: Collection[str]) -> None:
        if isinstance(capture, str):
            raise TypeError("capture takes a collection of names, not one name")
        known = {n for o in self.operations for n, _ in o.outputs} | set(self._function.inputs)
        unknown = sorted(set(capture) - known)
        if unknown:
            raise PackageError(f"cannot capture {', '.join(unknown)}: no such value in the program")


def _parameter(operation: Operation, definition: OpDefinition, key: str) -> Parameter:
    parameter = definition.parameters.get(key)
    if parameter is None:
        known = ", ".join(definition.parameters)
        raise PackageError(f"{operation} has no parameter '{key}'; it has: {known}")
    return parameter


def _convert(operation: Operation, parameter: Parameter, values: tuple[Value, ...]) -> Any:
    try:
        return parameter.convert(values if parameter.variadic else values[0])
    except _EVALUATION_ERRORS as error:
        raise PackageError(f"{operation}, '{parameter.name}': {error}") from error


def _dead(operation: Operation, last_read: Mapping[str, int]) -> tuple[str, ...]:
    """Values read here for the last time, and results nobody reads."""
    read = {n for n in names_read(operation) if last_read[n] == operation.position}
    unread = {n for n, _ in operation.outputs if n not in last_read}
    return tuple(sorted(read | unread))


def _check_results(operation: Operation, results: tuple[Tensor, ...]) -> None:
    if len(results) != len(operation.outputs):
        raise PackageError(
            f"{operation} declares {len(operation.outputs)} results but gave {len(results)}"
        )
    for (name, spec), result in zip(operation.outputs, results, strict=True):
        _check_value(operation, name, spec, result)


def _check_value(operation: Operation, name: str, spec: ValueSpec, value: Value) -> None:
    if not isinstance(spec, TensorSpec):
        if isinstance(value, Tensor):
            raise PackageError(f"{operation}: '{name}' is declared a {spec} but is a tensor")
        return
    if not isinstance(value, Tensor):
        found = type(value).__name__
    elif value.dtype == spec.carrier and spec.admits_shape(tuple(value.shape)):
        return
    else:
        found = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    raise PackageError(f"{operation}: '{name}' is declared {spec} but is {found}")


def _bind_inputs(
    specs: Mapping[str, TensorSpec], inputs: Mapping[str, np.ndarray]
) -> dict[str, Tensor]:
    missing, unknown = sorted(set(specs) - set(inputs)), sorted(set(inputs) - set(specs))
    if missing or unknown:
        raise PackageError(
            f"inputs do not match: missing {missing}, unknown {unknown}; "
            f"expected {', '.join(f'{n}: {s}' for n, s in specs.items())}"
        )
    return {name: _bind_input(name, spec, inputs[name]) for name, spec in specs.items()}


def _bind_input(name: str, spec: TensorSpec, array: np.ndarray) -> Tensor:
    if not isinstance(array, np.ndarray):
        raise PackageError(f"input '{name}': expected a numpy array, found {type(array).__name__}")
    if array.dtype not in spec.numpy_dtypes:
        expected = " or ".join(str(d) for d in spec.numpy_dtypes)
        raise PackageError(
            f"input '{name}': expected an array of {expected}, found {array.dtype}; convert "
            f"it with .astype(numpy.{spec.numpy_dtypes[-1]})"
        )
    if not spec.admits_shape(array.shape):
        raise PackageError(f"input '{name}': expected {spec}, found shape {list(array.shape)}")
    if array.dtype.kind == "u" and array.dtype.itemsize > 1:
        array = array.astype(np.int64)
    return torch.from_numpy(np.array(array, order="C")).to(spec.carrier)


def _to_numpy(value: Value) -> np.ndarray:
    if not isinstance(value, Tensor):
        return np.asarray(value)
    return value.contiguous().numpy().copy()


def _check_interface(
    description: Any, function: Function, outputs: Mapping[str, TensorSpec]
) -> None:
    """Compare the model description, which an app sees, with what the program declares."""
    for candidate in description.functions:
        if candidate.name == function.name:
            description = candidate
    pairs = (("input", description.input, function.inputs), ("output", description.output, outputs))
    for kind, features, specs in pairs:
        described = {f.name: f for f in features}
        if set(described) != set(specs):
            raise PackageError(
                f"the model description has the {kind}s {sorted(described)}, "
                f"but function '{function.name}' has {sorted(specs)}"
            )
        for name, spec in specs.items():
            shape = tuple(int(d) for d in described[name].type.multiArrayType.shape)
            code = described[name].type.multiArrayType.dataType
            if (wanted := _DESCRIBED_TYPES.get(spec.dtype)) is not None and code != wanted:
                raise PackageError(
                    f"{kind} '{name}': the model description has type {code:#x}, the program {spec}"
                )
            if shape and spec.shape and not spec.admits_shape(shape):
                raise PackageError(
                    f"{kind} '{name}': the model description says {list(shape)}, the program {spec}"
                )
