"""Running a traced module node by node, so that every inner value can be seen by name.

coremltools names the operations of a package after the nodes of the graph that it makes of the
trace; the same graph is made here, by its own function, and interpreted. A value can so be put
beside the operation that claims to compute it.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from kokoro_coreml.errors import ParityError

_ROOT = "__module"


@dataclass(frozen=True)
class _Node:
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    scope: str
    call: Callable[..., Any]
    dead: tuple[str, ...]
    """Values no later node reads."""


class TracedGraph:
    """The graph of a trace with its parameters, ready to be run many times."""

    def __init__(
        self, traced: torch.jit.ScriptModule, module: nn.Module, outputs: Sequence[str] = ()
    ) -> None:
        """Read a trace.

        Args:
            traced: from `lowering.trace`.
            module: what was traced; says the class behind each path.
            outputs: names the package gives to the results, in order.

        Raises:
            ParityError: the graph holds a node that cannot be interpreted.
        """
        from coremltools.converters.mil.frontend.torch.torchscript_utils import (
            _expand_and_optimize_ir,
        )

        graph, self._parameters, _ = _expand_and_optimize_ir(traced)
        self._inputs = [value.debugName() for value in list(graph.inputs())[1:]]
        self._classes = {path: type(child).__name__ for path, child in module.named_modules()}
        nodes = [n for n in graph.nodes() if n.kind() != "prim::GetAttr"]
        self._names = _output_names(graph, outputs)
        last = {v.debugName(): i for i, n in enumerate(nodes) for v in n.inputs()}
        self._nodes = [_node(n, i, last) for i, n in enumerate(nodes)]

    def modules(self) -> dict[str, str]:
        """Package name of each value to path and class of the module that computes it."""
        return {
            name: self._label(node)
            for node in self._nodes
            for output in node.outputs
            for name in self._package_names(output)
        }

    def run(self, inputs: Sequence[Tensor]) -> Iterator[tuple[str, Tensor]]:
        """Interpret the graph; yields package name and value of every tensor, in order."""
        values: dict[str, Any] = dict(self._parameters)
        values.update(zip(self._inputs, inputs, strict=True))
        for node in self._nodes:
            with torch.inference_mode():
                result = node.call(*(values[name] for name in node.inputs))
            results = result if len(node.outputs) > 1 else (result,)
            for name, value in zip(node.outputs, results, strict=True):
                values[name] = value
                if isinstance(value, Tensor):
                    yield from ((other, value) for other in self._package_names(name))
            for name in node.dead:
                values.pop(name, None)

    def _package_names(self, name: str) -> tuple[str, ...]:
        """A result has its own name in a package, unless something else reads it too."""
        return (package_name(name), *self._names.get(name, ()))

    def _label(self, node: _Node) -> str:
        """The module whose call it stands in, or that owns its weights, whichever is deeper.

        Methods other than `forward` leave no scope of their own in a trace.
        """
        path = node.scope.rsplit("/", 1)[-1].removeprefix(_ROOT).removeprefix(".")
        owners = [n.rpartition(".")[0] for n in node.inputs if n in self._parameters]
        path = max([path, *owners], key=lambda p: p.count(".") + bool(p))
        kind = self._classes.get(path, "")
        return f"{path} ({kind})" if path else kind


def package_name(name: str) -> str:
    """How coremltools writes a TorchScript value's name in a package."""
    clean = re.sub(r"[^a-zA-Z0-9_]", "_", name)
    return f"var_{clean}" if clean[0].isdigit() else clean


def _output_names(graph: Any, outputs: Sequence[str]) -> dict[str, list[str]]:
    values = list(graph.outputs())
    if len(values) == 1 and values[0].node().kind() == "prim::TupleConstruct":
        values = list(values[0].node().inputs())
    names: dict[str, list[str]] = {}
    for value, name in zip(values, outputs, strict=False):
        names.setdefault(value.debugName(), []).append(name)
    return names


def _node(node: Any, index: int, last: Mapping[str, int]) -> _Node:
    inputs = tuple(value.debugName() for value in node.inputs())
    outputs = tuple(value.debugName() for value in node.outputs())
    read = {name for name in inputs if last[name] == index}
    unread = {name for name in outputs if name not in last}
    dead = tuple(sorted(read | unread))
    return _Node(node.kind(), inputs, outputs, node.scopeName(), _call(node), dead)


def _call(node: Any) -> Callable[..., Any]:
    kind = node.kind()
    if kind == "prim::Constant":
        value = node.output().toIValue()
        return lambda: value
    if kind == "prim::ConstantChunk":
        chunks, axis = node.i("chunks"), node.i("dim")
        return lambda x: torch.chunk(x, chunks, axis)
    if kind in _STRUCTURE:
        return _STRUCTURE[kind]
    operation = torch._C._jit_get_operation(kind)[0]
    if operation is None or list(node.blocks()):
        raise ParityError(f"the trace holds {kind}, which cannot be interpreted")
    arguments = torch._C.parse_schema(node.schema()).arguments
    by_name = [a.name if a.kwarg_only else None for a in arguments]

    def call(*values: Any) -> Any:
        named = {n: v for n, v in zip(by_name, values, strict=True) if n is not None}
        plain = [v for n, v in zip(by_name, values, strict=True) if n is None]
        return operation(*plain, **named)

    return call


_STRUCTURE: dict[str, Callable[..., Any]] = {
    "prim::ListConstruct": lambda *items: list(items),
    "prim::TupleConstruct": lambda *items: items,
    "prim::ListUnpack": lambda items: items[0] if len(items) == 1 else items,
    "prim::TupleUnpack": lambda items: items[0] if len(items) == 1 else items,
    "prim::NumToTensor": torch.scalar_tensor,
    "aten::Int": int,
}
