"""The parsed form of one function: operations in order, with every name resolved.

A name must be defined before it is used and only once, so a program cannot hold a cycle. Nested
blocks (of `cond` and `while_loop`) see the names around them and define names of their own.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.ops import OPS, REFUSED
from kokoro_coreml.executor.types import OpaqueSpec, StateSpec, TensorSpec, ValueSpec, value_spec

_OPSET = re.compile(r"CoreML([5-9]|[1-9][0-9])")
_FIRST_OPSET = 10
"""CoreML5 is iOS 15, CoreML6 is iOS 16, CoreML7 is iOS 17, CoreML8 is iOS 18."""

_MAX_LISTED = 20
"""Operations named in one message."""

MAX_OPERATIONS = 200_000
"""Of one function; the whole of Kokoro has 2,200. An empty one takes two bytes in the file."""

MAX_NESTING = 32
"""Blocks inside one another; real programs hardly pass 3."""


@dataclass(frozen=True)
class Operation:
    """One operation of a program.

    Attributes:
        position: index in the function, constants and operations of nested blocks included; those
            of a block follow the operation that holds it.
        type: MIL's name of the operation.
        inputs: by parameter, the names of the values bound to it; immediates appear as "".
        outputs: name and declared type of each result.
        blocks: nested blocks, in MIL's order.
    """

    position: int
    type: str
    inputs: Mapping[str, tuple[str, ...]]
    outputs: tuple[tuple[str, ValueSpec], ...]
    blocks: tuple[Block, ...] = ()
    proto: Any = field(default=None, repr=False, compare=False)
    """The `MILSpec.Operation` it was read from."""

    @property
    def name(self) -> str:
        """Name of the first result; an operation without one has that of its attribute 'name'."""
        if self.outputs:
            return self.outputs[0][0]
        if self.proto is not None and "name" in self.proto.attributes:
            strings = self.proto.attributes["name"].immediateValue.tensor.strings.values
            return str(strings[0]) if strings else ""
        return ""

    def __str__(self) -> str:
        return f"operation {self.position}, {self.type} '{self.name}'"


@dataclass(frozen=True)
class Block:
    """A list of operations with its own inputs and outputs."""

    inputs: tuple[tuple[str, ValueSpec], ...]
    operations: tuple[Operation, ...]
    outputs: tuple[str, ...]


@dataclass(frozen=True)
class Function:
    """One function of a package: its interface, its opset (iOS version) and its operations."""

    name: str
    ios: int
    inputs: Mapping[str, TensorSpec]
    states: Mapping[str, StateSpec]
    body: Block

    @property
    def operations(self) -> tuple[Operation, ...]:
        """All operations in order of their positions, those of nested blocks included."""
        return tuple(_walk(self.body.operations))


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
    inputs = [(i.name, value_spec(i.type, f"input '{i.name}'")) for i in proto.inputs]
    if len({key for key, _ in inputs}) != len(inputs):
        raise PackageError(f"function '{name}' declares an input twice")
    body = _Reader().block(proto.block_specializations[proto.opset], tuple(inputs), 0)
    _refuse_missing(tuple(_walk(body.operations)))
    _check_names(body, set())
    tensors = {key: spec for key, spec in inputs if isinstance(spec, TensorSpec)}
    states = {key: spec for key, spec in inputs if isinstance(spec, StateSpec)}
    for key, spec in inputs:
        if isinstance(spec, OpaqueSpec):
            raise PackageError(f"input '{key}' is a {spec}; only tensors and states can be passed")
    return Function(name, ios, tensors, states, body)


def _ios_version(opset: str) -> int:
    match = _OPSET.fullmatch(opset)
    if match is None:
        raise PackageError(f"opset {opset!r} is unknown; expected CoreML5 to CoreML9")
    return int(match.group(1)) + _FIRST_OPSET


class _Reader:
    """Numbers the operations while it reads them."""

    def __init__(self) -> None:
        self.count = 0

    def block(self, proto: Any, inputs: tuple[tuple[str, ValueSpec], ...], nesting: int) -> Block:
        if nesting > MAX_NESTING:
            raise PackageError(f"blocks are nested more than {MAX_NESTING} deep")
        operations = tuple(self._operation(o, nesting) for o in proto.operations)
        return Block(inputs, operations, tuple(proto.outputs))

    def _operation(self, proto: Any, nesting: int) -> Operation:
        position = self.count
        if position >= MAX_OPERATIONS:
            raise PackageError(f"a function has more than {MAX_OPERATIONS} operations")
        self.count += 1
        where = f"operation {position}, {proto.type}"
        outputs = tuple((o.name, value_spec(o.type, f"{where} '{o.name}'")) for o in proto.outputs)
        bound = {key: _names(argument) for key, argument in proto.inputs.items()}
        blocks = tuple(
            self.block(
                b,
                tuple((i.name, value_spec(i.type, f"{where}, block input")) for i in b.inputs),
                nesting + 1,
            )
            for b in proto.blocks
        )
        return Operation(position, proto.type, bound, outputs, blocks, proto)


def _names(argument: Any) -> tuple[str, ...]:
    return tuple(b.name if b.WhichOneof("binding") == "name" else "" for b in argument.arguments)


def _walk(operations: Iterable[Operation]) -> Iterator[Operation]:
    for operation in operations:
        yield operation
        for block in operation.blocks:
            yield from _walk(block.operations)


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


def _check_names(block: Block, outside: set[str]) -> None:
    defined = set(outside)
    for name, _ in block.inputs:
        if not name or name in defined:
            raise PackageError(f"a block input is named {name!r}, which is empty or taken")
        defined.add(name)
    for operation in block.operations:
        for name in _bound_names(operation):
            if name not in defined:
                raise PackageError(f"{operation} reads '{name}' before it is defined")
        for nested in operation.blocks:
            _check_names(nested, defined)
        for name, _ in operation.outputs:
            if not name or name in defined:
                raise PackageError(f"{operation} defines {name!r}, which is empty or taken")
            defined.add(name)
    for name in block.outputs:
        if name not in defined:
            raise PackageError(f"output '{name}' is not defined by any operation")


def _bound_names(operation: Operation) -> Iterator[str]:
    for names in operation.inputs.values():
        yield from (n for n in names if n)


def names_read(operation: Operation) -> Iterator[str]:
    """Names of all values an operation reads, also those its blocks read from around it."""
    yield from _bound_names(operation)
    for block in operation.blocks:
        yield from _free_names(block)


def _free_names(block: Block) -> Iterator[str]:
    own = {name for name, _ in block.inputs}
    own.update(name for o in block.operations for name, _ in o.outputs)
    for operation in block.operations:
        yield from (n for n in names_read(operation) if n not in own)
    yield from (n for n in block.outputs if n not in own)
