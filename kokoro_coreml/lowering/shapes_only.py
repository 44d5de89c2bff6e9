"""Running a module for the shapes of its results, without computing them.

A hollow tensor is an ordinary CPU tensor over an empty storage: it has a shape, strides and a
type, but no values. `ShapesOnly` sends every operator that takes one to PyTorch's meta device,
which works out shapes alone, and makes each result hollow again. What depends on parameters and
constants alone is computed as ever.

The module and its parameters stay where they are, so a trace made meanwhile records what it would
have recorded of tensors with values.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map

_UNRECORDED = torch.ops.aten.convolution.default
"""The tracer records the `aten::_convolution` it is made of, as `DONT_RECORD_TRACE` of PyTorch's
tools/autograd/gen_trace_type.py has it. Other operators are recorded before they come here."""
_COMPOSITE = torch._C.DispatchKey.CompositeExplicitAutograd
_TRACER = "Tracer"


class ValuesNeededError(RuntimeError):
    """An operator wants values where there are only shapes."""


def is_hollow(value: Any) -> bool:
    """Whether this is a tensor that has elements but no values."""
    if not isinstance(value, Tensor) or value.is_meta:
        return False
    # not `numel`, which the tracer would record
    return value.nbytes > 0 and value.untyped_storage().data_ptr() == 0


class ShapesOnly(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """While entered, every operator that takes a hollow tensor gives hollow tensors.

    Raises:
        ValuesNeededError: an operator turns values into a number or writes into a tensor.
        NotImplementedError: PyTorch cannot tell the shape of an operator's result from shapes.
    """

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self._storage = torch.UntypedStorage(0)  # type: ignore[no-untyped-call]
        self._largest = 0

    def __exit__(self, failure: Any, *rest: Any) -> None:
        """On failure, give hollow tensors memory, untouched: to show one would crash a debugger."""
        super().__exit__(failure, *rest)  # type: ignore[no-untyped-call]
        if failure is not None:
            self._storage.resize_(self._largest)

    def hollow(self, like: Tensor) -> Tensor:
        """A tensor of the same shape, strides and type, but without values; all share a storage."""
        tensor = torch.empty(0, dtype=like.dtype, device="cpu")
        tensor.set_(self._storage, 0, like.shape, like.stride())
        self._largest = max(self._largest, self._storage.nbytes())
        self._storage.resize_(0)  # nothing was written to it, so it has cost no memory
        return tensor

    def __torch_dispatch__(
        self,
        func: Any,
        types: Any,
        args: tuple[Any, ...] = (),
        kwargs: Mapping[str, Any] | None = None,
    ) -> Any:
        kwargs = kwargs or {}
        tracing = torch._C._is_tracing()
        if tracing and func is _UNRECORDED:
            with self, _recording():
                return func._op_dk(_COMPOSITE, *args, **kwargs)
        if not any(map(is_hollow, tree_leaves((args, kwargs)))) or (tracing and func.is_view):
            return func(*args, **kwargs)
        if tracing or func._schema.is_mutable:
            raise ValuesNeededError(
                f"{func} reads values or writes them, and there are only shapes"
            )
        return self._on_meta(func, args, kwargs)

    def _on_meta(self, func: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
        twins: list[tuple[Tensor, Tensor]] = []

        def to_meta(value: Any) -> Any:
            if isinstance(value, torch.device):
                return torch.device("meta")
            if not isinstance(value, Tensor):
                return value
            twin = torch.empty_strided(
                value.shape, value.stride(), dtype=value.dtype, device="meta"
            )
            twins.append((twin, value))
            return twin

        def from_meta(value: Any) -> Any:
            if not isinstance(value, Tensor):
                return value
            # an operator that hands back its own argument must do so here too: tracing tells by it
            same = [original for twin, original in twins if twin is value]
            return same[0] if same else self.hollow(value)

        args, kwargs = tree_map(to_meta, (args, dict(kwargs)))
        return tree_map(from_meta, func(*args, **kwargs))


@contextmanager
def _recording() -> Iterator[None]:
    """Let the tracer see what is called inside `__torch_dispatch__`."""
    torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, False)
    try:
        yield
    finally:
        torch._C._dispatch_tls_set_dispatch_key_excluded(_TRACER, True)
