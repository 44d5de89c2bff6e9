"""The operations of any saved package, read for inspection: nothing is run or refused.

The executor's own reading (`executor.graph`) refuses what it cannot run, which a lint has to name
instead. Positions are the executor's and a compute plan's: constants and the operations of nested
blocks count, and those of a block follow the operation that holds it. Weights are not decoded.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import MAX_NESTING, MAX_OPERATIONS
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.types import BY_NAME, TensorSpec, ValueSpec, value_spec
from kokoro_coreml.executor.values import Value, decode_value, packed_size

FOLDED = "constexpr_"
"""Operations whose names start so unpack weights when the package is loaded."""

MAX_DECODED = 2**16
"""Elements of the largest constant whose values are looked at."""


@dataclass(frozen=True)
class Stored:
    """A constant's place in the package, and its size in bytes there."""

    key: str
    bytes: int


@dataclass(frozen=True, eq=False)
class Tensor:
    """A value of the program.

    Attributes:
        name: unique in the function; empty for an immediate argument.
        spec: declared type and shape.
        folded: whether it is known when the package is loaded.
        constant: the `MILSpec.Value` of a plain constant.
        parts: by parameter, what a constant is unpacked from; empty for a plain one.
        stored: what of the package's bytes it is made from.
        producer: the operation that computes it; None for inputs and constants.
    """

    name: str
    spec: ValueSpec
    folded: bool = False
    constant: Any = field(default=None, repr=False)
    parts: Mapping[str, Tensor] = field(default_factory=dict, repr=False)
    stored: tuple[Stored, ...] = ()
    producer: Node | None = field(default=None, repr=False)

    @property
    def shape(self) -> tuple[int | None, ...] | None:
        """Declared sizes, None where open; None altogether if it is no tensor."""
        return self.spec.shape if isinstance(self.spec, TensorSpec) else None

    @property
    def dtype(self) -> str:
        """MIL's name of the element type, or the kind of what is no tensor."""
        return self.spec.dtype if isinstance(self.spec, TensorSpec) else str(self.spec)


@dataclass(frozen=True, eq=False)
class Node:
    """One operation that is not a constant.

    Attributes:
        position: index in the function.
        type: MIL's name.
        name: of its first result; of itself if it has none.
        arguments: bound values by parameter.
        results: what it defines.
        inside: for an operation of a nested block, name of the operation that holds the block, and
            the block's index, as in `cond_0/1`.
    """

    position: int
    type: str
    name: str
    arguments: Mapping[str, tuple[Tensor, ...]]
    results: tuple[Tensor, ...]
    inside: str | None = None

    @property
    def operands(self) -> tuple[Tensor, ...]:
        """All bound values, in the package's order."""
        return tuple(t for tensors in self.arguments.values() for t in tensors)


@dataclass(frozen=True)
class Reading:
    """One function: its operations in order, and its outputs."""

    name: str
    nodes: tuple[Node, ...]
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    stored: tuple[Stored, ...]
    """Every constant of the function, used or not."""


def function_names(package: Package) -> tuple[str, ...]:
    """Names of the package's functions, the default one first."""
    default = package.model.description.defaultFunctionName or "main"
    return tuple(sorted(package.program.functions, key=lambda name: (name != default, name)))


def functions_of(path: Path) -> tuple[str, ...]:
    """Names of the functions of the package at `path`; PackageError if it cannot be read."""
    return function_names(Package.load(path))


def read(package: Package, name: str) -> Reading:
    """Read one function.

    Raises:
        PackageError: there is no such function, a type is unknown, or a name is used before it is
            defined.
    """
    if name not in package.program.functions:
        known = ", ".join(function_names(package)) or "none"
        raise PackageError(f"there is no function '{name}' in this package; it has: {known}")
    proto = package.program.functions[name]
    if proto.opset not in proto.block_specializations:
        raise PackageError(f"function '{name}' has no block for its opset {proto.opset!r}")
    inputs = tuple(Tensor(i.name, value_spec(i.type, f"input '{i.name}'")) for i in proto.inputs)
    reader = _Reader()
    scope = {tensor.name: tensor for tensor in inputs}
    block = proto.block_specializations[proto.opset]
    reader.block(block, scope, None, 0)
    outputs = tuple(_known(scope, output, "the function") for output in block.outputs)
    return Reading(name, tuple(reader.nodes), inputs, outputs, tuple(reader.stored))


