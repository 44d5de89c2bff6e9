"""Tracing a stage with `torch.jit.trace`, in a fraction of the memory it takes by itself."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils._pytree import tree_leaves

from kokoro_coreml.errors import ConversionError
from kokoro_coreml.memory import large_blocks_returned
from kokoro_coreml.modules.blocks import AdainResBlk1d, AdaINResBlock1
from kokoro_coreml.stages.types import Stage

SCRATCH_MODULES = (AdaINResBlock1, AdainResBlk1d)
"""Modules whose intermediate tensors make up most of the network's activations."""


def trace(stage: Stage) -> torch.jit.ScriptModule:
    """Trace a stage; `torch.jit.trace` keeps LSTMs whole.

    Inference mode matters: with autograd on, tracing keeps every activation twice. Without it the
    tracer still keeps each one once, 4.5 GB at 400 frames, though nothing reads them again; those
    of the residual blocks are given back as soon as a block has returned.

    Raises:
        ConversionError: the module cannot be traced.
    """
    example = tuple(port.example() for port in stage.inputs)
    quiet = warnings.catch_warnings()
    with large_blocks_returned(), torch.inference_mode(), quiet, _frugal(stage.module):
        warnings.simplefilter("ignore", torch.jit._trace.TracerWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        try:
            traced = torch.jit.trace(  # type: ignore[no-untyped-call]
                stage.module, example, check_trace=False, strict=True
            )
        except (RuntimeError, TypeError, ValueError) as error:
            raise ConversionError(f"{stage}: tracing failed: {error}") from error
    assert isinstance(traced, torch.jit.ScriptModule)
    return traced


class _Scratch(TorchFunctionMode):
    """Collects the tensors made while a module of `SCRATCH_MODULES` runs."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[list[Tensor]] = []

    def __torch_function__(
        self,
        func: Callable[..., Any],
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        result = func(*args, **(kwargs or {}))
        if self.open:
            self.open[-1].extend(_tensors(result))
        return result

    def enter(self, _module: nn.Module, _inputs: Any) -> None:
        self.open.append([])

    def leave(self, module: nn.Module, inputs: Any, output: Any) -> None:
        kept = {_address(t) for t in (*_tensors(inputs), *_tensors(output), *module.parameters())}
        for tensor in self.open.pop():
            if _address(tensor) not in kept:
                tensor.untyped_storage().resize_(0)


@contextmanager
def _frugal(module: nn.Module) -> Iterator[None]:
    scratch = _Scratch()
    hooks = []
    for child in module.modules():
        if isinstance(child, SCRATCH_MODULES):
            hooks.append(child.register_forward_pre_hook(scratch.enter))
            hooks.append(child.register_forward_hook(scratch.leave))
    try:
        with scratch:
            yield
    finally:
        for hook in hooks:
            hook.remove()


def _tensors(value: Any) -> list[Tensor]:
    return [leaf for leaf in tree_leaves(value) if isinstance(leaf, Tensor)]


def _address(tensor: Tensor) -> int:
    return tensor.untyped_storage().data_ptr()
