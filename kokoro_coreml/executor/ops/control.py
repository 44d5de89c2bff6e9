"""Control flow, states and lists.

Source: MIL operation documentation, iOS 15 `control_flow` and iOS 18 `states`; the pair
`write_state`, `read_state` is what coremltools' backend writes for `coreml_update_state`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from kokoro_coreml.executor.ops.registry import Blocks, Value, Values, op
from kokoro_coreml.executor.types import BY_NAME, MAX_ELEMENTS

MAX_ITERATIONS = 1_000_000
"""Of one loop; a program that passes it is taken not to end."""

MAX_LIST = 1_000_000
"""Elements of one list."""


@dataclass
class StateBuffer:
    """The tensor behind one state input; `write_state` replaces it."""

    value: Tensor


@dataclass(frozen=True)
class TensorList:
    """An immutable list of tensors of one shape; None is an element not written yet."""

    items: tuple[Tensor | None, ...]
    element_shape: tuple[int | None, ...]
    dtype: torch.dtype
    dynamic: bool


@op("cond")
def cond(pred: bool, blocks: Blocks) -> tuple[Any, ...]:
    """The results of the first block if `pred`, else of the second; the other one is not run."""
    chosen, other = blocks
    return (chosen if pred else other)(())


@op("while_loop")
def while_loop(loop_vars: Values, blocks: Blocks) -> tuple[Any, ...]:
    """Feed `loop_vars` through the second block for as long as the first one says true."""
    condition, body = blocks
    values: tuple[Any, ...] = tuple(loop_vars)
    for _ in range(MAX_ITERATIONS):
        (go_on,) = condition(values)
        if not bool(go_on.item()):
            return values
        values = body(values)
    raise ValueError(f"the loop did not end within {MAX_ITERATIONS} iterations")


@op("read_state")
def read_state(input: Value) -> Tensor:
    """A copy of what the state holds."""
    return _state(input).value.clone()


@op("write_state")
def write_state(input: Value, data: Tensor) -> tuple[()]:
    """Put `data` into the state; has no result."""
    state = _state(input)
    if state.value.shape != data.shape or state.value.dtype != data.dtype:
        raise ValueError(
            f"the state holds {_describe(state.value)}, {_describe(data)} was to be written"
        )
    state.value = data.clone()
    return ()


@op("make_list")
def make_list(
    elem_shape: Values,
    init_length: int = 1,
    dynamic_length: bool = True,
    dtype: str = "fp32",
) -> TensorList:
    """A list of `init_length` elements not written yet; a string in `elem_shape` leaves it open."""
    if dtype not in BY_NAME:
        raise ValueError(f"element type {dtype!r} is unknown")
    _require_length(init_length)
    shape = tuple(None if isinstance(d, str) else int(d.item()) for d in _sizes(elem_shape))
    return TensorList((None,) * init_length, shape, BY_NAME[dtype].carrier, dynamic_length)


@op("list_length")
def list_length(ls: Value) -> Tensor:
    """Number of elements, int32."""
    return torch.tensor(len(_list(ls).items), dtype=torch.int32)


@op("list_write")
def list_write(ls: Value, index: int, value: Tensor) -> TensorList:
    """The list with `value` at `index`; a dynamic list grows to hold it."""
    return _written(_list(ls), [index], [value])


@op("list_read")
def list_read(ls: Value, index: int) -> Tensor:
    """The element at `index`; one not written yet is an error."""
    return _element(_list(ls), index)


@op("list_gather")
def list_gather(ls: Value, indices: Tensor) -> Tensor:
    """The elements at `indices` along a new first axis."""
    return torch.stack([_element(_list(ls), int(i)) for i in indices.reshape(-1)])


@op("list_scatter")
def list_scatter(ls: Value, indices: Tensor, value: Tensor) -> TensorList:
    """The list with the rows of `value` at `indices`; a dynamic list grows to hold them."""
    places = [int(i) for i in indices.reshape(-1)]
    if len(places) != value.shape[0]:
        raise ValueError(f"{value.shape[0]} values cannot be written to {len(places)} places")
    return _written(_list(ls), places, list(value))


def _written(ls: TensorList, places: list[int], values: list[Tensor]) -> TensorList:
    size = max([len(ls.items), *(p + 1 for p in places)])
    if min(places, default=0) < 0 or (size > len(ls.items) and not ls.dynamic):
        raise ValueError(f"index {places} is outside a list of {len(ls.items)} elements")
    _require_length(size)
    items = [*ls.items, *[None] * (size - len(ls.items))]
    for place, value in zip(places, values, strict=True):
        _require_element(ls, value)
        items[place] = value
    return TensorList(tuple(items), ls.element_shape, ls.dtype, ls.dynamic)


def _element(ls: TensorList, index: int) -> Tensor:
    if not 0 <= index < len(ls.items):
        raise ValueError(f"index {index} is outside a list of {len(ls.items)} elements")
    item = ls.items[index]
    if item is None:
        raise ValueError(f"element {index} of the list was not written yet")
    return item


def _require_element(ls: TensorList, value: Tensor) -> None:
    fits = len(value.shape) == len(ls.element_shape) and all(
        declared in (None, found)
        for declared, found in zip(ls.element_shape, value.shape, strict=True)
    )
    if value.dtype != ls.dtype or not fits:
        raise ValueError(
            f"the list holds {ls.dtype} {list(ls.element_shape)}, {_describe(value)} was written"
        )


def _require_length(size: int) -> None:
    if not 0 <= size <= min(MAX_LIST, MAX_ELEMENTS):
        raise ValueError(f"a list of {size} elements; at most {MAX_LIST} are allowed")


def _sizes(values: Values) -> tuple[Any, ...]:
    """`elem_shape` comes as a tuple of scalars, or as one tensor of rank 1."""
    if len(values) == 1 and isinstance(values[0], Tensor) and values[0].ndim == 1:
        return tuple(values[0])
    return tuple(values)


def _list(value: Any) -> TensorList:
    if not isinstance(value, TensorList):
        raise TypeError(f"a list is expected, found {type(value).__name__}")
    return value


def _state(value: Any) -> StateBuffer:
    if not isinstance(value, StateBuffer):
        raise TypeError(f"a state is expected, found {type(value).__name__}")
    return value


def _describe(x: Tensor) -> str:
    return f"{str(x.dtype).removeprefix('torch.')}{list(x.shape)}"
