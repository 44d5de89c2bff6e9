"""One operation as rules and arithmetic see it: its node, constants, and numbers by name."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from functools import cached_property

import torch

from kokoro_coreml.executor.ops import OPS
from kokoro_coreml.executor.package import Package
from kokoro_coreml.executor.values import Value
from kokoro_coreml.placement.reading import Node, Tensor, value_of

Fact = Callable[["Operation"], float | None]

FACTS: dict[str, Fact] = {}
"""By the name rules use; `facts` fills it, and each docstring says what the number is."""

CONVOLUTIONS = frozenset({"conv", "conv_quantized", "conv_transpose"})
POOLS = frozenset({"avg_pool", "l2_pool", "max_pool"})


@dataclass(frozen=True, eq=False)
class Operation:
    """A node with what its facts need; facts are worked out once, when asked for.

    Attributes:
        node: the operation, or a stand-in for a program, an input or an output.
        package: to read its constants from.
        given: facts known to the caller, which hold for stand-ins.
    """

    node: Node
    package: Package
    given: Mapping[str, float] = field(default_factory=dict)

    @cached_property
    def facts(self) -> Mapping[str, float | None]:
        """Every fact by its name, worked out when looked up."""
        return _Lookup(self)

    @cached_property
    def moving(self) -> tuple[Tensor, ...]:
        """Operands that are no constants."""
        return tuple(t for t in self.node.operands if not t.folded)

    @cached_property
    def result_elements(self) -> int | None:
        """Elements of the first result; None if there is none, or its shape is open."""
        return elements(self.node.results[0].shape) if self.node.results else None

    def argument(self, name: str) -> Tensor | None:
        """The (first) value bound to a parameter."""
        bound = self.node.arguments.get(name, ())
        return bound[0] if bound else None

    def shape(self, name: str) -> tuple[int | None, ...]:
        """Declared sizes of what is bound to a parameter; empty if nothing is."""
        tensor = self.argument(name)
        return (tensor.shape if tensor is not None else None) or ()

    def constant(self, name: str) -> Value | None:
        """The constant bound to a parameter, or the operator's default where none is bound."""
        tensor = self.argument(name)
        if tensor is not None:
            return value_of(tensor, self.package)
        definition = OPS.get(self.node.type)
        parameter = definition.parameters.get(name) if definition else None
        return parameter.default if parameter is not None and not parameter.required else None

    def number(self, name: str) -> float | None:
        """A constant of one number; None if it is unknown or holds several."""
        value = self.constant(name)
        if isinstance(value, torch.Tensor):
            return float(value) if value.numel() == 1 else None
        return float(value) if isinstance(value, int | float) else None

    def numbers(self, name: str) -> tuple[int, ...] | None:
        """A constant list of whole numbers."""
        value = self.constant(name)
        if isinstance(value, torch.Tensor):
            return tuple(int(v) for v in value.reshape(-1).tolist())
        return tuple(value) if isinstance(value, tuple) else None


class _Lookup(Mapping[str, float | None]):
    def __init__(self, operation: Operation) -> None:
        self._operation = operation
        self._known: dict[str, float | None] = dict(operation.given)

    def __getitem__(self, name: str) -> float | None:
        if name not in self._known:
            self._known[name] = FACTS[name](self._operation)
        return self._known[name]

    def __iter__(self) -> Iterator[str]:
        return iter(FACTS)

    def __len__(self) -> int:
        return len(FACTS)


def fact(function: Fact) -> Fact:
    """Enter a fact under the function's name."""
    FACTS[function.__name__] = function
    return function


def elements(shape: tuple[int | None, ...] | None) -> int | None:
    """Product of sizes; None if one is open or there are none."""
    if shape is None or None in shape:
        return None
    return math.prod(d for d in shape if d is not None)


def kernel(operation: Operation) -> tuple[int, ...] | None:
    """Kernel sizes of a convolution or pooling, without dilation."""
    if operation.node.type in POOLS:
        return operation.numbers("kernel_sizes")
    sizes = operation.shape("weight")[2:]
    known = tuple(d for d in sizes if d is not None)
    return known if operation.node.type in CONVOLUTIONS and len(known) == len(sizes) else None
