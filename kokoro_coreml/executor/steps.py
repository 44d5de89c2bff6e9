"""A block made ready to run: constants decoded, arguments bound, dead values known."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

from torch import Tensor

from kokoro_coreml.errors import PackageError
from kokoro_coreml.executor.graph import Block, Operation, names_read
from kokoro_coreml.executor.limits import declared_elements, require_room
from kokoro_coreml.executor.ops import OPS, OpDefinition, Parameter
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.precision import Finding, Numerics
from kokoro_coreml.executor.types import TensorSpec, ValueSpec
from kokoro_coreml.executor.values import Value, decode_value

OnOperation = Callable[[Operation, tuple[Tensor, ...]], tuple[Tensor, ...] | None]
"""Called after each operation with its results, which must not be changed in place.

What it returns takes their place in the rest of the run; None leaves them.
"""

Iteration = Generator[tuple[Operation, tuple[Value, ...]], None, tuple[Value, ...]]
"""A run that stops after each operation."""

MAX_BLOCKS_RUN = 3_000_000
"""Runs of nested blocks in one call; a program that passes it is taken not to end."""

_FOLDED = "constexpr_"
"""Operations whose names start so are evaluated once, at load, and their result is kept."""

_EVALUATION_ERRORS = (
    RuntimeError,
    ValueError,
    TypeError,
    IndexError,
    KeyError,
    ArithmeticError,
    NotImplementedError,
    MemoryError,
)
"""What torch and the operator functions raise for arguments that do not fit an operation."""


@dataclass
class Run:
    """What belongs to one call of a program."""

    numerics: Numerics
    on_operation: OnOperation | None = None
    wanted: frozenset[str] = frozenset()
    """Names of values to keep beyond their last use."""
    kept: dict[str, Value] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)
    blocks_run: int = 0


@dataclass(frozen=True)
class Step:
    """One operation made ready: constants converted, the rest looked up at each run."""

    operation: Operation
    definition: OpDefinition
    fixed: Mapping[str, Any]
    dynamic: tuple[tuple[Parameter, tuple[str, ...]], ...]
    blocks: tuple[ReadyBlock, ...]
    dead: tuple[str, ...]
    """Values no later operation of the block reads."""

    @cached_property
    def room(self) -> int | None:
        """Elements of the declared results; None if one is open."""
        return declared_elements(spec for _, spec in self.operation.outputs)

    def run(self, values: Mapping[str, Value], run: Run) -> tuple[Value, ...]:
        """Evaluate, check against the declaration, round, and show to the hook."""
        results = self._evaluate(values, run)
        _check_results(self.operation, results)
        results = run.numerics.result(self.operation, results, run.findings.append)
        if run.on_operation is not None:
            replaced = run.on_operation(self.operation, results)
            if replaced is not None:
                _check_results(self.operation, replaced)
                results = replaced
        return results

    def _evaluate(self, values: Mapping[str, Value], run: Run) -> tuple[Value, ...]:
        try:
            arguments = dict(self.fixed)
            for parameter, names in self.dynamic:
                bound = tuple(values[n] for n in names)
                arguments[parameter.name] = parameter.convert(
                    bound if parameter.variadic else bound[0]
                )
            if self.definition.blocks_parameter is not None:
                arguments[self.definition.blocks_parameter] = tuple(
                    partial(block.run, run, values) for block in self.blocks
                )
            require_room(self.operation.type, arguments, self.room)
            result = self.definition.function(**arguments)
        except _EVALUATION_ERRORS as error:
            raise PackageError(f"{self.operation} failed: {error}") from error
        return result if isinstance(result, tuple) else (result,)


@dataclass(frozen=True)
class ReadyBlock:
    """One block made ready."""

    block: Block
    constants: Mapping[str, Value]
    steps: tuple[Step, ...]

    def run(
        self, run: Run, around: Mapping[str, Value], arguments: tuple[Value, ...]
    ) -> tuple[Value, ...]:
        """Values of the block's outputs; arguments as in `iterate`."""
        run.blocks_run += 1
        if run.blocks_run > MAX_BLOCKS_RUN:  # loops inside loops multiply
            raise PackageError(f"blocks were run {MAX_BLOCKS_RUN} times without an end")
        steps = self.iterate(run, around, arguments)
        while True:
            try:
                next(steps)
            except StopIteration as end:
                outputs: tuple[Value, ...] = end.value
                return outputs

    def iterate(
        self, run: Run, around: Mapping[str, Value], arguments: tuple[Value, ...]
    ) -> Iteration:
        """Yield each operation with its results as soon as it has run; return the outputs.

        Operations of nested blocks are not yielded.

        Args:
            run: the call it belongs to.
            around: values the block can see.
            arguments: values of its inputs, in order.

        Raises:
            PackageError: an operation fails, or a value is not what is declared for it.
        """
        if len(arguments) != len(self.block.inputs):
            raise PackageError(
                f"a block takes {len(self.block.inputs)} values, {len(arguments)} are given"
            )
        values = {**around, **self.constants}
        run.kept.update({n: v for n, v in self.constants.items() if n in run.wanted})
        for (name, spec), value in zip(self.block.inputs, arguments, strict=True):
            check_value(f"block input '{name}'", spec, value)
            values[name] = value
        for step in self.steps:
            results = step.run(values, run)
            for (name, _), result in zip(step.operation.outputs, results, strict=True):
                values[name] = result
                if name in run.wanted:
                    run.kept[name] = result
            yield step.operation, results
            for name in step.dead:
                values.pop(name, None)
        return tuple(values[name] for name in self.block.outputs)


