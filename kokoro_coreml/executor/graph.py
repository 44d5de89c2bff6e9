"""The parsed form of one function: operations in order, with every name resolved.

A name must be defined before it is used and only once, so a program cannot hold a cycle.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.ops import OPS, REFUSED
from kokoro_coreml.executor.types import OpaqueSpec, TensorSpec, ValueSpec, value_spec

_OPSET = re.compile(r"CoreML(\d+)")
_FIRST_OPSET = 10
"""CoreML5 is iOS 15, CoreML6 is iOS 16, CoreML7 is iOS 17, CoreML8 is iOS 18."""

_MAX_LISTED = 20
"""Operations named in one message."""


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        position: index in the function, constants included.
        type: MIL's name of the operation.
        inputs: by parameter, the names of the values bound to it; immediates appear as "".
        outputs: name and declared type of each result.
    """

    position: int
    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[tuple[str, ValueSpec], ...]

    @property
    def name(self) -> str:
        """Name of the first result."""
        return self.outputs[0][0] if self.outputs else ""

    def __str__(self) -> str:
        return f"operation {self.position}, {self.type} '{self.name}'"


@dataclass(frozen=True)
class Function:
    """One function of a package: its interface, its opset (iOS version) and its operations."""

    name: str
    ios: int
    inputs: Mapping[str, TensorSpec]
    output_names: tuple[str, ...]
    operations: tuple[Operation, ...]
    protos: tuple[Any, ...]
    """The `MILSpec.Operation` behind each operation."""


def read_function(program: Any, name: str) -> Function:
    """Read and check one function of a `MILSpec.Program`.

    Raises:
        PackageError: there is no such function; it has no block for its opset; a name is used
            before it is defined, or defined twice; a type is unknown; or operations are not in the
            table (all of them are listed).
    """
    if name not in program.functions:
        known = ", ".join(sorted(program.functions)) or "none"
        raise PackageError(f"there is no function '{name}' in this package; it has: {known}")
    proto = program.functions[name]
    ios = _ios_version(proto.opset)
    if proto.opset not in proto.block_specializations:
        raise PackageError(f"function '{name}' has no block for its opset {proto.opset!r}")
    block = proto.block_specializations[proto.opset]
    inputs = {i.name: _input_spec(i) for i in proto.inputs}
    if len(inputs) != len(proto.inputs):
        raise PackageError(f"function '{name}' declares an input twice")
    operations = tuple(_operation(i, o) for i, o in enumerate(block.operations))
    _refuse_missing(operations)
    _check_names(inputs, operations, tuple(block.outputs))
    return Function(name, ios, inputs, tuple(block.outputs), operations, tuple(block.operations))


def _ios_version(opset: str) -> int:
    match = _OPSET.fullmatch(opset)
    if match is None:
        raise PackageError(f"opset {opset!r} is unknown; expected CoreML5 to CoreML9")
    return int(match.group(1)) + _FIRST_OPSET


def _input_spec(named: Any) -> TensorSpec:
    spec = value_spec(named.type, f"input '{named.name}'")
    if isinstance(spec, OpaqueSpec):
        raise PackageError(f"input '{named.name}' is a {spec}; only tensors are supported yet")
    return spec


def _operation(position: int, proto: Any) -> Operation:
    where = f"operation {position}, {proto.type}"
    outputs = tuple((o.name, value_spec(o.type, f"{where} '{o.name}'")) for o in proto.outputs)
    inputs = {
        key: tuple(b.name if b.WhichOneof("binding") == "name" else "" for b in argument.arguments)
        for key, argument in proto.inputs.items()
    }
    return Operation(position, proto.type, inputs, outputs)


def _refuse_missing(operations: tuple[Operation, ...]) -> None:
    missing = [o for o in operations if o.type != "const" and o.type not in OPS]
    if not missing:
        return
    lines = [
        f"  {o}: {REFUSED.get(o.type, 'not in the operator table')}" for o in missing[:_MAX_LISTED]
    ]
    if len(missing) > _MAX_LISTED:
        lines.append(f"  and {len(missing) - _MAX_LISTED} more")
    raise PackageError(
        f"{len(missing)} of {len(operations)} operations cannot be run:\n" + "\n".join(lines)
    )


def _check_names(
    inputs: Mapping[str, TensorSpec], operations: tuple[Operation, ...], outputs: tuple[str, ...]
) -> None:
    defined = set(inputs)
    for operation in operations:
        for name in names_read(operation):
            if name not in defined:
                raise PackageError(f"{operation} reads '{name}' before it is defined")
        for name, _ in operation.outputs:
            if not name or name in defined:
                raise PackageError(f"{operation} defines {name!r}, which is empty or taken")
            defined.add(name)
    for name in outputs:
        if name not in defined:
            raise PackageError(f"output '{name}' is not defined by any operation")


def names_read(operation: Operation) -> Iterator[str]:
    """Names of all values an operation reads."""
    for names in operation.inputs.values():
        yield from (n for n in names if n)