def value_of(tensor: Tensor, package: Package) -> Value | None:
    """The constant's value as the executor decodes it; None if there is none, or it is large."""
    if tensor.constant is None:
        return None
    shape = tensor.shape
    if shape is not None and (None in shape or _elements(shape) > MAX_DECODED):
        return None
    return decode_value(tensor.constant, package.read_blob, f"constant '{tensor.name}'")


class _Reader:
    """Numbers the operations while it reads them."""

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.stored: list[Stored] = []
        self._count = 0

    def block(self, proto: Any, scope: dict[str, Tensor], inside: str | None, depth: int) -> None:
        """Read a block's operations; `scope` gains the values it defines."""
        if depth > MAX_NESTING:
            raise PackageError(f"blocks are nested more than {MAX_NESTING} deep")
        for operation in proto.operations:
            self._operation(operation, scope, inside, depth)

    def _operation(
        self, proto: Any, scope: dict[str, Tensor], inside: str | None, depth: int
    ) -> None:
        position = self._count
        if position >= MAX_OPERATIONS:
            raise PackageError(f"a function has more than {MAX_OPERATIONS} operations")
        self._count += 1
        where = f"operation {position}, {proto.type}"
        if proto.type == "const" or proto.type.startswith(FOLDED):
            for tensor in self._constants(proto, scope, where):
                scope[tensor.name] = tensor
            return
        node = _node(proto, position, scope, inside, where)
        self.nodes.append(node)
        self.stored.extend(s for t in node.operands if not t.name for s in t.stored)
        scope.update({t.name: replace(t, producer=node) for t in node.results})
        for index, block in enumerate(proto.blocks):
            inner = scope | {
                i.name: Tensor(i.name, value_spec(i.type, f"{where}, block input"))
                for i in block.inputs
            }
            self.block(block, inner, f"{node.name}/{index}", depth + 1)

    def _constants(self, proto: Any, scope: dict[str, Tensor], where: str) -> Iterator[Tensor]:
        arguments = _arguments(proto, scope, where)
        own = {
            key: _immediate(value, f"{where}.{key}")
            for key, value in sorted(proto.attributes.items())
            if key != "name"
        }
        bound = [*(t for tensors in arguments.values() for t in tensors), *own.values()]
        stored = tuple(s for t in bound for s in t.stored)
        self.stored.extend(stored)
        parts = {key: tensors[0] for key, tensors in arguments.items() if tensors} | own
        for output in proto.outputs:
            spec = value_spec(output.type, f"{where} '{output.name}'")
            plain = proto.type == "const"
            constant = proto.attributes["val"] if plain else None
            yield Tensor(output.name, spec, True, constant, {} if plain else parts, stored)


def _node(
    proto: Any, position: int, scope: Mapping[str, Tensor], inside: str | None, where: str
) -> Node:
    specs = [(o.name, value_spec(o.type, f"{where} '{o.name}'")) for o in proto.outputs]
    name = specs[0][0] if specs else f"{proto.type}_{position}"
    results = tuple(Tensor(result, spec) for result, spec in specs)
    return Node(position, proto.type, name, _arguments(proto, scope, where), results, inside)


def _arguments(
    proto: Any, scope: Mapping[str, Tensor], where: str
) -> dict[str, tuple[Tensor, ...]]:
    return {
        key: tuple(
            _argument(a, scope, f"{where}, {key}", index)
            for index, a in enumerate(argument.arguments)
        )
        for key, argument in proto.inputs.items()
    }


def _argument(binding: Any, scope: Mapping[str, Tensor], where: str, index: int) -> Tensor:
    if binding.WhichOneof("binding") == "name":
        return _known(scope, binding.name, where)
    return _immediate(binding.value, f"{where} {index}")


def _immediate(value: Any, where: str) -> Tensor:
    return Tensor("", value_spec(value.type, where), True, value, {}, (_stored(value, where),))


def _known(scope: Mapping[str, Tensor], name: str, where: str) -> Tensor:
    if name not in scope:
        raise PackageError(f"{where} reads '{name}' before it is defined")
    return scope[name]


def _stored(value: Any, where: str) -> Stored:
    spec = value_spec(value.type, where)
    if not isinstance(spec, TensorSpec) or None in spec.shape:
        return Stored(where, 0)
    size = packed_size(BY_NAME[spec.dtype], _elements(spec.shape))
    if value.WhichOneof("value") == "blobFileValue":
        return Stored(f"{value.blobFileValue.fileName}@{value.blobFileValue.offset}", size)
    return Stored(where, size)


def _elements(shape: Iterable[int | None]) -> int:
    product = 1
    for size in shape:
        product *= size or 0
    return product