class Preparer:
    """Makes the blocks of one function ready."""

    def __init__(self, package: Package, opset: int, numerics: Numerics) -> None:
        """`opset` is the function's iOS version."""
        self.package, self.opset = package, opset
        self.folding = Run(numerics)

    def block(self, block: Block, visible: Mapping[str, Value]) -> ReadyBlock:
        """Decode the constants of a block and bind its operations.

        Args:
            block: as parsed.
            visible: constants around it.

        Raises:
            PackageError: a constant is corrupt, or an operation's arguments do not fit its entry
                in the operator table.
        """
        own: dict[str, Value] = {}
        known = dict(visible)
        steps: list[Step] = []
        last_read = _last_reads(block)
        for operation in block.operations:
            if operation.type == "const":
                name, value = self._constant(operation)
                own[name] = known[name] = value
                continue
            step = self._bind(operation, known, _dead(operation, last_read, block.outputs))
            if operation.type.startswith(_FOLDED) and not step.dynamic:
                for (name, _), value in zip(
                    operation.outputs, step.run({}, self.folding), strict=True
                ):
                    own[name] = known[name] = value
            else:
                steps.append(step)
        return ReadyBlock(block, own, tuple(steps))

    def _constant(self, operation: Operation) -> tuple[str, Value]:
        attributes = operation.proto.attributes
        if "val" not in attributes or len(operation.outputs) != 1:
            raise PackageError(f"{operation}: a constant needs one output and the attribute 'val'")
        value = decode_value(attributes["val"], self.package.read_blob, str(operation))
        name, spec = operation.outputs[0]
        check_value(f"{operation}: '{name}'", spec, value)
        return name, value

    def _bind(
        self, operation: Operation, known: Mapping[str, Value], dead: tuple[str, ...]
    ) -> Step:
        definition = OPS[operation.type]
        bound, immediates = self._bindings(operation)
        constants = {**known, **immediates} if immediates else known
        fixed: dict[str, Any] = {}
        dynamic: list[tuple[Parameter, tuple[str, ...]]] = []
        for key, names in bound.items():
            parameter = _parameter(operation, definition, key)
            if not parameter.variadic and len(names) != 1:
                raise PackageError(f"{operation}: '{key}' takes one value, {len(names)} are bound")
            if all(n in constants for n in names):
                fixed[key] = _convert(operation, parameter, tuple(constants[n] for n in names))
            elif immediates.keys() & set(names):
                raise PackageError(f"{operation}: '{key}' mixes immediate values with names")
            else:
                dynamic.append((parameter, names))
        for parameter in definition.parameters.values():
            if parameter.required and parameter.name not in bound:
                raise PackageError(f"{operation}: the required '{parameter.name}' is not bound")
        if definition.opset_parameter is not None:
            fixed[definition.opset_parameter] = self.opset
        blocks = self._blocks(operation, definition, known)
        return Step(operation, definition, fixed, tuple(dynamic), blocks, dead)

    def _blocks(
        self, operation: Operation, definition: OpDefinition, known: Mapping[str, Value]
    ) -> tuple[ReadyBlock, ...]:
        if (definition.blocks_parameter is not None) != bool(operation.blocks):
            raise PackageError(f"{operation} has {len(operation.blocks)} nested blocks")
        return tuple(self.block(block, known) for block in operation.blocks)

    def _bindings(
        self, operation: Operation
    ) -> tuple[dict[str, tuple[str, ...]], dict[str, Value]]:
        """Names of the values bound to each parameter; immediates get names of their own."""
        bound: dict[str, tuple[str, ...]] = {}
        immediates: dict[str, Value] = {}
        read = self.package.read_blob
        for key, argument in operation.proto.inputs.items():
            names = list(operation.inputs[key])
            for i, binding in enumerate(argument.arguments):
                if not names[i]:
                    names[i] = f"{operation.position}:{key}:{i}"
                    where = f"{operation}, '{key}'"
                    immediates[names[i]] = decode_value(binding.value, read, where)
            bound[key] = tuple(names)
        for key, value in operation.proto.attributes.items():
            if key == "name":
                continue
            if key in bound:
                raise PackageError(f"{operation}: '{key}' is both an input and an attribute")
            name = f"{operation.position}:{key}"
            immediates[name] = decode_value(value, read, f"{operation}, attribute '{key}'")
            bound[key] = (name,)
        return bound, immediates


def _last_reads(block: Block) -> dict[str, Operation]:
    return {name: operation for operation in block.operations for name in names_read(operation)}


def _dead(
    operation: Operation, last_read: Mapping[str, Operation], outputs: tuple[str, ...]
) -> tuple[str, ...]:
    """Values read here for the last time, and results nobody reads."""
    read = {n for n in names_read(operation) if last_read[n] is operation}
    unread = {n for n, _ in operation.outputs if n not in last_read}
    return tuple(sorted((read | unread) - set(outputs)))


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


def _check_results(operation: Operation, results: tuple[Value, ...]) -> None:
    if len(results) != len(operation.outputs):
        raise PackageError(
            f"{operation} declares {len(operation.outputs)} results but gave {len(results)}"
        )
    for (name, spec), result in zip(operation.outputs, results, strict=True):
        check_value(f"{operation}: '{name}'", spec, result)


def check_value(where: str, spec: ValueSpec, value: Value) -> None:
    """Compare a value with its declaration; raises `PackageError` when they differ."""
    if not isinstance(spec, TensorSpec):
        if isinstance(value, Tensor):
            raise PackageError(f"{where} is declared a {spec} but is a tensor")
        return
    if not isinstance(value, Tensor):
        found = type(value).__name__
    elif value.dtype == spec.carrier and spec.admits_shape(tuple(value.shape)):
        return
    else:
        found = f"{str(value.dtype).removeprefix('torch.')}{list(value.shape)}"
    raise PackageError(f"{where} is declared {spec} but is {found}")
