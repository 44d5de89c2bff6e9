"""The corrections hold for every form and value, and nowhere outside their scope."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from coremltools.converters.mil.frontend.torch.torch_op_registry import _TORCH_OPS_REGISTRY
from hypothesis import given, settings
from hypothesis import strategies as st

from kokoro_coreml.executor import Program
from kokoro_coreml.lowering.corrections import CORRECTIONS, corrected, correction
from kokoro_coreml.lowering.ledger import save_expression

BATCH = 64
ULPS = 4
"""Largest distance from PyTorch's atan2, in units of the result's last place."""

POINTS = np.array([-2.5, -1.0, -0.25, 0.001, 0.3, 1.0, 7.75, 100.3], dtype=np.float32)
COUNTS = np.array([-7, -4, -1, 1, 2, 4, 9, 1000], dtype=np.int32)

REMAINDER_ROUNDING = 1e-5
"""x - floor(x / y) * y rounds at the size of x, up to 100 here; PyTorch does not."""

finite = st.floats(width=32, allow_nan=False, allow_infinity=False)
special = st.sampled_from([0.0, -0.0, 1.0, -1.0, 0.5, 1e-30, -1e-30, 1e30, -1e30, 3e-39])
values = st.lists(finite | special, min_size=BATCH, max_size=BATCH).map(
    lambda drawn: np.array(drawn, dtype=np.float32)
)
properties = settings(max_examples=60, deadline=None, derandomize=True)


@pytest.fixture(scope="module")
def package(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, int], Program]:
    """Converts an expression over `BATCH` values of x (and y) once."""

    def convert(expression: str, arguments: int) -> Program:
        path = tmp_path_factory.mktemp("correction") / "x.mlpackage"
        inputs = {name: np.ones(BATCH, dtype=np.float32) for name in ("x", "y")[:arguments]}
        save_expression(expression, inputs, path, corrected=True)
        return Program.load(path)

    return convert


@pytest.fixture(scope="module")
def atan2(package: Callable[[str, int], Program]) -> Program:
    return package("torch.atan2(y, x)", 2)


@pytest.fixture(scope="module")
def by_one(package: Callable[[str, int], Program]) -> Program:
    return package("x % 1", 1)


@pytest.fixture(scope="module")
def reciprocal(package: Callable[[str, int], Program]) -> Program:
    return package("1 / x", 1)


def run(program: Program, **inputs: np.ndarray) -> np.ndarray:
    (output,) = program(inputs).values()
    return output


def unsigned_zeros(array: np.ndarray) -> np.ndarray:
    return array + np.float32(0)


@properties
@given(y=values, x=values)
def test_atan2_equals_pytorch_in_all_quadrants(
    atan2: Program, y: np.ndarray, x: np.ndarray
) -> None:
    y, x = unsigned_zeros(y), unsigned_zeros(x)
    true = torch.atan2(torch.from_numpy(y), torch.from_numpy(x)).numpy()
    bound = ULPS * np.maximum(np.spacing(np.abs(true)), np.finfo(np.float32).tiny)
    assert np.all(np.abs(run(atan2, x=x, y=y).astype(np.float64) - true) <= bound)


@properties
@given(x=values)
def test_atan2_is_exact_on_the_axes_and_right_at_ties(atan2: Program, x: np.ndarray) -> None:
    zeros = np.zeros_like(x)
    pi = np.float32(np.pi)
    on_axis = run(atan2, x=x, y=zeros)
    np.testing.assert_array_equal(on_axis, np.where(x < 0, pi, np.float32(0)))
    np.testing.assert_array_equal(run(atan2, x=zeros, y=x), np.sign(x) * (pi / 2))
    diagonal = np.where(x < 0, -3 * pi / 4, np.sign(x) * (pi / 4))
    np.testing.assert_allclose(run(atan2, x=x, y=x), diagonal, rtol=2e-7)


@properties
@given(x=values)
def test_atan2_takes_zeros_as_unsigned(atan2: Program, x: np.ndarray) -> None:
    minus = np.full_like(x, -0.0)
    np.testing.assert_array_equal(run(atan2, x=x, y=minus), run(atan2, x=x, y=-minus))


@properties
@given(x=values)
def test_remainder_by_one_equals_pytorch(by_one: Program, x: np.ndarray) -> None:
    true = torch.remainder(torch.from_numpy(x), 1.0).numpy()
    np.testing.assert_array_equal(run(by_one, x=x), true)


@properties
@given(x=values)
def test_reciprocal_equals_pytorch(reciprocal: Program, x: np.ndarray) -> None:
    true = torch.reciprocal(torch.from_numpy(x)).numpy()
    np.testing.assert_array_equal(run(reciprocal, x=x), true)


@pytest.mark.parametrize(
    "expression",
    [
        "torch.reciprocal(x)",
        "1.0 / x",
        "2 / x",
        "x.__rtruediv__(1.0)",
        "(x * 1).reciprocal_()",
        "x ** -1",
        "x.pow(-1)",
        "torch.true_divide(1.0, x)",
        "torch.ones(8) / x",
        "1 / n",
        "torch.arctan2(x - x, x)",
        "(x - x).atan2_(x)",
        "torch.atan2(n - n, n)",
        "torch.atan2(torch.tensor([[0.0], [-1.0]]), x)",
        "torch.remainder(x, 1.0)",
        "(x * 1).remainder_(1)",
        "x % torch.ones(2, 8)",
        "x % torch.tensor(1.0)",
        "n % 1",
        "n % 3",
        "n % -3",
        "n % 2.5",
        "x % -3",
        "x % 0.1",
        "5 % x",
        "1 - x",
        "torch.rsub(x, 1.0)",
    ],
)
def test_every_form_of_a_corrected_operator_is_right(tmp_path: Path, expression: str) -> None:
    known = {"x": POINTS, "n": COUNTS}
    inputs = {name: known[name] for name in known if re.search(rf"\b{name}\b", expression)}
    tensors = {name: torch.from_numpy(array) for name, array in inputs.items()}
    true = eval(expression, {"torch": torch} | tensors).numpy()
    save_expression(expression, inputs, tmp_path / "x.mlpackage", corrected=True)
    actual = run(Program.load(tmp_path / "x.mlpackage"), **inputs)
    assert actual.shape == true.shape
    np.testing.assert_allclose(actual, true, rtol=5e-7, atol=REMAINDER_ROUNDING)


def test_the_stock_registry_returns_unchanged() -> None:
    before = dict(_TORCH_OPS_REGISTRY.name_to_func_mapping)
    with corrected():
        inside = dict(_TORCH_OPS_REGISTRY.name_to_func_mapping)
    assert before == _TORCH_OPS_REGISTRY.name_to_func_mapping
    replaced = {name for name, function in before.items() if inside[name] is not function}
    assert replaced == {op for operators, _ in CORRECTIONS.values() for op in operators}


def test_the_stock_registry_returns_after_an_exception() -> None:
    mapping = _TORCH_OPS_REGISTRY.name_to_func_mapping
    before = dict(mapping)

    def fail_inside() -> None:
        with corrected():
            mapping["stray"] = mapping["atan2"]
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        fail_inside()
    assert before == _TORCH_OPS_REGISTRY.name_to_func_mapping
    assert _TORCH_OPS_REGISTRY.name_to_func_mapping is mapping


def test_corrections_replace_only_operators_that_coremltools_lowers() -> None:
    known = set(_TORCH_OPS_REGISTRY.name_to_func_mapping)
    assert {op for operators, _ in CORRECTIONS.values() for op in operators} <= known


@pytest.mark.parametrize(
    ("name", "operator"), [("atan2-branch-cut", "sinh"), ("another-name", "atan2")]
)
def test_a_name_or_an_operator_is_registered_once(name: str, operator: str) -> None:
    before = dict(CORRECTIONS)
    with pytest.raises(ValueError, match="registered already"):
        correction(name, operator)(lambda _context, _node: None)
    assert before == CORRECTIONS
