"""Tracing a stage with `torch.jit.trace`, without computing anything."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from kokoro_coreml.errors import ConversionError
from kokoro_coreml.lowering.shapes_only import ShapesOnly, is_hollow
from kokoro_coreml.stages.types import Stage


def trace(stage: Stage) -> torch.jit.ScriptModule:
    """Trace a stage; `torch.jit.trace` keeps LSTMs whole.

    A trace of a module of fixed shape depends on shapes alone, so the inputs have no values and
    nothing is computed of them (`shapes_only`): a bucket of a minute costs what one of a second
    does. The traced module holds the module's own parameters and buffers.

    Raises:
        ConversionError: the module cannot be traced, or not without values.
    """
    shapes = ShapesOnly()
    with torch.device("meta"):
        examples = [port.example() for port in stage.inputs]
    # not inference mode, which hands convolutions on before they are taken apart
    with torch.inference_mode(False), torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            with shapes, Numbered():
                inputs = tuple(map(shapes.hollow, examples))
                traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                    stage.module, inputs, check_trace=False, strict=True
                )
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConversionError(f"{stage}: tracing failed: {error}") from error
    assert isinstance(traced, torch.jit.ScriptModule)
    _require_values(stage, traced)
    return traced


class Numbered(TorchFunctionMode):
    """While entered, the tracer numbers values instead of naming them after local variables.

    A local variable may be called what an output is called, and a package gives that name to the
    output alone. The tracer looks for the variable in the frame that called PyTorch: this one.
    """

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        return func(*args, **(kwargs or {}))


def _require_values(stage: Stage, traced: torch.jit.ScriptModule) -> None:
    """Refuse a trace that took something computed from the inputs for a constant."""
    graph = traced.inlined_graph  # owns its nodes
    for node in graph.findAllNodes("prim::Constant"):  # type: ignore[attr-defined]
        if any(map(is_hollow, tree_leaves(node.output().toIValue()))):
            raise ConversionError(
                f"{stage}: tracing failed: what was computed at {node.sourceRange()} was taken "
                "for a constant; it must come from the inputs by operators that are traced"
            )
