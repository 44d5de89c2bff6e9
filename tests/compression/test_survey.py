"""The survey of an uncompressed package finds what lowering compresses, and predicts its size."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
import torch
from coremltools.converters.mil import Builder as mb

from kokoro_coreml.compression import Opset, Scheme, named_by
from kokoro_coreml.compression.measured import parameter_axis
from kokoro_coreml.compression.survey import OPERATION_BYTES, Stored, Surveyed, survey
from kokoro_coreml.executor.package import BLOB_ALIGNMENT
from tests.lowering.test_compress import COMPRESSED, TOKENS, Net, convert

SCHEMES = ("palette4", "palette6", "palette8", "palette3", "int8")


@pytest.fixture(scope="module")
def net() -> Net:
    torch.manual_seed(0)
    return Net().eval()


@pytest.fixture(scope="module")
def traced(net: Net) -> torch.jit.ScriptModule:
    with torch.inference_mode():
        return torch.jit.trace(net, torch.zeros(1, TOKENS, dtype=torch.int32))


def weight_file(package: Path) -> Path:
    return package / "Data/com.apple.CoreML/weights/weight.bin"


def program_bytes(package: Path) -> int:
    files = [p for p in package.rglob("*") if p.is_file()]
    return sum(p.stat().st_size for p in files) - weight_file(package).stat().st_size


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_it_finds_the_weights_that_lowering_compresses(
    net: Net, traced: torch.jit.ScriptModule, dtype: str, tmp_path: Path
) -> None:
    met: list[tuple[str, np.ndarray, int]] = []

    def record(name: str, value: np.ndarray, axis: int, _opset: Opset) -> None:
        met.append((name, value, axis))

    convert(traced, tmp_path / "a.mlpackage", 18, dtype, record)
    found = survey(tmp_path / "a.mlpackage", "Stage", lambda name, _value: name).weights
    assert [(w.path, w.values.dtype, w.axis) for w in found] == [
        (name.replace(".", "_"), np.dtype(dtype), axis) for name, _, axis in met
    ]
    for weight, (_, value, _) in zip(found, met, strict=True):
        assert np.array_equal(weight.values, value)
    named = survey(
        tmp_path / "a.mlpackage", "Stage", named_by(dict(net.named_parameters()))
    ).weights
    assert {w.path for w in named} == set(COMPRESSED)


@pytest.mark.parametrize("dtype", ["float16", "float32"])
def test_predicted_sizes_are_those_of_the_compressed_package(
    net: Net, traced: torch.jit.ScriptModule, dtype: str, tmp_path: Path
) -> None:
    name_of = named_by(dict(net.named_parameters()))
    before, after = tmp_path / "before.mlpackage", tmp_path / "after.mlpackage"
    convert(traced, before, 18, dtype, None)
    found = survey(before, "Stage", name_of)
    chosen = {
        w.path: Scheme.parse(SCHEMES[i % len(SCHEMES)]) if i else None
        for i, w in enumerate(found.weights)
    }
    convert(
        traced, after, 18, dtype, lambda name, value, _axis, _opset: chosen[name_of(name, value)]
    )
    weights = sum(w.size(chosen[w.path], "iOS18") for w in found.weights)
    # the last blob is not filled up
    found_bytes = weight_file(after).stat().st_size
    assert 0 <= BLOB_ALIGNMENT + found.small_bytes + weights - found_bytes < BLOB_ALIGNMENT
    assert sum(found.small.values()) <= found.small_bytes
    assert found.program_bytes == program_bytes(before)
    growth = program_bytes(after) - found.program_bytes
    assert 0 < growth <= OPERATION_BYTES * sum(s is not None for s in chosen.values())


@pytest.mark.parametrize(
    ("shape", "transpose", "axis"), [((64, 48), False, 1), ((48, 64), True, 0)]
)
def test_the_axis_of_a_matrix_that_the_product_transposes(
    shape: tuple[int, int], transpose: bool, axis: int, tmp_path: Path
) -> None:
    matrix = np.random.default_rng(0).normal(size=shape).astype(np.float32)

    @mb.program(input_specs=[mb.TensorSpec((1, 8, 64))], opset_version=ct.target.iOS18)
    def program(x: Any) -> Any:
        return mb.matmul(x=x, y=matrix, transpose_y=transpose)

    model = ct.convert(
        program,
        convert_to="mlprogram",
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(tmp_path / "a.mlpackage"))
    (found,) = survey(tmp_path / "a.mlpackage", "Stage", lambda name, _value: name).weights
    assert found.values.shape == shape
    assert found.axis == axis


def stored(values: np.ndarray, axis: int) -> Stored:
    return Stored("Stage", "path", values, axis)


@pytest.mark.parametrize(
    ("stored_shape", "axis", "order", "shape", "expected"),
    [
        ((6, 4, 1, 3), 0, (0, 1, 2, 3), (6, 4, 3), 0),
        ((6, 4, 1, 3), 1, (0, 1, 2, 3), (6, 4, 3), 1),
        ((4, 6, 1, 1), 0, (1, 0, 2, 3), (6, 4), 1),
        ((5, 5), 0, (1, 0), (5, 5), 1),
        ((5, 5), 0, (0, 1), (5, 5), 0),
        ((6, 4), 0, (0, 1), (24,), None),
    ],
)
def test_the_axis_of_a_parameter_that_is_stored_otherwise(
    stored_shape: tuple[int, ...],
    axis: int,
    order: tuple[int, ...],
    shape: tuple[int, ...],
    expected: int | None,
) -> None:
    values = np.random.default_rng(0).normal(size=stored_shape).astype(np.float32)
    parameter = values.transpose(order).reshape(shape)
    assert parameter_axis(stored(values, axis), parameter) == expected


def test_a_package_without_weights_is_surveyed(tmp_path: Path) -> None:
    class Plain(torch.nn.Module):
        def forward(self, ids: torch.Tensor) -> torch.Tensor:
            return ids.float() * 2.0

    traced = torch.jit.trace(Plain(), torch.zeros(1, TOKENS, dtype=torch.int32))
    convert(traced, tmp_path / "plain.mlpackage", 18, "float32", None)
    found = survey(tmp_path / "plain.mlpackage", "Stage", lambda name, _value: name)
    assert found == Surveyed((), found.program_bytes, {}, 0)
