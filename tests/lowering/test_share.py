"""Small constants are written once, and only those that are the same to the last bit."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Any

import coremltools as ct
import numpy as np
import pytest
from coremltools.converters.mil import Builder as mb
from coremltools.converters.mil.mil import Program as Graph
from coremltools.converters.mil.mil import types

from kokoro_coreml.executor import Program
from kokoro_coreml.executor.package import Package
from kokoro_coreml.lowering.share import THRESHOLD, ShareSmallConstants, add_sharing

ZEROS = (np.float32(0.0), np.float32(-0.0), np.float16(0.0), np.int32(0), False)
"""Equal to Python, and not the same constants."""


@mb.program(input_specs=[mb.TensorSpec((1, 3, 4, 8))], opset_version=ct.target.iOS18)  # type: ignore[untyped-decorator]
def _network(x: Any) -> Any:
    rng = np.random.default_rng(0)
    for step in range(3):
        weight = rng.standard_normal((3, 3, 1, 3)).astype(np.float32)
        x = mb.conv(x=x, weight=weight, pad_type="custom", pad=[0, 0, 1, 1], strides=[1, 1])
        x = mb.mul(x=x, y=np.float32(1.5))
        x = mb.reduce_sum(x=x, axes=[3], keep_dims=True) if step == 2 else mb.sin(x=x)
    return x


def _saved(graph: Any, path: Path, *, shared: bool) -> Path:
    pipeline = ct.PassPipeline.EMPTY
    if shared:
        add_sharing(pipeline)
    model = ct.convert(
        graph,
        pass_pipeline=pipeline,
        minimum_deployment_target=ct.target.iOS18,
        compute_precision=ct.precision.FLOAT32,
        skip_model_load=True,
    )
    model.save(str(path))
    return path


def _constants(path: Path) -> Counter[bytes]:
    function = Package.load(path).model.mlProgram.functions["main"]
    (block,) = function.block_specializations.values()
    return Counter(
        operation.outputs[0].type.SerializeToString(deterministic=True)
        + operation.attributes["val"].SerializeToString(deterministic=True)
        for operation in block.operations
        if operation.type == "const"
    )


def test_each_constant_stands_once_and_the_result_is_the_same(tmp_path: Path) -> None:
    plain = _saved(_network, tmp_path / "plain.mlpackage", shared=False)
    shared = _saved(_network, tmp_path / "shared.mlpackage", shared=True)
    before, after = _constants(plain), _constants(shared)
    assert max(before.values()) >= 3
    assert set(after) == set(before)
    assert set(after.values()) == {1}
    x = np.random.default_rng(1).standard_normal((1, 3, 4, 8)).astype(np.float32)
    (expected,) = Program.load(plain)({"x": x}).values()
    (found,) = Program.load(shared)({"x": x}).values()
    assert np.array_equal(found, expected)


def _with_constants(values: list[Any]) -> tuple[Any, list[Any]]:
    """A program of constants alone, and what each operation that took one takes after the pass."""
    graph = Graph()
    with _function(graph) as function:
        consts = [mb.const(val=value) for value in values]
        users = [mb.identity(x=const) for const in consts]
        function.set_outputs(users)
    ShareSmallConstants().apply(graph)
    return graph, [user.op.inputs["x"] for user in users]


def _function(graph: Any) -> Any:
    from coremltools.converters.mil.mil import Function

    function = Function({"x": mb.placeholder(shape=(1,), dtype=types.fp32)}, ct.target.iOS18)
    graph.add_function("main", function)
    return function


@pytest.mark.parametrize("value", [*ZEROS, "valid", np.arange(THRESHOLD - 1, dtype=np.int32)])
def test_equal_constants_are_shared(value: Any) -> None:
    _, (first, second) = _with_constants([value, value])
    assert first is second


@pytest.mark.parametrize(
    "values",
    [
        *[[a, b] for i, a in enumerate(ZEROS) for b in ZEROS[i + 1 :]],
        [np.int32(1), np.array([1], np.int32)],
        [np.array([[1, 2]], np.int32), np.array([1, 2], np.int32)],
        ["valid", "custom"],
        [np.zeros(THRESHOLD, np.float32), np.zeros(THRESHOLD, np.float32)],
    ],
    ids=str,
)
def test_others_are_not(values: list[Any]) -> None:
    _, (first, second) = _with_constants(values)
    assert first is not second


def test_an_output_stays_its_own() -> None:
    graph = Graph()
    with _function(graph) as function:
        first, second = mb.const(val=np.float32(2)), mb.const(val=np.float32(2))
        function.set_outputs([mb.identity(x=first), second])
    ShareSmallConstants().apply(graph)
    assert function.outputs[1] is second
    assert second.op in list(function.operations)
