"""Hollow tensors go through operators as tensors with values would, and nothing is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch.utils._pytree import tree_leaves

from kokoro_coreml.lowering.shapes_only import ShapesOnly, ValuesNeededError, is_hollow

WEIGHT = torch.ones(5, 4, 3)
LSTM = torch.nn.LSTM(4, 3, batch_first=True, bidirectional=True).requires_grad_(False)

OPERATORS: dict[str, Callable[[Tensor], Any]] = {
    "number": lambda x: x * 2.5 + 1,
    "constant": lambda x: x + torch.arange(4),
    "constant of one value": lambda x: x * torch.tensor(2.0, dtype=torch.float64),
    "comparison": lambda x: x > 0,
    "integer": lambda x: x.to(torch.int32) + 0.5,
    "views": lambda x: x.transpose(1, 2)[..., :1].unsqueeze(0).expand(2, -1, -1, -1),
    "reshape": lambda x: x.transpose(1, 2).reshape(-1),
    "split": lambda x: x.chunk(2, dim=-1),
    "sum": lambda x: x.sum(dim=(0, 2), keepdim=True),
    "softmax": lambda x: torch.softmax(x, dim=-1),
    "matmul": lambda x: x @ x.transpose(1, 2),
    "linear": lambda x: F.linear(x, WEIGHT[:, :, 0]),
    "conv1d": lambda x: F.conv1d(x.transpose(1, 2), WEIGHT, padding=1),
    "conv_transpose1d": lambda x: F.conv_transpose1d(x, torch.ones(x.shape[1], 2, 3), stride=2),
    "layer_norm": lambda x: F.layer_norm(x, (4,)),
    "lstm": lambda x: LSTM(x)[0],
    "interpolate": lambda x: F.interpolate(x, scale_factor=3.0, mode="linear"),
    "pad": lambda x: F.pad(x, (1, 2)),
    "cumsum": lambda x: torch.cumsum(x, dim=1),
    "like": lambda x: (torch.zeros_like(x), x.new_ones(3, device="cpu"), torch.ones_like(x)),
    "device": lambda x: x.to("cpu", torch.float64),
    "embedding": lambda x: F.embedding(x.to(torch.int64), torch.ones(7, 2)),
    "stack": lambda x: torch.stack([x, torch.ones_like(x)], dim=-1),
}


@pytest.fixture
def shapes() -> Iterator[ShapesOnly]:
    with torch.no_grad(), ShapesOnly() as mode:
        yield mode


@pytest.mark.parametrize("name", OPERATORS)
@given(shape=st.tuples(st.integers(1, 3), st.integers(1, 6), st.just(4)))
def test_results_have_the_shape_and_type_they_would_have(name: str, shape: tuple[int, ...]) -> None:
    values = torch.zeros(shape)
    with torch.no_grad():
        expected = tree_leaves(OPERATORS[name](values))
        with ShapesOnly() as shapes:
            found = tree_leaves(OPERATORS[name](shapes.hollow(values)))
    assert all(map(is_hollow, found))
    assert [(t.shape, t.dtype, t.device) for t in found] == [
        (t.shape, t.dtype, t.device) for t in expected
    ]


@given(
    dtype=st.sampled_from([torch.int32, torch.int64, torch.float32, torch.bool]),
    number=st.sampled_from([2, 2.5, True]),
)
def test_numbers_promote_types_as_they_would(dtype: torch.dtype, number: float) -> None:
    values = torch.ones(2, 3, dtype=dtype)
    with ShapesOnly() as shapes:
        assert (shapes.hollow(values) * number).dtype == (values * number).dtype


def test_what_has_values_keeps_them(shapes: ShapesOnly) -> None:
    ramp = torch.arange(5.0) * 2
    assert ramp.tolist() == [0, 2, 4, 6, 8]
    assert not is_hollow(ramp)
    assert not is_hollow(torch.zeros(0, 3))


def test_an_argument_that_is_handed_back_is_the_same_tensor(shapes: ShapesOnly) -> None:
    x = shapes.hollow(torch.ones(3))
    handed_back = torch.ops.aten.lift_fresh(x) is x
    assert handed_back


def test_values_cannot_be_read(shapes: ShapesOnly) -> None:
    x = shapes.hollow(torch.ones(1))
    with pytest.raises(RuntimeError):
        x.item()
    with pytest.raises(RuntimeError):
        (x + 1).tolist()


def test_a_hollow_tensor_can_be_shown_after_a_failure() -> None:
    shapes = ShapesOnly()
    x = shapes.hollow(torch.ones(2, 3))
    with pytest.raises(NotImplementedError), shapes:
        (x + 1).nonzero()
    assert repr(x).startswith("tensor")


def test_writing_into_a_tensor_is_refused(shapes: ShapesOnly) -> None:
    kept = torch.zeros(3)
    with pytest.raises(ValuesNeededError, match="add_"):
        kept += shapes.hollow(torch.ones(3))
    assert kept.tolist() == [0, 0, 0]


def test_an_operator_without_a_shape_function_is_refused() -> None:
    with torch.library._scoped_library("kokoro_test", "DEF") as library:
        library.define("opaque(Tensor x) -> Tensor")
        library.impl("opaque", lambda x: x.clone(), "CPU")
        with ShapesOnly() as shapes, pytest.raises(NotImplementedError, match="opaque"):
            torch.ops.kokoro_test.opaque(shapes.hollow(torch.ones(3)))


def test_no_kernel_runs_on_the_cpu() -> None:
    def never(x: Tensor) -> Tensor:
        raise AssertionError("computed")

    with torch.library._scoped_library("kokoro_test", "DEF") as library:
        library.define("costly(Tensor x) -> Tensor")
        library.impl("costly", never, "CPU")
        library.impl("costly", torch.empty_like, "Meta")
        with ShapesOnly() as shapes:
            result = torch.ops.kokoro_test.costly(shapes.hollow(torch.ones(3, 2)))
    assert is_hollow(result)
    assert result.shape == (3, 2)
